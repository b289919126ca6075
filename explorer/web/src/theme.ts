/** Light or dark: as the system says, until the button says otherwise. */

import { Observable } from "./observable";
import type { Theme } from "./palette";

const KEY = "hubdelta-theme";

/** The theme that is in force; it follows the system, and `button` switches it. */
export function followTheme(button: HTMLButtonElement): Observable<Theme> {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const system = (): Theme => (dark.matches ? "dark" : "light");
  let chosen = remembered();
  const theme = new Observable<Theme>(chosen ?? system());
  const show = (): void => {
    document.documentElement.dataset.theme = theme.value;
    button.setAttribute("aria-label", theme.value === "dark" ? "Light colors" : "Dark colors");
    button.title = button.getAttribute("aria-label")!;
  };
  theme.subscribe(show);
  show();
  dark.addEventListener("change", () => {
    if (!chosen) theme.value = system();
  });
  button.addEventListener("click", () => {
    chosen = theme.value === "dark" ? "light" : "dark";
    theme.value = chosen;
    remember(chosen);
  });
  return theme;
}

// Storage is forbidden to some pages on file://, and in private windows.
function remembered(): Theme | null {
  try {
    const theme = localStorage.getItem(KEY);
    return theme === "light" || theme === "dark" ? theme : null;
  } catch {
    return null;
  }
}

function remember(theme: Theme): void {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    return;
  }
}
