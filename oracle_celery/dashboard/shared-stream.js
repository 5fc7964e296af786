/**
 * The page's end of the stream that all tabs of a browser share: every transition of a task, once, from the list on.
 *
 * The stream itself runs in a shared worker; where there is none, in the tab that leads, which the others elect among
 * them anew when it is gone; where there are no locks either (plain HTTP from elsewhere), in each tab by itself. Which
 * of them it is changes nothing here.
 *
 * `join` listens, `start` says where the list stands. Events are those of `TaskStream`, and "reread": the list that was
 * read is older than what this tab has heard, so it is to be read once more; "renew": somebody has logged in or out.
 */

import { StreamHub } from "./stream-hub.js";

const LEADER = "oracle.stream.leader";

export class SharedStream extends EventTarget {
  #tab = crypto.getRandomValues(new Uint32Array(4)).join("-");
  #isHeld; // a promise: the lock by which the hub knows that this tab lives
  #road;
  #viewer = null; // while it listens
  #isStarted = false;

  /** @param {(take: (message: object) => void, tab: string) => Road} makeRoad */
  constructor(makeRoad = roadOf) {
    super();
    this.#isHeld = held(`oracle.tab.${this.#tab}`);
    this.#road = makeRoad((message) => this.#take(message), this.#tab);
    addEventListener("pagehide", () => this.#viewer !== null && this.#road.send({ type: "leave" }));
    addEventListener("pageshow", ({ persisted }) => persisted && this.#viewer !== null && this.#goOn());
  }

  /** Listens from now on, as this viewer. @param {string} viewer */
  join(viewer) {
    this.stop();
    this.#viewer = viewer;
    this.#send({ type: "join", viewer, tab: this.#tab });
  }

  /** The list has been read, up to this cursor. */
  start(cursor) {
    if (this.#viewer === null || this.#isStarted) return;
    this.#isStarted = true;
    this.#send({ type: "start", cursor });
  }

  /** Hears nothing more. Safe at any time, also twice. */
  stop() {
    if (this.#viewer !== null) this.#send({ type: "leave" });
    this.#viewer = null;
    this.#isStarted = false;
  }

  /** Tries at once, for a page that comes back from sleep or hears that the network is there again. */
  wake() {
    if (this.#isStarted) this.#send({ type: "wake" });
  }

  #send(message) {
    this.#isHeld.then(() => this.#road.send(message));
  }

  #take({ type, detail }) {
    if (this.#viewer === null || type === "started") return;
    if (type === "lost") this.#goOn();
    else if (type === "joined") this.dispatchEvent(new Event("reread"));
    else this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** Another tab leads now, and knows nothing of us: what its predecessor may not have told is read again. */
  #goOn() {
    this.join(this.#viewer);
    this.dispatchEvent(new CustomEvent("resync", { detail: { reason: "the tab that led is gone" } }));
  }
}

/** @returns {Promise<void>} when the lock is held, which it is as long as this page lives */
function held(lock) {
  return new Promise((resolve) => {
    if (!navigator.locks) return resolve();
    navigator.locks.request(lock, () => {
      resolve();
      return new Promise(() => {});
    });
  });
}

/** @typedef {{send: (message: object) => void}} Road the way to a hub */

/** @returns {Road} the best that this browser has */
export function roadOf(take, tab) {
  try {
    if (globalThis.SharedWorker) return workerRoad(take);
  } catch {
    // It is there and may not be used.
  }
  return navigator.locks ? leaderRoad(take, tab) : ownRoad(take);
}

function workerRoad(take) {
  const { port } = new SharedWorker(workerAddress(), { type: "module", name: "oracle.stream" });
  port.addEventListener("message", (event) => take(event.data));
  port.start();
  return { send: (message) => port.postMessage(message) };
}

/** Whoever holds the lock leads: the others speak to it, and it to them, over one channel that all hear. */
export function leaderRoad(take, tab) {
  const air = new BroadcastChannel("oracle.stream");
  let own = null; // takes our messages, where we lead
  air.addEventListener("message", ({ data: { to, message } }) => {
    if (to === tab || (to === "followers" && own === null)) take(message);
  });
  held(LEADER).then(() => {
    own = lead(air, take);
    take({ type: "lost" });
    air.postMessage({ to: "followers", message: { type: "lost" } });
  });
  return {
    send: (message) => (own === null ? air.postMessage({ to: "leader", from: tab, message }) : own(message)),
  };
}

function lead(air, take) {
  const hub = new StreamHub();
  const ports = new Map(); // by tab
  air.addEventListener("message", ({ data: { to, from, message } }) => {
    if (to !== "leader") return;
    if (!ports.has(from)) ports.set(from, hub.attach({ postMessage: (answer) => air.postMessage({ to: from, message: answer }) }));
    ports.get(from)(message);
    if (message.type === "leave") ports.delete(from);
  });
  return hub.attach({ postMessage: (answer) => queueMicrotask(() => take(answer)) });
}

function ownRoad(take) {
  return { send: new StreamHub().attach({ postMessage: (answer) => queueMicrotask(() => take(answer)) }) };
}

/** Where a string must be declared to be a script of ours. */
function workerAddress() {
  const address = String(new URL("./stream-worker.js", import.meta.url));
  return globalThis.trustedTypes ? trustedTypes.createPolicy("oracle-stream", { createScriptURL: () => address }).createScriptURL(address) : address;
}
