"""The base model that the user names: its current name and commit, and whether it can be a base."""

import logging
from typing import NamedTuple

from huggingface_hub.errors import RevisionNotFoundError

from hubdelta.crawler.adapter_files import adapters_in, has_model_weights
from hubdelta.crawler.entry import Entry, is_repo_id
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.hub_errors import HUB_FAILURES, hub_error, is_hidden, refused_token
from hubdelta.schemas.errors import HubError, NotABaseError

logger = logging.getLogger(__name__)

_CONFIG = "config.json"


class BaseModel(NamedTuple):
    """A base model at one commit, under its current name on the Hub.

    Attributes:
        repo_id: ORG/NAME.
        revision: 40-hex commit.
        model_type: its architecture, as config.json names it, if the Hub reports it.
        weights: its weight files in all their forms, as paths inside the repository.
    """

    repo_id: str
    revision: str
    model_type: str | None
    weights: tuple[str, ...]


def find_base(hub: Hub, base: str, revision: str | None = None) -> BaseModel:
    """The base's current name and commit: one request.

    Raises:
        HubError: no such model, offline, no network, or a refused token.
        NotABaseError: it is an adapter, or holds no model that transformers can load.
    """
    unknown = HubError(
        f"{base} is not at {hub.endpoint}, or is hidden: check its name; "
        "a private or gated one needs HF_TOKEN"
    )
    if not is_repo_id(base):
        raise unknown
    try:
        entry = hub.model(base, revision)
    except HUB_FAILURES as error:
        if not is_hidden(error):
            raise hub_error(error, hub.endpoint) from error
        if isinstance(error, RevisionNotFoundError):
            raise HubError(f"{base} has no revision {revision} at {hub.endpoint}") from error
        raise (refused_token(hub.endpoint) if hub.refuses_token() else unknown) from error
    _check_is_model(entry)
    if entry.repo_id.casefold() != base.casefold():
        logger.warning("%s is now called %s", base, entry.repo_id)
    weights = tuple(path for path in entry.files if has_model_weights([path]))
    return BaseModel(entry.repo_id, entry.sha, entry.model_type, weights)


def adapter_as_base(name: str, base: str | None) -> NotABaseError:
    """The error for an adapter that was named as a base.

    Args:
        name: the adapter.
        base: the model it was trained on, ORG/NAME, if it says so.
    """
    if base is None or not is_repo_id(base):
        return NotABaseError(
            f"{name} is an adapter, not a base model: name the model it was trained on"
        )
    return NotABaseError(f"{name} is an adapter of {base}, not a base model", base)


def _check_is_model(entry: Entry) -> None:
    """Reject what adapters cannot be applied to; a response without a file list passes."""
    is_model = _CONFIG in entry.files and has_model_weights(entry.files)
    named = [name for name in (entry.declared_base, *entry.bases, *entry.card_bases) if name]
    base = next(filter(is_repo_id, named), None)
    if not is_model and (entry.has_adapter_config or adapters_in(entry.files)):
        raise adapter_as_base(entry.repo_id, base)
    if not has_model_weights(entry.files) and any(f.endswith(".gguf") for f in entry.files):
        raise NotABaseError(
            f"{entry.repo_id} holds GGUF files only, which adapters cannot be applied to: "
            "name the model they were made from",
            base,
        )
    if entry.files and _CONFIG not in entry.files:
        raise NotABaseError(
            f"{entry.repo_id} holds no config.json, so transformers cannot load it as a model: "
            "check the name"
        )
