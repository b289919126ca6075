"""The files of an adapter at its commit: their sizes, headers and contents. Safe in threads."""

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub._local_folder import read_download_metadata
from huggingface_hub.errors import HfHubHTTPError

from hubdelta.crawler.adapter_files import INDEX_SUFFIX, model_weights
from hubdelta.crawler.content_hash import content_has_hash, has_hash
from hubdelta.crawler.hub import LIBRARY, Hub
from hubdelta.crawler.hub_errors import (
    HUB_FAILURES,
    adapter_error,
    disk_error,
    hub_error,
)
from hubdelta.crawler.ranged import read_start
from hubdelta.crawler.safetensors_header import (
    BadHeaderError,
    Header,
    header_length,
    parse_header,
)
from hubdelta.crawler.weight_index import parse_index
from hubdelta.crawler.wire import UnusableAnswerError, WrongAnswerError
from hubdelta.schemas.errors import AdapterError, HubError, Reason
from hubdelta.schemas.keys import AdapterKey

logger = logging.getLogger(__name__)

_FIRST_READ: Final = 100_000  # bytes; nearly every adapter's header is shorter

_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")

_BASE_FILES: Final = ["*.json", "*.txt", "*.model", "*.jinja", "model*.safetensors"]
_BASE_BIN_FILES: Final = ["pytorch_model*.bin"]


@dataclass(frozen=True)
class RemoteFile:
    """A file at a commit.

    Attributes:
        path: inside the repository.
        size: in bytes.
        sha256: of its content; None for small files, which git keeps itself.
    """

    path: str
    size: int
    sha256: str | None


def file_info(hub: Hub, key: AdapterKey, files: Sequence[str]) -> dict[str, RemoteFile]:
    """Sizes and hashes of files at the adapter's commit: one request.

    Raises:
        AdapterError: gated, not_found, disabled, no_weights (a file is missing) or network.
        HubError: offline, or a refused token.
    """
    try:
        found = map(_remote_file, hub.paths_info(key.repo_id, key.revision, files))
        known = {file.path: file for file in found if file is not None}
    except HUB_FAILURES as error:
        raise adapter_error(error, "its weights", key.repo_id, hub.endpoint) from error
    for file in files:
        if file not in known:
            raise AdapterError(Reason.NO_WEIGHTS, f"there is no {file} at this commit")
    return known


def weight_header(hub: Hub, key: AdapterKey, file: str) -> Header:
    """Read the header of a safetensors file at the adapter's commit: one ranged GET, or two.

    `parse_safetensors_file_metadata` of huggingface_hub keeps neither the header's length nor
    the file's, which together show a truncated file.

    Raises:
        AdapterError: corrupt (no such header, or the file is shorter or longer than it says),
            gated, not_found, disabled, no_weights (no such file) or network.
        HubError: offline, or a refused token.
    """
    try:
        try:
            return hub.call(_read_header, hub, key, file)
        except BadHeaderError as error:
            logger.debug("%s: %s %s: it is asked for once more", key, file, error)
            return hub.call(_read_header, hub, key, file)
    except BadHeaderError as error:
        raise AdapterError(Reason.CORRUPT, f"{file} {error}") from error
    except HUB_FAILURES as error:
        raise adapter_error(error, file, key.repo_id, hub.endpoint) from error


def small_file(hub: Hub, key: AdapterKey, file: str, *, limit: int) -> bytes:
    """The content of a small file at the adapter's commit: one ranged GET.

    It is checked against the hash that the Hub has on record, and asked for once more where it
    differs. Where a server's ETag is no such hash, the content is believed.

    Args:
        hub: where from.
        key: the adapter.
        file: path inside the repository.
        limit: bytes; a longer file is not read on.

    Raises:
        AdapterError: corrupt (longer than the limit), gated, not_found, disabled, no_weights (no
            such file) or network (also where it arrives altered).
        HubError: offline, or a refused token.
    """
    for _ in (1, 2):
        try:
            content, file_bytes, recorded = hub.call(read_start, hub, key, file, limit + 1)
        except HUB_FAILURES as error:
            raise adapter_error(error, file, key.repo_id, hub.endpoint) from error
        if len(content) > limit:
            size = f"{file_bytes} bytes, " if file_bytes is not None else ""
            raise AdapterError(Reason.CORRUPT, f"{file} has {size}more than {limit}")
        if content_has_hash(content, recorded):
            return content
        logger.warning("%s: %s has another hash than the Hub has on record", key, file)
    raise AdapterError(
        Reason.NETWORK,
        f"{file} came twice with another hash than {hub.endpoint} has on record: something on "
        "the way alters it; try again later, or from another network",
    )


