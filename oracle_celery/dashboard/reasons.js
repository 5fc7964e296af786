/**
 * What the reason of a state means, in the reader's language. The reason itself is shown as it is: it is the word that
 * `reason:` of the query language, the API and the documents know. A reason that is not one of ours means nothing here.
 */

import { t } from "./locale.js";

/** @param {string | null} reason such as "worker_lost" */
export function meaningOf(reason) {
  return reason ? t(`because.${reason}`, {}, "") : "";
}
