/**
 * Lets a viewer in and out: the login link, the login view, logging out, and sessions that end by themselves.
 *
 * However the server says that nobody is logged in (any answer of 401, the stream's farewell), the page is emptied and
 * asks for a login; then it goes on at the same address, without a reload. Only somebody else gets a new document: what
 * is hidden in the old one may still hold words that were not for them. Tabs of one browser share the cookie, so what one
 * tab does the others notice.
 */

import { closeSession, gate, getSession, isPassing, openSession } from "./api.js";
import { t } from "./locale.js";
import { isSameViewer } from "./session.js";

const NOT_LOGGED_IN = 401; // the HTTP status
const TOO_MANY = 429;
const LINK_RETRY = 3_000; // ms
const TOLD_FOR = 10_000; // ms: that logging out has failed

/**
 * @param {{dispatch: Function, state: () => object, begin: (options: {hasLoggedIn: boolean}) => void, end: () => void,
 *   empty: () => void, askForLogin: () => void, announce: (text: string) => void}} page
 *   `begin` reads everything, `end` stops all reading, `empty` takes out of the document what was read
 */
export function Access({ dispatch, state, begin, end, empty, askForLogin, announce }) {
  const otherTabs = new BroadcastChannel("oracle.session");
  let telling = null; // timer
  let latest = null; // whoever was in last

  otherTabs.addEventListener("message", check);
  gate.addEventListener("refused", () => leave(state().session.viewer === null ? "none" : "ended"));
  answer("logIn", ({ token }) => logIn(token));
  answer("logOut", logOut);

  /**
   * The page has been opened, with the token of a login link or without one. A link that was used before does no harm to
   * who is in. @param {string | null} token @param {Promise<object> | null} asked the answer of `getSession`, under way
   */
  async function enter(token, asked = null) {
    let error = null;
    if (token !== null) {
      try {
        return come(await openSession(token), { isNew: true });
      } catch (failure) {
        // The link is out of the address: it would be lost with a server that is away for a moment.
        if (isPassing(failure) && failure.status !== TOO_MANY) return setTimeout(() => enter(token), LINK_RETRY);
        error = failure;
      }
    }
    try {
      come(await (asked ?? getSession()));
    } catch (failure) {
      if (failure.status === NOT_LOGGED_IN) return leave("none", error);
      dispatch({ type: "sessionUnknown" }); // the first answer to anything else tells
      begin({ hasLoggedIn: false });
    }
  }

  async function logIn(token) {
    if (state().session.isSending) return;
    dispatch({ type: "loginRequested" });
    try {
      come(await openSession(token), { isNew: true });
    } catch (error) {
      dispatch({ type: "loginFailed", error });
      askForLogin();
    }
  }

  async function logOut() {
    try {
      await closeSession();
    } catch (error) {
      if (error.status !== NOT_LOGGED_IN) return tellStuck();
    }
    otherTabs.postMessage("left");
    leave("left");
  }

  function tellStuck() {
    dispatch({ type: "logoutTold", isStuck: true });
    clearTimeout(telling);
    telling = setTimeout(() => dispatch({ type: "logoutTold", isStuck: false }), TOLD_FOR);
  }

  /** Whether the viewer is still in, and still the same. Where nobody answers, nothing is known and nothing changes. */
  async function check() {
    let viewer;
    try {
      viewer = await getSession();
    } catch (error) {
      if (error.status === NOT_LOGGED_IN) leave("ended");
      return;
    }
    if (!isSameViewer(viewer, state().session.viewer)) come(viewer);
  }

  function come(viewer, { isNew = false } = {}) {
    end();
    if (isNew) otherTabs.postMessage("came");
    if (latest !== null && !isSameViewer(viewer, latest)) return location.reload();
    latest = viewer;
    dispatch({ type: "sessionOpened", viewer });
    if (isNew) announce(t("login.done", { user: viewer.user_id }));
    begin({ hasLoggedIn: isNew });
  }

  function leave(cause, error = null) {
    if (state().session.phase === "out") return;
    end();
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    empty();
    dispatch({ type: "sessionEnded", cause, error });
    askForLogin();
  }

  return { enter, check, leave };
}

function answer(request, handle) {
  document.addEventListener(request, (event) => handle(event.detail));
}
