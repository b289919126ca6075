/** What the page shows now: everything that its parts share. */

import { Filters } from "./facets";
import { Observable } from "./observable";
import type { Theme } from "./palette";
import { domainTitle, type Neighbor, type Payload } from "./payload";
import { Scene } from "./scene";

export class Explorer {
  readonly payload: Payload;
  readonly scene: Scene;
  readonly filters: Filters;
  /** The adapter whose panel is open. */
  readonly selected = new Observable<number | null>(null);
  /** The adapter under the pointer or the keyboard's cursor. */
  readonly pointed = new Observable<number | null>(null);
  /** The domain whose entry in the list is pointed at; everything else steps back. */
  readonly emphasized = new Observable<number | null>(null);
  /** Cosine distance up to which adapters count as near. */
  readonly threshold: Observable<number>;
  readonly theme: Observable<Theme>;
  readonly #place: Map<string, number>;

  constructor(payload: Payload, theme: Observable<Theme>) {
    this.payload = payload;
    this.scene = new Scene(payload);
    this.filters = new Filters(payload);
    this.threshold = new Observable(payload.threshold);
    this.theme = theme;
    this.#place = new Map(payload.columns.adapter.map((name, index) => [name, index]));
    this.filters.count.subscribe(() => this.scene.find(this.filters.shown));
  }

  /** The selected adapter's stored neighbors that are within the threshold, nearest first. */
  near(): Neighbor[] {
    if (this.selected.value === null) return [];
    const neighbors = this.payload.neighborsOf(this.selected.value);
    return neighbors.filter(({ distance }) => distance <= this.threshold.value);
  }

  /** The adapter of a name, or null. */
  find(name: string): number | null {
    return this.#place.get(name) ?? null;
  }

  /** The name of an adapter's domain, or what stands for it. */
  domainName(index: number): string {
    const { columns, domains } = this.payload;
    const domain = columns.domain[index] ?? null;
    return domain === null ? "in no domain" : domainTitle(domains[domain]!);
  }
}
