"""Reading parts of one file at a commit over several connections at once."""

from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Lock
from typing import Final, Protocol

from hubdelta.crawler.hub import Hub
from hubdelta.crawler.hub_errors import HUB_FAILURES, adapter_error, is_transient
from hubdelta.crawler.ranged import coalesced, open_part
from hubdelta.crawler.wire import SlowAnswerError, WrongAnswerError
from hubdelta.schemas.keys import AdapterKey

_LONGEST: Final = 32 << 20  # bytes per request: more are split between connections
_PROGRESS: Final = 20  # fetching 1/20 of the missing bytes resets the attempt count

Piece = tuple[int, memoryview]
"""An offset in a file, and the buffer for the bytes that follow it."""


class Target(Protocol):
    """Where bytes go: a memoryview, or an object that can be filled like one."""

    def __len__(self) -> int: ...

    def __setitem__(self, span: slice, content: memoryview, /) -> None: ...


@dataclass
class RemoteRanges:
    """Reads parts of a file at a commit; thread-safe.

    Attributes:
        hub: where from.
        key: whose file, and the commit.
        file: path inside the repository.
        file_bytes: its length when its header was read.
        url: where its bytes are, as far as known: the Hub is not asked for that again.
        connections: simultaneous requests.
        asked: bytes of the file read so far.
        fetched: bytes received over the network for them.
    """

    hub: Hub
    key: AdapterKey
    file: str
    file_bytes: int
    url: str | None = None
    connections: int = 8
    asked: int = field(default=0, init=False)
    fetched: int = field(default=0, init=False)
    _ranged: bool = field(default=False, init=False, repr=False)  # whether the last answer was
    _counting: Lock = field(default_factory=Lock, init=False, repr=False)

    def read(self, pieces: Sequence[tuple[int, Target]]) -> None:
        """Fill the targets; neighboring pieces, and those with small gaps, share a request.

        A transfer that breaks off is resumed where it ended. A server that ignores ranges sends the
        file once, up to the last piece, and unneeded bytes are skipped. To find out, the first
        request is sent alone.

        Args:
            pieces: offsets in the file, and targets for the bytes that follow; none overlap.

        Raises:
            AdapterError: gated, not_found, disabled, no_weights (no such file) or network.
            HubError: offline, or a refused token.
            IndexWriteError: no disk space for a target.
        """
        pieces = sorted((piece for piece in pieces if len(piece[1])), key=lambda piece: piece[0])
        if not pieces:
            return
        with self._counting:
            self.asked += sum(len(target) for _, target in pieces)
        wanted = [(start, start + len(target)) for start, target in pieces]
        parts = [part for span in coalesced(wanted) for part in _split(*span)]
        whole = Lock()
        executor = ThreadPoolExecutor(
            min(self.connections, len(parts)), thread_name_prefix="hubdelta-range"
        )
        try:
            fetches = []
            for part in parts:
                fetches.append(executor.submit(self._fetch, *part, pieces, whole))
                if not self._ranged:
                    fetches[-1].result()
            for fetch in fetches:
                fetch.result()
        except HUB_FAILURES as error:
            raise adapter_error(error, self.file, self.key.repo_id, self.hub.endpoint) from error
        finally:
            executor.shutdown(cancel_futures=True)

    def _fetch(
        self, start: int, end: int, pieces: Sequence[tuple[int, Target]], whole: Lock
    ) -> None:
        """Fetch the bytes [start, end); the attempt count is reset once a share of them arrived.

        Args:
            start: offset of the first byte.
            end: offset after the last.
            pieces: all pieces of this read.
            whole: lock of this read; held for good by the first fetch whose answer is the whole
                file, which fills all pieces and leaves nothing for the others.
        """
        if whole.locked():
            return
        reached, fills_all = start, False

        def transfer() -> None:
            nonlocal reached, end, fills_all
            with open_part(self.hub, self.key, self.file, reached, end, url=self.url) as part:
                if part.file_bytes not in {None, self.file_bytes}:
                    raise WrongAnswerError("a part of a different file than requested")
                self._ranged, self.url = part.ranged, part.url
                if not part.ranged and not fills_all:
                    if not whole.acquire(blocking=False):
                        reached = end
                        return
                    fills_all = True
                    reached, end = pieces[0][0], pieces[-1][0] + len(pieces[-1][1])
                position = part.start
                try:
                    for chunk in part.chunks:
                        _scatter(chunk, position, pieces)
                        position += len(chunk)
                        reached = max(reached, position)
                        if position >= end:
                            return
                finally:
                    with self._counting:
                        self.fetched += position - part.start
            raise WrongAnswerError(f"the answer ends at byte {position}, before {end}")

        def attempt() -> None:
            try:
                transfer()
            except HUB_FAILURES:
                self.url = None  # whatever goes wrong there, the Hub may name a better place
                raise

        while reached < end:
            before = reached
            try:
                self.hub.call(attempt)
            except HUB_FAILURES as error:
                # Otherwise a server that cuts each answer after a byte would never end.
                if (
                    reached - before < max(1, (end - before) // _PROGRESS)
                    or isinstance(error, SlowAnswerError)
                    or not is_transient(error)
                ):
                    raise


def _split(start: int, end: int) -> list[tuple[int, int]]:
    """Split a range into ranges of about equal length, none too long."""
    count = -(-(end - start) // _LONGEST)
    cuts = [start + (end - start) * number // count for number in range(count + 1)]
    return list(pairwise(cuts))


def _scatter(chunk: bytes, position: int, pieces: Sequence[tuple[int, Target]]) -> None:
    """Copy into the targets what they need of a chunk at this position of the file."""
    view = memoryview(chunk)
    first = bisect_right(pieces, position, key=lambda piece: piece[0] + len(piece[1]))
    for offset, target in pieces[first:]:
        if offset >= position + len(chunk):
            return
        start = max(offset, position)
        content = view[start - position : offset + len(target) - position]
        target[start - offset : start - offset + len(content)] = content
