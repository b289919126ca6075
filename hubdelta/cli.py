"""The command line: which commands there are, and how errors become one line and an exit code."""

import errno
import importlib
import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from io import TextIOWrapper
from typing import Annotated, Any, Final, TextIO

import typer
from typer._completion_classes import completion_init
from typer.core import TyperCommand, TyperGroup, TyperOption

from hubdelta.commands.completion import VARIABLE as _COMPLETING
from hubdelta.commands.signature import for_typer
from hubdelta.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from hubdelta.hints import with_hint
from hubdelta.schemas.errors import HubdeltaError, UsageError, printable, without_controls

_INDEX: Final = "Index"
_ASK: Final = "Ask"
_SEE: Final = "See"
_SERVE: Final = "Serve and set up"

_COMMANDS: Final = {
    "index": _INDEX,
    "crawl": _INDEX,
    "status": _INDEX,
    "label": _INDEX,
    "similar": _ASK,
    "compare": _ASK,
    "domains": _ASK,
    "evaluate": _ASK,
    "sql": _ASK,
    "explore": _SEE,
    "export": _SEE,
    "serve-hub": _SERVE,
    "demo": _SERVE,
    "completion": _SERVE,
}
"""The commands, each a module of `hubdelta.commands`, by what people do with them."""

_EXAMPLES: Final = """\
hubdelta index --base meta-llama/Llama-3.1-8B
hubdelta similar some-org/some-adapter
hubdelta sql "FROM adapters ORDER BY downloads DESC LIMIT 10\""""

_REWORDED: Final = (("Input should be", "it must be"), ("Value error, ", ""))
"""How Typer's checks of values speak, and how we do."""

_MARKUP = re.compile(r"\[(?=[a-z#/@])")
"""What rich would take for a style."""


