/*
 * All of the page's files have to come before anything happens. Where one does not (the server was restarted between
 * two of them, the network lost it), the page says so, and is opened anew as soon as the server answers: after a second,
 * and after longer and longer pauses where that does not help. Runs alone, before the modules that may be missing.
 */
{
  const FIRST_PAUSE = 1_000; // ms
  const LONGEST_PAUSE = 60_000; // ms
  const ANSWER_TIMEOUT = 10_000; // ms
  const FAILURES = "oracle.loading.failures"; // how many times after each other, in this tab
  const assets = document.currentScript.src.replace(/[^/]*$/, "");
  let isLost = false;

  document.addEventListener("error", notice, { capture: true });
  document.addEventListener("load", notice, { capture: true });

  /** What others put into the page, an extension of the browser for one, is not missed. */
  function notice({ type, target }) {
    const isScript = target instanceof HTMLScriptElement;
    if ((!isScript && target.rel !== "stylesheet") || !(target.src ?? target.href).startsWith(assets)) return;
    if (type === "error") lose();
    else if (target.type === "module" && !isLost) settle();
  }

  /** The last file is here and has been run. */
  function settle() {
    for (const type of ["error", "load"]) document.removeEventListener(type, notice, { capture: true });
    remember(0);
  }

  async function lose() {
    if (isLost) return;
    isLost = true;
    const failures = remembered();
    remember(failures + 1);
    tell();
    await pause(Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures));
    while (!(await isThere())) await pause(FIRST_PAUSE);
    location.reload();
  }

  /** The words are a file as well: where they do not come, the badge alone says it. */
  async function tell() {
    try {
      const chosen = localStorage.getItem("oracle.language") ?? navigator.language;
      const answer = await fetch(`${assets}locales/${chosen.startsWith("ru") ? "ru" : "en"}.json`);
      if (!answer.ok) return;
      const words = await answer.json();
      document.querySelector(".connection__word").textContent = words["connection.reconnecting"];
      document.querySelector(".connection__reason").textContent = words["loading.reason"];
    } catch {
      // The next attempt may bring them.
    }
  }

  async function isThere() {
    try {
      const signal = AbortSignal.timeout(ANSWER_TIMEOUT);
      return (await fetch(location.pathname, { cache: "no-store", signal })).ok;
    } catch {
      return false;
    }
  }

  function pause(ms) {
    return new Promise((resolve) => setTimeout(resolve, ms));
  }

  function remembered() {
    try {
      return Number(sessionStorage.getItem(FAILURES)) || 0;
    } catch {
      return 0;
    }
  }

  function remember(failures) {
    try {
      sessionStorage.setItem(FAILURES, String(failures));
    } catch {
      // Storage is off: each pause is as short as the first.
    }
  }
}
