"""The targets of a run: the base at a commit, and the adapters named by hand."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from hubdelta.crawler.base import adapter_as_base, find_base
from hubdelta.crawler.describe import DeclaredBases, describe
from hubdelta.crawler.hub import Hub
from hubdelta.indexer.adapters.adapter_config import CONFIG_FILE, AdapterConfig
from hubdelta.indexer.adapters.local import describe_folder, folder_revision
from hubdelta.indexer.pipeline.plan import newest, newest_failures
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.errors import AdapterError, HubError, NotABaseError
from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterKey, AdapterName
from hubdelta.schemas.rows import CatalogRow, FailureRow, RunRow

logger = logging.getLogger(__name__)

_MODEL_CONFIG = "config.json"


def choose_base(base: AdapterName, index: Index, hub: Hub) -> tuple[str, str]:
    """The base's name and the commit to use: the requested one, the one used before, or the newest.

    A base's new commit is usually just a new README. Vectors of two commits are not comparable, so
    the commit of existing vectors is kept until another is named.

    Returns:
        ORG/NAME as on the Hub, or a local folder's path; and a 40-hex commit.

    Raises:
        HubError: the Hub does not know it, or does not answer.
        NotABaseError: it is an adapter, or holds no model.
    """
    if base.is_local:
        _check_folder(Path(base.repo_id))
        return base.repo_id, folder_revision(Path(base.repo_id))
    if base.commit:
        return base.repo_id, base.commit
    if base.revision is None and (used := _used_before(base.repo_id, index)):
        return base.repo_id, used
    found = find_base(hub, base.repo_id, base.revision)
    used = _used_before(found.repo_id, index) if base.revision is None else None
    return found.repo_id, used or found.revision


def check_base(base: AdapterName, index: Index, hub: Hub) -> None:
    """Reject what cannot be a base before writing anything; at most one request.

    Args:
        base: the requested base.
        index: the index, which need not exist; a base with a finished run in it is not checked.
        hub: where to look.

    Raises:
        HubError: the Hub does not know it, or does not answer.
        NotABaseError: it is an adapter, or holds no model.
    """
    if base.is_local:
        _check_folder(Path(base.repo_id))
        return
    runs = rows_of(index.read(RunRow, base=base.repo_id), RunRow)
    if any(run.outcome == "done" for run in runs):
        return
    try:
        find_base(hub, base.repo_id, base.revision)
    except HubError:
        if base.commit is None:  # a commit may be in the cache, which works offline
            raise


def _check_folder(folder: Path) -> None:
    if (folder / _MODEL_CONFIG).is_file():
        return
    if (folder / CONFIG_FILE).is_file():
        declared = None
        with suppress(AdapterError, KeyError):
            declared = AdapterConfig.read(folder / CONFIG_FILE).values["base_model_name_or_path"]
        raise adapter_as_base(str(folder), declared if isinstance(declared, str) else None)
    raise NotABaseError(f"{folder} holds no {_MODEL_CONFIG}, so it is not a base model")


def _used_before(base: str, index: Index) -> str | None:
    """The commit of the base in the newest index run; the name must be the current one."""
    runs = rows_of(index.read(RunRow, base=base), RunRow)
    used = [run for run in runs if run.base_revision]
    now = datetime.now(UTC)  # a run dated in the future had a wrong clock
    newest = max(used, key=lambda run: (run.started_at <= now, run.started_at), default=None)
    return None if newest is None else newest.base_revision


@dataclass(frozen=True)
class Named:
    """The adapters named by hand, as found.

    Attributes:
        rows: those found, at the requested commits.
        missing: the names of those not found.
        failures: a row for each of these.
    """

    rows: list[CatalogRow] = field(default_factory=list)
    missing: list[AdapterName] = field(default_factory=list)
    failures: list[FailureRow] = field(default_factory=list)


def find_named(
    names: Sequence[AdapterName],
    base: str,
    index: Index,
    hub: Hub,
    run_id: str,
    *,
    max_bytes: int | None = None,
) -> Named:
    """Describe the adapters named by hand, and store what changed and what failed.

    Args:
        names: the adapters.
        base: the base they are to be embedded under.
        index: where the rows go.
        hub: where to ask.
        run_id: goes into the rows.
        max_bytes: adapters in folders with larger weights are rejected; unlimited by default.

    Raises:
        HubError: offline, or a refused token.
    """
    catalog = rows_of(index.read(CatalogRow, base=base), CatalogRow)
    known = {(row.repo_id, row.subfolder): row for row in newest(catalog)}
    attempts = newest_failures(index, base)
    named, news = Named(), []
    for name in names:
        try:
            found = (
                [_local_row(name, base, hub, run_id, max_bytes)]
                if name.is_local
                else describe(hub, name, base, run_id=run_id)
            )
        except AdapterError as error:
            named.missing.append(name)
            named.failures.append(_failure(name, base, error, attempts, run_id))
            logger.warning("%s: %s: %s", name, error.reason, error)
            continue
        named.rows.extend(found)
        for row in found:
            before = known.get((row.repo_id, row.subfolder))
            # An old revision requested by commit must not be mistaken for the newest one.
            if before is None or (name.revision is None and before.revision != row.revision):
                news.append(row.after(before))
    index.write(news, base=base)
    index.write(named.failures, base=base)
    return named


def _local_row(
    name: AdapterName, base: str, hub: Hub, run_id: str, max_bytes: int | None
) -> CatalogRow:
    row = describe_folder(name, base, run_id=run_id, max_bytes=max_bytes)
    if row.declared_base is None:
        return row
    return replace(row, canonical_base=DeclaredBases(hub).resolve(row.declared_base, base))


def _failure(
    name: AdapterName,
    base: str,
    error: AdapterError,
    attempts: Mapping[AdapterKey, FailureRow],
    run_id: str,
) -> FailureRow:
    key, now = name.at(name.commit or ""), datetime.now(UTC)
    attempt = attempts[key].attempt + 1 if key in attempts else 1
    pause = error.reason.pause_after(attempt)
    return FailureRow(
        base=base,
        repo_id=key.repo_id,
        subfolder=key.subfolder,
        revision=key.revision,
        reason=error.reason,
        message=str(error),
        attempt=attempt,
        failed_at=now,
        due_at=None if pause is None else now + pause,
        run_id=run_id,
    )
