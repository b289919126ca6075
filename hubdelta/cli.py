"""The command line: which commands there are, and how errors become one line and an exit code."""

import errno
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from io import TextIOWrapper
from typing import TextIO

import click

from hubdelta.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from hubdelta.hints import with_hint
from hubdelta.schemas.errors import HubdeltaError, UsageError, printable, without_controls

_COMMANDS = {
    "crawl": "hubdelta.commands.crawl",
    "index": "hubdelta.commands.index",
    "sql": "hubdelta.commands.sql",
    "similar": "hubdelta.commands.similar",
    "compare": "hubdelta.commands.compare",
    "domains": "hubdelta.commands.domains",
    "label": "hubdelta.commands.label",
    "explore": "hubdelta.commands.explore",
    "export": "hubdelta.commands.export",
    "status": "hubdelta.commands.status",
    "completion": "hubdelta.commands.completion",
    "demo": "hubdelta.commands.demo",
    "serve-hub": "hubdelta.commands.serve_hub",
}


class _Commands(click.Group):
    """Commands that are imported when they are asked for, in the order of a user's day."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        name = args[0]
        if name not in _COMMANDS and not ctx.resilient_parsing:
            (likely,) = get_close_matches(name, _COMMANDS, n=1) or [""]
            hint = f": did you mean {likely}?" if likely else f": one of {', '.join(_COMMANDS)}"
            ctx.fail(f"there is no command {name}{hint}")
        return super().resolve_command(ctx, args)


_EXAMPLES = """\b
Examples:
  hubdelta index --base meta-llama/Llama-3.1-8B
  hubdelta similar some-org/some-adapter
  hubdelta sql "FROM adapters ORDER BY downloads DESC LIMIT 10"
"""


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EXAMPLES,
)
@click.version_option(package_name="hubdelta", prog_name="hubdelta")
@click.option("--debug", is_flag=True, help="Show tracebacks and debug logs.")
def hubdelta(debug: bool) -> None:
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
    try:
        result = hubdelta.main(args=arguments, prog_name="hubdelta", standalone_mode=False)
        sys.stdout.flush()  # that its reader has left shows now, or in a complaint at the exit
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: what was written stays, the next run goes on from there", err=True)
        return EXIT_INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        click.echo(f"error: {_usage(error)}", err=True)
        return error.exit_code
    except HubdeltaError as error:
        return _tell(error, arguments)
    except BrokenPipeError:
        return _without_reader(out)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            return _tell(error, arguments)
        _without_reader(out)
        click.echo("error: no space left where the output goes", err=True)
        return EXIT_FAILED
    except SystemExit as stop:
        if sys.stdout is not out:  # so click keeps still about a broken pipe
            return _without_reader(out)
        return stop.code if isinstance(stop.code, int) else EXIT_FAILED  # a shell completes
    except Exception as error:  # noqa: BLE001 (the last stop: a user is owed a line, not a traceback)
        return _tell(error, arguments)
    return result if isinstance(result, int) else 0


def _usage(error: click.ClickException) -> str:
    """What click has to say about an argument, in one line like all others."""
    text = printable(error.format_message()).removesuffix(".")
    where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
    return text[:1].lower() + text[1:] + (f"; see `{where} --help`" if where else "")


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
        click.echo(f"error: {text}", err=True)
    else:
        command = " ".join(arguments[:1])
        click.echo(
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
