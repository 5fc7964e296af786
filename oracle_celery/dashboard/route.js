/**
 * Which page is shown, in the address after "#/": its pure reading and writing.
 *
 * The task list is the page of every address that names no other one, so an old or mistyped link still shows something.
 */

/** @typedef {{page: string, id: string | null, parameters: Record<string, string>}} Route */

/** In the order of the navigation. Some are for those who see everything; the server refuses them to anybody else. */
export const PAGES = Object.freeze(["tasks", "failures", "types", "queues", "workers", "schedule", "bulk", "audit"]);
export const OVERSIGHT_PAGES = Object.freeze(["schedule", "audit"]);

/** The pages of a viewer who may see every task, or their own alone. @param {boolean} seesAll */
export function pagesFor(seesAll) {
  return seesAll ? PAGES : PAGES.filter((page) => !OVERSIGHT_PAGES.includes(page));
}

const PAGES_WITH_ID = new Set(["tasks", "failures", "bulk"]);
const ADDRESS = /^#\/([a-z]+)(?:\/([^?]+))?(?:\?(.*))?$/s;

/** @param {string} hash as in location.hash @returns {Route} */
export function routeFromHash(hash) {
  const [, page, id, search] = ADDRESS.exec(hash) ?? [];
  if (!PAGES.includes(page)) return { page: "tasks", id: null, parameters: {} };
  return {
    page,
    id: id !== undefined && PAGES_WITH_ID.has(page) ? decoded(id) : null,
    parameters: Object.fromEntries(new URLSearchParams(search ?? "")),
  };
}

/** @param {string} page @param {string | null} id @param {Record<string, string>} parameters empty ones are left out */
export function hashOf(page, id = null, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value);
  const search = new URLSearchParams(given).toString();
  return `#/${page}${id === null ? "" : `/${encodeURIComponent(id)}`}${search && `?${search}`}`;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
