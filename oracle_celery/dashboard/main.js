/**
 * Composition root: mounts the views, wires them to the API, the stream and the address.
 *
 * One direction: an event changes the state through `reduce`, the state is drawn by every view's `update`. Views ask
 * with bubbling events named by verbs; this file alone answers them. The stream is joined, the list is read, and the
 * stream goes on from its cursor, so there is no gap and no overlap; after a `resync` both start anew. Nothing is shown
 * before somebody is logged in, and a login link's token is out of the address before anything else happens.
 */

import { Access } from "./access.js";
import { NOT_FOUND, OLDER_SIZE, getProgress, getReadiness, getSession, getSummary, getTasks, isPassing } from "./api.js";
import { columnsFromText, textOfColumns } from "./columns.js";
import { Control } from "./control.js";
import { Counting } from "./counting.js";
import { FailureReading } from "./failure-reading.js";
import { Figures } from "./figures.js";
import { Judging } from "./judging.js";
import { LANGUAGES, currentLanguage, loadLanguage, preferredLanguage, t, translate } from "./locale.js";
import { LogSource } from "./log-source.js";
import { Pages } from "./pages.js";
import { paletteEntries } from "./palette.js";
import { prefer, preference } from "./preferences.js";
import { withTerm } from "./query-language.js";
import {
  DEFAULT_QUERY,
  NEWEST_FIRST,
  addressFromQuery,
  isOldAddress,
  isSort,
  nextSort,
  queryFromAddress,
  queryOf,
  typedText,
} from "./query.js";
import { Renewable } from "./renewal.js";
import { hashOf, pagesFor, routeFromHash } from "./route.js";
import { RowTasks } from "./row-tasks.js";
import { builtInViews, storedViews } from "./saved-views.js";
import { isSelecting } from "./selection.js";
import { mayControl, seesEverything, takeLoginToken, viewerKey } from "./session.js";
import { SharedStream } from "./shared-stream.js";
import { initialState, isOvergrown, needsServerToShow, reduce } from "./state.js";
import { TaskReading } from "./task-reading.js";
import { parametersOf } from "./types.js";
import { Announcements } from "./views/announcements.js";
import { AuditPage } from "./views/audit-page.js";
import { Bar } from "./views/bar.js";
import { BulkPage } from "./views/bulk-page.js";
import { BulksPage } from "./views/bulks-page.js";
import { ColumnChooser } from "./views/column-chooser.js";
import { CopyButtons } from "./views/copy-button.js";
import { FailuresPage } from "./views/failures-page.js";
import { Filters } from "./views/filters.js";
import { GapNotice } from "./views/gap-notice.js";
import { KeyHelp } from "./views/key-help.js";
import { Login } from "./views/login.js";
import { Metrics } from "./views/metrics.js";
import { Navigation } from "./views/navigation.js";
import { NothingMatches } from "./views/nothing-matches.js";
import { Palette } from "./views/palette.js";
import { QueueRail } from "./views/queue-rail.js";
import { QueuesPage } from "./views/queues-page.js";
import { SchedulePage } from "./views/schedule-page.js";
import { SelectionBar } from "./views/selection-bar.js";
import { Tab } from "./views/tab.js";
import { TaskDetail } from "./views/task-detail.js";
import { TaskList } from "./views/task-list.js";
import { TypesPage } from "./views/types-page.js";
import { ValueClicks } from "./views/value-clicks.js";
import { WorkersPage } from "./views/workers-page.js";

const TICK = 1_000; // ms: running tasks count their seconds
const READINESS_INTERVAL = 20_000; // ms: the sidecar is asked whether it hears PostgreSQL
const LIST_RETRY = 3_000; // ms
const BROAD_RETRY = 30_000; // ms: of a list that took too long, which it may not the next time
const WORDS_RETRY = 1_000; // ms
const DEAF_LISTENER = new Set(["deaf", "down"]); // what the sidecar says of its own ear
const ONE_COLUMN = matchMedia("(max-width: 720px)");

const loginToken = takeLoginToken();

