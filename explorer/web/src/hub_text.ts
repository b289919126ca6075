/** What is made of an adapter's name: its address on the Hub, and SQL that asks about it. */

import type { Payload } from "./payload";

const REPOSITORY = /^[A-Za-z0-9][\w.-]*\/[\w.-]+$/;

/** The adapter's page on the Hub at its commit; null for local folders and for odd names. */
export function hubAddress({ hub, columns }: Payload, index: number): string | null {
  const repository = columns.repo_id[index]!;
  const revision = columns.revision[index]!;
  const folders = columns.subfolder[index]!.split("/").filter(Boolean);
  const parts = [...repository.split("/"), ...folders];
  if (!/^https?:\/\//.test(hub) || !REPOSITORY.test(repository)) return null;
  if (parts.some((part) => part === "." || part === "..")) return null;
  const page = `${hub.replace(/\/+$/, "")}/${repository.split("/").map(encodeURIComponent).join("/")}`;
  if (!/^[0-9a-f]{40}$/.test(revision)) return page;
  return [`${page}/tree/${revision}`, ...folders.map(encodeURIComponent)].join("/");
}

/** The statement that lists the adapters within a cosine distance of one; so many at most. */
export function withinSql(adapter: string, distance: number, limit: number | null): string {
  const quoted = adapter.replaceAll("'", "''");
  const most = limit === null ? "" : ` LIMIT ${limit}`;
  return `FROM within('${quoted}', distance := ${decimal(distance)})${most};`;
}

/** A distance to at most three places, and at least two: 0.25, 0.125. */
export function decimal(distance: number): string {
  const text = String(Math.round(distance * 1000) / 1000);
  return text.includes(".") ? text.padEnd(text.indexOf(".") + 3, "0") : `${text}.00`;
}

/** The name's last part, which is what there is room for on the map. */
export function shortName(adapter: string): string {
  return adapter.slice(adapter.lastIndexOf("/", adapter.length - 2) + 1) || adapter;
}
