/**
 * A value that is shown anywhere can be looked for: an element with `data-term-field` (of the query language) and, where
 * its text is not the value itself, `data-term-value`. A click asks with `addTerm`, with Alt it excludes. What is also a link is
 * followed by a plain click and excluded by Alt.
 */

/** @param {Document} root */
export function ValueClicks(root) {
  root.addEventListener("click", (event) => {
    const element = event.target.closest?.("[data-term-field]");
    if (!element || (element.localName === "a" && !event.altKey)) return;
    const value = element.dataset.termValue ?? element.textContent;
    if (value === "") return;
    event.preventDefault();
    const detail = { field: element.dataset.termField, value, excludes: event.altKey };
    element.dispatchEvent(new CustomEvent("addTerm", { bubbles: true, detail }));
  });
}

/** A value as such a button. By keyboard the task's own view offers the same. @param {string} field @param {string} text */
export function valueButton(field, text) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "value", tabIndex: -1, textContent: text });
  button.dataset.termField = field;
  return button;
}