let state = initialState;
let clockSkew = 0; // ms that the server's clock is ahead of ours
let isServerDeaf = false;
let streamConnection = "connecting";
let listRequest = 0;
let listAbort = null;
let firstPage = null; // asked for while the words and the session are on their way: {address, answer}
let hasStream = false;
let isUnanswered = false; // the list that the stream would go on from does not come
let isRendering = false;
let rendering = null; // frame

const stream = new SharedStream();
const announcer = document.querySelector("#announcer");
const announcements = Announcements(announcer);
const bar = Bar(document.querySelector("#bar"));
const gap = GapNotice(document.querySelector("#gap-notice"));
const metrics = Metrics(document.querySelector("#metrics"));
const rail = Renewable(document.querySelector("#queue-rail"), QueueRail);
const filters = Filters(document.querySelector("#filters"));
const taskList = TaskList(document.querySelector("#task-list"));
const nothingMatches = NothingMatches(document.querySelector("#nothing-matches"));
const taskDetail = Renewable(document.querySelector("#task-detail"), TaskDetail);
const columnChooser = ColumnChooser(document.querySelector("#column-chooser"));
const selectionBar = SelectionBar(document.querySelector("#selection-bar"));
const tab = Tab();
const otherPages = {
  failures: Renewable(document.querySelector("#failures-page"), FailuresPage),
  types: Renewable(document.querySelector("#types-page"), TypesPage),
  queues: Renewable(document.querySelector("#queues-page"), QueuesPage),
  workers: Renewable(document.querySelector("#workers-page"), WorkersPage),
  schedule: Renewable(document.querySelector("#schedule-page"), SchedulePage),
  bulks: Renewable(document.querySelector("#bulks-page"), BulksPage),
  bulk: Renewable(document.querySelector("#bulk-page"), BulkPage),
  audit: Renewable(document.querySelector("#audit-page"), AuditPage),
};
const navigations = [...document.querySelectorAll("[data-navigation]")].map((element) => Navigation(element));
const login = Login(document.querySelector("#login"));
const views = [login, bar, gap, tab, metrics, rail, filters, columnChooser, taskList, nothingMatches, selectionBar, taskDetail, ...Object.values(otherPages), ...navigations, announcements];
const counting = Counting({ dispatch, state: () => state, isWanted: () => isIn() && state.route.page === "tasks" });
views.push(counting);
views.push(Judging({ load: () => loadList({ mayWait: true }), isWanted: () => isIn() && state.route.page === "tasks" }));
const pages = Pages({ dispatch, state: () => state });
const failures = FailureReading({ dispatch, state: () => state });
const figures = Figures({ dispatch, state: () => state });
const rowTasks = RowTasks({ dispatch, note: (action) => (state = reduce(state, action)), state: () => state });
const log = LogSource({ dispatch, state: () => state });
views.push(log);
const openedTask = TaskReading({
  dispatch,
  state: () => state,
  tell: (task) => (announcer.textContent = t("announce.opened", { name: task.name ?? "", status: t(`status.${task.status}`) })),
});
const control = Control({
  dispatch,
  state: () => state,
  readTask: (taskId) => state.opened === taskId && openedTask.read(),
  readQueues: pages.readQueues,
  focusPanel: () => (state.opened === null ? taskList.focusRow(taskList.currentId()) : taskDetail.focus()),
  focusPage,
});
const copyButtons = CopyButtons(announcer);
const access = Access({
  dispatch,
  state: () => state,
  begin,
  end,
  empty,
  askForLogin: login.focus,
  announce: (text) => (announcer.textContent = text),
});
const palette = Renewable(document.querySelector("#palette"), (element) => Palette(element, { entries: offers }));
const keyHelp = KeyHelp(document.querySelector("#key-help"), {
  actions: {
    j: () => taskList.move(1),
    k: () => taskList.move(-1),
    "/": () => filters.focus(),
    n: () => state.waiting.size > 0 && taskList.showNew(),
    t: changeTheme,
    x: () => taskList.tick({ isRange: false }),
    X: () => taskList.tick({ isRange: true }),
    r: () => command("retryTask"),
    R: () => taskDetail.command("askRetry"),
    c: () => command("cancelTask"),
    C: () => taskDetail.command("askCancel"),
    l: () => taskDetail.focusLog(),
    y: copyTaskId,
    "?": () => isIn() && keyHelp.open(),
    Escape: stepBack,
  },
  pages: () => (isIn() ? pagesFor(seesEverything(state)) : []),
  go: (page) => goToHash(hashOf(page)),
  openPalette: () => isIn() && palette.open(),
});

