/* Before the first paint: the theme chosen earlier, so that a dark page never flashes white. Runs alone, outside modules. */
try {
  const chosen = localStorage.getItem("oracle.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage is off: the system's theme holds.
}
