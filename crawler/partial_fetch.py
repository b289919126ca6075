"""Some tensors of a safetensors file on the Hub, without downloading the others."""

import logging
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from hubdelta.crawler.content_hash import has_hash
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.hub_errors import HUB_FAILURES, adapter_error
from hubdelta.crawler.ranged import joined, open_part
from hubdelta.crawler.safetensors_header import Header, Tensor, header_of
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterKey

logger = logging.getLogger(__name__)

_MOST_EXTRA: Final = 0.05  # of the bytes needed, fetched in vain to save requests


def fetch_tensors(
    hub: Hub,
    key: AdapterKey,
    file: str,
    header: Header,
    wanted: Callable[[str], bool],
    into: Path,
) -> Path:
    """Download tensors of a safetensors file at the adapter's commit, by ranged GETs.

    What was read with the header is not asked for again. What arrives is a safetensors file with
    these tensors alone, its metadata as it was. Lengths are checked; the hash that the Hub has on
    record is of the whole file, and checked where all of it is wanted. From a server that ignores
    ranges the whole file comes, once, and what is not wanted is not kept.

    Args:
        hub: where from.
        key: the adapter.
        file: path inside the repository.
        header: the file's, as `weight_header` reads it.
        wanted: whether a tensor of this name is to be fetched.
        into: a folder; the file keeps its path below it.

    Returns:
        Where it is.

    Raises:
        AdapterError: gated, not_found, disabled, no_weights (no such file), corrupt (a path that
            cannot be kept, or not what the Hub has on record, twice) or network.
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
        logger.warning("%s: %s has another hash than the Hub has on record", key, file)
        _copy(hub, key, file, header, tensors, path, known=b"")
    except HUB_FAILURES as error:
        raise adapter_error(error, file, key.repo_id, hub.endpoint) from error
    if not has_hash(path, header.hash):
        raise AdapterError(
            Reason.CORRUPT, f"{file} came twice with another hash than the Hub has on record"
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
    """Write a file that holds these tensors; `known` are the first bytes of the one on the Hub."""
    if len(tensors) == len(header.tensors):
        start = header.start[: header.header_bytes]
    else:
        start = header_of(tensors, header.metadata)
    pieces = _pieces(tensors, header.header_bytes, len(start))
    incomplete = path.with_name(f"{path.name}.incomplete")
    with incomplete.open("wb") as target:
        target.write(start)
        transfer = _Transfer(hub, key, file, header.file_bytes, pieces, target)
        transfer.write(0, known)
        spans = joined(
            [
                (max(piece.start, len(known)), piece.end)
                for piece in pieces
                if piece.end > len(known)
            ]
        )
        while spans:
            reached = hub.call(transfer.copy, spans)
            spans = [span for span in spans if span[0] >= reached]
    incomplete.replace(path)


@dataclass(frozen=True)
class _Piece:
    """Neighbouring tensors: bytes [start, end) of the file on the Hub, and their place in ours."""

    start: int
    end: int
    place: int


def _pieces(tensors: Mapping[str, Tensor], offset: int, place: int) -> list[_Piece]:
    """What to copy where, in the order of the file.

    Args:
        tensors: those wanted, in the order of the file.
        offset: where the tensors' data begins in the file on the Hub.
        place: where it is to begin in ours.
    """
    pieces: list[_Piece] = []
    for tensor in tensors.values():
        start, end = offset + tensor.start, offset + tensor.end
        if pieces and pieces[-1].end == start:
            pieces[-1] = _Piece(pieces[-1].start, end, pieces[-1].place)
        elif tensor.bytes:
            pieces.append(_Piece(start, end, place))
        place += tensor.bytes
    return pieces


@dataclass(frozen=True)
class _Transfer:
    """The copying of pieces of one file on the Hub into an open file of ours."""

    hub: Hub
    key: AdapterKey
    file: str
    file_bytes: int
    pieces: list[_Piece]
    target: BinaryIO

    def copy(self, spans: list[tuple[int, int]]) -> int:
        """Ask for the first of the spans, and write what comes of the pieces.

        Returns:
            Where in the file all is copied up to: the end of this span, or of the last one where
            the server sends the whole file.

        Raises:
            HUB_FAILURES: as they come; an answer of another length is an OSError without a
                number, as huggingface_hub's own consistency check raises, and so tried again.
        """
        start, end = spans[0]
        with open_part(self.hub, self.key, self.file, start, end) as part:
            position = part.start
            if position != start:
                end = spans[-1][1]
            if position not in {0, start} or part.file_bytes not in {None, self.file_bytes}:
                raise OSError("another part, or of another file, than was asked for")
            for chunk in part.chunks:
                self.write(position, chunk)
                position += len(chunk)
                if position >= end:
                    return end
        raise OSError(f"the answer ends at byte {position}, before {end}")

    def write(self, position: int, chunk: bytes) -> None:
        """Write what of a chunk, which stands at this position of the file, is in pieces."""
        view = memoryview(chunk)
        first = bisect_right(self.pieces, position, key=lambda piece: piece.end)
        for piece in self.pieces[first:]:
            if piece.start >= position + len(chunk):
                return
            start = max(piece.start, position)
            self.target.seek(piece.place + start - piece.start)
            self.target.write(view[start - position : piece.end - position])
