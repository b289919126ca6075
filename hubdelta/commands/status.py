"""`hubdelta status`: what is known, embedded, pending and failed."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from hubdelta.commands.options import IndexFolder, SomeBase
from hubdelta.schemas.errors import Reason
from hubdelta.settings import DEFAULT_INDEX
from hubdelta.terminal.output import PagedOutput

if TYPE_CHECKING:
    import pyarrow as pa

    from hubdelta.sql.questions.status import IndexStatus
    from hubdelta.terminal.screen import Screen

_REMEDIES = {
    Reason.GATED: "ask for access on its page, and set HF_TOKEN",
    Reason.NOT_FOUND: "check the name; what is private needs HF_TOKEN",
    Reason.DISABLED: "nothing: the Hub has switched it off",
    Reason.NO_WEIGHTS: "ask its author to upload weights",
    Reason.UNSAFE_FORMAT: "ask its author for safetensors",
    Reason.CORRUPT: "ask its author to upload it again",
    Reason.NOT_FINITE: "nothing: its weights or answers hold NaN or infinity",
    Reason.BASE_MISMATCH: "index it with --base of the model that it was made for",
    Reason.UNSUPPORTED_ADAPTER: "nothing: no engine computes this kind",
    Reason.TOO_LARGE: "raise --disk-budget, and add --retry-failed",
    Reason.NETWORK: "nothing: the next run tries again",
    Reason.ENGINE: "please report it",
}

_LOCAL_REMEDIES = _REMEDIES | {
    Reason.NOT_FOUND: "check the path: it must hold adapter_config.json or config.json",
    Reason.NO_WEIGHTS: "put its weights into the folder",
    Reason.UNSAFE_FORMAT: "save its weights as safetensors",
    Reason.CORRUPT: "save or copy its files anew",
}
"""What helps with a local folder, which is the user's own."""

_CLOCKS_DIFFER = timedelta(minutes=1)
"""By so much at most, where several machines share an index."""


EXAMPLES: Final = """\
hubdelta status
hubdelta status --base meta-llama/Llama-3.1-8B --json"""


def command(
    *, output: PagedOutput, base: SomeBase = None, index_path: IndexFolder = DEFAULT_INDEX
) -> None:
    """Show what the index holds for each base, what to do about failures, and the last runs.

    Each failed adapter has a line of its own that says more: hubdelta sql "SELECT adapter, reason,
    message FROM adapters WHERE status = 'failed'".
    """
    from hubdelta.schemas.index import Index
    from hubdelta.sql.connection import connect
    from hubdelta.sql.questions.status import status

    with connect(Index.open(index_path)) as queries:
        answer = status(queries, base)
    output.answer(answer, lambda screen: _show(answer, screen))


def _show(status: "IndexStatus", screen: "Screen") -> None:
    now = datetime.now(UTC)
    screen.line(
        f"{status.root}: {_size(status.bytes)} in {status.files:,} Parquet files, "
        f"and a cache of {_size(status.cache_bytes)}",
        style="bold",
    )
    if not status.bases:
        screen.line("empty: run `hubdelta index --base ORG/NAME`")
        return
    screen.line()
    screen.table(_bases(status), counts="", note=_next_step(status))
    failures = _failures(status, now)
    if len(failures):
        screen.line()
        screen.table(failures, counts="", optional=["what to do"])
    if len(status.runs):
        screen.line()
        screen.table(_runs(status), counts="", optional=["base"])


def _bases(status: "IndexStatus") -> "pa.Table":
    import pyarrow as pa

    rows = [
        {
            "base": one.base,
            "crawled": _ago(one.crawl_age),
            "known": one.known,
            "embedded": one.embedded,
            "pending": one.pending,
            "failed": sum(one.failed.values()),
            "vanished": one.vanished,
        }
        for one in status.bases
    ]
    table = pa.Table.from_pylist(rows)
    return table if any(one.vanished for one in status.bases) else table.drop_columns("vanished")


def _next_step(status: "IndexStatus") -> str:
    waiting = [one for one in status.bases if one.pending]
    if not waiting:
        return ""
    first = max(waiting, key=lambda one: one.pending - one.pending_finetunes)
    command = f"hubdelta index --base {first.base}"
    if first.pending == first.pending_finetunes:
        return f"what is pending are full finetunes: `{command} --relation finetune` embeds them"
    return f"`{command}` embeds what is pending"


def _failures(status: "IndexStatus", now: datetime) -> "pa.Table":
    import pyarrow as pa

    rows = [
        {
            "base": one.base,
            "failed": reason,
            "adapters": count,
            "next try": _due(one.due[reason], now),
            "what to do": remedy,
        }
        for one in status.bases
        for reason, failed in one.failed.items()
        for count, remedy in _advised(Reason(reason), failed, one.failed_locally.get(reason, 0))
        if count
    ]
    table = pa.Table.from_pylist(rows)
    return table.drop_columns("base") if len(status.bases) == 1 and rows else table


def _advised(reason: Reason, failed: int, in_folders: int) -> list[tuple[int, str]]:
    """How many adapters of the Hub and of local folders there are, and what helps with each."""
    if _LOCAL_REMEDIES[reason] == _REMEDIES[reason]:
        return [(failed, _REMEDIES[reason])]
    return [
        (failed - in_folders, _REMEDIES[reason]),
        (in_folders, f"local folder: {_LOCAL_REMEDIES[reason]}"),
    ]


def _runs(status: "IndexStatus") -> "pa.Table":
    import pyarrow as pa

    from hubdelta.terminal.screen import rows_of

    rows = [
        {
            "started (UTC)": f"{row['started_at']:%Y-%m-%d %H:%M}",
            "run": row["kind"],
            "outcome": row["outcome"],
            "took": _long(timedelta(seconds=row["seconds"])),
            "counts": {what: n for what, n in row["counts"].items() if ":" not in what and n},
            "base": row["base"],
        }
        for row in rows_of(status.runs)
    ]
    for row in rows:
        row["counts"] = ", ".join(f"{n:,} {what}" for what, n in row["counts"].items())
    table = pa.Table.from_pylist(rows)
    return table.drop_columns("base") if len(status.bases) == 1 else table


def _ago(age: timedelta | None) -> str:
    if age is None:
        return "never"
    if age < -_CLOCKS_DIFFER:
        return "in the future (a wrong clock?)"
    return f"{_long(max(age, timedelta()))} ago"


def _due(due: datetime | None, now: datetime) -> str:
    if due is None:
        return "when it changes"
    return "next run" if due <= now else f"in {_long(due - now)}"


def _long(time: timedelta) -> str:
    """As in: 40 s, 3 min, 5 h, 2 days."""
    seconds = int(time.total_seconds())
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit != "days" and seconds >= length):
            return f"{seconds // length:,} {unit}"
    return f"{seconds} s"


def _size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
