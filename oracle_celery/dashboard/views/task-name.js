/** A task's name in two tones: the module quiet, the function loud. */

import { splitName } from "../format.js";
import { t } from "../locale.js";
import { say } from "./drawing.js";

/** @param {Element} place holds .name__module and .name__function @param {string | null} name */
export function showName(place, name) {
  const parts = name ? splitName(name) : { module: t("task.unnamed"), function: "" };
  say(place.querySelector(".name__module"), parts.module);
  say(place.querySelector(".name__function"), parts.function);
}
