"""Options that several commands share, and the types of their values."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.keys import AdapterName, is_path
from hubdelta.schemas.kinds import LISTED
from hubdelta.terminal.completion import complete_adapter, complete_base
from hubdelta.terminal.pager import NO_PAGER

if TYPE_CHECKING:
    from hubdelta.schemas.index import Index

Command = TypeVar("Command", bound=Callable[..., Any])

if TYPE_CHECKING:  # generic since click 8.5, for type checkers to know
    _AdapterParam = click.ParamType[AdapterName]
    _RelationsParam = click.ParamType[tuple[str, ...]]
    _TextParam = click.ParamType[str]
else:
    _AdapterParam = _RelationsParam = _TextParam = click.ParamType


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

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The adapters that the index has."""
        return complete_adapter(ctx, incomplete)


class BaseType(AdapterType):
    """`org/name[@revision]`, or a folder."""

    name = "base"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> AdapterName:
        """Parse the text, or fail with what was expected."""
        try:
            return AdapterName.parse_base(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The bases that the index has."""
        return complete_base(ctx, incomplete)


class OfIndexBase(_TextParam):
    """A base that an index has, as text: `org/name`, or a folder's absolute path."""

    name = "base"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Write a URL or a path as the index does; whether it has that base is told later."""
        text = str(value).strip()
        if is_path(text):  # perhaps of a folder that is gone
            return Path(text).expanduser().resolve().as_posix()
        try:
            base = AdapterName.parse_base(text)
        except UsageError as error:
            self.fail(str(error), param, ctx)
        if base.revision:
            self.fail(f"{value}: leave out @{base.revision}", param, ctx)
        return base.repo_id

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The bases that the index has."""
        return complete_base(ctx, incomplete)


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
            if part not in LISTED:
                self.fail(f"{part!r} is not one of {', '.join(LISTED)}", param, ctx)
        return chosen


class _IndexPath(click.Path):
    """A directory; an empty text, as of an unset shell variable, is not the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path, and that of a file."""
        if value == "":
            self.fail("the path is empty", param, ctx)
        if Path(value).is_file():
            self.fail(f"{value} is a file: name a folder", param, ctx)
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


def base_option(
    *, kind: AdapterType | OfIndexBase, metavar: str = "ORG/NAME", **attributes: Any
) -> Callable[[Command], Command]:
    """The base model to work on, which can be given once.

    Click takes the last of several values without a word, which would leave a base out.

    Args:
        kind: type of its value.
        metavar: how its value is written.
        attributes: of the option, as `click.option` takes them: its help and whether it is
            required.
    """

    def only_one(context: click.Context, option: click.Parameter, values: tuple[Any, ...]) -> Any:
        if len(values) > 1:
            given = " and ".join(map(str, values))
            raise click.BadParameter(f"give one base, not {given}", context, option)
        return values[0] if values else None

    return click.option(
        "--base", type=kind, metavar=metavar, multiple=True, callback=only_one, **attributes
    )


def relation_option(*, default: str, help: str) -> Callable[[Command], Command]:
    """Which relations to the base; several as a list, or by giving the option several times."""

    def joined(
        context: click.Context, option: click.Parameter, values: tuple[tuple[str, ...], ...]
    ) -> tuple[str, ...]:
        return tuple(dict.fromkeys(relation for chosen in values for relation in chosen))

    return click.option(
        "--relation",
        "relations",
        type=RelationsType(),
        metavar="LIST",
        default=(default,),
        multiple=True,
        callback=joined,
        show_default=True,
        help=help,
    )


def json_option(command: Command) -> Command:
    """Answer as JSON."""
    return click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")(command)


def pager_option(command: Command) -> Command:
    """Do not page long answers."""

    def keep(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        context.meta[NO_PAGER] = value

    return click.option(
        "--no-pager",
        is_flag=True,
        expose_value=False,
        callback=keep,
        help="Do not send long answers through PAGER.",
    )(command)


def answer_options(command: Command) -> Command:
    """What every command has whose answer may be long: JSON, and no pager."""
    return json_option(pager_option(command))


def wait_option(command: Command) -> Command:
    """Wait for another run."""
    return click.option("--wait", is_flag=True, help="Wait for another run on this index to end.")(
        command
    )


def refuse_unused(context: click.Context, why: str, *names: str) -> None:
    """Say so where options were given that mean nothing beside others.

    Args:
        context: the command's.
        why: beside what.
        names: the options, as parameters.

    Raises:
        UsageError: one was given.
    """
    for name in names:
        if context.get_parameter_source(name) in {
            ParameterSource.COMMANDLINE,
            ParameterSource.ENVIRONMENT,
        }:
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
