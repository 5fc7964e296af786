/**
 * The only EventSource of a browser: every transition of a task, once, from a list's cursor on. The page's tabs share it
 * (see stream-hub.js).
 *
 * The browser reconnects by itself with Last-Event-ID. Where it gives up (any answer but 200) or hears nothing for
 * too long, a new EventSource goes on from the last id we saw, the former after a pause with jitter. A replay may repeat what was
 * read before the break: repeated history ids are dropped here.
 *
 * Events (CustomEvent): "facts" (an array, gathered for a moment), "summary", "bulk" (how far one is), "queues" (read
 * them again), "progress" (of one task), "resync", "bye" (the server ends it, and why), "refused" (it was answered, but not with a stream), and
 * "connection" with "reconnecting", "live" or "deaf": the stream is open, but not even a heartbeat came.
 */

const GATHER = 50; // ms: facts of one burst are handed on together
const FLOOD = 20; // facts in one such burst: more come than anybody can read, and they are handed on
const FLOOD_GATHER = 200; // ms, five times a second
const SILENCE_LIMIT = 45_000; // ms: more than two heartbeats of the server were missed
const DEAF_PAUSE = 15_000; // ms between two attempts to hear again
const WATCH_INTERVAL = 5_000; // ms
const FIRST_PAUSE = 1_000; // ms
const LONGEST_PAUSE = 30_000; // ms
const REMEMBERED_FACTS = 5_000; // history ids: more than one reconnect can repeat

export class TaskStream extends EventTarget {
  #source = null;
  #cursor = null;
  #gathered = [];
  #isFlood = false;
  #delivered = new Set();
  #attempts = 0;
  #heardAt = 0;
  #connection = null;
  #openedAt = 0;
  #failedAt = 0;
  #reopening = null;
  #gathering = null;
  #watching = null;

  /** @param {string} cursor of the list; a running stream is replaced. */
  start(cursor) {
    this.stop();
    this.#cursor = cursor;
    this.#heardAt = performance.now();
    this.#watching = setInterval(() => this.#watch(), WATCH_INTERVAL);
    this.#open();
  }

  /** Safe at any time, also twice. */
  stop() {
    this.#close();
    clearInterval(this.#watching);
    clearTimeout(this.#gathering);
    this.#gathering = null;
    this.#gathered = [];
    this.#cursor = null;
    this.#connection = null;
  }

  /** Tries at once, for a page that comes back from sleep or hears that the network is there again. */
  wake() {
    if (this.#cursor !== null && this.#connection !== "live") this.#open();
  }

  #open() {
    this.#close();
    this.#openedAt = performance.now();
    const source = new EventSource(`/api/tasks/subscribe?after=${encodeURIComponent(this.#cursor)}`);
    source.addEventListener("open", () => this.#connection === "deaf" || this.#heard());
    source.addEventListener("heartbeat", (event) => this.#heard(event));
    source.addEventListener("task", (event) => this.#gather(event));
    source.addEventListener("summary", (event) => this.#tell("summary", event));
    source.addEventListener("bulk", (event) => this.#tell("bulk", event));
    source.addEventListener("progress", (event) => this.#tell("progress", event));
    source.addEventListener("queues", (event) => this.#tell("queues", event));
    source.addEventListener("resync", (event) => this.#tell("resync", event));
    source.addEventListener("bye", (event) => this.#tell("bye", event));
    source.addEventListener("error", () => this.#failed());
    this.#source = source;
  }

  #close() {
    clearTimeout(this.#reopening);
    this.#source?.close();
    this.#source = null;
  }

  #heard(event) {
    this.#heardAt = performance.now();
    this.#attempts = 0;
    if (event?.lastEventId) this.#cursor = event.lastEventId;
    this.#connect("live");
  }

  #gather(event) {
    this.#heard(event);
    const fact = JSON.parse(event.data);
    if (this.#delivered.has(fact.history_id)) return;
    this.#delivered.add(fact.history_id);
    if (this.#delivered.size > REMEMBERED_FACTS) this.#delivered.delete(this.#delivered.values().next().value);
    this.#gathered.push(fact);
    this.#gathering ??= setTimeout(() => this.#handOn(), this.#isFlood ? FLOOD_GATHER : GATHER);
  }

  #handOn() {
    const facts = this.#gathered;
    this.#gathered = [];
    this.#gathering = null;
    this.#isFlood = facts.length >= FLOOD;
    this.dispatchEvent(new CustomEvent("facts", { detail: facts }));
  }

  #tell(type, event) {
    this.#heard(event);
    this.dispatchEvent(new CustomEvent(type, { detail: JSON.parse(event.data) }));
  }

  #failed() {
    this.#failedAt = performance.now();
    this.#connect("reconnecting");
    if (this.#source.readyState !== EventSource.CLOSED) return;
    const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.#attempts);
    this.#attempts += 1;
    clearTimeout(this.#reopening);
    this.#reopening = setTimeout(() => this.#open(), longest * (0.5 + Math.random() / 2));
    this.dispatchEvent(new Event("refused"));
  }

  /** An open connection proves nothing to the deaf: only an event does, and a stream begins with one. */
  #watch() {
    const now = performance.now();
    if (this.#connection === "reconnecting") return this.#watchAttempt(now);
    if (now - this.#heardAt < SILENCE_LIMIT) return;
    this.#connect("deaf");
    if (now - this.#openedAt >= DEAF_PAUSE) this.#open();
  }

  /** What the browser tries by itself may hang as well, on a way that swallows everything. */
  #watchAttempt(now) {
    if (this.#source === null || this.#source.readyState === EventSource.CLOSED) return; // a new one is to come
    if (now - Math.max(this.#openedAt, this.#failedAt) >= SILENCE_LIMIT) this.#open();
  }

  #connect(connection) {
    if (connection === this.#connection) return;
    this.#connection = connection;
    this.dispatchEvent(new CustomEvent("connection", { detail: connection }));
  }
}
