/** The filters: domains with their colors, licenses, ranks, and the least signal. */

import { byId, element, foreign, number, short } from "./dom";
import type { Explorer } from "./explorer";
import { type Facet, GOOD_SIGNAL } from "./facets";
import { colorIndex, colors } from "./palette";

/** Choices of a facet that are listed before "all" is asked for. */
const LISTED = 14;

/** Fills the panel, and keeps it and the count of what is shown up to date. */
export function buildFilters(explorer: Explorer): void {
  const { filters, payload } = explorer;
  const domains = new FacetList(explorer, filters.domain, "Domains", "rows");
  const licenses = new FacetList(explorer, filters.license, "License", "rows");
  const ranks = new FacetList(explorer, filters.rank, "Rank", "chips");
  domains.color((code) => colorIndex(code < payload.domains.length ? code : null));
  domains.emphasize();
  const signal = new SignalSlider(explorer);
  byId("facets", HTMLElement).append(domains.root, licenses.root, ranks.root, signal.root);

  const count = byId("count", HTMLElement);
  const empty = byId("empty", HTMLElement);
  const resets = document.querySelectorAll<HTMLButtonElement>("[data-reset]");
  const update = (): void => {
    const { shown } = filters.count.value;
    count.textContent = `${number(shown)} of ${number(payload.count)} shown`;
    for (const reset of resets) reset.hidden = !filters.active;
    empty.hidden = shown > 0;
    empty.querySelector("p")!.textContent = payload.count
      ? "No adapter matches the filters."
      : "This base has no embedded adapters yet.";
    for (const part of [domains, licenses, ranks, signal]) part.update();
  };
  for (const reset of resets) reset.addEventListener("click", () => filters.reset());
  filters.count.subscribe(update);
  update();
}

/** A group of controls under a title, beside which stand the buttons. */
function group(title: string, buttons: HTMLElement[], ...content: HTMLElement[]): HTMLElement {
  const head = element("header", {}, element("h3", {}, title), ...buttons);
  return element("div", { class: "facet", role: "group", "aria-label": title }, head, ...content);
}

class FacetList {
  readonly root: HTMLElement;
  readonly #explorer: Explorer;
  readonly #facet: Facet;
  readonly #rows: HTMLElement[];

  constructor(explorer: Explorer, facet: Facet, title: string, look: "rows" | "chips") {
    this.#explorer = explorer;
    this.#facet = facet;
    this.#rows = facet.names.map((name, code) => this.#row(name, code, look === "rows"));
    const all = element("button", { type: "button", class: "link" }, "all");
    const none = element("button", { type: "button", class: "link" }, "none");
    all.addEventListener("click", () => this.#hide(() => false));
    none.addEventListener("click", () => this.#hide(() => true));
    all.setAttribute("aria-label", `${title}: all`);
    none.setAttribute("aria-label", `${title}: none`);
    const list = element("div", { class: look }, ...this.#rows.slice(0, LISTED));
    this.root = group(title, [all, none], list);
    this.root.hidden = facet.names.length === 0;
    if (this.#rows.length > LISTED) {
      const more = element("button", { type: "button", class: "link" }, `Show all ${this.#rows.length}`);
      more.addEventListener("click", () => {
        more.remove();
        list.append(...this.#rows.slice(LISTED));
        this.#rows[LISTED]!.querySelector("input")!.focus();
      });
      this.root.append(more);
    }
  }

  update(): void {
    this.#rows.forEach((row, code) => {
      row.querySelector("input")!.checked = !this.#facet.hidden.has(code);
      row.querySelector(".size")!.textContent = number(this.#facet.counts[code]!);
      row.classList.toggle("nothing", this.#facet.counts[code] === 0);
    });
  }

  /** Gives each choice the color its points have. */
  color(colorOf: (code: number) => number): void {
    const swatches = this.#rows.map((row) => {
      const swatch = element("span", { class: "swatch" });
      row.querySelector(".name")!.before(swatch);
      return swatch;
    });
    const paint = (): void => {
      const inks = colors(this.#explorer.theme.value);
      swatches.forEach((swatch, code) => (swatch.style.backgroundColor = inks[colorOf(code)]!));
    };
    this.#explorer.theme.subscribe(paint);
    paint();
  }

  /** Makes the map point out what is pointed at here. */
  emphasize(): void {
    const { emphasized, payload } = this.#explorer;
    this.#rows.forEach((row, code) => {
      if (code >= payload.domains.length) return;
      row.addEventListener("pointerenter", (event) => {
        if (event.pointerType === "mouse") emphasized.value = code;
      });
      row.addEventListener("pointerleave", () => (emphasized.value = null));
    });
  }

  #row(name: string, code: number, single: boolean): HTMLElement {
    const box = element("input", { type: "checkbox" });
    const row = element(
      "div",
      { class: "choice" },
      element("label", { title: name }, box, foreign(name, "name"), element("span", { class: "size" })),
    );
    box.addEventListener("change", () => {
      if (box.checked) this.#facet.hidden.delete(code);
      else this.#facet.hidden.add(code);
      this.#explorer.filters.apply();
    });
    if (single) {
      const only = element("button", { type: "button", class: "only", "aria-label": `Only ${name}` }, "only");
      only.addEventListener("click", () => this.#hide((other) => other !== code));
      row.append(only);
    }
    return row;
  }

  #hide(hidden: (code: number) => boolean): void {
    this.#facet.hidden.clear();
    this.#facet.names.forEach((_, code) => hidden(code) && this.#facet.hidden.add(code));
    this.#explorer.filters.apply();
  }
}

