/**
 * What the opened task has logged, as it arrives. Asks with `chooseLog` ({run, level}), `loadEarlierLog`, `followLog` and
 * `readLog`: who scrolls up reads, and is not moved; the button says how much has come meanwhile and goes back to the end.
 *
 * Lines are only ever added to the end or taken from the beginning, so a log of thousands costs what is new. The ear is
 * told a few lines as they are, and of many only how many.
 */

import { logFileAddress } from "../api.js";
import { formatCount, formatExactTime, formatFullTime } from "../format.js";
import { currentLanguage, t } from "../locale.js";
import { logRows, matchParts, notKept, plainText } from "../log-lines.js";

const NEAR_END = 24; // px: that far up is still the end
const SPOKEN_LINES = 3; // that come together and are read out
const SAY_INTERVAL = 5_000; // ms between two words to the ear about many lines
const SEARCH_PAUSE = 150; // ms
const UPWARDS = new Set(["ArrowUp", "PageUp", "Home"]);

/** @param {HTMLElement} element */
export function TaskLog(element) {
  const part = (name) => element.querySelector(`.task-log__${name}`);
  const [lines, run, level, search, wrap, follow] = ["lines", "run", "level", "search", "wrap", "follow"].map(part);
  const [count, note, live, download, said, tools] = ["count", "note", "live", "download", "said", "tools"].map(part);
  let drawn = { rows: [], signature: "" };
  let log = null;
  let matches = [];
  let current = -1;
  let saidAt = 0;
  let unsaid = 0;
  let ownTop = null; // where we have scrolled to ourselves
  let lastTop = 0; // where the last scroll, whoever's, has led
  let searching = null;
  const early = EarlierLines();

  run.addEventListener("change", () => ask("chooseLog", { run: run.value || null }));
  level.addEventListener("change", () => ask("chooseLog", { level: Number(level.value) }));
  wrap.addEventListener("click", () => {
    const isWrapped = wrap.getAttribute("aria-pressed") !== "true";
    wrap.setAttribute("aria-pressed", String(isWrapped));
    lines.classList.toggle("is-wrapped", isWrapped);
  });
  lines.classList.add("is-wrapped");
  lines.append(early.element);
  follow.addEventListener("click", () => {
    ask("followLog");
    lines.focus({ preventScroll: true });
  });
  lines.addEventListener("scroll", noteScroll, { passive: true });
  lines.addEventListener("wheel", (event) => event.deltaY < 0 && leaveEnd(), { passive: true });
  lines.addEventListener("keydown", (event) => UPWARDS.has(event.key) && leaveEnd());
  lines.addEventListener("click", (event) => {
    if (event.target.closest("button")?.ariaDisabled === "false") ask("loadEarlierLog");
  });
  search.addEventListener("input", () => {
    clearTimeout(searching);
    searching = setTimeout(() => {
      draw();
      go(matches.length - 1);
    }, SEARCH_PAUSE);
  });
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || matches.length === 0) return;
    event.preventDefault();
    go((current + (event.shiftKey ? -1 : 1) + matches.length) % matches.length);
  });

  function update({ task, log: next, isWithheld }) {
    const hasBegun = task.started_at !== null || next.runs.length > 0;
    element.hidden = isWithheld || !hasBegun || next.phase === "none";
    if (element.hidden) return;
    if (log === next && drawn.language === currentLanguage()) return;
    log = next;
    draw();
  }

  function draw() {
    live.hidden = !log.isLive;
    download.href = logFileAddress(log.taskId, log.run);
    updateRuns();
    level.value = String(log.level);
    updateNote();
    follow.hidden = log.isFollowed || log.lines.length === 0;
    follow.querySelector("span").textContent =
      log.news > 0 ? t("log.news", { count: log.news, formatted: formatCount(log.news) }) : t("log.follow");
    updateLines();
    count.textContent = counted();
  }

  function updateRuns() {
    run.hidden = log.runs.length < 2;
    const wanted = ["", ...log.runs.map((each) => each.run_id)];
    const signature = `${currentLanguage()} ${wanted.join(" ")}`;
    if (run.dataset.signature !== signature) {
      run.dataset.signature = signature;
      run.replaceChildren(
        ...wanted.map((runId, at) => {
          const option = document.createElement("option");
          option.value = runId;
          option.textContent = at === 0 ? t("log.run.all") : t("attempt.number", { formatted: formatCount(log.runs[at - 1].attempt) });
          return option;
        }),
      );
    }
    run.value = log.run ?? "";
  }

  function updateNote() {
    const missing = notKept(log);
    const texts = [];
    if (log.phase === "failed") texts.push(t("log.failed", { message: log.error.message }));
    else if (log.phase === "loading" && log.lines.length === 0) texts.push(t("log.loading"));
    else if (log.lines.length === 0) texts.push(t(emptiness(log)));
    if (missing > 0) texts.push(t("log.not_kept", { count: missing, formatted: formatCount(missing) }));
    if (log.deletedUntil !== null) texts.push(t("log.deleted", { date: formatFullTime(log.deletedUntil) }));
    note.textContent = texts.join(" ");
    note.hidden = texts.length === 0;
    lines.hidden = log.lines.length === 0;
    tools.hidden = download.hidden = log.lines.length === 0 && log.level === 0 && log.run === null;
  }

  function updateLines() {
    const rows = logRows(log);
    const sought = search.value.trim();
    const signature = [log.taskId, log.run, log.level, sought, currentLanguage()].join("\n");
    const language = currentLanguage();
    const isSame = signature === drawn.signature;
    const kept = isSame ? overlap(drawn.rows, rows) : null;
    const before = { top: lines.scrollTop, height: lines.scrollHeight };
    early.update(log);
    if (kept === null) {
      for (const node of [...lines.children]) if (node !== early.element) node.remove();
      lines.append(...rows.map((row) => drawRow(row, sought)));
    } else {
      for (let left = kept.gone; left > 0; left -= 1) early.element.nextElementSibling.remove();
      const fresh = rows.slice(kept.from);
      speak(fresh);
      lines.append(...fresh.map((row) => drawRow(row, sought)));
    }
    const isEarlier = kept === null && isSame && drawn.rows.length > 0 && rows.at(-1)?.key === drawn.rows.at(-1)?.key;
    drawn = { rows, signature, language };
    matches = sought === "" ? [] : [...lines.querySelectorAll("mark")];
    current = Math.min(current, matches.length - 1);
    if (log.isFollowed) {
      scrollTo(lines.scrollHeight);
      requestAnimationFrame(() => log.isFollowed && scrollTo(lines.scrollHeight)); // lines get their height when they are seen
    } else if (isEarlier) scrollTo(before.top + lines.scrollHeight - before.height);
  }

  function speak(fresh) {
    const isFew = fresh.length <= SPOKEN_LINES;
    lines.setAttribute("aria-live", isFew ? "polite" : "off");
    if (isFew) return;
    unsaid += fresh.length;
    if (performance.now() - saidAt < SAY_INTERVAL) return;
    said.textContent = t("log.said", { count: unsaid, formatted: formatCount(unsaid) });
    saidAt = performance.now();
    unsaid = 0;
  }

  function noteScroll() {
    const isUpwards = lines.scrollTop < lastTop;
    lastTop = lines.scrollTop;
    if (lastTop === ownTop) return;
    const isAtEnd = lines.scrollHeight - lastTop - lines.clientHeight <= NEAR_END;
    if (log.isFollowed && !isAtEnd) ask("readLog");
    else if (!log.isFollowed && isAtEnd && !isUpwards && !log.isCut) ask("followLog");
  }

  /** Before anything has moved: a log that goes on writing would pull every beginning of a way up back to its end. */
  function leaveEnd() {
    if (log.isFollowed && lines.scrollTop > 0) ask("readLog");
  }

  function scrollTo(top) {
    lines.scrollTop = top;
    ownTop = lastTop = lines.scrollTop;
  }

  /** To a match; whoever looks at one reads. */
  function go(at) {
    matches[current]?.classList.remove("is-current");
    current = at;
    count.textContent = counted();
    const match = matches[at];
    if (match === undefined) return;
    if (log.isFollowed) ask("readLog");
    match.classList.add("is-current");
    const [box, frame] = [match.getBoundingClientRect(), lines.getBoundingClientRect()];
    scrollTo(lines.scrollTop + box.top - frame.top - lines.clientHeight / 2);
  }

  function counted() {
    if (search.value.trim() === "") return "";
    const total = formatCount(matches.length);
    if (matches.length === 0) return t("log.matches.none");
    return t("log.matches", { at: formatCount(current + 1), total });
  }

  function ask(type, detail = {}) {
    element.dispatchEvent(new CustomEvent(type, { bubbles: true, detail }));
  }

  function focus() {
    if (element.hidden) return;
    element.scrollIntoView({ block: "start" });
    (lines.hidden ? level : lines).focus({ preventScroll: true });
  }

  return { update, focus };
}

