/** The page's address holds what is selected, so that a link opens it and "back" returns to it. */

import type { Explorer } from "./explorer";

/**
 * Opens what the address names, and keeps the address up to date from then on; `missed` is told of a
 * name that no adapter has, and "" where it has one.
 */
export function followLocation(explorer: Explorer, missed: (name: string) => void): void {
  const { selected, threshold, payload } = explorer;
  let following = false;

  const open = (): void => {
    const named = new URLSearchParams(location.hash.slice(1));
    const distance = Number.parseFloat(named.get("threshold") ?? "");
    following = true;
    threshold.value = distance >= 0 && distance <= 1 ? distance : payload.threshold;
    const name = named.get("adapter") ?? "";
    selected.value = explorer.find(name);
    following = false;
    missed(selected.value === null ? name : "");
  };
  const address = (): string => {
    const named = new URLSearchParams();
    if (selected.value !== null) named.set("adapter", payload.columns.adapter[selected.value]!);
    if (threshold.value !== payload.threshold) named.set("threshold", String(threshold.value));
    return `#${named}`;
  };
  selected.subscribe(() => {
    if (!following) history.pushState(null, "", address());
  });
  threshold.subscribe(() => {
    if (!following) history.replaceState(null, "", address());
  });
  addEventListener("popstate", open);
  open();
}
