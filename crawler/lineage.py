"""Which base a repository belongs to, and by which evidence."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from huggingface_hub.errors import HfHubHTTPError

from hubdelta.crawler.adapter_files import adapters_in, has_model_weights
from hubdelta.crawler.base_names import (
    cached_name,
    folder_names,
    hub_name,
    plain_name,
    spelled_alike,
)
from hubdelta.crawler.entry import Entry, is_repo_id
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.hub_errors import is_hidden

Evidence = Literal["tag", "card", "peft_config", "mirror", "local_path"]


class Family:
    """A base with all the names under which adapters can name it.

    Attributes:
        base: the base's present name.
        mirrors: quantized or re-uploaded copies of it that can carry an adapter, in the order
            they were found.
    """

    def __init__(self, base: str, aliases: Iterable[str] = (), mirrors: Iterable[str] = ()) -> None:
        self.base = base
        self._own = {name.casefold(): name for name in (base, *aliases)}
        self._mirrors = {name.casefold(): name for name in mirrors}

    @property
    def mirrors(self) -> list[str]:
        """The mirrors, as the Hub spells them."""
        return list(self._mirrors.values())

    @property
    def names(self) -> list[str]:
        """Every name, the base's own first."""
        return [*self._own.values(), *self._mirrors.values()]

    def is_base(self, name: str) -> bool:
        """Whether the name is the base's; case does not count, on the Hub neither."""
        return name.casefold() in self._own

    def mirror(self, name: str) -> str | None:
        """The mirror of that name, as the Hub spells it."""
        return self._mirrors.get(name.casefold())

    def add_alias(self, name: str) -> None:
        """Remember another name of the base itself, such as the one before a renaming."""
        self._own[name.casefold()] = name

    def add_mirror(self, name: str) -> None:
        """Remember a copy of the base."""
        self._mirrors.setdefault(name.casefold(), name)

    def admits_mirror(self, entry: Entry) -> bool:
        """Whether a repository is a copy of the base that adapters can be trained on.

        That is: weights that are not an adapter's (so not GGUF alone), and tagged as quantized
        from the base or a mirror, or tagged as finetuned from one under the base's own name.
        """
        if not any(self.is_base(name) or self.mirror(name) for name in entry.bases):
            return False
        if entry.has_adapter_config or adapters_in(entry.files) or self.is_base(entry.repo_id):
            return False
        copied = entry.relation == "quantized" or (
            entry.relation == "finetune" and plain_name(entry.repo_id) == plain_name(self.base)
        )
        return copied and has_model_weights(entry.files)


class Conclusion(NamedTuple):
    """The base of a repository.

    Attributes:
        canonical_base: its present name; another than the family's where adapter_config.json
            contradicts what the tags say.
        evidence: what it rests on.
        via: the mirror that the repository names, if it names one.
    """

    canonical_base: str
    evidence: Evidence
    via: str | None = None


Resolve = Callable[[str], Conclusion | None]


def conclude(entry: Entry, family: Family, resolve: Resolve) -> Conclusion | None:
    """The base of a repository, or None where nothing links it to this family.

    The word of adapter_config.json, which is what the weights were trained on, goes over that of
    the tags wherever it can be read as a name on the Hub.

    Args:
        entry: the repository.
        family: the base and its mirrors.
        resolve: asks the Hub which base an unknown name is; None where it does not know it.
    """
    tagged = _name_in(entry.bases, family, "tag")
    linked = tagged or _name_in(entry.card_bases, family, "card")
    written = entry.declared_base or ""
    declared = hub_name(written)
    if linked is None:
        return _unlinked(entry, declared, family)
    name = declared or cached_name(written) or (written if _is_bare_name(written) else None)
    if name is None:
        return linked
    named = _name_in([name], family, "peft_config")
    if named is not None:
        return linked if named.via is None or linked.via else named._replace(evidence="mirror")
    resolved = resolve(name)
    hidden = resolved is None and is_repo_id(name)
    if hidden and plain_name(name) != plain_name(family.base):
        # A hidden model of another name is another base: a private merge, say. One of the same
        # name is most likely a private copy of this base.
        return Conclusion(name, "peft_config")
    if resolved is None or (resolved.canonical_base == family.base and resolved.via is None):
        return linked
    return resolved


def _unlinked(entry: Entry, declared: str | None, family: Family) -> Conclusion | None:
    """The base of a repository whose tags and card do not name the family."""
    if named := _name_in([declared] if declared else [], family, "peft_config"):
        return named
    named_bases = (*entry.bases, *entry.card_bases)
    if declared or any(map(hub_name, named_bases)):
        return None
    for path in filter(None, (entry.declared_base, *named_bases)):
        if found := _by_path(path, family):
            return found
    return None


class DeclaredNames:
    """Answers which base a declared name is, with one request for each name.

    Args:
        hub: whom to ask.
        family: the base and its mirrors; a name that turns out to be the base's is added.
        known: what the Hub answered in earlier crawls, by declared name.
    """

    def __init__(
        self, hub: Hub, family: Family, known: Mapping[str, Conclusion] | None = None
    ) -> None:
        self.family = family
        self._hub = hub
        self._answers: dict[str, Conclusion | None] = {}
        for name, answer in (known or {}).items():
            self._answers[name.casefold()] = answer
            if answer.canonical_base == family.base and answer.via is None:
                family.add_alias(name)

    def __call__(self, name: str) -> Conclusion | None:
        """The base behind a name; None where the Hub does not show it.

        Raises:
            HfHubHTTPError, httpx.HTTPError: the Hub does not answer.
        """
        folded = name.casefold()
        if folded not in self._answers:
            self._answers[folded] = self._ask(name)
        return self._answers[folded]

    def _ask(self, name: str) -> Conclusion | None:
        try:
            entry = self._hub.model(name)
        except HfHubHTTPError as error:
            # 400: what looks like a name to us does not to the Hub.
            if is_hidden(error) or error.response.status_code == 400:
                return None
            raise
        except ValueError:
            return None
        if self.family.is_base(entry.repo_id):
            self.family.add_alias(name)
            return Conclusion(self.family.base, "tag")
        if self.family.mirror(entry.repo_id) or self.family.admits_mirror(entry):
            return Conclusion(self.family.base, "mirror", entry.repo_id)
        return Conclusion(entry.repo_id, "peft_config")


def _name_in(names: Iterable[str], family: Family, evidence: Evidence) -> Conclusion | None:
    """The first name that is the base's; failing that, the first that is a mirror's."""
    names = [hub_name(name) or name for name in names]
    if any(family.is_base(name) for name in names):
        return Conclusion(family.base, evidence)
    mirror = next(filter(None, map(family.mirror, names)), None)
    if mirror is None:
        return None
    return Conclusion(family.base, "mirror" if evidence == "tag" else evidence, mirror)


def _by_path(path: str, family: Family) -> Conclusion | None:
    """What a path tells: the model of a cache's folder, or one whose name a folder has."""
    if cached := cached_name(path):
        return _name_in([cached], family, "local_path")
    for spelled in folder_names(path):
        for name in family.names:
            owner, _, model = name.rpartition("/")
            if spelled_alike(spelled, model) or spelled_alike(spelled, f"{owner}-{model}"):
                return Conclusion(family.base, "local_path", family.mirror(name))
        if spelled_alike(plain_name(spelled), plain_name(family.base)):
            return Conclusion(family.base, "local_path")
    return None


def _is_bare_name(name: str) -> bool:
    # Names without an owner, such as gpt2, are older than owners; the Hub redirects them.
    return re.fullmatch(r"[\w-][\w.-]{0,95}", name, re.ASCII) is not None