class _Command(TyperCommand):
    """A command whose help is shown as it is written."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        _prepare(self.get_params(ctx))
        super().format_help(ctx, formatter)


def _prepare(parameters: Sequence[Any]) -> None:
    """Let help show how values are written, rather than their types in Python, and no styles."""
    for parameter in parameters:
        about, written = parameter.help or "", None
        if isinstance(parameter, TyperOption) and not parameter.is_flag:
            written = parameter.metavar or parameter.name.rpartition("_")[2].upper()
            if choices := parameter.type_descriptor.choices:
                about = f"{about} One of {', '.join(choices)}."
        parameter.help = _MARKUP.sub(r"\[", about)
        parameter.display_type_rich = lambda ctx, written=written: written


class _Commands(TyperGroup):
    """Commands that are imported when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return _loaded(cmd_name) if cmd_name in _COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, or say which one may have been meant."""
        name = args[0]
        if name not in _COMMANDS and not ctx.resilient_parsing:
            (likely,) = get_close_matches(name, _COMMANDS, n=1) or [""]
            hint = f": did you mean {likely}?" if likely else f": one of {', '.join(_COMMANDS)}"
            ctx.fail(f"there is no command {name}{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Typer would end with Ctrl-C's exit code, and without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise typer.Abort from error

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        _prepare(self.get_params(ctx))
        super().format_help(ctx, formatter)


def _loaded(name: str) -> Any:
    """A command, from its module."""
    module = importlib.import_module(f"hubdelta.commands.{name.replace('-', '_')}")
    app = typer.Typer(add_completion=False)
    app.command(
        name,
        cls=_Command,
        help=_paragraphs(getattr(module, "HELP", module.command.__doc__)),
        epilog=_examples(module.EXAMPLES),
        rich_help_panel=_COMMANDS[name],
    )(for_typer(module.command))
    return typer.main.get_command(app)


def _paragraphs(text: str) -> str:
    """Help as rich takes it: a line for each paragraph."""
    parts = (" ".join(part.split("\n")) for part in inspect.cleandoc(text).split("\n\n"))
    return _MARKUP.sub(r"\\[", "\n\n".join(parts))


def _examples(lines: str) -> str:
    several = "\n" in lines
    return "\n  ".join([f"Example{'s' * several}:", *lines.split("\n")])


_app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=_examples(_EXAMPLES),
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        from hubdelta import __version__  # slow to find out

        typer.echo(f"hubdelta, version {__version__}")
        raise typer.Exit


@_app.callback()
def _start(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")] = False,
) -> None:
    """Find every model finetuned from a base, embed each by what it does, query them in SQL."""
    if not debug:
        warnings.simplefilter("ignore")  # libraries' advice to their programmers
    handler = _StderrHandler()
    handler.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler])
    # Threads that spin while they wait slow each other tenfold when two programs share the cores;
    # read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for noisy in ("httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "filelock", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


hubdelta = typer.main.get_command(_app)
"""The command line, as Typer runs it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code; `--debug` shows the traceback of an error."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.isatty():
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show all of Unicode
    code = run(list(sys.argv[1:] if arguments is None else arguments))
    if code in {EXIT_INTERRUPTED, EXIT_FAILED}:
        # An ordinary exit would first wait for every download in flight.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit code.

    0 done, 1 the run could not be done, 2 wrong usage, 3 some named adapters were not
    found or, with `--strict`, some failed, 130 interrupted.
    """
    out = sys.stdout
    if _COMPLETING in os.environ:
        completion_init()
    try:
        result = hubdelta.main(
            args=arguments or ["--help"], prog_name="hubdelta", standalone_mode=False
        )
        sys.stdout.flush()  # that its reader has left shows now, or in a complaint at the exit
    except typer.Abort:
        typer.echo("interrupted: what was written stays, the next run goes on from there", err=True)
        return EXIT_INTERRUPTED
    except typer.TyperException as error:
        typer.echo(f"error: {_usage(error)}", err=True)
        return error.exit_code
    except HubdeltaError as error:
        return _tell(error, arguments)
    except BrokenPipeError:
        return _without_reader(out)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            return _tell(error, arguments)
        _without_reader(out)
        typer.echo("error: no space left where the output goes", err=True)
        return EXIT_FAILED
    except SystemExit as stop:
        # So Typer, and rich, keep still about a broken pipe.
        if sys.stdout is not out or isinstance(stop.__context__, BrokenPipeError):
            return _without_reader(out)
        return stop.code if isinstance(stop.code, int) else EXIT_FAILED  # a shell completes
    except Exception as error:  # noqa: BLE001 (the last stop: a user is owed a line, not a traceback)
        return _tell(error, arguments)
    if not arguments:
        return EXIT_USAGE
    return result if isinstance(result, int) else 0


def _usage(error: typer.TyperException) -> str:
    """What Typer has to say about an argument, in one line like all others."""
    text = printable(error.format_message()).removesuffix(".")
    for theirs, ours in _REWORDED:
        text = text.replace(theirs, ours)
    context = getattr(error, "ctx", None)
    asks = text.endswith("?")  # as "did you mean index?" does, which says enough
    where = f"; see `{context.command_path} --help`" if context and not asks else ""
    return text[:1].lower() + text[1:] + where


def _without_reader(out: TextIO) -> int:
    """The reader of our output has left, as `head` does: nothing more can be said to it."""
    sys.stdout = out
    os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
    return 0


def _tell(error: Exception, arguments: list[str]) -> int:
    text = printable(with_hint(error))
    if "--debug" in arguments:
        logging.getLogger(__name__).error("%s", text, exc_info=error)
    elif isinstance(error, HubdeltaError):
        typer.echo(f"error: {text}", err=True)
    else:
        command = " ".join(arguments[:1])
        typer.echo(
            f"error: {type(error).__name__}: {text} (unexpected: `hubdelta --debug {command} ...` "
            "shows where; please report it)",
            err=True,
        )
    return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what sys.stderr is at the moment: above the progress bars, where there are any."""

    def emit(self, record: logging.LogRecord) -> None:
        self.setStream(sys.stderr)
        super().emit(record)


class _PlainFormatter(logging.Formatter):
    """Log lines may quote what a stranger uploaded, which must not steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return without_controls(super().format(record))