def fetch(hub: Hub, key: AdapterKey, files: Sequence[str], into: Path) -> list[Path]:
    """Download files at the adapter's commit, checking their sizes and hashes.

    A HEAD and a GET a file, none of them to the API. The files do not pass through the shared
    cache, so that deleting the folder deletes them.

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


def fetch_base(hub: Hub, base: str, revision: str) -> Path:
    """Download a base's configuration, tokenizer and weights into the ordinary cache (HF_HOME).

    What is there already is not asked for again, and then works offline too.

    Args:
        hub: where from.
        base: `ORG/NAME`.
        revision: 40-hex commit.

    Returns:
        The folder, which transformers can load.

    Raises:
        HubError: the base cannot be had.
        IndexWriteError: no disk space.
    """
    with _fetching_base(hub, base):
        return _unaltered(hub, base, lambda: _base_folder(hub, base, revision))


def fetch_base_config(hub: Hub, base: str, revision: str) -> Path:
    """Download a base's config.json into the ordinary cache, if it is not there.

    Raises:
        HubError: the base cannot be had.
        IndexWriteError: no disk space.
    """
    with _fetching_base(hub, base):
        return _unaltered(hub, base, lambda: _whole_file(hub, base, "config.json", revision))


def _base_folder(hub: Hub, base: str, revision: str) -> Path:
    folder = _snapshot(hub, base, revision, _BASE_FILES)
    if missing := _missing_shards(folder):  # of other names than most
        return _snapshot(hub, base, revision, [*_BASE_FILES, *missing])
    if not any(".safetensors" in name for name in _chosen(folder)):
        return _snapshot(hub, base, revision, [*_BASE_FILES, *_BASE_BIN_FILES])
    return folder


def _unaltered(hub: Hub, base: str, get: Callable[[], Path]) -> Path:
    """What `get` puts into the cache, got once more where a file is not what it should be.

    The cache keeps a file under its ETag, which is its hash. Weights are read for it only when
    they have just arrived.
    """
    began = time.time()
    for _ in (1, 2):
        got = get()
        files = list(got.iterdir()) if got.is_dir() else [got]
        altered = [path for path in files if _is_altered(path, began)]
        if not altered:
            return got
        for path in altered:
            logger.warning("%s: %s has another hash than the Hub has on record", base, path.name)
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
    raise HubError(
        f"{altered[0].name} of {base} came twice with another hash than {hub.endpoint} has on "
        "record: something on the way alters it; try again later, or from another network"
    )


def _is_altered(path: Path, began: float) -> bool:
    blob = path.resolve()
    if not _HASH.fullmatch(blob.name):  # a cache without symbolic links keeps no ETags
        return False
    if path.suffix in {".safetensors", ".bin"} and blob.stat().st_mtime < began - 1:
        return False
    return not has_hash(blob, blob.name)


def _remote_file(raw: object) -> RemoteFile | None:
    """An entry of the API's answer about paths; None for a folder.

    Raises:
        UnusableAnswerError: it is none.
    """
    match raw:
        case {"type": "directory"}:
            return None
        case {"path": str(path), "size": int(size), "lfs": {"oid": str(sha256)}} if size >= 0:
            return RemoteFile(path, size, sha256)
        case {"path": str(path), "size": int(size)} if size >= 0:
            return RemoteFile(path, size, None)
    raise UnusableAnswerError("its answer about files is none")


def _chosen(folder: Path) -> list[str]:
    return model_weights(path.name for path in folder.iterdir())


def _missing_shards(folder: Path) -> list[str]:
    """What the index file of a model names and is not there."""
    chosen = _chosen(folder)
    if not chosen or not chosen[0].endswith(".safetensors" + INDEX_SUFFIX):
        return []
    index = parse_index(chosen[0], (folder / chosen[0]).read_bytes())
    return [file for file in index.files if not (folder / file).exists()]


def _fetch_file(hub: Hub, key: AdapterKey, file: str, into: Path) -> Path:
    for attempt in (1, 2):
        path = _download(hub, key, file, into, again=attempt > 1)
        recorded = read_download_metadata(into, file)
        if recorded is None or has_hash(path, recorded.etag):
            return path
        logger.warning("%s: %s has another hash than the Hub has on record", key, file)
    raise AdapterError(
        Reason.CORRUPT, f"{file} came twice with another hash than the Hub has on record"
    )


def _download(hub: Hub, key: AdapterKey, file: str, into: Path, *, again: bool) -> Path:
    try:
        return _whole_file(hub, key.repo_id, file, key.revision, local_dir=into, again=again)
    except HUB_FAILURES as error:
        raise adapter_error(error, file, key.repo_id, hub.endpoint) from error


def _whole_file(
    hub: Hub,
    repo_id: str,
    file: str,
    revision: str,
    *,
    local_dir: Path | None = None,
    again: bool = False,
) -> Path:
    """A file as huggingface_hub downloads it: into its cache, or into a folder of ours."""
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
    start, file_bytes, recorded = read_start(hub, key, file, _FIRST_READ)
    length = header_length(start)
    if file_bytes is None and len(start) < _FIRST_READ:
        file_bytes = len(start)
    if file_bytes is None:
        raise WrongAnswerError("the server does not say how long the file is")
    if len(start) < length <= file_bytes:
        start, _, recorded = read_start(hub, key, file, length)
    return replace(parse_header(start, file_bytes), hash=recorded)


@contextmanager
def _fetching_base(hub: Hub, base: str) -> Iterator[None]:
    """Failures of the block as errors of the run."""
    try:
        yield
    except HUB_FAILURES as error:
        if full := disk_error(error, base):
            raise full from error
        if isinstance(error, HfHubHTTPError) and error.response.status_code in {401, 403, 404}:
            raise HubError(
                f"{base} cannot be downloaded: if it is gated or private, request access at "
                f"{hub.endpoint}/{base}, then set HF_TOKEN"
            ) from error
        raise hub_error(error, hub.endpoint) from error


def _snapshot(hub: Hub, base: str, revision: str, patterns: list[str]) -> Path:
    return Path(
        hub.call(
            snapshot_download,
            base,
            revision=revision,
            allow_patterns=patterns,
            ignore_patterns=["*/*"],  # other formats and checkpoints in subfolders
            endpoint=hub.endpoint,
            token=hub.settings.token,
            etag_timeout=hub.settings.timeout,
            library_name=LIBRARY,
            library_version=hub.settings.library_version,
        )
    )
