"""Adapters that a person names: their rows of the catalog, without a crawl."""

from dataclasses import replace
from datetime import UTC, datetime

from hubdelta.crawler.adapter_files import adapters_in
from hubdelta.crawler.base import find_base
from hubdelta.crawler.base_names import askable_name, plain_name
from hubdelta.crawler.catalog import Sighting, is_adapter_repo, named_row
from hubdelta.crawler.entry import Entry, is_repo_id
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.hub_errors import HUB_FAILURES, adapter_error, is_hidden, refused_token
from hubdelta.crawler.lineage import Conclusion, Family, conclude
from hubdelta.crawler.mirrors import Mirrors
from hubdelta.crawler.resolution import DeclaredNames
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterName
from hubdelta.schemas.rows import CatalogRow


def describe(hub: Hub, name: AdapterName, base: str, *, run_id: str = "") -> list[CatalogRow]:
    """The rows of a named adapter at the commit that its revision means now.

    A repository with adapters in several folders, of which none was named and none is at the
    root, gives a row for each. The person's word that it belongs to the base holds unless
    adapter_config.json names another model. One request, and some more in that case.

    Args:
        hub: where to ask.
        name: an adapter on the Hub, not a local folder.
        base: the base's present name, or a local folder.
        run_id: for the rows.

    Raises:
        AdapterError: not_found, no_weights (no adapter in that folder), disabled or network.
        HubError: offline, or a refused token.
    """
    if not is_repo_id(name.repo_id):
        raise AdapterError(Reason.NOT_FOUND, f"{name}: not a name that the Hub allows")
    try:
        entry = hub.model(name.repo_id, name.revision)
        conclusion = _conclusion(hub, entry, base)
    except HUB_FAILURES as error:
        if is_hidden(error) and hub.refuses_token():
            raise refused_token(hub.endpoint) from error
        raise adapter_error(error, "its metadata", name.repo_id, hub.endpoint) from error
    sighting = Sighting(base, run_id, datetime.now(UTC))
    found = adapters_in(entry.files, checkpoints=bool(name.subfolder))
    if name.subfolder:
        wanted = {folder: held for folder, held in found.items() if folder == name.subfolder}
        if not wanted:
            raise AdapterError(
                Reason.NO_WEIGHTS,
                f"{name}: no adapter in this folder; there is one in: {_folders(entry)}",
            )
    elif "" in found or not found:
        wanted = {"": found.get("", [])}
    else:
        wanted = found
    return [named_row(entry, conclusion, sighting, *item) for item in wanted.items()]


def base_behind(hub: Hub, declared: str, base: str) -> str:
    """Which base a name in an adapter_config.json stands for: one request, more for a mirror.

    Args:
        hub: where to ask.
        declared: the name, as written; a local path that leads through no cache says nothing.
        base: the base that the adapter is said to belong to, ORG/NAME or a local folder.

    Returns:
        `base` if the name is an old one of it, a mirror's, or that of a hidden copy, or cannot be
        asked for; otherwise the other model's present name.

    Raises:
        AdapterError: network.
        HubError: offline, or a refused token.
    """
    name = askable_name(declared)
    if name is None or not is_repo_id(base) or name.casefold() == base.casefold():
        return base
    try:
        answer = _declared_names(hub, base)(name)
    except HUB_FAILURES as error:
        raise adapter_error(error, f"its base {name}", name, hub.endpoint) from error
    if answer is not None:
        return answer.canonical_base
    return base if not is_repo_id(name) or plain_name(name) == plain_name(base) else name


def _conclusion(hub: Hub, entry: Entry, base: str) -> Conclusion:
    vouched = Conclusion(base, "tag")
    if not is_repo_id(base) or not is_adapter_repo(entry):
        return vouched
    # The base counts as tagged, so that only adapter_config.json can contradict.
    entry = replace(entry, bases=(base,))
    names = _declared_names(hub, base)
    return conclude(entry, names.family, names) or vouched


def _declared_names(hub: Hub, base: str) -> DeclaredNames:
    family = Family(base)
    return DeclaredNames(hub, family, Mirrors(hub, family, lambda: find_base(hub, base)))


def _folders(entry: Entry) -> str:
    folders = adapters_in(entry.files, checkpoints=True)
    return ", ".join(folder or "the root" for folder in folders) or "no folder"
