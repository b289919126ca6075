"""`hubdelta domains`: which domains there are, and why they are called so."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hubdelta.commands.options import (
    OfIndexBase,
    answer_options,
    base_option,
    index_option,
    refuse_unused,
)
from hubdelta.schemas.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN = ["domain", "name", "size", "central"]
_SHOWN_TERMS = 3


@click.command(
    epilog="""\b
Examples:
  hubdelta domains --distance 0.3
  hubdelta domains --density --evidence"""
)
@base_option(kind=OfIndexBase(), help="Only this base model.")
@click.option(
    "--distance",
    type=click.FloatRange(0, 2),
    default=0.25,
    show_default=True,
    help="Two adapters no further apart than this belong together.",
)
@click.option(
    "--density",
    is_flag=True,
    help="The density clusters instead, whose numbers last from night to night.",
)
@click.option(
    "--center",
    is_flag=True,
    help="Measure distances without what all adapters of a base share; needs the cache.",
)
@click.option(
    "--min-size",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Leave out domains of fewer adapters.",
)
@click.option("--evidence", is_flag=True, help="Show what each name rests on.")
@index_option
@answer_options
@click.pass_context
def command(
    context: click.Context,
    base: str | None,
    distance: float,
    density: bool,
    center: bool,
    min_size: int,
    evidence: bool,
    index_path: Path,
    as_json: bool,
) -> None:
    """List the domains of a base's adapters: groups connected by steps of a small distance.

    Or, with --density, what lies more densely than around it, however far its ends are apart.
    Centered distances are larger: unrelated adapters lie near 1 there.

    A domain is called by your labels of its members, if there are any, or else by what sets them
    apart: datasets, tags, words of names and model cards. `central` is the member most like the
    others; --json has all members and, with --evidence, all terms that were weighed.
    """
    import pyarrow.compute as pc

    from hubdelta.output import print_json, write_table
    from hubdelta.schemas.index import Index
    from hubdelta.sql.answers import domain_terms, domains, outside_clusters
    from hubdelta.sql.centered import centered
    from hubdelta.sql.connection import connect

    if density and center:
        raise UsageError("density clusters are kept without centering: leave out one of the two")
    if density:
        refuse_unused(context, "with --density", "distance")
    up_to = None if density else distance
    with (
        connect(Index.open(index_path)) as queries,
        centered(queries, base) if center else nullcontext(),
    ):
        found = domains(queries, base, up_to)
        columns = list(_SHOWN)
        if evidence:
            terms = domain_terms(queries, base, up_to)
            found = _with_evidence(found, terms, as_text=not as_json)
            columns[-1] = "evidence"
        alone = outside_clusters(queries, base) if density else 0
    shown = found.filter(pc.greater_equal(found["size"], min_size))
    if as_json:
        print_json(shown)
        return
    in_small = sum(found["size"].to_pylist()) - sum(shown["size"].to_pylist())
    if len(set(found["base"].to_pylist())) > 1:
        columns.append("base")
    noun = "cluster" if density else "domain"
    write_table(
        shown.select(columns),
        "table",
        counts=noun,
        note=_left_out(in_small, alone, min_size),
        optional=["base", "central"],
        empty=_without_any(noun, in_small, alone, min_size),
    )


def _left_out(in_small: int, alone: int, min_size: int) -> str:
    """As in: not shown: 2 adapters in domains of fewer than 2."""
    from hubdelta.cells import counted

    parts = []
    if in_small:
        parts.append(f"not shown: {counted(in_small, 'adapter')} in those of fewer than {min_size}")
    if alone:
        parts.append(f"in no cluster: {counted(alone, 'adapter')}")
    return "; ".join(parts)


def _without_any(noun: str, in_small: int, alone: int, min_size: int) -> str:
    if not in_small and not alone:
        return f"no {noun}: no adapter has a vector yet, `hubdelta status` says why"
    left_out = _left_out(in_small, alone, min_size)
    return f"no {noun} of {min_size} or more adapters; {left_out}"


def _with_evidence(found: "pa.Table", terms: "pa.Table", *, as_text: bool) -> "pa.Table":
    """Domains with one more column, their terms: the first ones in words, or all as they are."""
    held: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for term in terms.to_pylist():
        held.setdefault((term.pop("base"), term.pop("domain")), []).append(term)
    column: list[Any] = []
    for domain in found.select(["base", "domain", "size"]).to_pylist():
        mine = held.get((domain["base"], domain["domain"]), [])
        column.append(
            "\n".join(_sentence(term, domain["size"]) for term in mine[:_SHOWN_TERMS])
            if as_text
            else mine
        )
    return found.append_column("evidence", [column])


def _sentence(term: dict[str, Any], size: int) -> str:
    return (
        f"{term['term']}: {term['source']} of {term['inside']} of {size}, "
        f"{term['outside']} elsewhere"
    )
