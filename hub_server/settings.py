"""The `.hub.yaml` of a repository, for metadata that its files cannot hold, and of the Hub."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from hubdelta.hub_server.card import UnreadableYAMLError, read_yaml
from hubdelta.schemas.errors import UsageError

SETTINGS_NAME = ".hub.yaml"
COMMIT = re.compile(r"[0-9a-f]{40}")


class SettingsError(UsageError):
    """A `.hub.yaml` that cannot be read; the message names it and what is wrong."""


@dataclass(frozen=True)
class RepositorySettings:
    """The `.hub.yaml` of one repository; keys are written as the Hub's API writes them."""

    gated: Literal["auto", "manual", False] = False
    private: bool = False
    disabled: bool = False
    downloads: int = 0
    downloads_all_time: int | None = None
    likes: int = 0
    trending_score: float = 0
    created_at: datetime | None = None
    last_modified: datetime | None = None
    renamed_to: str | None = None
    sha: str | None = None


@dataclass(frozen=True)
class ServerSettings:
    """The top-level `.hub.yaml`: who may see private and gated repositories.

    Attributes:
        tokens: what each bearer token gives access to: organizations, `org/name`s, or `*`.
    """

    tokens: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)


def read_repository_settings(path: Path) -> RepositorySettings:
    """Read a repository's `.hub.yaml`; without the file, the defaults.

    An unknown key is an error, not a warning: a misspelled `private` must not publish anything.

    Raises:
        SettingsError: when the file cannot be parsed completely.
    """
    values = _mapping(path)
    known: dict[str, Any] = {}
    for key, value in values.items():
        if key not in _KEYS:
            raise SettingsError(f"{path}: unknown key {key!r}; known are {', '.join(_KEYS)}")
        name, convert = _KEYS[key]
        try:
            known[name] = convert(value)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"{path}: {key}: {error}") from error
    return RepositorySettings(**known)


def read_hub_settings(path: Path) -> ServerSettings:
    """Read the `.hub.yaml` at the top of the served folder; without the file, no tokens.

    Raises:
        SettingsError: when the file cannot be parsed completely.
    """
    values = _mapping(path)
    if unknown := set(values) - {"tokens"}:
        raise SettingsError(f"{path}: unknown key {sorted(unknown)[0]!r}; known is tokens")
    tokens = values.get("tokens") or {}
    if not isinstance(tokens, dict):
        raise SettingsError(f"{path}: tokens is not a mapping from token to what it may see")
    granted: dict[str, frozenset[str]] = {}
    for number, (token, grants) in enumerate(tokens.items(), start=1):
        # Messages count tokens and never show one: they end up in logs.
        names = [grants] if isinstance(grants, str) else grants
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise SettingsError(
                f"{path}: token number {number} needs a list of organizations or org/names, or '*'"
            )
        granted[token] = frozenset(names)
    return ServerSettings(granted)


def _mapping(path: Path) -> dict[str, Any]:
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, UnreadableYAMLError) as error:
        # A YAML error quotes the line at fault, which could hold a token.
        reason = "it is not valid YAML" if isinstance(error, UnreadableYAMLError) else error
        raise SettingsError(f"{path}: cannot be read: {reason}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: is not a mapping")
    return values


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _gated(value: Any) -> Literal["auto", "manual", False]:
    match value:
        case False | "auto" | "manual":
            return value
        case True:
            return "manual"
        case _:
            raise ValueError(f"{value!r} is not auto, manual, true or false")


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(f"{value!r} is not a count")
    return value


def _score(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return value


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _repo_id(value: Any) -> str:
    if not isinstance(value, str) or value.count("/") != 1:
        raise ValueError(f"{value!r} is not org/name")
    return value


def _commit(value: Any) -> str:
    if not isinstance(value, str) or not COMMIT.fullmatch(value):
        raise ValueError(f"{value!r} is not a 40-hex commit (quote it if it is all digits)")
    return value


_KEYS: dict[str, tuple[str, Any]] = {
    "gated": ("gated", _gated),
    "private": ("private", _flag),
    "disabled": ("disabled", _flag),
    "downloads": ("downloads", _count),
    "downloadsAllTime": ("downloads_all_time", _count),
    "likes": ("likes", _count),
    "trendingScore": ("trending_score", _score),
    "createdAt": ("created_at", _moment),
    "lastModified": ("last_modified", _moment),
    "renamed_to": ("renamed_to", _repo_id),
    "sha": ("sha", _commit),
}
