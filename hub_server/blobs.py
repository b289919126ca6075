"""File contents by their hashes, as git and git-lfs name them."""

import hashlib
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

# Names that the Hub's default .gitattributes assigns to git-lfs; so is anything over 10 MB.
_LFS_NAMES = re.compile(
    r".*\.(7z|arrow|bin|bz2|ckpt|ftz|gguf|gz|h5|joblib|keras|mlmodel|model|msgpack|npy|npz|onnx|ot"
    r"|parquet|pb|pickle|pkl|pt|pth|rar|safetensors|tar|tflite|tgz|wasm|xz|zip|zst)",
    re.DOTALL,
)
_LFS_BYTES = 10 * 1024 * 1024
_READ_BYTES = 1024 * 1024
_TICK_NS = 50_000_000


@dataclass(frozen=True)
class StoredFile:
    """A regular file of a repository, as of the last scan of its folder.

    Attributes:
        path: its name inside the repository, with `/`.
        place: its location on disk.
        size: bytes.
        mtime_ns: when its content was last changed, nanoseconds since 1970.
        ctime_ns: the same according to the kernel, which copying tools cannot set back.
    """

    path: str
    place: Path
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def in_lfs(self) -> bool:
        """Whether the Hub would store it in git-lfs rather than in git itself."""
        return self.size > _LFS_BYTES or _LFS_NAMES.fullmatch(self.path) is not None


@dataclass(frozen=True)
class Blob:
    """The identity of a file's content.

    Attributes:
        oid: git's blob id: of the content, or of the pointer if git-lfs holds the content.
        size: bytes of the content.
        sha256: of the content, in git-lfs only.
        pointer_size: bytes of the pointer, in git-lfs only.
    """

    oid: str
    size: int
    sha256: str | None = None
    pointer_size: int | None = None

    @property
    def etag(self) -> str:
        """What the Hub sends as ETag: sha256 in git-lfs, else git's blob id."""
        return self.sha256 or self.oid


def is_settled(ctime_ns: int) -> bool:
    """Whether a later change of the file is sure to change its times.

    The kernel stamps files with a clock that ticks every few milliseconds, so two contents written
    within one tick look alike; git calls such an entry racy and checks it again.
    """
    return abs(time.time_ns() - ctime_ns) > _TICK_NS


def git_oid(kind: str, content: bytes) -> str:
    """Git's id of an object in memory: sha1 of its kind, length and content."""
    return hashlib.sha1(
        f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False
    ).hexdigest()


class BlobHashes:
    """Hashes of files, each computed once as long as its times and size stay the same."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int], Blob]] = {}
        self._guard = threading.Lock()
        self._at_work: dict[Path, threading.Lock] = {}

    def of(self, file: StoredFile) -> Blob:
        """The identity of a file's content.

        Raises:
            OSError: when it cannot be read.
        """
        state = (file.size, file.mtime_ns, file.ctime_ns)
        with self._guard:
            lock = self._at_work.setdefault(file.place, threading.Lock())
        # Held while hashing: eight clients requesting one large file must not read it eight times.
        with lock:
            known = self._known.get(file.place)
            if known is not None and known[0] == state:
                return known[1]
            blob = _hash(file)
            if is_settled(file.ctime_ns):
                self._known[file.place] = (state, blob)
            return blob


def _hash(file: StoredFile) -> Blob:
    if not file.in_lfs:
        content = file.place.read_bytes()
        return Blob(git_oid("blob", content), len(content))
    digest, size = hashlib.sha256(), 0
    with file.place.open("rb") as stream:
        while chunk := stream.read(_READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
    oid = digest.hexdigest()
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()
    )
    return Blob(git_oid("blob", pointer), size, oid, len(pointer))
