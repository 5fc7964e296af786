/**
 * A finger that rests on something for a moment: `press(thing)`, with what `read(target)` said when it came down: by the
 * end, the element may show another one. The click that would follow is swallowed.
 */

const REST = 500; // ms
const SLIP = 10; // CSS pixels that a resting finger may move

/** @param {Element} element @param {{read: (target: Element) => any, press: (thing: any) => void}} how */
export function LongPress(element, { read, press }) {
  let resting = null; // timer
  let from = null;
  let isPressed = false;

  element.addEventListener("pointerdown", (event) => {
    isPressed = false;
    if (event.pointerType !== "touch") return;
    from = { x: event.clientX, y: event.clientY };
    const thing = read(event.target);
    resting = setTimeout(() => {
      isPressed = true;
      press(thing);
    }, REST);
  });
  element.addEventListener("pointermove", (event) => {
    if (from && Math.hypot(event.clientX - from.x, event.clientY - from.y) > SLIP) stop();
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) element.addEventListener(end, stop);
  element.addEventListener("contextmenu", (event) => resting !== null && event.preventDefault());
  element.addEventListener(
    "click",
    (event) => {
      if (!isPressed) return;
      isPressed = false;
      event.preventDefault();
      event.stopImmediatePropagation();
    },
    { capture: true },
  );

  function stop() {
    clearTimeout(resting);
    resting = null;
    from = null;
  }
}
