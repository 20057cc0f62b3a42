// Light and dark: as the system has it, until the button says otherwise.

const SAVED = "theme";

export function setUpTheme(toggle) {
  const saved = localStorage.getItem(SAVED);
  if (saved) document.documentElement.dataset.theme = saved;
  toggle.addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem(SAVED, next);
  });
}
