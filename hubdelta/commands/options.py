"""Options that several commands share, and the types of their values."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.keys import AdapterName

if TYPE_CHECKING:
    from hubdelta.schemas.index import Index

Command = TypeVar("Command", bound=Callable[..., Any])

if TYPE_CHECKING:  # generic since click 8.5, for type checkers to know
    _AdapterParam = click.ParamType[AdapterName]
    _RelationsParam = click.ParamType[tuple[str, ...]]
else:
    _AdapterParam = _RelationsParam = click.ParamType

RELATIONS = ("adapter", "finetune")


class AdapterType(_AdapterParam):
    """`org/name[/subfolder][@revision]`, or a folder."""

    name = "adapter"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> AdapterName:
        """Parse the text, or fail with what was expected."""
        if isinstance(value, AdapterName):
            return value
        try:
            return AdapterName.parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class BaseType(AdapterType):
    """`org/name[@revision]`, or a folder."""

    name = "base"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> AdapterName:
        """Parse the text, or fail with what was expected."""
        try:
            base = AdapterName.parse(str(value))
        except UsageError as error:
            if "no such folder" in str(error):
                self.fail(str(error), param, ctx)
            base = None
        if base is None or base.subfolder:
            self.fail(
                f"{value!r} is not a base model: write org/name[@revision], or the path of a "
                "folder as ./folder",
                param,
                ctx,
            )
        return base


class RelationsType(_RelationsParam):
    """A comma-separated choice of relations."""

    name = "relations"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split and check the list."""
        if isinstance(value, tuple):
            return value
        chosen = tuple(part.strip() for part in value.split(","))
        for part in chosen:
            if part not in RELATIONS:
                self.fail(f"{part!r} is not one of {', '.join(RELATIONS)}", param, ctx)
        return chosen


class _IndexPath(click.Path):
    """A directory; an empty text, as of an unset shell variable, is not the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path."""
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


def index_option(command: Command) -> Command:
    """The index to work on."""
    return click.option(
        "--index",
        "index_path",
        type=_IndexPath(path_type=Path, file_okay=False),
        default=Path("hubdelta-index"),
        envvar="HUBDELTA_INDEX",
        show_default=True,
        show_envvar=True,
        help="Directory of the index.",
    )(command)


def json_option(command: Command) -> Command:
    """Answer as JSON."""
    return click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")(command)


def wait_option(command: Command) -> Command:
    """Wait for another run."""
    return click.option(
        "--wait", is_flag=True, help="Wait for another run on this index; otherwise leave."
    )(command)


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
        write_script(index)
        yield index
