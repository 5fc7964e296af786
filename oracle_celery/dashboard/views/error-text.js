/** What went wrong and what to do about it, in the reader's language; the server's own words where it knows more. */

import { t } from "../locale.js";

/** @param {Error & {code?: string}} error as `api.js` throws it */
export function errorText(error) {
  return t(`error.${error.code}`, { message: error.message }, error.message);
}

/** The same of what was only read: of a server that does not answer there is nothing else to be told. */
export function readErrorText(error) {
  return error.code === "unreachable" ? t("server.unreachable") : errorText(error);
}
