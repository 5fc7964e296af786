/**
 * The page's end of the stream that all tabs of a browser share: every transition of a task, once, from the list on.
 *
 * The stream itself runs in a shared worker; where there is none, in the tab that leads, which the others elect among
 * them anew when it is gone; where there are no locks either (plain HTTP from elsewhere), in each tab by itself. Which
 * of them it is changes nothing here. Whoever has it is asked again and again whether they are there: a worker whose
 * script did not come or that has died, and a leader that the browser has frozen, do not answer, and the next way is taken.
 *
 * `join` listens, `start` says where the list stands. Events are those of `TaskStream`, and "reread": the list that was
 * read is older than what this tab has heard, so it is to be read once more; "renew": somebody has logged in or out.
 */

import { StreamHub } from "./stream-hub.js";

const LEADER = "oracle.stream.leader";
const ASK_INTERVAL = 5_000; // ms
const SILENCE_LIMIT = 2; // questions that nobody answered: one alone may be of a page that slept

export class SharedStream extends EventTarget {
  #tab = crypto.getRandomValues(new Uint32Array(4)).join("-");
  #isHeld = held(`oracle.tab.${this.#tab}`); // a promise: the lock by which the hub knows that this tab lives
  #roads;
  #road;
  #viewer = null; // while it listens
  #isStarted = false;
  #asking = null; // timer
  #isHeard = false; // since the last question
  #silence = 0; // questions

  /** @param {MakeRoad[]} roads best first; the last of them leads to a hub in any browser */
  constructor(roads = [workerRoad, leaderRoad, ownRoad]) {
    super();
    this.#roads = [...roads];
    this.#road = this.#nextRoad();
    addEventListener("pagehide", () => this.#viewer !== null && this.#road.send({ type: "leave" }));
    addEventListener("pageshow", ({ persisted }) => persisted && this.#viewer !== null && this.#goOn());
  }

  /** Listens from now on, as this viewer. @param {string} viewer */
  join(viewer) {
    this.stop();
    this.#viewer = viewer;
    this.#isHeard = false;
    this.#silence = 0;
    this.#asking = setInterval(() => this.#ask(), ASK_INTERVAL);
    this.#road.send({ type: "join", viewer, tab: this.#tab });
  }

  /** The list has been read, up to this cursor. */
  start(cursor) {
    if (this.#viewer === null || this.#isStarted) return;
    this.#isStarted = true;
    this.#road.send({ type: "start", cursor });
  }

  /** Hears nothing more. Safe at any time, also twice. */
  stop() {
    clearInterval(this.#asking);
    if (this.#viewer !== null) this.#road.send({ type: "leave" });
    this.#viewer = null;
    this.#isStarted = false;
  }

  /** Tries at once, for a page that comes back from sleep or hears that the network is there again. */
  wake() {
    if (this.#isStarted) this.#road.send({ type: "wake" });
  }

  #take({ type, detail }) {
    this.#isHeard = true;
    if (this.#viewer === null || type === "started" || type === "here") return;
    if (type === "lost") this.#goOn();
    else if (type === "joined") this.dispatchEvent(new Event("reread"));
    else this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #ask() {
    this.#silence = this.#isHeard ? 0 : this.#silence + 1;
    this.#isHeard = false;
    if (this.#silence < SILENCE_LIMIT) this.#road.send({ type: "ask" });
    else this.#changeRoad();
  }

  /** Who held the stream is gone, and who holds it now knows nothing of us: what may not have been told is read again. */
  #goOn() {
    this.join(this.#viewer);
    this.dispatchEvent(new CustomEvent("resync", { detail: { reason: "who held the stream is gone" } }));
  }

  /** Should whoever is at the end of the former road wake up, they keep nothing for us. */
  #changeRoad() {
    if (this.#roads.length === 0) return;
    this.#road.send({ type: "leave" });
    this.#road = this.#nextRoad();
    if (this.#viewer !== null) this.#goOn();
  }

  #nextRoad() {
    let road = null;
    const isOurs = () => this.#road === road;
    const end = {
      tab: this.#tab,
      isHeld: this.#isHeld,
      take: (message) => isOurs() && this.#take(message),
      fail: () => isOurs() && this.#changeRoad(),
    };
    while (road === null) {
      const make = this.#roads.shift();
      try {
        road = make(end);
      } catch (error) {
        if (this.#roads.length === 0) throw error; // else: it is there and may not be used
      }
    }
    return road;
  }
}

/**
 * @typedef {{send: (message: object) => void}} Road the way to a hub
 * @typedef {{tab: string, isHeld: Promise<void>, take: (message: object) => void, fail: () => void}} End ours: its name,
 *   its lock, who takes what the hub says, and who is told that this road leads nowhere
 * @typedef {(end: End) => Road | null} MakeRoad null where the browser has no such way
 */

/** @type {MakeRoad} */
export function workerRoad({ isHeld, take, fail }) {
  if (!globalThis.SharedWorker) return null;
  const worker = new SharedWorker(workerAddress(), { type: "module", name: "oracle.stream" });
  worker.addEventListener("error", fail);
  worker.port.addEventListener("message", (event) => take(event.data));
  worker.port.start();
  return { send: (message) => isHeld.then(() => worker.port.postMessage(message)) };
}

/** Whoever holds the lock leads: the others speak to it, and it to them, over one channel that all hear. @type {MakeRoad} */
export function leaderRoad({ tab, isHeld, take }) {
  if (!navigator.locks) return null;
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
  const send = (message) => (own === null ? air.postMessage({ to: "leader", from: tab, message }) : own(message));
  return { send: (message) => isHeld.then(() => send(message)) };
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

/** This hub ends with its tab, so it need not watch the tab's lock. @type {MakeRoad} */
export function ownRoad({ take }) {
  const tell = new StreamHub().attach({ postMessage: (answer) => queueMicrotask(() => take(answer)) });
  return { send: (message) => tell({ ...message, tab: null }) };
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

/** Where a string must be declared to be a script of ours. */
function workerAddress() {
  const address = String(new URL("./stream-worker.js", import.meta.url));
  return globalThis.trustedTypes ? trustedTypes.createPolicy("oracle-stream", { createScriptURL: () => address }).createScriptURL(address) : address;
}
