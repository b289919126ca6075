"""Catalog rows of adapters that the user names, without a crawl."""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from threading import Lock
from typing import NamedTuple

from huggingface_hub.errors import RevisionNotFoundError

from hubdelta.crawler.adapter_files import adapters_in, models_in, steps_in
from hubdelta.crawler.base import find_base
from hubdelta.crawler.catalog import Sighting, contents, is_adapter_repo, named_rows
from hubdelta.crawler.entry import Entry, is_repo_id
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.hub_errors import HUB_FAILURES, adapter_error, is_hidden, refused_token
from hubdelta.crawler.lineage import BaseFamily, Conclusion, conclude
from hubdelta.crawler.mirrors import Mirrors
from hubdelta.crawler.resolution import DeclaredNames
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterName
from hubdelta.schemas.rows import CatalogRow

logger = logging.getLogger(__name__)


def describe(hub: Hub, name: AdapterName, base: str, *, run_id: str = "") -> list[CatalogRow]:
    """The rows of a named adapter at its revision's current commit.

    If the name has no subfolder and nothing is at the root, there is a row for each folder with an
    adapter or whole model. The user's choice of base holds unless adapter_config.json names another
    model. One request, and a few more in that case.

    Args:
        hub: where to ask.
        name: an adapter on the Hub, not a local folder.
        base: the base's current name, or a local folder.
        run_id: for the rows.

    Raises:
        AdapterError: not_found, no_weights (no adapter in that folder), disabled or network.
        HubError: offline, or a refused token.
    """
    if not is_repo_id(name.repo_id):
        raise AdapterError(Reason.NOT_FOUND, f"{name}: not a name that the Hub allows")
    try:
        entry, name = _entry(hub, name)
        conclusion = Conclusion(base, "tag") if name.subfolder else _conclusion(hub, entry, base)
    except HUB_FAILURES as error:
        if is_hidden(error) and hub.refuses_token():
            raise refused_token(hub.endpoint) from error
        raise adapter_error(error, "its metadata", name.repo_id, hub.endpoint) from error
    sighting = Sighting(base, run_id, datetime.now(UTC))
    found = contents(entry, name.subfolder)
    if not found:
        raise AdapterError(
            Reason.NO_WEIGHTS,
            f"{name}: no adapter in this folder; there is one in: {_folders(entry)}",
        )
    if at_root := [item for item in found if not item[1]]:
        found = at_root
    elif not name.subfolder:
        _log_folders(name, entry, [subfolder for _, subfolder, _ in found])
    return named_rows(entry, conclusion, sighting, found)


def _entry(hub: Hub, name: AdapterName) -> tuple[Entry, AdapterName]:
    """A repository, and the name of the adapter in it: an @ can be part of a folder's name."""
    try:
        return hub.model(name.repo_id, name.revision), name
    except RevisionNotFoundError as error:
        whole = AdapterName(name.repo_id, f"{name.subfolder}@{name.revision}")
        if name.subfolder and contents(entry := hub.model(name.repo_id), whole.subfolder):
            return entry, whole
        raise AdapterError(
            Reason.NOT_FOUND,
            f"{name.repo_id} has no revision {name.revision}: name a branch, a tag or a full "
            f"commit listed at {hub.endpoint}/{name.repo_id}/commits/main",
        ) from error


class DeclaredBases:
    """Resolves the base names in adapter_config.json files; thread-safe.

    Args:
        hub: where to ask: one request for each name, more for a mirror.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub, self._asking = hub, Lock()
        self._names: dict[str, DeclaredNames] = {}

    def resolve(self, declared: str, base: str) -> str:
        """The other model's current name if the declared name contradicts the base, or the base.

        An old name of the base does not contradict it; nor does the name of a mirror or hidden
        copy, or a path. Nothing contradicts a base that is a local folder.

        Args:
            declared: the declared name, as written.
            base: the base that the adapter is said to belong to.

        Raises:
            AdapterError: network.
            HubError: offline, or a refused token.
        """
        if not is_repo_id(base):
            return base
        try:
            with self._asking:
                names = self._names.setdefault(base, _declared_names(self._hub, base))
                found = conclude(_Tagged((base,), (), declared), names.family, names)
        except HUB_FAILURES as error:
            what, endpoint = f"its base {declared}", self._hub.endpoint
            raise adapter_error(error, what, declared, endpoint) from error
        return found.canonical_base if found else base


class _Tagged(NamedTuple):
    """An adapter tagged with a base, whose config may declare another."""

    bases: tuple[str, ...]
    card_bases: tuple[str, ...]
    declared_base: str


def _conclusion(hub: Hub, entry: Entry, base: str) -> Conclusion:
    vouched = Conclusion(base, "tag")
    if not is_repo_id(base) or not is_adapter_repo(entry):
        return vouched
    # The base counts as tagged, so that only adapter_config.json can contradict.
    entry = replace(entry, bases=(base,))
    names = _declared_names(hub, base)
    return conclude(entry, names.family, names) or vouched


def _declared_names(hub: Hub, base: str) -> DeclaredNames:
    family = BaseFamily(base)
    return DeclaredNames(hub, family, Mirrors(hub, family, lambda: find_base(hub, base)))


def _folders(entry: Entry) -> str:
    adapters = adapters_in(entry.files, checkpoints=True)
    folders = sorted(adapters | models_in(entry.files, checkpoints=True))
    return ", ".join(folder or "the root" for folder in folders) or "no folder"


def _log_folders(name: AdapterName, entry: Entry, taken: list[str]) -> None:
    """Log which folders a name without a subfolder was resolved to."""
    states = len(steps_in(adapters_in(entry.files, checkpoints=True))) or len(
        steps_in(models_in(entry.files, checkpoints=True))
    )
    newest = steps_in(taken) and states > len(taken)
    logger.warning(
        "%s has no weights at its root; taking %s%s",
        name,
        ", ".join(taken),
        f", the newest of {states} checkpoints" if newest else "",
    )