await start();

async function start() {
  listen();
  const query = queryFromAddress(location.search);
  const session = loginToken === null ? early(getSession()) : null;
  if (session !== null) firstPage = { address: addressFromQuery(query), answer: early(getTasks(query)) };
  await speakAtLast(preferredLanguage(preference("language"), navigator.languages));
  dispatch({ type: "columnsChosen", columns: columnsFromText(preference("columns")) });
  takeQuery(query);
  dispatch({ type: "routeChanged", route: routeFromHash(location.hash) });
  setInterval(render, TICK);
  setInterval(askReadiness, READINESS_INTERVAL);
  await access.enter(loginToken, session);
}

/** An answer that is waited for later: until then its failure is nobody's concern. */
function early(answer) {
  answer.catch(() => {});
  return answer;
}

/** Somebody is in, as far as we know: what the address names is read. */
function begin({ hasLoggedIn }) {
  stream.join(viewerKey(state));
  openFromAddress();
  figures.look();
  if (hasLoggedIn) focusContent();
  askReadiness();
  return loadList();
}

/** Nobody is in any more, or somebody else: whatever is still under way is for nobody. */
function end() {
  stream.stop();
  hasStream = false;
  isUnanswered = false;
  streamConnection = "connecting";
  showConnection();
  figures.forget();
  listAbort?.abort();
  listRequest += 1;
  openedTask.forget();
}

/** Nothing that the viewer was shown stays in the document, hidden parts included. */
function empty() {
  for (const view of [rail, taskDetail, palette, ...Object.values(otherPages)]) view.renew();
  control.renew();
  tab.forget();
  firstPage = null;
  announcer.textContent = "";
}

/** Of the opened task, or else of the row with the focus. */
function command(name) {
  if (state.opened === null) taskList.command(name);
  else taskDetail.command(name);
}

function isIn() {
  return state.session.phase === "in" || state.session.phase === "unknown";
}

function listen() {
  answer("filterTasks", ({ q }) => filterBy(q));
  answer("addTerm", (term) => filterBy(withTerm(typedText(state.query), term)));
  answer("openView", ({ q, sort }) => changeQuery(queryOf(q, isSort(sort) ? sort : NEWEST_FIRST)));
  ValueClicks(document);
  answer("sortTasks", ({ column }) => changeQuery({ ...state.query, sort: nextSort(state.query.sort, column) }));
  answer("holdRows", ({ reading }) => {
    dispatch({ type: "readingChanged", reading });
    if (!reading && state.list.isOutdated) loadList();
  });
  answer("showRows", rowTasks.show);
  answer("chooseColumns", ({ columns }) => {
    prefer("columns", textOfColumns(columns));
    dispatch({ type: "columnsChosen", columns });
  });
  answer("showNew", showNew);
  answer("loadOlder", loadOlder);
  answer("closeTask", closeTask);
  answer("chooseLanguage", async ({ language }) => {
    prefer("language", language);
    try {
      await speak(language);
    } catch (error) {
      if (error.status === NOT_FOUND) location.reload(); // the server is of another version by now, and so are its words
    }
    render();
  });
  answer("chooseLog", log.read);
  answer("loadEarlierLog", log.readEarlier);
  answer("followLog", log.followAgain);
  answer("readLog", () => dispatch({ type: "logFollowed", isFollowed: false }));
  answer("chooseOutcome", ({ outcome }) => pages.chooseOutcome(outcome));
  answer("loadItems", pages.readMoreItems);
  answer("loadOlderAudit", pages.readOlderAudit);
  answer("filterAudit", (filter) => goTo(hashOf("audit", null, filter)));
  answer("arrangeTypes", (arrangement) => goTo(hashOf("types", null, parametersOf(arrangement))));
  answer("chooseRange", ({ range }) => {
    dispatch({ type: "rangeChosen", range });
    figures.look();
  });
  answer("showTasks", showTasks);
  answer("changeTheme", changeTheme);
  answer("showKeys", () => keyHelp.open());
  answer("showPalette", () => isIn() && palette.open());
  answer("goTo", ({ hash }) => goToHash(hash));
  answer("copyTaskId", copyTaskId);
  stream.addEventListener("facts", (event) => takeFacts(event.detail));
  stream.addEventListener("summary", (event) => takeSummary(event.detail));
  stream.addEventListener("bulk", (event) => pages.takeBulk(event.detail));
  stream.addEventListener("progress", (event) => dispatch({ type: "progressArrived", words: [event.detail] }));
  stream.addEventListener("queues", () => takeQueues());
  stream.addEventListener("resync", () => startAnew());
  stream.addEventListener("reread", () => loadList({ mayWait: true, isGap: true }));
  stream.addEventListener("renew", checkAndGoOn);
  stream.addEventListener("bye", (event) => (event.detail.reason === "token_expired" ? access.leave("ended") : checkAndGoOn()));
  stream.addEventListener("refused", () => access.check());
  stream.addEventListener("connection", (event) => {
    streamConnection = event.detail;
    showConnection();
    if (streamConnection === "live" && state.session.phase === "unknown") access.check();
  });
  addEventListener("hashchange", changeAddress);
  addEventListener("popstate", () => changeQuery(queryFromAddress(location.search), { isNew: false }));
  addEventListener("online", () => stream.wake());
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    stream.wake();
    figures.look();
  });
}

