"""Where an adapter's files are: a repository on the Hub, or a local folder."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hubdelta.crawler.card import CARD_BYTES, CARD_FILE, Cards
from hubdelta.crawler.content_hash import git_hash
from hubdelta.crawler.downloads import fetch, file_info, small_file, weight_header
from hubdelta.crawler.foreign_content import foreign_content
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.partial_fetch import fetch_tensors
from hubdelta.crawler.safetensors_header import Header
from hubdelta.indexer.adapters.local_files import (
    copy_file,
    file_size,
    open_file,
    read_file,
    read_header,
)
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterKey

logger = logging.getLogger(__name__)


def too_large(size: int, limit: int) -> AdapterError:
    """The failure of weights that are too large to copy.

    Args:
        size: of the weights, in bytes.
        limit: bytes of the disk budget.
    """
    return AdapterError(
        Reason.TOO_LARGE,
        f"{size / 1e6:,.1f} MB of weights, more than the disk budget of {limit / 1e6:,.1f} MB",
    )


class Source(ABC):
    """The files of one adapter; paths are relative to the repository or folder.

    Every method raises AdapterError if a file is missing (no_weights) or cannot be read, and the
    Hub's also HubError (offline, or a refused token) and IndexWriteError (no disk space).
    """

    def text(self, file: str, *, limit: int) -> bytes:
        """A small text file, checked for foreign content.

        Raises:
            AdapterError: also corrupt: longer than `limit` bytes, an LFS pointer, an HTML page.
        """
        content = self._read(file, limit)
        if what := foreign_content(content):
            raise AdapterError(Reason.CORRUPT, f"{file} {what}")
        return content

    @property
    @abstractmethod
    def hashes(self) -> dict[str, str] | None:
        """Hashes of the files asked for so far, by path, empty for one that is not there.

        None if one of them is unknown: the files cannot be recognized at another commit.
        """

    @abstractmethod
    def _read(self, file: str, limit: int) -> bytes: ...

    @abstractmethod
    def card(self) -> bytes:
        """The first bytes of the model card; b"" if there is no readable one."""

    @abstractmethod
    def header(self, file: str) -> Header:
        """The header of a safetensors file."""

    @abstractmethod
    def sizes(self, files: Sequence[str]) -> list[int]:
        """Lengths of files, in bytes."""

    @abstractmethod
    def copy(self, file: str, into: Path) -> None:
        """Copy a whole file into a folder, keeping its path below it."""

    @abstractmethod
    def copy_tensors(
        self, file: str, header: Header, wanted: Callable[[str], bool], into: Path
    ) -> None:
        """Copy at least the wanted tensors of a safetensors file into a folder, as `copy` does."""


@dataclass(frozen=True)
class Repository(Source):
    """A repository at one commit.

    Attributes:
        hub: the Hub.
        key: which repository, and which commit.
        cards: of the repositories.
    """

    hub: Hub
    key: AdapterKey
    cards: Cards
    _hashes: dict[str, str | None] = field(default_factory=dict, init=False)

    @property
    def hashes(self) -> dict[str, str] | None:
        """As the Hub has them on record."""
        known = {file: found for file, found in self._hashes.items() if found is not None}
        return known if len(known) == len(self._hashes) else None

    def _read(self, file: str, limit: int) -> bytes:
        try:
            content = small_file(self.hub, self.key, file, limit=limit)
        except AdapterError as error:
            self._hashes[file] = "" if error.reason is Reason.NO_WEIGHTS else None
            raise
        self._hashes[file] = git_hash(content)
        return content

    def card(self) -> bytes:
        """One request, for all adapters of the repository."""
        content, self._hashes[CARD_FILE] = self.cards.of(self.key)
        return content

    def header(self, file: str) -> Header:
        """One ranged request, or two."""
        header = weight_header(self.hub, self.key, file)
        self._hashes[file] = header.hash
        return header

    def sizes(self, files: Sequence[str]) -> list[int]:
        """One request."""
        found = file_info(self.hub, self.key, files)
        self._hashes.update({file: found[file].hash for file in files})
        return [found[file].size for file in files]

    def copy(self, file: str, into: Path) -> None:
        """Sizes and hashes are checked."""
        fetch(self.hub, self.key, [file], into)

    def copy_tensors(
        self, file: str, header: Header, wanted: Callable[[str], bool], into: Path
    ) -> None:
        """Only the wanted tensors."""
        fetch_tensors(self.hub, self.key, file, header, wanted, into)


@dataclass(frozen=True)
class Folder(Source):
    """A local folder, whose files may change, shrink or be replaced by other things at any time.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def hashes(self) -> None:
        """Of a folder none are on record."""

    def _read(self, file: str, limit: int) -> bytes:
        return read_file(self.path / file, limit)

    def card(self) -> bytes:
        """Its beginning."""
        try:
            with open_file(self.path / CARD_FILE) as file:
                return file.read(CARD_BYTES)
        except (AdapterError, OSError) as error:
            logger.debug("%s: %s", self.path, error)
            return b""

    def header(self, file: str) -> Header:
        """From disk."""
        return read_header(self.path / file)

    def sizes(self, files: Sequence[str]) -> list[int]:
        """From disk."""
        return [file_size(self.path / file) for file in files]

    def copy(self, file: str, into: Path) -> None:
        """Needed for mapping: if a mapped file shrank, the process would be killed."""
        target = into / file
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_file(self.path / file, target)

    def copy_tensors(
        self, file: str, header: Header, wanted: Callable[[str], bool], into: Path
    ) -> None:
        """The whole file."""
        self.copy(file, into)
