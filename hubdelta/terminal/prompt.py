"""The interactive SQL prompt: history, completion, colors."""

import os
from pathlib import Path

import typer
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer

from hubdelta.hints import with_hint
from hubdelta.schemas.errors import QueryError, printable
from hubdelta.sql.columns import names
from hubdelta.sql.connection import Queries
from hubdelta.terminal.output import QueryOutput

_KEYWORDS = (
    "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "LIMIT", "HAVING", "JOIN", "LEFT JOIN",
    "USING", "ON", "AS", "WITH", "DISTINCT", "DESC", "ASC", "AND", "OR", "NOT", "NULL", "IN",
    "LIKE", "ILIKE", "BETWEEN", "UNNEST", "DESCRIBE", "SUMMARIZE", "count(*)", "list_contains(",
)  # fmt: skip

_WELCOME = "End a query with ; and leave with Ctrl-D. `SHOW TABLES;` lists the views."


def run_prompt(queries: Queries, output: QueryOutput) -> None:
    """Read queries from the terminal and print their answers until end of input."""
    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(_history_file())),
        completer=WordCompleter([*names(), *_KEYWORDS], ignore_case=True),
        complete_while_typing=False,
        lexer=PygmentsLexer(SqlLexer),
        multiline=True,
        key_bindings=_bindings(),
        prompt_continuation="      ... ",
    )
    typer.secho(_WELCOME, dim=True)
    while True:
        try:
            text = session.prompt("hubdelta> ").strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if text.rstrip(";").strip().lower() in {"exit", "quit", ".exit", ".quit"}:
            return
        if not text.rstrip(";").strip():
            continue
        try:
            output.table(queries.run(text))
        except KeyboardInterrupt:
            typer.secho("interrupted", fg="red")
        except QueryError as error:
            typer.secho(f"error: {printable(with_hint(error))}", fg="red")


def _bindings() -> KeyBindings:
    """Enter runs a query that ends in a semicolon, and otherwise begins a new line."""
    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        text = event.current_buffer.text.strip()
        if not text or text.endswith(";") or text.lower() in {"exit", "quit", ".exit", ".quit"}:
            event.current_buffer.validate_and_handle()
        else:
            event.current_buffer.insert_text("\n")

    return bindings


def _history_file() -> Path:
    folder = Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")).expanduser() / "hubdelta"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "sql-history"
