"""The base model in the Hugging Face cache (HF_HOME): its configuration, tokenizer and weights."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from hubdelta.crawler.adapter_files import INDEX_SUFFIX, model_weights
from hubdelta.crawler.content_hash import has_hash
from hubdelta.crawler.downloads import whole_file
from hubdelta.crawler.hub import LIBRARY, Hub
from hubdelta.crawler.hub_errors import HUB_FAILURES, disk_error, hub_error
from hubdelta.crawler.weight_index import parse_index
from hubdelta.schemas.errors import HubError

logger = logging.getLogger(__name__)

_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")

_SMALL_FILES: Final = ["*.json", "*.txt", "*.model", "*.jinja"]
_BASE_FILES: Final = [*_SMALL_FILES, "model*.safetensors"]
_BASE_BIN_FILES: Final = ["pytorch_model*.bin"]


def fetch_base(hub: Hub, base: str, revision: str) -> Path:
    """Download a base's configuration, tokenizer and weights into the Hugging Face cache.

    Files already there are not requested again, and then work offline too.

    Args:
        hub: where from.
        base: `ORG/NAME`.
        revision: 40-hex commit.

    Returns:
        The folder, which transformers can load.

    Raises:
        HubError: the base cannot be downloaded.
        IndexWriteError: no disk space.
    """
    with _fetching_base(hub, base):
        return _unaltered(hub, base, lambda: _base_folder(hub, base, revision))


def fetch_base_config(hub: Hub, base: str, revision: str) -> Path:
    """Download a base's config.json into the Hugging Face cache, if it is not there.

    Raises:
        HubError: the base cannot be downloaded.
        IndexWriteError: no disk space.
    """
    with _fetching_base(hub, base):
        return _unaltered(hub, base, lambda: whole_file(hub, base, "config.json", revision))


def fetch_base_tokenizer(hub: Hub, base: str, revision: str) -> Path:
    """Download a base's configuration and tokenizer into the Hugging Face cache, without weights.

    Returns:
        The folder, from which transformers can load both.

    Raises:
        HubError: the base cannot be downloaded.
        IndexWriteError: no disk space.
    """
    with _fetching_base(hub, base):
        return _unaltered(hub, base, lambda: _snapshot(hub, base, revision, _SMALL_FILES))


def _base_folder(hub: Hub, base: str, revision: str) -> Path:
    folder = _snapshot(hub, base, revision, _BASE_FILES)
    if missing := _missing_shards(folder):  # with unusual names
        return _snapshot(hub, base, revision, [*_BASE_FILES, *missing])
    if not any(".safetensors" in name for name in _chosen(folder)):
        return _snapshot(hub, base, revision, [*_BASE_FILES, *_BASE_BIN_FILES])
    return folder


def _unaltered(hub: Hub, base: str, get: Callable[[], Path]) -> Path:
    """What `get` puts into the cache, fetched once more if a file has the wrong hash.

    The cache stores a file under its ETag, which is its hash. Weights are hashed only when they
    have just arrived.
    """
    began = time.time()
    for _ in (1, 2):
        got = get()
        files = list(got.iterdir()) if got.is_dir() else [got]
        altered = [path for path in files if _is_altered(path, began)]
        if not altered:
            return got
        for path in altered:
            logger.warning("%s: %s does not have the hash that the Hub recorded", base, path.name)
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
    raise HubError(
        f"{altered[0].name} of {base} arrived twice without the hash that {hub.endpoint} recorded: "
        "something on the network alters it; try again later, or from another network"
    )


def _is_altered(path: Path, began: float) -> bool:
    blob = path.resolve()
    if not _HASH.fullmatch(blob.name):  # a cache without symbolic links keeps no ETags
        return False
    if path.suffix in {".safetensors", ".bin"} and blob.stat().st_mtime < began - 1:
        return False
    return not has_hash(blob, blob.name)


def _chosen(folder: Path) -> list[str]:
    return model_weights(path.name for path in folder.iterdir())


def _missing_shards(folder: Path) -> list[str]:
    """Files that the model's index file names but that are missing."""
    chosen = _chosen(folder)
    if not chosen or not chosen[0].endswith(".safetensors" + INDEX_SUFFIX):
        return []
    index = parse_index(chosen[0], (folder / chosen[0]).read_bytes())
    return [file for file in index.files if not (folder / file).exists()]


@contextmanager
def _fetching_base(hub: Hub, base: str) -> Iterator[None]:
    """Turn failures of the block into errors of the run."""
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
