"""Options and arguments that several commands share, each declared once."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from hubdelta.commands.signature import ONCE
from hubdelta.schemas.defaults import LARGEST_DISTANCE
from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.keys import AdapterName, is_path
from hubdelta.schemas.kinds import LISTED
from hubdelta.terminal.completion import complete_adapter, complete_base

if TYPE_CHECKING:
    from hubdelta.schemas.index import Index

Value = TypeVar("Value")


def parser(parse: Callable[[str], Value]) -> Callable[[Any], Value]:
    """A parser for Typer, of one that raises UsageError; the message then names the option."""

    def parsed(value: Any) -> Value:
        try:
            return parse(str(value))
        except UsageError as error:
            raise typer.BadParameter(str(error)) from error

    return parsed


def _index_folder(text: str) -> Path:
    """A folder; an empty text, as of an unset shell variable, is not the working directory."""
    if not text:
        raise UsageError("the path is empty")
    if Path(text).is_file():
        raise UsageError(f"{text} is a file: name a folder")
    return Path(text)


def _indexed_base(text: str) -> str:
    """A base that an index may have, as the index writes it: `org/name`, or an absolute path."""
    text = text.strip()
    if is_path(text):  # perhaps of a folder that is gone
        return Path(text).expanduser().resolve().as_posix()
    base = AdapterName.parse_base(text)
    if base.revision:
        raise UsageError(f"{text}: leave out @{base.revision}")
    return base.repo_id


def _relations(text: str) -> tuple[str, ...]:
    chosen = tuple(part.strip() for part in text.split(","))
    for part in chosen:
        if part not in LISTED:
            raise UsageError(f"{part!r} is not one of {', '.join(LISTED)}")
    return chosen


def _joined(values: list[tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(relation for chosen in values for relation in chosen))


def adapter_argument(metavar: str = "ADAPTER") -> Any:
    """The argument for an adapter that the index has."""
    return typer.Argument(
        parser=parser(AdapterName.parse),
        metavar=metavar,
        autocompletion=complete_adapter,
        help="org/name[/subfolder][@revision], its URL, or a local folder that was embedded.",
    )


NewBase = Annotated[
    AdapterName,
    typer.Option(
        "--base",
        parser=parser(AdapterName.parse_base),
        metavar="ORG/NAME",
        autocompletion=complete_base,
        help="Base model.",
    ),
    ONCE,
]
"""A base on the Hub, or in a local folder."""


def _indexed_base_option(help: str) -> Any:
    """The option for a base that the index has."""
    return typer.Option(
        "--base",
        parser=parser(_indexed_base),
        metavar="ORG/NAME",
        autocompletion=complete_base,
        help=help,
    )


SomeBase = Annotated[str | None, _indexed_base_option("Only this base model."), ONCE]
"""A base of an index, where all are meant by default."""

OneBase = Annotated[
    str | None, _indexed_base_option("The base model; needed where there are several."), ONCE
]
"""A base of an index, where one is needed."""

IndexFolder = Annotated[
    Path,
    typer.Option(
        "--index",
        parser=parser(_index_folder),
        metavar="FOLDER",
        envvar="HUBDELTA_INDEX",
        help="Folder of the index.",
    ),
]

Wait = Annotated[
    bool,
    typer.Option("--wait", help="Wait for a concurrent run to finish, instead of exiting."),
]

Full = Annotated[bool, typer.Option("--full", help="Crawl everything, and mark what has vanished.")]

Limit = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="Take at most N adapters.")
]

Distance = Annotated[
    float | None,
    typer.Option(
        "--distance",
        min=0,
        max=LARGEST_DISTANCE,
        metavar="DISTANCE",
        show_default="the domains that the last run found",
        help="Find domains by linkage: two adapters no further apart than this belong together.",
    ),
]


def relations_option(help: str, default: Iterable[str]) -> Any:
    """The option for relations to the base: as a list, or given several times."""
    return typer.Option(
        "--relation",
        parser=parser(_relations),
        callback=_joined,
        metavar="LIST",
        default_factory=lambda: [",".join(default)],
        show_default=",".join(default),
        help=help,
    )


def refuse_unused(context: typer.Context, why: str, *names: str) -> None:
    """Say so where options were given that mean nothing beside others.

    Args:
        context: the command's.
        why: beside what.
        names: the options, as parameters.

    Raises:
        UsageError: one was given.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source and source.name in {"COMMANDLINE", "ENVIRONMENT"}:
            option = next(one for one in context.command.params if one.name == name)
            raise UsageError(f"{option.opts[0]} means nothing {why}: leave out one of the two")


@contextmanager
def writable_index(path: Path, *, wait: bool) -> "Iterator[Index]":
    """The index at a path, made if there is none, held for one run; its SQL script is renewed.

    Raises:
        IndexBusyError: another run holds it, and `wait` is false.
        IndexWriteError: it cannot be written.
        NewerIndexError: a newer hubdelta wrote it.
    """
    from hubdelta.schemas.index import Index
    from hubdelta.sql.script import write_script

    with Index(path).writing(wait=wait):
        index = Index.create(path)
        write_script(index)  # at once, for a run that is killed
        yield index
        write_script(index)  # it may name files one by one
