"""What the environment says, read here and passed on to the rooms."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from hubdelta.schemas.errors import MissingExtraError

if TYPE_CHECKING:
    from hubdelta.crawler.hub import Hub

DEFAULT_INDEX: Final = Path("hubdelta-index")
"""The index that is meant where neither HUBDELTA_INDEX nor the user names one."""

_HUB: Final = "https://huggingface.co"

_LIBRARIES = ("huggingface_hub", "pyarrow", "duckdb", "torch", "transformers", "peft")

_EXTRAS = {
    "index": ("torch", "transformers", "peft", "safetensors"),
    "serve": ("starlette", "uvicorn", "yaml"),
    "evaluate": ("matplotlib",),
    "demo": ("torch", "transformers", "peft", "safetensors", "starlette", "uvicorn", "gguf"),
}


def open_hub() -> "Hub":
    """The Hub that HF_ENDPOINT, HF_TOKEN and HF_HOME point at; one for the process."""
    from hubdelta import __version__
    from hubdelta.crawler.hub import Hub, HubSettings

    return Hub(HubSettings(library_version=__version__))


def hub_url() -> str:
    """Where a page links repositories to: HF_ENDPOINT, if that is an address on the web.

    A user's name and password in it stay here.
    """
    try:
        parts = urlsplit(os.environ.get("HF_ENDPOINT", "").strip())
    except ValueError:
        return _HUB
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme not in ("http", "https") or not host:
        return _HUB
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")


def require_extra(command: str, extra: str) -> None:
    """Make sure that the packages of an extra are there, without importing them.

    Raises:
        MissingExtraError: one is not; the message says what to install.
    """
    if any(find_spec(module) is None for module in _EXTRAS[extra]):
        raise MissingExtraError(command, extra)


def versions() -> dict[str, str]:
    """Versions of hubdelta and of the libraries that it computes with, where installed."""
    from importlib.metadata import PackageNotFoundError, version  # slow to load

    from hubdelta import __version__

    found = {"hubdelta": __version__}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