/** The least signal, on a logarithmic scale: signals span six powers of ten. */
class SignalSlider {
  readonly root: HTMLElement;
  readonly #explorer: Explorer;
  readonly #slider = element("input", { type: "range", id: "signal", min: "0", max: "100", step: "1" });
  readonly #value = element("output", { for: "signal" });
  readonly #good = element("button", { type: "button", class: "link" }, "Hide those");

  constructor(explorer: Explorer) {
    this.#explorer = explorer;
    const { filters, payload } = explorer;
    const doubtful = payload.columns.signal.filter((signal) => (signal ?? 0) < GOOD_SIGNAL).length;
    const note = element(
      "p",
      { class: "note" },
      `Below ${GOOD_SIGNAL} a vector is doubtful: ${doubtful ? `${number(doubtful)} here, drawn hollow. ` : "none here."}`,
    );
    if (doubtful) note.append(this.#good);
    this.root = group(
      "Signal",
      [],
      element("label", { class: "slider", for: "signal" }, "At least ", this.#value),
      this.#slider,
      note,
    );
    this.#slider.addEventListener("input", () => (filters.minimumSignal = this.#signalAt(this.#slider.valueAsNumber)));
    this.#good.addEventListener("click", () => (filters.minimumSignal = GOOD_SIGNAL));
    this.#slider.disabled = filters.highestSignal <= 1;
  }

  update(): void {
    const { minimumSignal, highestSignal } = this.#explorer.filters;
    this.#value.textContent = minimumSignal ? short(minimumSignal) : "any";
    this.#slider.setAttribute("aria-valuetext", this.#value.textContent);
    const place = minimumSignal ? (100 * Math.log(minimumSignal)) / Math.log(highestSignal) : 0;
    // Where the slider stands for this value already, the hand that moves it is left alone.
    if (this.#signalAt(this.#slider.valueAsNumber) !== minimumSignal) this.#slider.value = String(Math.round(place));
    this.#good.disabled = minimumSignal >= GOOD_SIGNAL;
  }

  /** The signal at a place of the slider, 0 to 100; its first place is 0, "any". */
  #signalAt(place: number): number {
    const signal = Math.exp((Math.log(this.#explorer.filters.highestSignal) * place) / 100);
    return place === 0 ? 0 : Number(signal.toPrecision(2));
  }
}
