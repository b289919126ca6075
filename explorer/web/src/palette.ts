/** Colors of points in light and dark. */

export type Theme = "light" | "dark";

/**
 * Eight colors for the largest domains. Chosen by search: of one hue each, at least 3:1 against the
 * map, and as far apart as can be in OKLab for normal, protanopic, deuteranopic and tritanopic eyes
 * (Machado, Oliveira and Fernandes 2009): at least .12 in light and .14 in dark.
 */
const DISTINCT: Record<Theme, readonly string[]> = {
  light: ["#3836c3", "#ce710c", "#489e88", "#a46cff", "#35769d", "#7b006e", "#364400", "#96544b"],
  dark: ["#5e8aff", "#fd7837", "#53fed6", "#8749a4", "#59c5f5", "#b67594", "#f9d60c", "#ac430e"],
};

/**
 * What the other domains take turns with: neighbors on the map differ, labels tell them apart. These
 * and that of no domain have 3:1 against the map, too.
 */
const SHARED: Record<Theme, readonly string[]> = {
  light: ["#7d8fa3", "#a08f77", "#84967c", "#a2879a"],
  dark: ["#7f90a6", "#a0907a", "#7f947c", "#9d8398"],
};

const NONE: Record<Theme, string> = { light: "#909090", dark: "#6b7078" };

export interface Ink {
  readonly ground: string;
  readonly text: string;
  readonly muted: string;
  readonly accent: string;
}

/** What the canvas draws with beside domains' colors; the same as in style.css. */
export const INK: Record<Theme, Ink> = {
  light: { ground: "#fbfbfa", text: "#1c1f24", muted: "#59606b", accent: "#1d4fd7" },
  dark: { ground: "#15171b", text: "#eceef1", muted: "#a4acb8", accent: "#9dbcff" },
};

/** The number of the color of a domain: the largest have one each, null has the last. */
export function colorIndex(domain: number | null): number {
  const own = DISTINCT.light.length;
  const shared = SHARED.light.length;
  if (domain === null) return own + shared;
  return domain < own ? domain : own + ((domain - own) % shared);
}

/** All colors, by `colorIndex`. */
export function colors(theme: Theme): readonly string[] {
  return [...DISTINCT[theme], ...SHARED[theme], NONE[theme]];
}
