/** Where the opened task came from and what it sent: its family as a small tree, and its group. */

import { formatCount, formatDuration, shortId } from "../format.js";
import { familyRows, hasFamily } from "../lineage.js";
import { t } from "../locale.js";
import { hashOf } from "../route.js";
import { showStatus } from "./glyph.js";
import { KeyedList, copyOf } from "./keyed-list.js";
import { showName } from "./task-name.js";

const STATUSES = ["failed", "in_progress", "pending", "cancelled", "completed"];
const DEEPEST = 6; // steps that are indented; a longer chain goes on below itself

/** @param {HTMLElement} element */
export function TaskLineage(element) {
  const family = KeyedList(element.querySelector(".lineage__family"), Relative);
  const more = element.querySelector(".lineage__more");
  const group = element.querySelector(".lineage__group");
  const [groupTitle, groupId] = group.querySelector("summary").children;
  const members = KeyedList(group.querySelector("ol"), Relative);
  const groupMore = group.querySelector("p");

  function update({ task, lineage }) {
    element.hidden = !hasFamily(task, lineage);
    if (element.hidden) {
      family.update([]);
      members.update([]);
      return;
    }
    family.update(familyRows(task, lineage).map((row) => [`${row.depth} ${row.id}`, row.id, row.task, row.depth, row.isSelf]));
    more.hidden = !lineage?.has_more;
    updateGroup(task, lineage?.group ?? null);
  }

  function updateGroup(task, told) {
    group.hidden = told === null;
    if (told === null) {
      members.update([]);
      return;
    }
    const formatted = told.is_counted_whole ? formatCount(told.total) : `> ${formatCount(told.total)}`;
    const counts = STATUSES.filter((status) => told.statuses[status] > 0).map(
      (status) => `${formatCount(told.statuses[status])} ${t(`status.${status}`).toLocaleLowerCase()}`,
    );
    groupTitle.textContent = `${t("lineage.group", { count: told.total, formatted })}: ${counts.join(", ")}`;
    groupId.textContent = shortId(told.group_id);
    groupId.title = told.group_id;
    members.update(told.members.map((member) => [member.task_id, member.task_id, member, 0, member.task_id === task.task_id]));
    groupMore.hidden = told.members.length >= told.total;
    groupMore.textContent = t("lineage.shown", { count: told.members.length, formatted: formatCount(told.members.length) });
  }

  return { update };
}

function Relative() {
  const element = copyOf("relative");
  const glyph = element.querySelector(".glyph");
  const link = element.querySelector("a");
  const [status, duration] = [element.querySelector(".relative__status"), element.querySelector(".relative__duration")];

  function update(id, task, depth, isSelf) {
    element.style.setProperty("--depth", Math.min(depth, DEEPEST));
    element.classList.toggle("relative--self", isSelf);
    element.classList.toggle("relative--gone", task === null);
    glyph.toggleAttribute("hidden", task === null);
    link.title = id;
    if (isSelf) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    if (task === null) {
      link.removeAttribute("href");
      showName(link, shortId(id));
      status.textContent = t("lineage.gone");
      duration.textContent = "";
      return;
    }
    if (isSelf) link.removeAttribute("href");
    else link.href = hashOf("tasks", id);
    showName(link, task.name ?? shortId(id));
    showStatus(element, status, task.status);
    duration.textContent = task.runtime === null ? "" : formatDuration(task.runtime);
  }

  return { element, update };
}
