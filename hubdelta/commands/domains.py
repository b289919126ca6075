"""`hubdelta domains`: which domains there are, and why they are called so."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hubdelta.commands.options import (
    OfIndexBase,
    answer_options,
    base_option,
    index_option,
)
from hubdelta.schemas.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN = ["domain", "name", "size", "central"]
_SHOWN_TERMS = 3


@click.command(
    epilog="""\b
Examples:
  hubdelta domains --evidence
  hubdelta domains --distance 0.3"""
)
@base_option(kind=OfIndexBase(), help="Only this base model.")
@click.option(
    "--distance",
    type=click.FloatRange(0, 2),
    help="Linkage instead: two adapters no further apart than this belong together.",
)
@click.option(
    "--center",
    is_flag=True,
    help="With --distance: measure without what all adapters of a base share; needs the cache.",
)
@click.option(
    "--min-size",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Leave out domains of fewer adapters than this.",
)
@click.option("--evidence", is_flag=True, help="Show what each name rests on.")
@index_option
@answer_options
def command(
    base: str | None,
    distance: float | None,
    center: bool,
    min_size: int,
    evidence: bool,
    index_path: Path,
    as_json: bool,
) -> None:
    """List the domains of a base's adapters: what lies more densely than around it.

    Every run finds them, and their numbers last from night to night. Fewer than 40 adapters tell
    too little of density: steps up to a distance that follows the pool join them. With --distance,
    steps of up to that distance join adapters. The answer names its method. Centered distances are
    larger: unrelated adapters lie near 1 there.

    A domain is called by your labels of its members, if there are any, or else by what sets them
    apart: datasets, tags, words of names and model cards. `central` is the member most like the
    others; --json has all members and, with --evidence, all terms that were weighed.
    """
    import pyarrow.compute as pc

    from hubdelta.schemas.index import Index
    from hubdelta.sql.connection import connect
    from hubdelta.sql.questions.answers import comparable_adapters, domain_terms, domains
    from hubdelta.sql.questions.centered import centered
    from hubdelta.terminal.output import print_json, write_table

    if center and distance is None:
        raise UsageError("--center needs a --distance, such as 0.35")
    with (
        connect(Index.open(index_path)) as queries,
        centered(queries, base) if center else nullcontext(),
    ):
        found = domains(queries, base, distance)
        columns = list(_SHOWN)
        if evidence:
            terms = domain_terms(queries, base, distance)
            found = _with_evidence(found, terms, as_text=not as_json)
            columns[-1] = "evidence"
        alone = comparable_adapters(queries, base) - sum(found["size"].to_pylist())
    shown = found.filter(pc.greater_equal(found["size"], min_size))
    if as_json:
        print_json(shown)
        return
    in_small = sum(found["size"].to_pylist()) - sum(shown["size"].to_pylist())
    if len(set(found["base"].to_pylist())) > 1:
        columns.append("base")
    methods = set(found["method"].to_pylist())
    if len(methods) > 1:
        columns.append("method")
    left_out = _left_out(in_small, alone, min_size)
    write_table(
        shown.select(columns),
        "table",
        counts="domain",
        note="; ".join([*(f"by {method}" for method in methods if len(methods) == 1), *left_out]),
        optional=["base", "central"],
        empty=_without_any(left_out, min_size),
    )


def _left_out(in_small: int, alone: int, min_size: int) -> list[str]:
    """As in: 2 adapters in domains of fewer than 3 adapters not shown."""
    from hubdelta.schemas.words import counted

    parts = []
    if in_small:
        sizes = "of size 1" if min_size == 2 else f"of fewer than {min_size} adapters"
        parts.append(f"{counted(in_small, 'adapter')} in domains {sizes} not shown")
    if alone:
        parts.append(f"{counted(alone, 'adapter')} in no domain")
    return parts


def _without_any(left_out: list[str], min_size: int) -> str:
    if not left_out:
        return "no domain: no adapter has a vector yet, `hubdelta status` says why"
    return f"no domain of {min_size} or more adapters; {'; '.join(left_out)}"


def _with_evidence(found: "pa.Table", terms: "pa.Table", *, as_text: bool) -> "pa.Table":
    """Domains with one more column, their terms: the first ones in words, or all as they are."""
    held: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for term in terms.to_pylist():
        held.setdefault((term.pop("base"), term.pop("domain")), []).append(term)
    column: list[Any] = []
    separator = "\n" if sys.stdout.isatty() else "; "  # a line of a pipe is a domain
    for domain in found.select(["base", "domain", "size"]).to_pylist():
        mine = held.get((domain["base"], domain["domain"]), [])
        column.append(
            separator.join(_sentence(term, domain["size"]) for term in mine[:_SHOWN_TERMS])
            if as_text
            else mine
        )
    return found.append_column("evidence", [column])


def _sentence(term: dict[str, Any], size: int) -> str:
    return (
        f"{term['term']}: {term['source']} of {term['inside']} of {size}, "
        f"{term['outside']} elsewhere"
    )
