"""`hubdelta compare`: two adapters side by side."""

from typing import TYPE_CHECKING, Annotated, Final

from hubdelta.commands.options import IndexFolder, adapter_argument
from hubdelta.schemas.defaults import NEIGHBORS
from hubdelta.schemas.keys import AdapterName
from hubdelta.settings import DEFAULT_INDEX
from hubdelta.terminal.output import PagedOutput

if TYPE_CHECKING:
    from hubdelta.sql.questions.answers import Comparison
    from hubdelta.terminal.screen import Screen

_NUMBERS = {"signal": float, "norm": float, "alpha": float, "downloads": int, "likes": int}
"""Properties that are numbers, which the answer has as text."""


EXAMPLES: Final = "hubdelta compare some-org/some-adapter other-org/other-adapter"


def command(
    *,
    a: Annotated[AdapterName, adapter_argument("A")],
    b: Annotated[AdapterName, adapter_argument("B")],
    index_path: IndexFolder = DEFAULT_INDEX,
    output: PagedOutput,
) -> None:
    """Show two adapters side by side: their distance, shared neighbors, and properties.

    On a terminal, properties that differ are bold.
    """
    from hubdelta.hints import with_hint
    from hubdelta.schemas.index import Index
    from hubdelta.sql.connection import connect
    from hubdelta.sql.questions.answers import compare
    from hubdelta.sql.questions.unanswered import without_vectors

    with connect(Index.open(index_path)) as queries:
        answer = compare(queries, a, b)
        lacking = without_vectors(queries, [answer.a, answer.b]) if answer.obstacle else []
    obstacle = "; ".join(map(with_hint, lacking)) or answer.obstacle
    output.answer(answer, lambda screen: _show(answer, obstacle, screen))


def _show(answer: "Comparison", obstacle: str | None, screen: "Screen") -> None:
    from hubdelta.schemas.words import counted
    from hubdelta.terminal.cells import for_people

    if answer.distance is None:
        screen.line(f"cannot be compared: {obstacle}")
    else:
        distance = for_people(answer.distance, "distance")
        similarity = for_people(answer.similarity, "similarity")
        screen.line(
            f"distance {distance}, cosine similarity {similarity}, angle {answer.angle:.1f}°"
        )
        screen.line(
            f"{counted(len(answer.shared), 'adapter')} among the {NEIGHBORS} nearest of both"
            + (":" if len(answer.shared) else "")
        )
    if len(answer.shared):
        screen.line()
        screen.table(answer.shared, counts="")
    screen.line()
    _show_properties(answer, screen)


def _show_properties(answer: "Comparison", screen: "Screen") -> None:
    import pyarrow.compute as pc
    from rich.text import Text

    from hubdelta.schemas.errors import without_controls
    from hubdelta.terminal.screen import headed_table

    names = ["property", answer.a, answer.b]
    given = pc.or_(pc.is_valid(answer.properties["a"]), pc.is_valid(answer.properties["b"]))
    known = answer.properties.filter(given)
    if screen.is_plain:
        screen.table(known.rename_columns(names))
        return
    table = headed_table()
    for name in names:
        table.add_column(Text(without_controls(name)), overflow="fold", ratio=1)
    table.columns[0].ratio, table.columns[0].no_wrap = None, True
    for row in known.to_pylist():
        style = "bold" if row["a"] != row["b"] else ""
        cells = (Text(_shown(row["property"], row[side]), style=style) for side in "ab")
        table.add_row(row["property"], *cells)
    screen.draw(table)


def _shown(name: str, value: str | None) -> str:
    from hubdelta.terminal.cells import for_people

    if value is None:
        return ""
    if name in _NUMBERS:
        return for_people(_NUMBERS[name](value), name)
    return for_people(value[:12] if name == "revision" else value)
