/** What is known at a glance of the adapter under the pointer. */

import type { Camera } from "./camera";
import { element, foreign, short } from "./dom";
import type { Explorer } from "./explorer";

const GAP = 14;

export class Tooltip {
  readonly #box: HTMLElement;
  readonly #explorer: Explorer;
  readonly #camera: Camera;

  constructor(box: HTMLElement, explorer: Explorer, camera: Camera) {
    this.#box = box;
    this.#explorer = explorer;
    this.#camera = camera;
    explorer.pointed.subscribe((index) => this.#show(index));
  }

  /** Follows its point when the map has moved. */
  follow(): void {
    const index = this.#explorer.pointed.value;
    if (index === null) return;
    const [x, y] = this.#camera.screen(index);
    const { offsetWidth: width, offsetHeight: height } = this.#box;
    const left = Math.min(Math.max(8, x - width / 2), this.#camera.width - width - 8);
    const above = y - height - GAP;
    this.#box.style.transform = `translate(${Math.round(left)}px, ${Math.round(above < 8 ? y + GAP : above)}px)`;
    this.#box.hidden = x < 0 || y < 0 || x > this.#camera.width || y > this.#camera.height;
  }

  #show(index: number | null): void {
    this.#box.hidden = index === null;
    if (index === null) return;
    const { columns } = this.#explorer.payload;
    const downloads = columns.downloads[index] ?? null;
    const facts = [
      downloads === null ? null : `${short(downloads)} downloads`,
      columns.license[index] ?? null,
      columns.rank[index] === null ? null : `rank ${columns.rank[index]}`,
    ].filter((fact) => fact !== null);
    this.#box.replaceChildren(
      element("strong", {}, foreign(columns.adapter[index]!)),
      element("span", {}, foreign(this.#explorer.domainName(index))),
    );
    if (facts.length) this.#box.append(element("span", {}, foreign(facts.join(" · "))));
    this.follow();
  }
}
