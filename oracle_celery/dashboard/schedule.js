/**
 * Celery beat's schedule as the page holds it: its state, and where on the line around "now" each run belongs. Pure.
 */

export const WINDOW = 12 * 3600; // seconds before and after now

/** The server tells so many runs of an entry; of due times it tells one beyond the line, unless there are too many. */
const RUNS_TOLD = 60;

/** Ticks closer than this share of the line are one band: nobody could tell them apart. */
const BAND_GAP = 0.012;

export const NO_SCHEDULE = Object.freeze({ told: null, error: null });

export const scheduleActions = {
  scheduleArrived(_schedule, { answer }) {
    return { told: answer, error: null };
  },
  scheduleFailed(schedule, { error }) {
    return { ...schedule, error };
  },
};

/** `{kind, beat}`: "none" was ever seen, "alive", "several" (each entry is sent by each), "silent" or "stopped". */
export function beatOf({ beats }) {
  const living = beats.filter((beat) => beat.state === "alive");
  if (living.length > 1) return { kind: "several", beat: living[0], count: living.length };
  if (living.length === 1) return { kind: "alive", beat: living[0], count: 1 };
  return beats.length === 0 ? { kind: "none", beat: null, count: 0 } : { kind: beats[0].state, beat: beats[0], count: 0 };
}

/** The newest due time that passed without a run, unless a run has come since. */
export function missedNow({ missed, last_run: last }) {
  const newest = missed.at(-1) ?? null;
  return newest !== null && (last === null || last.at < newest) ? newest : null;
}

export function countMissed(entries) {
  return entries.filter((entry) => missedNow(entry) !== null).length;
}

/**
 * What stands on the line, each at a share of it (0 is twelve hours ago, 1 in twelve hours):
 * `{bands: [{from, to, isAhead}], ticks: [{at, kind, iso, status, taskId}]}`. Runs and due times that lie too close are
 * bands; a failed run and a missed one are never lost in a band.
 * @param {object} entry @param {number} now ms
 */
export function timeline(entry, now) {
  const share = (iso) => 0.5 + (Date.parse(iso) - now) / 1000 / (2 * WINDOW);
  const inside = ({ at }) => at >= 0 && at <= 1;
  const runs = entry.runs.map((run) => ({ at: share(run.at), kind: "run", iso: run.at, status: run.status, taskId: run.task_id }));
  const due = entry.due.map((iso) => ({ at: share(iso), kind: "due", iso, status: null, taskId: null }));
  const missed = entry.missed.map((iso) => ({ at: share(iso), kind: "missed", iso, status: null, taskId: null }));
  const past = banded(runs.filter(inside), { isEarlier: entry.runs.length >= RUNS_TOLD });
  const ahead = banded(due.filter(inside), { isLater: due.every(inside) });
  const loud = past.hidden.filter(({ status }) => status === "failed" || status === "cancelled");
  return {
    bands: [...past.bands.map((band) => ({ ...band, isAhead: false })), ...ahead.bands.map((band) => ({ ...band, isAhead: true }))],
    ticks: [...past.ticks, ...loud, ...ahead.ticks, ...missed.filter(inside)].sort((a, b) => a.at - b.at),
  };
}

/** Neighbours that touch become bands; a cut list of them goes on to the end of its half of the line. */
function banded(marks, { isEarlier = false, isLater = false }) {
  const groups = [];
  for (const mark of marks) {
    const group = groups.at(-1);
    if (group !== undefined && mark.at - group.at(-1).at < BAND_GAP) group.push(mark);
    else groups.push([mark]);
  }
  const bands = groups.filter((group) => group.length > 2).map((group) => ({ from: group[0].at, to: group.at(-1).at }));
  if (isEarlier && bands.length > 0 && bands[0].from === marks[0].at) bands[0].from = 0;
  if (isLater && bands.length > 0 && bands.at(-1).to === marks.at(-1).at) bands.at(-1).to = 1;
  const close = new Set(groups.filter((group) => group.length > 2).flat());
  return { bands, ticks: marks.filter((mark) => !close.has(mark)), hidden: [...close] };
}
