/** The panel of the selected adapter: facts, neighbors, SQL, card. */

import { copyText } from "./copy";
import { byId, element, foreign } from "./dom";
import type { Explorer } from "./explorer";
import { factsOf } from "./facts";
import { decimal, hubAddress, withinSql } from "./hub_text";
import { colorIndex, colors } from "./palette";

export class Panel {
  readonly #explorer: Explorer;
  readonly #root = byId("panel", HTMLElement);
  readonly #title = byId("panel-title", HTMLElement);
  readonly #domain = byId("panel-domain", HTMLElement);
  readonly #link = byId("panel-link", HTMLElement);
  readonly #facts = byId("panel-facts", HTMLElement);
  readonly #slider = byId("threshold", HTMLInputElement);
  readonly #distance = byId("threshold-value", HTMLElement);
  readonly #summary = byId("neighbors-summary", HTMLElement);
  readonly #list = byId("neighbors", HTMLElement);
  readonly #sql = byId("sql", HTMLElement);
  readonly #copied = byId("copied", HTMLElement);
  readonly #card = byId("panel-card", HTMLElement);

  constructor(explorer: Explorer) {
    this.#explorer = explorer;
    const { selected, threshold, theme, filters } = explorer;
    selected.subscribe(() => this.#show());
    threshold.subscribe(() => this.#showNeighbors());
    filters.count.subscribe(() => this.#showNeighbors());
    theme.subscribe(() => this.#show());
    this.#slider.addEventListener("input", () => (threshold.value = this.#slider.valueAsNumber));
    byId("panel-close", HTMLElement).addEventListener("click", () => (selected.value = null));
    byId("copy", HTMLElement).addEventListener("click", () => void this.#copy());
  }

  #show(): void {
    const index = this.#explorer.selected.value;
    const changed = this.#root.dataset.index !== String(index);
    this.#root.hidden = index === null;
    this.#root.dataset.index = String(index);
    if (index === null) return;
    const { payload } = this.#explorer;
    const name = payload.columns.adapter[index]!;
    this.#title.replaceChildren(foreign(name));
    this.#domain.replaceChildren(this.#swatch(index), foreign(this.#explorer.domainName(index)));
    const address = hubAddress(payload, index);
    this.#link.replaceChildren(
      address === null
        ? "Not on the Hub"
        : element("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, "Open on the Hub ↗"),
    );
    this.#facts.replaceChildren(factsOf(payload, index));
    const card = payload.columns.card[index] ?? null;
    this.#card.hidden = card === null || card.trim() === "";
    this.#card.querySelector("p")!.textContent = card;
    this.#showNeighbors();
    if (changed) this.#root.scrollTop = 0;
  }

  #showNeighbors(): void {
    const { payload, selected, threshold } = this.#explorer;
    const index = selected.value;
    if (index === null) return;
    const stored = payload.neighborsOf(index);
    const near = this.#explorer.near();
    this.#slider.value = String(threshold.value);
    this.#distance.textContent = decimal(threshold.value);
    const capped = near.length > 0 && near.length >= payload.k;
    const counted = near.length === 1 ? "1 adapter" : `${near.length} adapters`;
    this.#summary.textContent = capped ? `the nearest ${near.length}; there may be more` : counted;
    const nearest = stored[0];
    this.#list.replaceChildren(...near.map((neighbor) => this.#row(neighbor.index, neighbor.distance)));
    if (!near.length && nearest) {
      const note = element("li", { class: "note" }, "None this close. The nearest:");
      this.#list.append(note, this.#row(nearest.index, nearest.distance));
    } else if (!near.length) {
      this.#list.append(element("li", { class: "note" }, "No other adapter to compare with."));
    }
    const limit = capped ? payload.k : null;
    this.#sql.textContent = withinSql(payload.columns.adapter[index]!, threshold.value, limit);
    this.#copied.textContent = "";
  }

  #row(index: number, distance: number): HTMLElement {
    const { payload, selected, pointed, filters } = this.#explorer;
    const go = element(
      "button",
      { type: "button", title: this.#explorer.domainName(index) },
      this.#swatch(index),
      foreign(payload.columns.adapter[index]!, "name"),
      element("span", { class: "distance" }, distance.toFixed(3)),
    );
    if (!filters.shown[index]) go.append(element("small", {}, "hidden by the filters"));
    go.addEventListener("click", () => {
      selected.value = index;
      this.#title.focus();
    });
    go.addEventListener("pointerenter", () => (pointed.value = index));
    go.addEventListener("pointerleave", () => (pointed.value = null));
    go.addEventListener("click", () => (pointed.value = null));
    return element("li", {}, go);
  }

  #swatch(index: number): HTMLElement {
    const { payload, theme } = this.#explorer;
    const swatch = element("span", { class: "swatch" });
    swatch.style.backgroundColor = colors(theme.value)[colorIndex(payload.columns.domain[index] ?? null)]!;
    return swatch;
  }

  async #copy(): Promise<void> {
    this.#copied.textContent = (await copyText(this.#sql)) ? "Copied" : "Selected: copy with Ctrl+C";
  }
}
