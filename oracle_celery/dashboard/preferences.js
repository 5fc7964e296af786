/** What this browser remembers of its reader: theme, language and columns. Works, forgetting, where storage is off. */

const PREFIX = "oracle.";

/** @param {"theme" | "language" | "columns"} name @returns {string | null} */
export function preference(name) {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null;
  }
}

/** @param {"theme" | "language" | "columns"} name @param {string | null} value null forgets */
export function prefer(name, value) {
  try {
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, value);
  } catch {
    // It holds until the page is closed.
  }
}
