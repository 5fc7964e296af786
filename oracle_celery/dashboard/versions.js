/**
 * Which of two readings of one task is the newer: they come late, twice and in any order. Pure.
 */

/** @returns {number} negative where a is older than b. A version is [retries, run_at, rank]; no run sorts first. */
export function compareVersions(a, b) {
  for (let part = 0; part < 3; part += 1) {
    const difference = (a[part] ?? -Infinity) - (b[part] ?? -Infinity);
    if (difference < 0 || difference > 0) return difference;
  }
  return 0;
}

/** The newer of two readings of one task. Readings of one version may know different facts of its sending: both count. */
export function mergeTask(known, arrived) {
  if (known === undefined || known === null) return arrived;
  const order = compareVersions(known.version, arrived.version);
  if (order > 0) return known;
  if (order < 0) return arrived;
  const merged = { ...known };
  let changed = false;
  for (const [field, value] of Object.entries(arrived)) {
    if (field === "version" || value === null || value === known[field]) continue;
    merged[field] = value;
    changed = true;
  }
  return changed ? merged : known;
}
