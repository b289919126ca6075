"""How an adapter is named: `org/name[/subfolder][@revision]`, or a folder of this machine."""

import re
from dataclasses import dataclass
from pathlib import Path

from hubdelta.schemas.errors import UsageError

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(/[^@]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, order=True)
class AdapterKey:
    """An adapter at one commit.

    Attributes:
        repo_id: `org/name` on the Hub, or the absolute path of a local folder (starts with `/`).
        subfolder: folder of the repository that holds the adapter, "" for its root.
        revision: 40-hex commit; for a local folder the SHA-1 of its contents.
    """

    repo_id: str
    subfolder: str
    revision: str

    def __str__(self) -> str:
        return str(AdapterName(self.repo_id, self.subfolder, self.revision))


@dataclass(frozen=True)
class AdapterName:
    """An adapter as a person writes it.

    Attributes:
        repo_id: `org/name`, or the absolute path of a local folder.
        subfolder: "" for the repository's root.
        revision: a commit, branch or tag; None for the newest.
    """

    repo_id: str
    subfolder: str = ""
    revision: str | None = None

    def __str__(self) -> str:
        path = f"{self.repo_id}/{self.subfolder}" if self.subfolder else self.repo_id
        return f"{path}@{self.revision}" if self.revision else path

    @property
    def is_local(self) -> bool:
        """Whether it names a folder of this machine."""
        return self.repo_id.startswith("/")

    @property
    def commit(self) -> str | None:
        """The revision, if it is a full commit."""
        return self.revision if self.revision and is_commit(self.revision) else None

    @classmethod
    def parse(cls, text: str) -> "AdapterName":
        """Read `org/name[/subfolder][@revision]`, or the path of an existing folder.

        A path is told from a name by its start (`/`, `./`, `../`, `~`).

        Raises:
            UsageError: the text is neither, or the folder does not exist.
        """
        text = text.strip()
        if text.startswith(("/", "./", "../", "~")) or text in {".", ".."}:
            folder = Path(text).expanduser().resolve()
            if not folder.is_dir():
                raise UsageError(f"{text}: no such folder")
            return cls(folder.as_posix())
        name, _, revision = text.partition("@")
        name = name.strip("/")
        if not _HUB_NAME.fullmatch(name) or ("@" in text and not revision):
            raise UsageError(
                f"{text!r} is not an adapter: write org/name[/subfolder][@revision], "
                "or the path of a folder as ./folder"
            )
        org, repo, *subfolder = name.split("/", 2)
        return cls(f"{org}/{repo}", subfolder[0] if subfolder else "", revision or None)

    def at(self, revision: str) -> AdapterKey:
        """The key of this adapter at a 40-hex commit."""
        return AdapterKey(self.repo_id, self.subfolder, revision)


def is_commit(text: str) -> bool:
    """Whether a revision is a full 40-hex commit, which no push can move."""
    return _COMMIT.fullmatch(text) is not None
