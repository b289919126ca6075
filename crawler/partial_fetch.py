"""Download some tensors of a safetensors file on the Hub, without the others."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hubdelta.crawler.content_hash import has_hash
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.hub_errors import HUB_FAILURES, adapter_error
from hubdelta.crawler.remote_ranges import RemoteRanges
from hubdelta.crawler.safetensors_header import Header, Tensor, header_of
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterKey

logger = logging.getLogger(__name__)


def fetch_tensors(
    hub: Hub,
    key: AdapterKey,
    file: str,
    header: Header,
    wanted: Callable[[str], bool],
    into: Path,
) -> Path:
    """Download tensors of a safetensors file at the adapter's commit, by ranged GETs.

    Bytes read with the header are not requested again. The result is a safetensors file with these
    tensors alone and unchanged metadata. Lengths are checked; the Hub's hash is of the whole file,
    so it is checked only if all tensors are wanted. From a server that ignores ranges, the whole
    file arrives once, and only the wanted tensors are kept.

    Args:
        hub: where from.
        key: the adapter.
        file: path inside the repository.
        header: the file's, as `weight_header` reads it.
        wanted: whether to fetch the tensor of this name.
        into: a folder; the file keeps its path below it.

    Returns:
        Where it is.

    Raises:
        AdapterError: gated, not_found, disabled, no_weights (no such file), corrupt (a path that
            cannot be stored, or not what the Hub has on record, twice) or network.
        HubError: offline, or a refused token.
        IndexWriteError: no disk space.
    """
    path = into / file
    tensors = {name: tensor for name, tensor in header.tensors.items() if wanted(name)}
    try:
        if not path.resolve().is_relative_to(into.resolve()):
            raise AdapterError(Reason.CORRUPT, f"{file}: its path leads out of the repository")
        path.parent.mkdir(parents=True, exist_ok=True)
        _copy(hub, key, file, header, tensors, path, known=header.start)
        if header.hash is None or len(tensors) < len(header.tensors) or has_hash(path, header.hash):
            return path
        logger.warning("%s: %s does not have the hash that the Hub recorded", key, file)
        _copy(hub, key, file, header, tensors, path, known=b"")
    except HUB_FAILURES as error:
        raise adapter_error(error, file, key.repo_id, hub.endpoint) from error
    if not has_hash(path, header.hash):
        raise AdapterError(
            Reason.CORRUPT, f"{file} arrived twice without the hash the Hub recorded"
        )
    return path


def _copy(
    hub: Hub,
    key: AdapterKey,
    file: str,
    header: Header,
    tensors: Mapping[str, Tensor],
    path: Path,
    *,
    known: bytes,
) -> None:
    """Write a file with these tensors; `known` are the first bytes of the file on the Hub."""
    if len(tensors) == len(header.tensors):
        start = header.start[: header.header_bytes]
    else:
        start = header_of(tensors, header.layout.metadata)
    incomplete = path.with_name(f"{path.name}.incomplete")
    with incomplete.open("wb") as target:
        target.write(start)
        place = len(start)
        pieces = []
        for tensor in tensors.values():
            offset, end = header.header_bytes + tensor.start, header.header_bytes + tensor.end
            there = target.write(known[offset:end])
            pieces.append((offset + there, _Span(target, place + there, tensor.bytes - there)))
            place += tensor.bytes
        RemoteRanges(hub, key, file, header.file_bytes, header.url, connections=1).read(pieces)
    incomplete.replace(path)


@dataclass(frozen=True)
class _Span:
    """Bytes of a local file, filled like a memoryview, but by one thread at a time."""

    file: BinaryIO
    start: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __setitem__(self, span: slice, content: memoryview) -> None:
        self.file.seek(self.start + span.start)
        self.file.write(content)