function answer(request, handle) {
  document.addEventListener(request, (event) => handle(event.detail));
}

function dispatch(action) {
  state = reduce(state, action);
  render();
}

/** What comes by itself, however fast, is drawn once a frame; a page that nobody looks at waits for the next tick. */
function take(action) {
  state = reduce(state, action);
  rendering ??= requestAnimationFrame(render);
}

/** A view that is drawn may notice that reading began or ended and ask: that is drawn after it, not inside it. */
function render() {
  if (isRendering) return queueMicrotask(render);
  cancelAnimationFrame(rendering);
  rendering = null;
  isRendering = true;
  try {
    draw();
  } finally {
    isRendering = false;
  }
}

function draw() {
  const shown = { state, now: Date.now() + clockSkew };
  for (const view of views) {
    try {
      view.update(shown);
    } catch (error) {
      reportError(error); // one view that cannot be drawn does not stop the others, nor whatever led here
    }
  }
  document.body.classList.toggle("has-task", state.opened !== null);
  document.body.dataset.page = state.route.page;
  document.body.dataset.session = state.session.phase;
  document.body.classList.toggle("is-read-only", !mayControl(state));
  document.body.dataset.connection = state.connection;
  const isCovered = state.opened !== null && ONE_COLUMN.matches;
  for (const part of document.querySelectorAll("#bar, #metrics, #queue-rail, #task-list, .dock")) part.inert = isCovered;
}

// The list

/** With `mayWait` a reader keeps the rows (see `withNews` in placing.js); `isGap`: the stream has a hole before it. */
async function loadList({ mayWait = false, isGap = false } = {}) {
  if (!isIn()) return;
  listAbort?.abort();
  listAbort = new AbortController();
  listRequest += 1;
  const request = listRequest;
  dispatch({ type: "listRequested", request });
  try {
    const early = firstPage?.address === addressFromQuery(state.query) ? firstPage.answer : null;
    firstPage = null;
    const page = await (early ?? getTasks(state.query, { signal: listAbort.signal }));
    dispatch({ type: "listArrived", request, page, mayWait, isGap });
    if (isGap && state.list.isOutdated) rowTasks.renew();
    follow(page.cursor);
  } catch (error) {
    if (request !== listRequest) return;
    const passes = isPassing(error);
    dispatch({ type: "listFailed", request, error, isLost: !hasStream && !passes });
    const again = () => request === listRequest && loadList({ mayWait, isGap });
    if (passes) setTimeout(again, LIST_RETRY);
    else if (error.code === "too_broad") setTimeout(again, BROAD_RETRY);
    if (hasStream) return;
    isUnanswered = passes;
    showConnection();
    if (!passes) followWithoutList(request);
  }
}

/** The stream goes on from here, unless it runs already. */
function follow(cursor) {
  if (hasStream) return;
  hasStream = true;
  isUnanswered = false;
  showConnection();
  stream.start(cursor);
  readProgress();
}

