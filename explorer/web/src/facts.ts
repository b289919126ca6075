/** What is known of an adapter: from its card, its files, and its vector. */

import { bytes, day, element, foreign, number } from "./dom";
import { GOOD_SIGNAL } from "./facets";
import type { Payload } from "./payload";

/** The facts as a list of terms; what is not known is left out, a license always named. */
export function factsOf({ columns }: Payload, index: number): HTMLElement {
  const of = <K extends keyof typeof columns>(name: K): (typeof columns)[K][number] => columns[name][index]!;
  const count = (value: number | null): string | null => (value === null ? null : number(value));
  const names = (values: string[] | null): string | null => (values?.length ? values.join(", ") : null);
  const signal = of("signal") ?? 0;
  const facts: [string, string | null][] = [
    ["Label", of("label")],
    ["License", of("license") ?? "not stated"],
    ["Author", of("author")],
    ["Datasets", names(of("datasets"))],
    ["Languages", names(of("languages"))],
    ["Task", of("task")],
    ["Promotes", names(of("promotes"))],
    ["Downloads", count(of("downloads"))],
    ["Likes", count(of("likes"))],
    ["Kind", of("adapter_type")],
    ["Rank", rank(of("rank"), of("alpha"))],
    ["Targets", names(of("target_modules"))],
    ["Weights", of("weight_bytes") === null ? null : bytes(of("weight_bytes"))],
    ["Signal", signal < GOOD_SIGNAL ? `${rounded(signal)}, below ${GOOD_SIGNAL}: doubtful` : rounded(signal)],
    ["Norm", of("norm") === null ? null : rounded(of("norm"))],
    ["Created", day(of("created_at"))],
    ["Changed", day(of("last_modified"))],
    ["Status", of("status") === "embedded" ? null : of("status")],
    ["Revision", of("revision").slice(0, 12) || null],
  ];
  const rows = facts.flatMap(([term, value]) =>
    value === null ? [] : [element("div", {}, element("dt", {}, term), element("dd", {}, foreign(value)))],
  );
  return element("dl", { class: "facts" }, ...rows);
}

function rank(rank: number | null, alpha: number | null): string | null {
  if (rank === null) return alpha === null ? null : `alpha ${alpha}`;
  return alpha === null ? String(rank) : `${rank}, alpha ${alpha}`;
}

function rounded(value: number): string {
  return number(Number(value.toPrecision(3)));
}
