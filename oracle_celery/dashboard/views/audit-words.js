/** Words of the audit and of outcomes. What this page does not know is shown as the server wrote it. */

import { t } from "../locale.js";

/** @param {string} action */
export function actionWord(action) {
  return t(`action.${action}`, {}, action);
}

/** @param {string} outcome */
export function outcomeWord(outcome) {
  return t(`outcome.${outcome}`, {}, outcome);
}

/** By which way, and as whom, somebody came. */
export function actorNote({ via, is_admin: isAdmin }) {
  return [t(`via.${via}`, {}, via), isAdmin ? t("audit.admin") : ""].filter(Boolean).join(", ");
}