/** A list that cannot be had does not keep the news away: they go on from where any list stands. */
async function followWithoutList(request) {
  try {
    const { cursor } = await getTasks(DEFAULT_QUERY, { limit: 1 });
    if (request === listRequest) follow(cursor);
  } catch (error) {
    if (isPassing(error)) setTimeout(() => request === listRequest && !hasStream && followWithoutList(request), LIST_RETRY);
  }
}

/** What running tasks told before the stream began; later words come by it. */
function readProgress() {
  getProgress().then(({ tasks }) => dispatch({ type: "progressArrived", words: tasks }), () => {});
}

async function loadOlder() {
  const { nextPage, request } = state.list;
  if (nextPage === null || state.list.older === "loading") return;
  dispatch({ type: "olderRequested" });
  try {
    const page = await getTasks(state.query, { page: nextPage, limit: OLDER_SIZE });
    dispatch({ type: "olderArrived", request, after: nextPage, page });
  } catch {
    dispatch({ type: "olderFailed", request, after: nextPage });
  }
}

/** The address as it is at the start; a link from before the query language is told in it from now on. */
function takeQuery(query) {
  dispatch({ type: "queryChanged", query });
  if (isOldAddress(location.search)) history.replaceState(null, "", location.pathname + addressFromQuery(query) + location.hash);
}

/** The whole text of a new query. From another page it leads to the list. */
function filterBy(text) {
  changeQuery(queryOf(text, state.query.sort));
}

function changeQuery(query, { isNew = true } = {}) {
  const isElsewhere = isNew && state.route.page !== "tasks";
  const isSame = addressFromQuery(query) === addressFromQuery(state.query);
  if (isSame && !isNew) return; // a step within the page: words that are not understood are in no address
  dispatch({ type: "queryChanged", query });
  if (isSame && !isElsewhere) return; // at most a word that is not understood has come or gone
  const hash = isElsewhere ? hashOf("tasks") : location.hash;
  if (isNew) history.pushState(null, "", location.pathname + addressFromQuery(query) + hash);
  if (isElsewhere) openFromAddress();
  if (!isSame) loadList();
}

/** The list, of certain tasks: of a worker, of a queue. */
function showTasks(filter) {
  filterBy(Object.entries(filter).reduce((text, [field, value]) => withTerm(text, { field, value }), ""));
}

function showNew() {
  if (needsServerToShow(state)) loadList();
  else dispatch({ type: "newShown" });
}

// The stream

function takeFacts(facts) {
  const before = state.detail.task?.status;
  tab.takeFacts(facts);
  take({ type: "factsArrived", facts });
  failures.refreshSoon();
  if (facts.some((fact) => fact.task_id === state.opened)) openedTask.readSoon();
  const after = state.detail.task;
  if (before && after && before !== after.status) {
    announcer.textContent = t("announce.status", { name: after.name ?? "", status: t(`status.${after.status}`) });
  }
  if (isOvergrown(state)) loadList();
}

function takeSummary(summary) {
  clockSkew = Date.parse(summary.as_of) - (summary.heard_at ?? Date.now()) || 0;
  take({ type: "summaryArrived", summary, clockSkew });
}

/** Something was said of a queue: the rail, the pages, and why the opened task waits. */
function takeQueues() {
  pages.readFleet();
  if (state.detail.task?.status === "pending") openedTask.readSoon();
}

/** The stream cannot go on from where we were: everything is read again, and it goes on from there. */
async function startAnew() {
  tab.takeGap();
  stream.join(viewerKey(state));
  hasStream = false;
  getSummary().then(takeSummary, () => {}); // the stream brings it too
  openedTask.read();
  pages.open();
  failures.open();
  await loadList({ mayWait: true, isGap: true });
}

/** The stream has ended, and whether we are still who we were is not known. */
async function checkAndGoOn() {
  await access.check();
  if (isIn()) startAnew();
}

async function askReadiness() {
  if (document.hidden || !isIn()) return;
  if (state.session.phase === "unknown") access.check();
  try {
    const { listener, database } = await getReadiness();
    isServerDeaf = DEAF_LISTENER.has(listener) || database === "unavailable";
  } catch {
    return; // nobody answers: the stream tells that better
  }
  showConnection();
}

