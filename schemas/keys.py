"""How an adapter is named: `org/name[/subfolder][@revision]`, or a local folder."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hubdelta.schemas.errors import UsageError

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(/.+)?")
_PATH_STARTS = ("/", "./", "../", "~")
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
        """Whether it names a local folder."""
        return self.repo_id.startswith("/")

    @property
    def commit(self) -> str | None:
        """The revision, if it is a full commit."""
        return self.revision if self.revision and is_commit(self.revision) else None

    @classmethod
    def parse(cls, text: str, *, must_exist: bool = True) -> "AdapterName":
        """Read `org/name[/subfolder][@revision]`, its URL, or the path of a folder.

        A path is recognized by its start (`/`, `./`, `../`, `~`). What follows the last `@` is
        read as a revision; if there is no such revision, it may be part of a folder's name
        (`describe`).

        Args:
            text: what a person wrote.
            must_exist: whether a folder has to be there; an index may know one that is gone.

        Raises:
            UsageError: the text is neither, or there is no such folder.
        """
        text = text.strip()
        if is_path(text):
            folder = Path(text).expanduser().resolve()
            if must_exist and not folder.is_dir():
                raise UsageError(_no_folder(text, folder))
            return cls(folder.as_posix())
        named = named_by_url(text)
        name, _, revision = named.rpartition("@") if "@" in named else (named, "", "")
        name = name.strip("/")
        if not _HUB_NAME.fullmatch(name) or ("@" in text and not revision):
            advice = "write org/name[/subfolder][@revision], or the path of a folder as ./folder"
            raise UsageError(f"{text!r} is not an adapter: {folder_meant(text) or advice}")
        org, repo, *subfolder = name.split("/", 2)
        return cls(f"{org}/{repo}", subfolder[0] if subfolder else "", revision or None)

    @classmethod
    def parse_base(cls, text: str) -> "AdapterName":
        """Read a base model: `org/name[@revision]`, its URL, or the path of an existing folder.

        Raises:
            UsageError: the text is neither, or there is no such folder.
        """
        text = text.strip()
        try:
            base = cls.parse(text)
        except UsageError:
            if is_path(text):
                raise
            base = None
        if base is None or base.subfolder:
            advice = "write org/name[@revision], or the path of a folder as ./folder"
            raise UsageError(f"{text!r} is not a base model: {folder_meant(text) or advice}")
        return base

    def at(self, revision: str) -> AdapterKey:
        """The key of this adapter at a 40-hex commit."""
        return AdapterKey(self.repo_id, self.subfolder, revision)


def _no_folder(text: str, path: Path) -> str:
    if path.exists():
        return f"{text} is a file: name the folder, {path.parent}"
    return f"{text}: no such folder"


def is_path(text: str) -> bool:
    """Whether a text is a folder path rather than a repository name."""
    return text.startswith(_PATH_STARTS) or text in {".", ".."}


def is_commit(text: str) -> bool:
    """Whether a revision is a full 40-hex commit, which no push can move."""
    return _COMMIT.fullmatch(text) is not None


def named_by_url(text: str) -> str:
    """`org/name[/subfolder][@revision]` if the text is the URL of a Hub page, or else the text.

    Pages are `/org/name`, `/org/name/tree/REVISION/subfolder` and
    `/org/name/blob/REVISION/subfolder/file`; `main` appears in every URL, so it
    does not pin a revision.

    Raises:
        UsageError: it is not the page of a model.
    """
    if not text.lower().startswith(("https://", "http://")):
        return text
    org, repo, *page = [part for part in urlsplit(text).path.split("/") if part] + ["", ""]
    if not repo or org in {"datasets", "spaces", "papers", "collections"}:
        raise UsageError(f"{text} is not the page of a model: write org/name")
    view, revision, *path = [unquote(part) for part in page if part] + ["", ""]
    path = [part for part in path if part]
    if view in {"blob", "resolve", "raw"}:
        path = path[:-1]
    elif view != "tree":
        path = []
        revision = ""
    name = "/".join([org, repo, *path])
    return f"{name}@{revision}" if revision not in {"", "main"} else name


def folder_meant(text: str) -> str:
    """A suggestion if a local folder has the name that was asked for, or else ""."""
    try:
        is_folder = bool(text) and not is_path(text) and Path(text).is_dir()
    except (OSError, ValueError):  # too long, or a NUL
        return ""
    return f"did you mean the folder ./{text}?" if is_folder else ""