/** Always the same button: one that is made anew between press and release, or under the focus, cannot be used. */
function EarlierLines() {
  const element = document.createElement("div");
  element.className = "task-log__earlier";
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "link" });
  element.append(button);

  function update(log) {
    element.hidden = log.previous === null;
    button.ariaDisabled = String(log.earlier === "loading");
    button.textContent = t(log.earlier === "failed" ? "log.earlier.failed" : "log.earlier");
  }

  return { element, update };
}

/** How the rows go on from those drawn: so many are gone from the beginning, and new ones come from there; null: not so. */
function overlap(drawn, rows) {
  if (drawn.length === 0 || rows.length === 0) return null;
  const gone = drawn.findIndex((row) => row.key === rows[0].key);
  if (gone < 0) return null;
  const common = drawn.length - gone;
  if (common > rows.length || drawn.at(-1).key !== rows[common - 1].key) return null;
  return isSameRow(drawn.at(-1), rows[common - 1]) && isSameRow(drawn[gone], rows[0]) ? { gone, from: common } : null;
}

function isSameRow(a, b) {
  return a.kind === b.kind && a.line === b.line && a.count === b.count && a.attempt === b.attempt;
}

function drawRow(row, sought) {
  const element = document.createElement("div");
  if (row.kind === "line") return drawLine(element, row.line, sought);
  element.className = `log-line log-line--${row.kind}`;
  if (row.kind === "attempt") element.textContent = t("attempt.number", { formatted: formatCount(row.attempt) });
  else {
    const values = { count: row.count, formatted: formatCount(row.count), setting: row.reason };
    element.textContent = t(row.reason ? "log.gap.setting" : "log.gap", values);
  }
  return element;
}

function drawLine(element, line, sought) {
  const level = levelOf(line.level);
  element.className = "log-line";
  element.dataset.level = level;
  const time = document.createElement("time");
  time.dateTime = line.at;
  time.title = formatFullTime(line.at);
  time.textContent = formatExactTime(line.at);
  const word = document.createElement("span");
  word.className = "log-line__level";
  word.textContent = t(`log.word.${level}`);
  const logger = document.createElement("span");
  logger.className = "log-line__logger";
  logger.textContent = line.logger ?? "";
  const text = document.createElement("span");
  text.className = "log-line__text";
  for (const { text: piece, isMatch } of matchParts(plainText(line.message), sought)) {
    const node = document.createElement(isMatch ? "mark" : "span");
    node.textContent = piece;
    text.append(node);
  }
  element.append(time, " ", word, " ", logger, " ", text);
  return element;
}

function levelOf(number) {
  if (number >= 50) return "critical";
  if (number >= 40) return "error";
  if (number >= 30) return "warning";
  return number >= 20 ? "info" : "debug";
}

/** Where lines have been deleted nobody can say that there never were any. */
function emptiness({ level, run, deletedUntil }) {
  return level > 0 || run !== null || deletedUntil !== null ? "log.nothing" : "log.empty";
}
