/** Where adapters lie, how large they are, and which is nearest. */

import { quadtree, type Quadtree } from "d3-quadtree";

import type { Payload } from "./payload";

/** Radii come in this many steps, so that one small picture serves many points. */
const RADIUS_STEPS = 24;

/** Area grows by this much of the smallest point's with each power of ten of downloads. */
const AREA_PER_DECADE = 1.6;

export class Scene {
  readonly count: number;
  /** Positions; the longer side of their extent is 1, y grows downwards. */
  readonly x: Float64Array;
  readonly y: Float64Array;
  readonly width: number;
  readonly height: number;
  /** Radius over that of an adapter nobody has downloaded. */
  readonly radius: Float32Array;
  /** Adapters from the largest to the smallest: small ones are drawn above large ones. */
  readonly order: Int32Array;
  #tree: Quadtree<number>;

  constructor({ columns, count }: Payload) {
    this.count = count;
    const [left, right] = extent(columns.x);
    const [bottom, top] = extent(columns.y);
    const scale = Math.max(right - left, top - bottom) || 1;
    this.width = (right - left) / scale;
    this.height = (top - bottom) / scale;
    this.x = Float64Array.from(columns.x, (x) => ((x ?? left) - left) / scale);
    this.y = Float64Array.from(columns.y, (y) => (top - (y ?? top)) / scale);
    this.radius = Float32Array.from(columns.downloads, (downloads) => {
      const radius = Math.sqrt(1 + AREA_PER_DECADE * Math.log10(1 + Math.max(0, downloads ?? 0)));
      return Math.round(radius * RADIUS_STEPS) / RADIUS_STEPS;
    });
    this.order = Int32Array.from(columns.adapter.keys()).sort(
      (a, b) => this.radius[b]! - this.radius[a]! || a - b,
    );
    this.#tree = this.#treeOf(() => true);
  }

  /** Makes only these adapters be found. */
  find(shown: Uint8Array): void {
    this.#tree = this.#treeOf((index) => shown[index] === 1);
  }

  /** The adapter nearest to a position within a distance of it, or null. */
  nearest(x: number, y: number, within: number): number | null {
    return this.#tree.find(x, y, within) ?? null;
  }

  /**
   * The nearest adapter to the right (0°), below (90°), ... of one, within 45° of that direction;
   * what lies off it counts as further away. Null where there is none.
   */
  towards(from: number, degrees: number, shown: Uint8Array): number | null {
    const [cos, sin] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
    let best: number | null = null;
    let least = Number.POSITIVE_INFINITY;
    for (let index = 0; index < this.count; index++) {
      if (!shown[index] || index === from) continue;
      const dx = this.x[index]! - this.x[from]!;
      const dy = this.y[index]! - this.y[from]!;
      const along = dx * cos + dy * sin;
      const across = Math.abs(dy * cos - dx * sin);
      if (along <= 0 || across > along) continue;
      const cost = along + 2 * across;
      if (cost < least) [best, least] = [index, cost];
    }
    return best;
  }

  #treeOf(found: (index: number) => boolean): Quadtree<number> {
    return quadtree(
      [...this.order].filter(found),
      (index) => this.x[index]!,
      (index) => this.y[index]!,
    );
  }
}

function extent(values: (number | null)[]): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    if (value === null) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 0];
}
