/**
 * Reads what the pages beside the task list show, when their address is opened, when the stream says that it changed,
 * and, for numbers that no event tells (a queue's depth, a worker's beat), every few seconds while somebody looks.
 */

import { getAudit, getBulk, getBulkItems, getBulks, getQueues, getSchedule, getWorkers } from "./api.js";
import { auditFilter } from "./audit.js";
import { seesEverything } from "./session.js";

const LOOK_INTERVAL = 5_000; // ms, on the pages of queues and workers
const SCHEDULE_INTERVAL = 5_000; // ms, while somebody looks at it
const GLANCE_INTERVAL = 15_000; // ms, for the rail
const ITEMS_PAUSE = 1_000; // ms between two readings of a running bulk's items
const ITEMS_PAGE = 100; // items
const AUDIT_PAGE = 50; // entries

/** @param {{dispatch: Function, state: () => object}} page */
export function Pages({ dispatch, state }) {
  let lookedAt = 0;
  let itemsTimer = null;
  let auditRequest = 0;
  let scheduleReadAt = 0;

  setInterval(look, 1_000);

  /** The address has changed. */
  function open() {
    const { page, id } = state().route;
    if (page !== "bulk" || id !== state().bulk.opened?.bulk_id) dispatch({ type: "bulkClosed" });
    if (page === "queues" || page === "workers") readFleet();
    if (page === "bulk" && id === null) readBulks();
    if (page === "bulk" && id !== null) openBulk(id);
    if (page === "audit") readAudit();
    if (page === "schedule") readSchedule();
  }

  function look() {
    lookAtSchedule();
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

  async function readBulks() {
    await read(getBulks, ({ bulks }) => dispatch({ type: "bulksArrived", bulks }), "bulkFailed");
  }

  async function openBulk(bulkId) {
    await read(() => getBulk(bulkId), (bulk) => state().route.id === bulkId && dispatch({ type: "bulkOpened", bulk }), "bulkFailed");
    await readItems(0);
  }

  /** One event of the stream: how far a bulk is. Its items follow, not faster than a person reads. */
  function takeBulk(bulk) {
    dispatch({ type: "bulkArrived", bulk });
    if (state().route.id !== bulk.bulk_id || itemsTimer !== null) return;
    itemsTimer = setTimeout(() => {
      itemsTimer = null;
      refreshItems();
    }, ITEMS_PAUSE);
  }

  /** The page of items that is shown first is read anew; further ones that were loaded stay as they were told. */
  async function refreshItems() {
    const { items, next } = state().bulk;
    if (items.length <= ITEMS_PAGE) await readItems(0);
    else if (next === null) await readItems(items.at(-1).number);
  }

  async function readItems(after) {
    const { opened, outcome } = state().bulk;
    if (opened === null) return;
    const bulkId = opened.bulk_id;
    dispatch({ type: "bulkItemsRequested" });
    await read(
      () => getBulkItems(bulkId, { after, outcome, limit: ITEMS_PAGE }),
      (page) => dispatch({ type: "bulkItemsArrived", bulkId, outcome, after, page }),
      "bulkFailed",
    );
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
    await read(
      () => getAudit({ ...auditFilter(route.parameters), before, limit: AUDIT_PAGE }),
      (page) => request === auditRequest && dispatch({ type: "auditArrived", page, isFirst: !isOlder }),
      "auditFailed",
    );
  }

  /** What comes when its reader is gone is for nobody. */
  async function read(ask, take, failed) {
    const { viewer } = state().session;
    let found;
    try {
      found = await ask();
    } catch (error) {
      if (state().session.viewer === viewer) dispatch({ type: failed, error });
      return;
    }
    if (state().session.viewer === viewer) take(found);
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
