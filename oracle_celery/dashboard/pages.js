/**
 * Reads what the pages beside the task list show, when their address is opened, when the stream says that it changed,
 * and every few seconds while somebody looks: numbers that no event tells (a queue's depth, a worker's beat), and bulks,
 * whose events have no cursor: what was not heard is not told again. What is not read again by itself is asked for again
 * after a failure that passes.
 */

import { getAudit, getBulk, getBulkItems, getBulks, getQueues, getSchedule, getWorkers, isPassing } from "./api.js";
import { auditFilter } from "./audit.js";
import { seesEverything } from "./session.js";

const LOOK_INTERVAL = 5_000; // ms, on the pages of queues and workers
const SCHEDULE_INTERVAL = 5_000; // ms, while somebody looks at it
const BULK_INTERVAL = 5_000; // ms, after an answer, while somebody looks at all of them or at one that runs
const GLANCE_INTERVAL = 15_000; // ms, for the rail
const ITEMS_PAUSE = 1_000; // ms between two readings of a running bulk's items
const ITEMS_PAGE = 100; // items
const ITEMS_AT_ONCE = 1_000; // items that the server tells at most
const RETRY = 3_000; // ms
const AUDIT_PAGE = 50; // entries

/** @param {{dispatch: Function, state: () => object}} page */
export function Pages({ dispatch, state }) {
  let lookedAt = 0;
  let isRefreshing = false;
  let areItemsOld = false;
  let retrying = null; // timer
  let auditRequest = 0;
  let scheduleReadAt = 0;
  let bulksReadAt = 0; // all, or the one that is open

  setInterval(look, 1_000);

  /** The address has changed. */
  function open() {
    const { page, id } = state().route;
    clearTimeout(retrying);
    if (page !== "bulk" || id !== state().bulk.opened?.bulk_id) dispatch({ type: "bulkClosed" });
    if (page === "queues" || page === "workers") readFleet();
    if (page === "bulk" && id === null) readBulks();
    if (page === "bulk" && id !== null) openBulk(id);
    if (page === "audit") readAudit();
    if (page === "schedule") readSchedule();
  }

  function look() {
    lookAtSchedule();
    lookAtBulks();
    const { route, session } = state();
    const isLooking = session.phase === "in" && (route.page === "queues" || route.page === "workers");
    const interval = isLooking ? LOOK_INTERVAL : GLANCE_INTERVAL;
    if (document.hidden || (!isLooking && !seesEverything(state()))) return;
    if (performance.now() - lookedAt >= interval || lookedAt === 0) readFleet();
  }

  /** The stream is live, or live again: what it did not tell is read. */
  async function readFleet() {
    lookedAt = performance.now();
    await readQueues();
    if (state().route.page === "workers" || state().route.page === "queues") await readWorkers();
  }

  async function readQueues() {
    await read(getQueues, (answer) => dispatch({ type: "queuesArrived", answer }), "fleetFailed");
  }

  async function readWorkers() {
    await read(getWorkers, (answer) => dispatch({ type: "workersArrived", answer }), "fleetFailed");
  }

  function lookAtSchedule() {
    const { route, session } = state();
    if (document.hidden || session.phase !== "in" || route.page !== "schedule") return;
    if (performance.now() - scheduleReadAt >= SCHEDULE_INTERVAL) readSchedule();
  }

  async function readSchedule() {
    scheduleReadAt = performance.now();
    await read(getSchedule, (answer) => dispatch({ type: "scheduleArrived", answer }), "scheduleFailed");
  }

  function lookAtBulks() {
    const { route, session, bulk } = state();
    if (document.hidden || session.phase !== "in" || route.page !== "bulk") return;
    if (performance.now() - bulksReadAt < BULK_INTERVAL) return;
    if (route.id === null) readBulks();
    else if (bulk.opened !== null && bulk.opened.state !== "finished") readBulk(bulk.opened);
  }

  async function readBulks() {
    const take = ({ bulks }) => dispatch({ type: "bulksArrived", bulks });
    await atIntervals(read(getBulks, take, "bulkFailed", { isWanted: here(), again: readBulks }));
  }

  async function openBulk(bulkId) {
    const take = (bulk) => dispatch({ type: "bulkOpened", bulk });
    const how = { isWanted: here(), again: () => openBulk(bulkId) };
    await atIntervals(read(() => getBulk(bulkId), take, "bulkFailed", how));
    await refreshItems();
  }

  /** Its items are read only where it has gone on. */
  async function readBulk({ bulk_id: bulkId, done, state: phase }) {
    const take = (bulk) => {
      dispatch({ type: "bulkOpened", bulk });
      if (bulk.done !== done || bulk.state !== phase) refreshSoon();
    };
    await atIntervals(read(() => getBulk(bulkId), take, "bulkFailed", { isWanted: here() }));
  }

  /** Nothing is asked again while its answer is waited for. */
  async function atIntervals(reading) {
    bulksReadAt = Infinity;
    try {
      await reading;
    } finally {
      bulksReadAt = performance.now();
    }
  }

  /** One event of the stream: how far a bulk is. Its items follow, not faster than a person reads. */
  function takeBulk(bulk) {
    dispatch({ type: "bulkArrived", bulk });
    if (state().route.id === bulk.bulk_id) refreshSoon();
  }

  /** One reading after another: the last one begins after the last event. */
  async function refreshSoon() {
    areItemsOld = true;
    if (isRefreshing) return;
    isRefreshing = true;
    try {
      while (areItemsOld) {
        await new Promise((resolve) => setTimeout(resolve, ITEMS_PAUSE));
        areItemsOld = false;
        await refreshItems();
      }
    } finally {
      isRefreshing = false;
    }
  }

  /** As many as are shown are read anew: any of them may have been done meanwhile. */
  async function refreshItems() {
    const { opened, outcome, items } = state().bulk;
    const isSame = () => state().bulk.opened?.bulk_id === opened?.bulk_id && state().bulk.outcome === outcome;
    const last = items.at(-1)?.number ?? 0;
    let after = 0;
    do {
      const left = items.filter(({ number }) => number > after).length;
      after = await readItems(after, Math.min(ITEMS_AT_ONCE, Math.max(ITEMS_PAGE, left)));
    } while (after !== null && after < last && isSame());
  }

  /** @returns {Promise<number | null>} after which item there are more */
  async function readItems(after, limit = ITEMS_PAGE) {
    const { opened, outcome } = state().bulk;
    if (opened === null) return null;
    const bulkId = opened.bulk_id;
    const isHere = here();
    let next = null;
    dispatch({ type: "bulkItemsRequested" });
    await read(
      () => getBulkItems(bulkId, { after, outcome, limit }),
      (page) => {
        next = page.next;
        dispatch({ type: "bulkItemsArrived", bulkId, outcome, after, page });
      },
      "bulkFailed",
      { isWanted: () => isHere() && state().bulk.outcome === outcome, again: () => openBulk(bulkId) },
    );
    return next;
  }

  function chooseOutcome(outcome) {
    dispatch({ type: "bulkOutcomeChosen", outcome });
    readItems(0);
  }

  async function readAudit({ isOlder = false } = {}) {
    const { route, audit } = state();
    auditRequest += 1;
    const request = auditRequest;
    dispatch({ type: "auditRequested", isFirst: !isOlder });
    const before = isOlder ? audit.next : null;
    const isHere = here();
    await read(
      () => getAudit({ ...auditFilter(route.parameters), before, limit: AUDIT_PAGE }),
      (page) => dispatch({ type: "auditArrived", page, isFirst: !isOlder }),
      "auditFailed",
      { isWanted: () => isHere() && request === auditRequest, again: () => readAudit({ isOlder }) },
    );
  }

  /**
   * What comes when its reader is gone is for nobody, and neither is what is not wanted any more, be it a failure.
   * `again`: what to do where a failure may pass.
   */
  async function read(ask, take, failed, { isWanted = () => true, again = null } = {}) {
    const { viewer } = state().session;
    const isForUs = () => state().session.viewer === viewer && isWanted();
    let found;
    try {
      found = await ask();
    } catch (error) {
      if (!isForUs()) return;
      dispatch({ type: failed, error });
      if (again === null || !isPassing(error)) return;
      clearTimeout(retrying);
      retrying = setTimeout(() => isForUs() && again(), RETRY);
      return;
    }
    if (isForUs()) take(found);
  }

  /** @returns {() => boolean} whether the address is still the one of now */
  function here() {
    const { route } = state();
    return () => state().route === route;
  }

  return {
    open,
    readQueues,
    readFleet,
    takeBulk,
    chooseOutcome,
    readMoreItems: () => state().bulk.next !== null && readItems(state().bulk.items.at(-1)?.number ?? 0),
    readOlderAudit: () => readAudit({ isOlder: true }),
  };
}
