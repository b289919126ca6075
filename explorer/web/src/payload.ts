/** The page's data as `hubdelta explore` wrote it, checked once and given types. */

/** The layout of the data that this page reads. */
export const FORMAT = 1;

export interface Domain {
  /** As `hubdelta domains` has it. */
  readonly number: number;
  readonly name: string;
  /** Adapters in it. */
  readonly size: number;
}

/** A domain as it is called on the page, like on the map of a terminal. */
export function domainTitle({ number, name }: Domain): string {
  return `${number} ${name}`;
}

/** Columns of one value an adapter; all text comes from the Hub and is not to be trusted. */
export interface Columns {
  readonly adapter: string[];
  /** `org/name` on the Hub, or a local folder's absolute path. */
  readonly repo_id: string[];
  readonly subfolder: string[];
  readonly revision: string[];
  readonly x: number[];
  readonly y: number[];
  /** Index into the domains; null where the adapter is in none. */
  readonly domain: (number | null)[];
  readonly label: (string | null)[];
  readonly downloads: (number | null)[];
  readonly likes: (number | null)[];
  readonly license: (string | null)[];
  readonly rank: (number | null)[];
  readonly alpha: (number | null)[];
  /** Norm of the vector over the noise of the arithmetic that made it. */
  readonly signal: number[];
  readonly norm: number[];
  readonly adapter_type: string[];
  readonly target_modules: string[][];
  readonly weight_bytes: number[];
  readonly author: (string | null)[];
  readonly datasets: string[][];
  readonly languages: string[][];
  readonly task: (string | null)[];
  /** ISO 8601. */
  readonly created_at: (string | null)[];
  readonly last_modified: (string | null)[];
  readonly status: string[];
  /** The tokens whose logits rise most, strongest first. */
  readonly promotes: string[][];
  /** The card's beginning. */
  readonly card: (string | null)[];
}

export interface Neighbor {
  /** The adapter's place in the columns. */
  readonly index: number;
  /** Cosine distance, 1 - cos. */
  readonly distance: number;
}

export interface Payload {
  readonly base: string;
  readonly recipe: string;
  /** Address that repositories' pages are below. */
  readonly hub: string;
  readonly made_at: string;
  readonly version: string;
  /** Cosine distance that the page opens with. */
  readonly threshold: number;
  /** Largest first. */
  readonly domains: Domain[];
  readonly columns: Columns;
  readonly count: number;
  /** Neighbors stored of each adapter. */
  readonly k: number;
  /** The stored neighbors of an adapter, nearest first. */
  neighborsOf(index: number): Neighbor[];
}

/** The data is not what this page reads. */
export class PayloadError extends Error {}

/** Parses the data; a `PayloadError` says why it cannot be shown. */
export function readPayload(text: string): Payload {
  const raw = JSON.parse(text);
  if (raw?.format !== FORMAT) {
    throw new PayloadError(`This page reads format ${FORMAT} of the data, not ${raw?.format}.`);
  }
  const count = raw.columns.adapter.length;
  for (const [name, column] of Object.entries<unknown[]>(raw.columns)) {
    if (column.length !== count) {
      throw new PayloadError(`Column ${name} has ${column.length} values for ${count} adapters.`);
    }
  }
  const k: number = raw.neighbors.k;
  const index = new Int32Array(bytesOf(raw.neighbors.index));
  const distance = new Float32Array(bytesOf(raw.neighbors.distance));
  if (index.length !== count * k || distance.length !== count * k) {
    throw new PayloadError(`The neighbors of ${count} adapters are not ${k} each.`);
  }
  const neighborsOf = (adapter: number): Neighbor[] => {
    const found: Neighbor[] = [];
    for (let place = adapter * k; place < (adapter + 1) * k; place++) {
      const other = index[place]!;
      if (other >= 0 && other < count) found.push({ index: other, distance: rounded(distance[place]!) });
    }
    return found;
  };
  return { ...raw, count, k, neighborsOf };
}

/** The bytes of base64 text. They are little-endian, as every machine with a browser is. */
function bytesOf(base64: string): ArrayBuffer {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)).buffer;
}

/** A distance as SQL's macros round and compare it. */
function rounded(distance: number): number {
  return Math.round(distance * 1e6) / 1e6;
}
