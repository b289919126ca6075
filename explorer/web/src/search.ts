/** Search by name, author or dataset: a box with a list below it. */

import { byId, element, foreign } from "./dom";
import type { Explorer } from "./explorer";

/** Results that are listed; the others are counted. */
const LISTED = 40;

const folded = (text: string): string => text.normalize("NFKC").toLowerCase();

/** Makes the box find adapters; what is chosen is selected, and `chosen` told. */
export function listenOnSearch(explorer: Explorer, chosen: (index: number) => void): void {
  const box = byId("search", HTMLInputElement);
  const list = byId("results", HTMLElement);
  const { columns } = explorer.payload;
  const names = columns.adapter.map(folded);
  const texts = names.map((name, index) =>
    folded([name, columns.author[index] ?? "", ...columns.datasets[index]!].join("\n")),
  );
  let active = -1;

  const matches = (query: string): number[] => {
    const words = folded(query).split(/\s+/).filter(Boolean);
    const found = texts.flatMap((text, index) => (words.every((word) => text.includes(word)) ? [index] : []));
    // Names first, the shortest being the closest to what was typed; then downloads.
    const rank = (index: number): number => (words.every((word) => names[index]!.includes(word)) ? 0 : 1);
    const downloads = (index: number): number => columns.downloads[index] ?? 0;
    return found.sort((a, b) => rank(a) - rank(b) || downloads(b) - downloads(a) || a - b);
  };
  const close = (): void => {
    list.hidden = true;
    active = -1;
    box.setAttribute("aria-expanded", "false");
    box.removeAttribute("aria-activedescendant");
  };
  const choose = (index: number): void => {
    close();
    box.value = "";
    chosen(index);
  };
  const option = (index: number, place: number): HTMLElement => {
    const row = element("li", { role: "option", id: `result-${place}`, "aria-selected": "false" });
    const hidden = explorer.filters.shown[index] ? "" : " · hidden by the filters";
    row.append(
      foreign(columns.adapter[index]!, "name"),
      element("small", {}, foreign(columns.datasets[index]!.join(", ") || explorer.domainName(index)), hidden),
    );
    row.dataset.index = String(index);
    return row;
  };
  const show = (): void => {
    const query = box.value.trim();
    if (!query) {
      close();
      return;
    }
    const found = matches(query);
    list.replaceChildren(...found.slice(0, LISTED).map(option));
    const rest = found.length - LISTED;
    if (!found.length) list.append(element("li", { class: "note" }, "No name, author or dataset matches."));
    if (rest > 0) list.append(element("li", { class: "note" }, `… and ${rest} more`));
    list.hidden = false;
    list.scrollTop = 0;
    box.setAttribute("aria-expanded", "true");
    activate(found.length ? 0 : -1);
  };
  const activate = (place: number): void => {
    const options = list.querySelectorAll<HTMLElement>("[role=option]");
    options[active]?.setAttribute("aria-selected", "false");
    active = Math.max(-1, Math.min(place, options.length - 1));
    const row = options[active];
    if (!row) return;
    row.setAttribute("aria-selected", "true");
    row.scrollIntoView({ block: "nearest" });
    box.setAttribute("aria-activedescendant", row.id);
  };

  box.addEventListener("input", show);
  box.addEventListener("focus", show);
  box.addEventListener("blur", close);
  box.addEventListener("keydown", (event) => {
    const row = list.querySelectorAll<HTMLElement>("[role=option]")[active];
    if (event.key === "ArrowDown") activate(active + 1);
    else if (event.key === "ArrowUp") activate(Math.max(0, active - 1));
    else if (event.key === "Enter" && row && !list.hidden) choose(Number(row.dataset.index));
    else if (event.key === "Escape" && !list.hidden) close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  // The box must not lose the focus before the click arrives.
  list.addEventListener("pointerdown", (event) => event.preventDefault());
  list.addEventListener("click", (event) => {
    const row = (event.target as Element).closest<HTMLElement>("[role=option]");
    if (row) choose(Number(row.dataset.index));
  });
}
