/** Where each domain's name goes: among its members that are shown. */

import type { Payload } from "./payload";
import type { Scene } from "./scene";

export interface DomainCenter {
  readonly domain: number;
  readonly x: number;
  readonly y: number;
  /** Where the members begin: the position that a tenth of them is above. */
  readonly top: number;
  /** Members that are shown. */
  readonly size: number;
}

/** The medians of the shown members' positions, of each domain that has any, largest first. */
export function domainCenters({ columns, domains }: Payload, scene: Scene, shown: Uint8Array): DomainCenter[] {
  const members: number[][] = domains.map(() => []);
  columns.domain.forEach((domain, index) => {
    if (domain !== null && shown[index]) members[domain]!.push(index);
  });
  return members
    .map((indices, domain) => ({
      domain,
      x: quantile(indices.map((index) => scene.x[index]!), 0.5),
      y: quantile(indices.map((index) => scene.y[index]!), 0.5),
      top: quantile(indices.map((index) => scene.y[index]!), 0.1),
      size: indices.length,
    }))
    .filter(({ size }) => size > 0)
    .sort((a, b) => b.size - a.size || a.domain - b.domain);
}

function quantile(values: number[], part: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.floor(sorted.length * part)] ?? 0;
}
