"""`hubdelta similar`: which adapters are like this one."""

from typing import Annotated, Final

import typer

from hubdelta.commands.options import IndexFolder, adapter_argument
from hubdelta.schemas.defaults import NEIGHBORS
from hubdelta.schemas.keys import AdapterName
from hubdelta.settings import DEFAULT_INDEX
from hubdelta.terminal.output import PagedOutput

EXAMPLES: Final = "hubdelta similar some-org/some-adapter -k 5"

_SHOWN = ["adapter", "distance", "signal", "downloads", "license", "datasets"]

_FIRST_TOKENS: Final = 3
"""Of those promoted, how many a person is shown."""


def command(
    *,
    adapter: Annotated[AdapterName, adapter_argument()],
    k: Annotated[int, typer.Option("-k", min=1, metavar="K", help="How many.")] = NEIGHBORS,
    index_path: IndexFolder = DEFAULT_INDEX,
    output: PagedOutput,
) -> None:
    """List the adapters most similar to an ADAPTER, nearest first."""
    import pyarrow.compute as pc

    from hubdelta.schemas.index import Index
    from hubdelta.sql.connection import connect
    from hubdelta.sql.questions.answers import similar
    from hubdelta.sql.questions.promoted import with_promoted

    with connect(Index.open(index_path)) as queries:
        found = with_promoted(queries, similar(queries, adapter, k))
    shown = found.select(_SHOWN)
    if found["promotes"].null_count < len(found):  # the index may hold no promoted tokens at all
        first = pc.list_slice(found["promotes"], 0, _FIRST_TOKENS)
        shown = shown.append_column("promotes", first)
    output.table(
        found,
        people=shown,
        counts="adapter",
        optional=["datasets", "license", "downloads", "signal"],
        extra=["promotes"],
        empty=f"no other adapter of the base of {adapter} has a vector to compare",
    )
