"""Repositories in a folder: found, rescanned on request, and cached while unchanged."""

import hashlib
import logging
import os
import re
import shutil
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hubdelta.hub_server.blobs import BlobHashes, is_settled
from hubdelta.hub_server.settings import (
    COMMIT,
    SETTINGS_NAME,
    RepositorySettings,
    ServerSettings,
    SettingsError,
    read_hub_settings,
    read_repository_settings,
)
from hubdelta.hub_server.snapshot import REVISIONS_NAME, Snapshot, look_at
from hubdelta.schemas.errors import UsageError

logger = logging.getLogger(__name__)

_RENAMES = 8  # a longer chain of renamed_to is a cycle


@dataclass(frozen=True)
class Repository:
    """One repository as of its last scan.

    Attributes:
        id: `org/name`.
        folder: its location on disk.
        settings: its `.hub.yaml`.
        current: the commit that `main` points to.
    """

    id: str
    folder: Path
    settings: RepositorySettings
    current: Snapshot

    @property
    def author(self) -> str:
        """The organization."""
        return self.id.partition("/")[0]

    @property
    def created_at(self) -> datetime:
        """As set in `.hub.yaml`, or else the oldest file's time."""
        return self.settings.created_at or _moment(self.current.state.oldest_ns)

    @property
    def last_modified(self) -> datetime:
        """As set in `.hub.yaml`, or else the time of the newest change to a file or folder."""
        return self.settings.last_modified or _moment(self.current.state.newest_ns)

    @property
    def internal_id(self) -> str:
        """A 24-hex `_id` like the Hub's: the creation time, then the name's hash."""
        seconds = max(0, int(self.created_at.timestamp())) % 2**32
        return f"{seconds:08x}{hashlib.sha256(self.id.encode()).hexdigest()[:16]}"


def _moment(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


class HubFolder:
    """All repositories of a folder `DIR/org/name/`.

    `DIR/org` and `DIR/org/name` may be links: whoever can write to DIR decides what it serves.
    Names that begin with a dot are ignored. Every answer about one repository comes from a fresh
    scan of its folder; the whole folder is rescanned once `rescan_seconds` have passed.
    """

    def __init__(self, folder: Path, *, rescan_seconds: float = 0.0) -> None:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder of repositories (DIR/org/name/)")
        self.folder = folder
        self._rescan_seconds = rescan_seconds
        self._hashes = BlobHashes()
        self._known: dict[Path, tuple[tuple[object, ...], Repository]] = {}
        self._revisions: dict[Path, Snapshot] = {}
        self._complaints: dict[Path, str] = {}
        self._all: tuple[Repository, ...] = ()
        self._looked_at = float("-inf")
        self._scan = threading.Lock()
        self._settings_state: object = None
        self._settings = ServerSettings()
        self.settings()

    def settings(self) -> ServerSettings:
        """The top-level `.hub.yaml`, read again when it has changed.

        Raises:
            SettingsError: when it cannot be parsed: an older version must not grant access.
        """
        path = self.folder / SETTINGS_NAME
        state = _file_state(path)
        if state != self._settings_state:
            self._settings = read_hub_settings(path)
            self._settings_state = state if state is None or is_settled(state[0]) else ()
        return self._settings

    def all(self) -> tuple[Repository, ...]:
        """Every repository that can be served, renamed ones included, sorted by name."""
        with self._scan:
            if time.monotonic() - self._looked_at >= self._rescan_seconds:
                found = []
                for org in folders_in(self.folder):
                    for name in folders_in(self.folder / org):
                        repository = self.get(f"{org}/{name}")
                        if repository is not None:
                            found.append(repository)
                self._all = tuple(found)
                self._looked_at = time.monotonic()
            return self._all

    def get(self, repo_id: str) -> Repository | None:
        """A repository by its name; None if there is none that can be served."""
        org, _, name = repo_id.partition("/")
        if not (_is_name(org) and _is_name(name)):
            return None
        folder = self.folder / org / name
        if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises for a name too long
            self._known.pop(folder, None)
            return None
        try:
            state = look_at(folder)
            settings_state = _file_state(folder / SETTINGS_NAME)
            known = self._known.get(folder)
            if known is not None and known[0] == (state, settings_state):
                return known[1]
            settings = read_repository_settings(folder / SETTINGS_NAME)
        except FileNotFoundError:  # deleted while being scanned
            return None
        except (OSError, SettingsError) as error:
            self._complain(folder, str(error))
            return None
        repository = Repository(
            repo_id, folder, settings, Snapshot(state, self._hashes, settings.sha)
        )
        if state.is_settled and (settings_state is None or is_settled(settings_state[0])):
            self._known[folder] = ((state, settings_state), repository)
        self._complaints.pop(folder, None)
        return repository

    def current_name(self, repo_id: str) -> str:
        """A repository's current name, following every `renamed_to`; or else the name given."""
        name = repo_id
        for _ in range(_RENAMES):
            repository = self.get(name)
            if repository is None or repository.settings.renamed_to is None:
                return name
            name = repository.settings.renamed_to
        logger.warning("renamed_to forms a cycle: %s", repo_id)
        return repo_id

    def commit(self, repository: Repository, revision: str) -> Snapshot | None:
        """The files at `main`, at the current commit or at one kept in `.revisions/`."""
        if revision == "main":
            return repository.current
        if not COMMIT.fullmatch(revision):
            return None
        if repository.current.sha == revision:
            return repository.current
        folder = repository.folder / REVISIONS_NAME / revision
        if folder.is_symlink() or not folder.is_dir():
            return None
        state = look_at(folder)
        known = self._revisions.get(folder)
        if known is None or known.state != state:
            known = Snapshot(state, self._hashes, revision)
            if state.is_settled:
                self._revisions[folder] = known
        return known

    def _complain(self, folder: Path, message: str) -> None:
        """Log each message once: a broken repository shows up in every listing."""
        if self._complaints.get(folder) != message:
            self._complaints[folder] = message
            logger.error("not served: %s: %s", folder, message)


def keep_revision(folder: Path, repo_id: str) -> str:
    """Copy a repository's current files to `.revisions/<commit>/`, so that they stay available.

    Call it before changing the files; then `main` moves on, and the old commit is still served.

    Args:
        folder: the served folder, DIR.
        repo_id: `org/name`.

    Returns:
        The commit, 40 hex digits.

    Raises:
        UsageError: when there is no such repository.
        OSError: when the copy cannot be written.
    """
    repository = HubFolder(folder).get(repo_id)
    if repository is None:
        raise UsageError(f"no repository {repo_id} in {folder}")
    sha = repository.current.sha
    kept = repository.folder / REVISIONS_NAME / sha
    if not kept.exists():
        unfinished = kept.with_name(f".{sha}")
        for path, file in repository.current.files.items():
            (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file.place, unfinished / path)
        unfinished.mkdir(parents=True, exist_ok=True)
        unfinished.rename(kept)
    return sha


def _is_name(name: str) -> bool:
    return bool(re.fullmatch(r"[^./\\\0][^/\\\0]*", name)) and name.isprintable()


def folders_in(place: Path) -> list[str]:
    """The subfolders that can be names on a Hub, sorted; none if the folder cannot be read."""
    try:
        with os.scandir(place) as entries:
            return sorted(
                entry.name for entry in entries if entry.is_dir() and _is_name(entry.name)
            )
    except OSError as error:
        logger.error("not served: %s: %s", place, error)
        return []


def _file_state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ctime_ns, status.st_size
