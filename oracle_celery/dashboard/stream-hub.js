/**
 * One stream for all tabs of a browser that the same viewer has open: tabs come and go at its ports, the stream stays.
 *
 * Runs in a worker that the tabs share, or in one of the tabs (see shared-stream.js). A tab joins before it reads its
 * list and then says `start` with the list's cursor. Where no stream runs, it begins at that cursor; where one runs, the
 * answer is "joined": what was handed on before the tab came is not told again, so the tab reads its list once more, and
 * from then on it misses nothing, because it has been listening all the while.
 *
 * A viewer's events reach nobody else: there is a stream per viewer, and whenever somebody logs in or out in any tab,
 * all streams end at once and the tabs find out who they are (event "renew").
 *
 * Messages of a tab: {type: "join", viewer, tab}, {type: "start", cursor}, {type: "wake"}, {type: "leave"},
 * and {type: "ask"}, which is answered with "here".
 * Messages to it: {type, detail} as `TaskStream` tells its events; and "started", "joined", "renew".
 */

import { TaskStream } from "./stream.js";

const TOLD = ["facts", "summary", "bulk", "queues", "progress", "resync", "bye", "refused", "connection"];
const ENDING = new Set(["resync", "bye"]); // after these only a `start` leads on
const KEPT = new Set(["summary", "connection"]); // what somebody who joins is told at once, as it was told last

export class StreamHub {
  #channels = new Map(); // by viewer
  #makeStream;

  /** @param {{makeStream?: () => TaskStream, sessions?: BroadcastChannel}} options */
  constructor({ makeStream = () => new TaskStream(), sessions = new BroadcastChannel("oracle.session") } = {}) {
    this.#makeStream = makeStream;
    sessions.addEventListener("message", () => this.#renew());
  }

  /** A tab, or whatever speaks for it. @param {{postMessage: (message: object) => void}} port @returns {(message: object) => void} takes its messages */
  attach(port) {
    let channel = null;
    let isWatched = false;
    const leave = () => {
      channel?.remove(port);
      channel = null;
    };
    const takes = {
      join: ({ viewer, tab }) => {
        leave();
        channel = this.#channelOf(viewer);
        channel.add(port);
        if (!isWatched) whenGone(tab, leave);
        isWatched = true;
      },
      start: ({ cursor }) => channel?.start(port, cursor),
      wake: () => channel?.wake(),
      ask: () => port.postMessage({ type: "here" }),
      leave,
    };
    return (message) => takes[message.type]?.(message);
  }

  #channelOf(viewer) {
    if (!this.#channels.has(viewer)) this.#channels.set(viewer, new Channel(this.#makeStream()));
    return this.#channels.get(viewer);
  }

  #renew() {
    const channels = [...this.#channels.values()];
    this.#channels.clear();
    for (const channel of channels) channel.renew();
  }
}

/** The stream of one viewer, and who listens to it. It ends with the last of them. */
class Channel {
  #stream;
  #ports = new Set();
  #isRunning = false;
  #kept = new Map();

  constructor(stream) {
    this.#stream = stream;
    for (const type of TOLD) stream.addEventListener(type, (event) => this.#tell(type, event.detail));
  }

  add(port) {
    this.#ports.add(port);
    if (this.#isRunning) for (const message of this.#kept.values()) port.postMessage(message);
  }

  remove(port) {
    this.#ports.delete(port);
    if (this.#ports.size === 0) this.#stop();
  }

  start(port, cursor) {
    port.postMessage({ type: this.#isRunning ? "joined" : "started" });
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#stream.start(cursor);
  }

  wake() {
    this.#stream.wake();
  }

  /** Nobody here is sure any more to be who they were. */
  renew() {
    this.#stop();
    this.#tell("renew", null);
    this.#ports.clear();
  }

  #tell(type, told) {
    // What is told again later says when it was heard: its own time tells how far our clock is from the server's.
    const detail = type === "summary" ? { ...told, heard_at: Date.now() } : told;
    const message = { type, detail };
    if (KEPT.has(type)) this.#kept.set(type, message);
    if (ENDING.has(type)) this.#stop();
    for (const port of this.#ports) port.postMessage(message);
  }

  #stop() {
    this.#isRunning = false;
    this.#kept.clear();
    this.#stream.stop();
  }
}

/** A tab that dies says nothing, but the lock that it holds all its life is let go. */
function whenGone(tab, leave) {
  if (tab) navigator.locks?.request(`oracle.tab.${tab}`, leave);
}