function showConnection() {
  const told = isUnanswered ? "reconnecting" : streamConnection;
  const isItsFault = told === "live" && isServerDeaf;
  const connection = isItsFault ? "deaf" : told;
  const cause = isItsFault ? "server" : connection;
  if (connection !== state.connection || cause !== state.cause) dispatch({ type: "connectionChanged", connection, cause });
}

// The page and the opened task

/** A login link that was opened in this tab logs in, and leaves the page where it was. */
function changeAddress({ oldURL }) {
  const token = takeLoginToken(new URL(oldURL).hash);
  if (token !== null) access.enter(token);
  else openFromAddress();
}

function openFromAddress() {
  const before = state.route;
  const route = routeFromHash(location.hash);
  dispatch({ type: "routeChanged", route });
  if (!isIn()) return;
  open(route.page === "tasks" ? route.id : null);
  pages.open();
  failures.open();
  figures.look();
  if (before.page !== route.page && document.activeElement === document.body) focusPage();
}

function focusContent() {
  if (state.route.page === "tasks") document.querySelector("#task-list").focus({ preventScroll: true });
  else focusPage();
}

/** Where the focus goes when what had it is gone. */
function focusPage() {
  const { page, id } = state.route;
  if (page !== "tasks") otherPages[page === "bulk" && id === null ? "bulks" : page].focus();
}

/** To another place, so that "back" leads back, and with the focus on what is shown there. */
function goToHash(hash) {
  if (location.hash === hash) return focusContent();
  document.activeElement?.blur();
  location.hash = hash;
}

function goTo(hash) {
  history.replaceState(null, "", location.pathname + location.search + hash);
  openFromAddress();
}

function open(taskId) {
  const before = state.opened;
  dispatch({ type: "taskOpened", taskId });
  if (taskId === before) return;
  if (taskId !== null) {
    openedTask.read();
    if (ONE_COLUMN.matches) taskDetail.focus();
  } else if (document.activeElement === document.body) {
    taskList.focusRow(before);
  }
}

function closeTask() {
  const before = state.opened;
  const isInside = document.querySelector("#task-detail").contains(document.activeElement);
  history.pushState(null, "", location.pathname + location.search);
  open(null);
  if (isInside) taskList.focusRow(before);
}

/** Esc, one step: out of a field, out of the task, out of the list. */
function stepBack() {
  const focused = document.activeElement;
  if (focused instanceof HTMLInputElement && focused.type !== "checkbox") focused.blur();
  else if (isSelecting(state.selection)) dispatch({ type: "selectionCleared" });
  else if (state.opened !== null) closeTask();
  else focused?.blur();
}

function copyTaskId() {
  const taskId = state.opened ?? taskList.currentId();
  if (taskId) copyButtons.copy(taskId);
}

/** What the palette offers now. */
function offers() {
  const { viewer } = state.session;
  const named = ({ key, q }) => ({ name: t(`view.${key}`), q, sort: NEWEST_FIRST });
  return paletteEntries(state, {
    pages: pagesFor(seesEverything(state)),
    views: [...builtInViews(viewer, Date.now() + clockSkew).map(named), ...storedViews(viewer?.user_id ?? "")],
    commands: ["retryTask", "cancelTask"].filter((name) => taskDetail.canCommand(name)),
    languages: LANGUAGES.map((language) => ({ language, name: t(`language.${language}`) })),
  });
}

// Language and theme

async function speak(language) {
  await loadLanguage(language);
  showLanguage();
}

/** Nothing can be shown without words: they are asked for until they come. */
async function speakAtLast(language) {
  try {
    await loadLanguage(language);
  } catch {
    await new Promise((resolve) => setTimeout(resolve, WORDS_RETRY));
    return speakAtLast(language);
  }
  showLanguage();
}

function showLanguage() {
  document.documentElement.lang = currentLanguage();
  translate(document);
}

/** Light becomes dark and back; where the choice is the system's own, the page follows the system again. */
function changeTheme() {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const wanted = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
  if (wanted === system) delete root.dataset.theme;
  else root.dataset.theme = wanted;
  prefer("theme", wanted === system ? null : wanted);
}
