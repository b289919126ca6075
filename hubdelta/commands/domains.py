"""`hubdelta domains`: which domains there are, and why they are called so."""

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hubdelta.commands.options import Distance, IndexFolder, SomeBase
from hubdelta.schemas.errors import UsageError
from hubdelta.settings import DEFAULT_INDEX
from hubdelta.terminal.output import PagedOutput

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN = ["domain", "name", "size", "central"]
_SHOWN_TERMS = 3
_SHOWN_TOKENS = 5


EXAMPLES: Final = """\
hubdelta domains --evidence
hubdelta domains --distance 0.3"""


def command(
    *,
    base: SomeBase = None,
    distance: Distance = None,
    center: Annotated[
        bool,
        typer.Option(
            "--center",
            help="With --distance: measure without what all adapters of a base share; needs the "
            "cache.",
        ),
    ] = False,
    min_size: Annotated[
        int,
        typer.Option(
            "--min-size", min=1, metavar="N", help="Leave out domains of fewer adapters than this."
        ),
    ] = 2,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Show what each name rests on.")
    ] = False,
    index_path: IndexFolder = DEFAULT_INDEX,
    output: PagedOutput,
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
    from hubdelta.sql.questions.promoted import domains_with_promoted

    if center and distance is None:
        raise UsageError("--center needs a --distance, such as 0.35")
    with (
        connect(Index.open(index_path)) as queries,
        centered(queries, base) if center else nullcontext(),
    ):
        found = domains(queries, base, distance)
        terms = domain_terms(queries, base, distance) if evidence else None
        if evidence:
            found = domains_with_promoted(queries, found)
        alone = comparable_adapters(queries, base) - sum(found["size"].to_pylist())
    shown = found.filter(pc.greater_equal(found["size"], min_size))
    in_small = sum(found["size"].to_pylist()) - sum(shown["size"].to_pylist())
    left_out = _left_out(in_small, alone, min_size)
    methods = set(found["method"].to_pylist())
    output.table(
        shown if terms is None else _with_terms(shown, terms),
        people=_for_people(shown, terms),
        counts="domain",
        note="; ".join([*(f"by {method}" for method in methods if len(methods) == 1), *left_out]),
        optional=["base", "central"],
        empty=_without_any(left_out, min_size),
    )


def _for_people(domains: "pa.Table", terms: "pa.Table | None") -> "pa.Table":
    """The columns that tell something, the terms in words."""
    columns = list(_SHOWN)
    if terms is not None:
        separator = "\n" if sys.stdout.isatty() else "; "  # a line of a pipe is a domain
        held = _terms_of(domains, terms)
        sizes = domains["size"].to_pylist()
        promoted = domains["promotes"].to_pylist()
        evidence = [
            separator.join(
                [*(_sentence(term, size) for term in mine[:_SHOWN_TERMS]), *_promoted(tokens, size)]
            )
            for mine, tokens, size in zip(held, promoted, sizes, strict=True)
        ]
        domains = domains.append_column("evidence", [evidence])
        columns[-1] = "evidence"
    columns += [
        column for column in ("base", "method") if len(set(domains[column].to_pylist())) > 1
    ]
    return domains.select(columns)


def _with_terms(domains: "pa.Table", terms: "pa.Table") -> "pa.Table":
    """Domains with one more column: all the terms that were weighed."""
    return domains.append_column("evidence", [_terms_of(domains, terms)])


def _terms_of(domains: "pa.Table", terms: "pa.Table") -> list[list[dict[str, Any]]]:
    held: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for term in terms.to_pylist():
        held.setdefault((term.pop("base"), term.pop("domain")), []).append(term)
    keys = zip(domains["base"].to_pylist(), domains["domain"].to_pylist(), strict=True)
    return [held.get(key, []) for key in keys]


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


def _promoted(tokens: list[dict[str, Any]], size: int) -> list[str]:
    """As in: promotes def (6 of 6), cfg (4 of 6)."""
    named = [f"{one['token']} ({one['inside']} of {size})" for one in tokens[:_SHOWN_TOKENS]]
    return [f"promotes {', '.join(named)}"] if named else []


def _sentence(term: dict[str, Any], size: int) -> str:
    return (
        f"{term['term']}: {term['source']} of {term['inside']} of {size}, "
        f"{term['outside']} elsewhere"
    )
