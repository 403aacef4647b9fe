/** Light, dark, or what the system says; the choice stays with this browser. */

export type Theme = "system" | "light" | "dark";

export const THEMES: readonly Theme[] = ["system", "light", "dark"];
const STORED_AS = "groundswell.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

export function chosenTheme(): Theme {
  const stored = localStorage.getItem(STORED_AS);
  return THEMES.find((theme) => theme === stored) ?? "system";
}

/** Shows `theme` and remembers it. The colours themselves are the style sheet's. */
export function choose(theme: Theme): void {
  localStorage.setItem(STORED_AS, theme);
  show(theme);
}

export function show(theme: Theme): void {
  document.documentElement.dataset["theme"] = theme === "system" ? (dark.matches ? "dark" : "light") : theme;
}

/** Keeps `system` true when the system changes its mind. */
export function followSystem(): void {
  dark.addEventListener("change", () => show(chosenTheme()));
}
