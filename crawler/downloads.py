"""The files of an adapter at its commit: their sizes, headers and contents. Thread-safe."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from huggingface_hub import hf_hub_download
from huggingface_hub._local_folder import read_download_metadata

from hubdelta.crawler.content_hash import content_has_hash, has_hash
from hubdelta.crawler.hub import LIBRARY, Hub
from hubdelta.crawler.hub_errors import (
    HUB_FAILURES,
    adapter_error,
)
from hubdelta.crawler.ranged import read_start
from hubdelta.crawler.safetensors_header import (
    BadHeaderError,
    Header,
    header_length,
    parse_header,
)
from hubdelta.crawler.wire import UnusableAnswerError, WrongAnswerError
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterKey

logger = logging.getLogger(__name__)

_FIRST_READ: Final = 100_000  # bytes; nearly every adapter's header is shorter


@dataclass(frozen=True)
class RemoteFile:
    """A file at a commit.

    Attributes:
        path: inside the repository.
        size: in bytes.
        hash: of its content: SHA-256, 64 hex digits, or git's blob hash, 40, for small files, which
            are stored in git itself; None where the Hub does not say.
    """

    path: str
    size: int
    hash: str | None

    @property
    def sha256(self) -> str | None:
        """SHA-256 of its content; None for a file that is stored in git itself."""
        return self.hash if self.hash is not None and len(self.hash) == 64 else None


def file_info(hub: Hub, key: AdapterKey, files: Sequence[str]) -> dict[str, RemoteFile]:
    """Sizes and hashes of files at the adapter's commit: one request.

    Raises:
        AdapterError: gated, not_found, disabled, no_weights (a file is missing) or network.
        HubError: offline, or a refused token.
    """
    known = files_there(hub, key, files)
    for file in files:
        if file not in known:
            raise AdapterError(Reason.NO_WEIGHTS, f"there is no {file} at this commit")
    return known


def files_there(hub: Hub, key: AdapterKey, files: Sequence[str]) -> dict[str, RemoteFile]:
    """Those of the files that are there at the adapter's commit: one request.

    Raises:
        AdapterError: gated, not_found, disabled or network.
        HubError: offline, or a refused token.
    """
    try:
        found = map(_remote_file, hub.paths_info(key.repo_id, key.revision, files))
        return {file.path: file for file in found if file is not None}
    except HUB_FAILURES as error:
        raise adapter_error(error, "its weights", key.repo_id, hub.endpoint) from error


def weight_header(hub: Hub, key: AdapterKey, file: str) -> Header:
    """Read the header of a safetensors file at the adapter's commit: one ranged GET, or two.

    huggingface_hub's `parse_safetensors_file_metadata` returns neither the header's length nor the
    file's, which together reveal a truncated file.

    Raises:
        AdapterError: corrupt (not such a header, or the file is shorter or longer than it says),
            gated, not_found, disabled, no_weights (no such file) or network.
        HubError: offline, or a refused token.
    """
    try:
        try:
            return hub.call(_read_header, hub, key, file)
        except BadHeaderError as error:
            logger.debug("%s: %s %s: requesting it once more", key, file, error)
            return hub.call(_read_header, hub, key, file)
    except BadHeaderError as error:
        raise AdapterError(Reason.CORRUPT, f"{file} {error}") from error
    except HUB_FAILURES as error:
        raise adapter_error(error, file, key.repo_id, hub.endpoint) from error


def small_file(hub: Hub, key: AdapterKey, file: str, *, limit: int) -> bytes:
    """The content of a small file at the adapter's commit: one ranged GET.

    It is checked against the hash that the Hub has on record, and requested once more if it
    differs. If the server's ETag is not such a hash, the content is trusted.

    Args:
        hub: where from.
        key: the adapter.
        file: path inside the repository.
        limit: bytes; a longer file is not read further.

    Raises:
        AdapterError: corrupt (longer than the limit), gated, not_found, disabled, no_weights (no
            such file) or network (including an altered file).
        HubError: offline, or a refused token.
    """
    for _ in (1, 2):
        try:
            start = hub.call(read_start, hub, key, file, limit + 1)
        except HUB_FAILURES as error:
            raise adapter_error(error, file, key.repo_id, hub.endpoint) from error
        if len(start.content) > limit:
            size = f"{start.file_bytes} bytes, " if start.file_bytes is not None else ""
            raise AdapterError(Reason.CORRUPT, f"{file} has {size}more than {limit}")
        if content_has_hash(start.content, start.hash):
            return start.content
        logger.warning("%s: %s does not have the hash that the Hub recorded", key, file)
    raise AdapterError(
        Reason.NETWORK,
        f"{file} arrived twice without the hash that {hub.endpoint} recorded: something on the "
        "network alters it; try again later, or from another network",
    )


def fetch(hub: Hub, key: AdapterKey, files: Sequence[str], into: Path) -> list[Path]:
    """Download files at the adapter's commit, checking their sizes and hashes.

    One HEAD and one GET per file, none of them to the API. The files bypass the shared cache, so
    deleting the folder deletes them.

    Args:
        hub: where from.
        key: the adapter.
        files: paths inside the repository.
        into: an existing folder; each file keeps its path below it.

    Returns:
        Where they are, in the order of `files`.

    Raises:
        AdapterError: gated, not_found, disabled, no_weights (a file is missing), corrupt (not
            what the Hub has on record, twice) or network.
        HubError: offline, or a refused token.
        IndexWriteError: no disk space.
    """
    return [_fetch_file(hub, key, file, into) for file in files]


def _remote_file(raw: object) -> RemoteFile | None:
    """An entry of the API's answer about paths; None for a folder.

    Raises:
        UnusableAnswerError: it is not one.
    """
    match raw:
        case {"type": "directory"}:
            return None
        case {"path": str(path), "size": int(size), "lfs": {"oid": str(sha256)}} if size >= 0:
            return RemoteFile(path, size, sha256)
        case {"path": str(path), "size": int(size), "oid": str(oid)} if size >= 0:
            return RemoteFile(path, size, oid)
        case {"path": str(path), "size": int(size)} if size >= 0:
            return RemoteFile(path, size, None)
    raise UnusableAnswerError("its answer does not describe a file")


def _fetch_file(hub: Hub, key: AdapterKey, file: str, into: Path) -> Path:
    for attempt in (1, 2):
        path = _download(hub, key, file, into, again=attempt > 1)
        recorded = read_download_metadata(into, file)
        if recorded is None or has_hash(path, recorded.etag):
            return path
        logger.warning("%s: %s does not have the hash that the Hub recorded", key, file)
    raise AdapterError(Reason.CORRUPT, f"{file} arrived twice without the hash the Hub recorded")


def _download(hub: Hub, key: AdapterKey, file: str, into: Path, *, again: bool) -> Path:
    try:
        return whole_file(hub, key.repo_id, file, key.revision, local_dir=into, again=again)
    except HUB_FAILURES as error:
        raise adapter_error(error, file, key.repo_id, hub.endpoint) from error


def whole_file(
    hub: Hub,
    repo_id: str,
    file: str,
    revision: str,
    *,
    local_dir: Path | None = None,
    again: bool = False,
) -> Path:
    """A file as huggingface_hub downloads it: into its cache, or into a folder of ours.

    Raises:
        HUB_FAILURES: as huggingface_hub raises them.
    """
    return Path(
        hub.call(
            hf_hub_download,  # checks the size itself
            repo_id,
            file,
            revision=revision,
            local_dir=local_dir,
            force_download=again,
            endpoint=hub.endpoint,
            token=hub.settings.token,
            etag_timeout=hub.settings.timeout,
            library_name=LIBRARY,
            library_version=hub.settings.library_version,
        )
    )


def _read_header(hub: Hub, key: AdapterKey, file: str) -> Header:
    start = read_start(hub, key, file, _FIRST_READ)
    length, file_bytes = header_length(start.content), start.file_bytes
    if file_bytes is None and len(start.content) < _FIRST_READ:
        file_bytes = len(start.content)
    if file_bytes is None:
        raise WrongAnswerError("the server does not say how long the file is")
    recorded = start.hash
    if len(start.content) < length <= file_bytes:
        start = read_start(hub, key, file, length, url=start.url)
    header = parse_header(start.content, file_bytes)
    return replace(header, hash=recorded, url=start.url)
