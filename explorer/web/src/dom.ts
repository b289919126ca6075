/** Elements made without markup: text is only ever text. */

type Child = Node | string;

/** A new element; `attributes` are set as they are, children appended, strings as text nodes. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** The template's element with an id; an error if the template has none of that kind. */
export function byId<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no #${id}`);
  return found;
}

/** Text of the Hub in a line of ours; its direction marks end with it. */
export function foreign(text: string, name?: string): HTMLElement {
  return element("bdi", name ? { class: name } : {}, text);
}

const NUMBER = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeZone: "UTC" });

export const number = (value: number): string => NUMBER.format(value);

/** A number in few characters: 2.48M. */
export const short = (value: number): string => SHORT.format(value);

/** A day, from ISO 8601; null of anything else. */
export function day(iso: string | null): string | null {
  const time = iso === null ? Number.NaN : Date.parse(iso);
  return Number.isNaN(time) ? null : DATE.format(time);
}

/** A size in bytes, in decimal units. */
export function bytes(size: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  let scaled = size;
  while (scaled >= 1000 && power < units.length - 1) {
    scaled /= 1000;
    power++;
  }
  return `${scaled >= 100 || power === 0 ? Math.round(scaled) : scaled.toFixed(1)} ${units[power]}`;
}
