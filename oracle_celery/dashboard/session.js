/**
 * Who looks at this page, and the login link. Pure but for `takeLoginToken`.
 *
 * A token is never kept: it is traded for a cookie that no script can read. What ends a session takes everything along
 * that was read in it; the address stays, so that the next login shows the same place.
 */

/** @typedef {{user_id: string, role: string, may_control: boolean, sees_payloads: boolean}} Viewer */

export const NO_SESSION = Object.freeze({
  /** "checking" until the server was asked, "unknown" where it did not answer, then "in" or "out". */
  phase: "checking",
  /** @type {Viewer | null} */
  viewer: null,
  /** Why nobody is logged in: "none" (nobody was), "ended" or "left". */
  cause: "none",
  isSending: false,
  /** The server could not be told of a wish to log out. */
  isStuck: false,
  /** @type {Error | null} why the last login failed */
  error: null,
});

export const sessionActions = {
  sessionOpened(_session, { viewer }) {
    return { ...NO_SESSION, phase: "in", viewer };
  },
  sessionEnded(_session, { cause, error = null }) {
    return { ...NO_SESSION, phase: "out", cause, error };
  },
  sessionUnknown(session) {
    return session.phase === "checking" ? { ...session, phase: "unknown" } : session;
  },
  loginRequested(session) {
    return { ...session, isSending: true, error: null };
  },
  loginFailed(session, { error }) {
    return { ...session, isSending: false, error };
  },
  logoutTold(session, { isStuck }) {
    return { ...session, isStuck };
  },
};

/** Whether the buttons that change something are for this viewer. Which tasks they are for, the server says. */
export function mayControl({ session }) {
  return session.viewer?.may_control === true;
}

/** Whether queues may be paused, and tasks of everybody cancelled and retried. */
export function isAdmin({ session }) {
  return session.viewer?.role === "admin";
}

/** Whether the pages of everybody's doings are for this viewer: admins, and those who read everything. */
export function seesEverything({ session }) {
  return session.viewer?.role === "admin" || session.viewer?.role === "viewer";
}

/** Whether arguments, results and errors are told to this viewer. */
export function seesPayloads({ session }) {
  return session.viewer?.sees_payloads === true;
}

/** @param {Viewer} viewer @param {Viewer | null} other */
export function isSameViewer(viewer, other) {
  return other !== null && viewer.user_id === other.user_id && viewer.role === other.role;
}

/** What tells one viewer's stream from another's. */
export function viewerKey({ session }) {
  return JSON.stringify([session.viewer?.user_id ?? null, session.viewer?.role ?? null]);
}

/**
 * The token of a login link ("#/login/<token>"), or null. It is taken out of the address and of the history at once.
 * @param {string} place the address after "#" that is shown in its stead
 */
export function takeLoginToken(place = "") {
  const token = tokenOf(location.hash);
  if (token === null) return null;
  history.replaceState(null, "", location.pathname + location.search + (tokenOf(place) === null ? place : ""));
  return token;
}

/** The token in what a person pasted, which may be the whole login link, or have the word of the header before it. */
export function tokenFromText(text) {
  return text.trim().replace(/^.*#\/login\//s, "").replace(/^Bearer\s+/i, "");
}

function tokenOf(hash) {
  return /^#\/login\/(.+)$/s.exec(hash)?.[1] ?? null;
}
