"""Parts of one file at a commit, read into memory over several connections at once."""

from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Lock
from typing import Final

from hubdelta.crawler.hub import Hub
from hubdelta.crawler.hub_errors import HUB_FAILURES, adapter_error, is_transient
from hubdelta.crawler.ranged import joined, open_part
from hubdelta.schemas.keys import AdapterKey

_LONGEST: Final = 32 << 20  # bytes of one request: more are shared between connections

Piece = tuple[int, memoryview]
"""An offset in a file, and the buffer for the bytes that follow it."""


@dataclass
class RemoteRanges:
    """A file at a commit, of which parts are read; safe in threads.

    Attributes:
        hub: where from.
        key: whose file, and the commit.
        file: path inside the repository.
        file_bytes: its length, as its header was read with.
        connections: requests at once.
        asked: bytes of the file that were read so far.
        fetched: bytes that came over the network for them.
    """

    hub: Hub
    key: AdapterKey
    file: str
    file_bytes: int
    connections: int = 8
    asked: int = field(default=0, init=False)
    fetched: int = field(default=0, init=False)
    _counting: Lock = field(default_factory=Lock, init=False, repr=False)

    def read(self, pieces: Sequence[Piece]) -> None:
        """Fill the buffers; neighbouring pieces, and those with small gaps, share a request.

        A transfer that breaks off is taken up again where it ended. A server that ignores ranges
        sends the file from its beginning, and what was not asked for is passed over.

        Raises:
            AdapterError: gated, not_found, disabled, no_weights (no such file) or network.
            HubError: offline, or a refused token.
        """
        pieces = sorted((piece for piece in pieces if len(piece[1])), key=lambda piece: piece[0])
        if not pieces:
            return
        with self._counting:
            self.asked += sum(len(target) for _, target in pieces)
        wanted = [(start, start + len(target)) for start, target in pieces]
        parts = [part for span in joined(wanted) for part in _split(*span)]
        executor = ThreadPoolExecutor(
            min(self.connections, len(parts)), thread_name_prefix="hubdelta-range"
        )
        try:
            for fetched in [executor.submit(self._fetch, *part, pieces) for part in parts]:
                fetched.result()
        except HUB_FAILURES as error:
            raise adapter_error(error, self.file, self.key.repo_id, self.hub.endpoint) from error
        finally:
            executor.shutdown(cancel_futures=True)

    def _fetch(self, start: int, end: int, pieces: Sequence[Piece]) -> None:
        """Fetch the bytes [start, end); attempts are counted anew when some of them have come."""
        reached = start

        def attempt() -> None:
            nonlocal reached
            with open_part(self.hub, self.key, self.file, reached, end) as part:
                position = part.start
                if position not in {0, reached} or part.file_bytes not in {None, self.file_bytes}:
                    # Without a number, as huggingface_hub's own checks raise: it is tried again.
                    raise OSError("another part, or of another file, than was asked for")
                for chunk in part.chunks:
                    with self._counting:
                        self.fetched += len(chunk)
                    _scatter(chunk, position, pieces)
                    position += len(chunk)
                    reached = max(reached, position)
                    if position >= end:
                        return
            raise OSError(f"the answer ends at byte {position}, before {end}")

        while reached < end:
            before = reached
            try:
                self.hub.call(attempt)
            except HUB_FAILURES as error:
                if reached == before or not is_transient(error):
                    raise


def _split(start: int, end: int) -> list[tuple[int, int]]:
    """A range as ranges of about equal length, none too long."""
    count = -(-(end - start) // _LONGEST)
    cuts = [start + (end - start) * number // count for number in range(count + 1)]
    return list(pairwise(cuts))


def _scatter(chunk: bytes, position: int, pieces: Sequence[Piece]) -> None:
    """Copy what of a chunk, which stands at this position of the file, belongs into buffers."""
    view = memoryview(chunk)
    first = bisect_right(pieces, position, key=lambda piece: piece[0] + len(piece[1]))
    for offset, target in pieces[first:]:
        if offset >= position + len(chunk):
            return
        start = max(offset, position)
        content = view[start - position : offset + len(target) - position]
        target[start - offset : start - offset + len(content)] = content
