/** Which adapters the filters show, and how many each choice would show. */

import { Observable } from "./observable";
import { domainTitle, type Payload } from "./payload";

/** Below this a vector is doubtful: noise of the arithmetic is a visible part of it. */
export const GOOD_SIGNAL = 60;

/** One property that adapters are chosen by; a value that is hidden hides its adapters. */
export class Facet {
  /** What each value is called, in the order in which they are listed. */
  readonly names: string[];
  /** The value of each adapter, an index into `names`. */
  readonly codes: Int32Array;
  readonly hidden = new Set<number>();
  /** Adapters of each value that the other filters show. */
  counts: Int32Array;

  constructor(codes: Int32Array, names: string[]) {
    this.codes = codes;
    this.names = names;
    this.counts = new Int32Array(names.length);
  }
}

/** A facet of a column's distinct values, the missing one last; `compare` orders the others. */
function facetOf<T extends string | number>(
  column: (T | null)[],
  missing: string,
  compare: (a: [T, number], b: [T, number]) => number,
): Facet {
  const sizes = new Map<T, number>();
  for (const value of column) {
    if (value !== null) sizes.set(value, (sizes.get(value) ?? 0) + 1);
  }
  const values = [...sizes].sort(compare).map(([value]) => value);
  const codeOf = new Map<T | null, number>(values.map((value, code) => [value, code]));
  const names = values.map(String);
  if (column.includes(null)) codeOf.set(null, names.push(missing) - 1);
  return new Facet(Int32Array.from(column, (value) => codeOf.get(value)!), names);
}

function domainFacet({ domains, columns }: Payload): Facet {
  const names = domains.map(domainTitle);
  const outside = columns.domain.includes(null) ? names.push("in no domain") - 1 : -1;
  return new Facet(Int32Array.from(columns.domain, (domain) => domain ?? outside), names);
}

export class Filters {
  readonly domain: Facet;
  readonly license: Facet;
  readonly rank: Facet;
  readonly highestSignal: number;
  /** 1 for each adapter that is shown. */
  shown: Uint8Array;
  /** How many are shown; set whenever the filters have changed. */
  readonly count: Observable<{ shown: number }>;
  #minimumSignal = 0;
  readonly #signal: number[];

  constructor(payload: Payload) {
    const { columns } = payload;
    this.domain = domainFacet(payload);
    const commonFirst = (a: [string, number], b: [string, number]): number =>
      b[1] - a[1] || (a[0] < b[0] ? -1 : 1);
    this.license = facetOf(columns.license, "not stated", commonFirst);
    this.rank = facetOf(columns.rank, "none", (a, b) => a[0] - b[0]);
    this.#signal = columns.signal;
    this.highestSignal = columns.signal.reduce((most, signal) => Math.max(most, signal ?? 0), 0);
    this.shown = new Uint8Array(payload.count);
    this.count = new Observable({ shown: 0 });
    this.apply();
  }

  get minimumSignal(): number {
    return this.#minimumSignal;
  }

  set minimumSignal(signal: number) {
    this.#minimumSignal = signal;
    this.apply();
  }

  get active(): boolean {
    return this.#minimumSignal > 0 || this.#facets.some((facet) => facet.hidden.size > 0);
  }

  reset(): void {
    this.#minimumSignal = 0;
    for (const facet of this.#facets) facet.hidden.clear();
    this.apply();
  }

  /** To be called when a facet's hidden values have changed. */
  apply(): void {
    const facets = this.#facets;
    for (const facet of facets) facet.counts.fill(0);
    let shown = 0;
    for (let adapter = 0; adapter < this.shown.length; adapter++) {
      let hiding: Facet | undefined;
      let hidings = (this.#signal[adapter] ?? 0) >= this.#minimumSignal ? 0 : 2;
      for (const facet of facets) {
        if (facet.hidden.has(facet.codes[adapter]!)) {
          hidings++;
          hiding = facet;
        }
      }
      this.shown[adapter] = hidings ? 0 : 1;
      if (!hidings) {
        shown++;
        for (const facet of facets) facet.counts[facet.codes[adapter]!]!++;
      } else if (hidings === 1 && hiding) {
        hiding.counts[hiding.codes[adapter]!]!++;
      }
    }
    this.count.value = { shown };
  }

  get #facets(): Facet[] {
    return [this.domain, this.license, this.rank];
  }
}
