"""Which base a repository belongs to, and on what evidence."""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, Protocol

from hubdelta.crawler.base_names import (
    askable_name,
    cached_name,
    folder_names,
    hub_name,
    plain_name,
    spelled_alike,
)
from hubdelta.crawler.entry import is_repo_id

Evidence = Literal["tag", "card", "peft_config", "mirror", "local_path", "content"]


class BaseFamily:
    """A base and all the names by which adapters can refer to it.

    Attributes:
        base: the base's current name.
        mirrors: quantized or re-uploaded copies that adapters can be trained on, in the order they
            were found.
    """

    def __init__(self, base: str, aliases: Iterable[str] = (), mirrors: Iterable[str] = ()) -> None:
        self.base = base
        self._own = {name.casefold(): name for name in (base, *aliases)}
        self._mirrors = {name.casefold(): name for name in mirrors}
        self._namesakes: dict[str, str] = {}

    @property
    def mirrors(self) -> list[str]:
        """The mirrors, as the Hub spells them."""
        return list(self._mirrors.values())

    @property
    def own_names(self) -> list[str]:
        """The base's names, the current one first."""
        return list(self._own.values())

    @property
    def names(self) -> list[str]:
        """Every name, the base's own first."""
        return [*self._own.values(), *self._mirrors.values()]

    def is_base(self, name: str) -> bool:
        """Whether the name is the base's; case is ignored, as on the Hub."""
        return name.casefold() in self._own

    def mirror(self, name: str) -> str | None:
        """The mirror of that name, as the Hub spells it."""
        return self._mirrors.get(name.casefold())

    def add_alias(self, name: str) -> None:
        """Remember another name of the base itself, such as one from before a rename."""
        self._own[name.casefold()] = name

    def add_mirror(self, name: str) -> None:
        """Remember a copy of the base."""
        self._namesakes.pop(name.casefold(), None)
        self._mirrors.setdefault(name.casefold(), name)

    def namesake(self, name: str) -> str | None:
        """The finetune of that name that kept the base's own name, as the Hub spells it."""
        return self._namesakes.get(name.casefold())

    def add_namesake(self, name: str) -> None:
        """Remember a finetune that kept the base's name: it is a separate base."""
        self._mirrors.pop(name.casefold(), None)
        self._namesakes[name.casefold()] = name


class Conclusion(NamedTuple):
    """The base of a repository.

    Attributes:
        canonical_base: its current name; not the family's base if adapter_config.json contradicts
            the tags.
        evidence: what it is based on.
        via: the mirror that the repository names, if any.
    """

    canonical_base: str
    evidence: Evidence
    via: str | None = None


Resolve = Callable[[str], Conclusion | None]


class Claims(Protocol):
    """What a repository says about its base; `Entry` implements it."""

    @property
    def bases(self) -> tuple[str, ...]:
        """Base models by lineage tag."""

    @property
    def card_bases(self) -> tuple[str, ...]:
        """`base_model` of the card."""

    @property
    def declared_base(self) -> str | None:
        """`base_model_name_or_path` of adapter_config.json."""


def conclude(entry: Claims, family: BaseFamily, resolve: Resolve) -> Conclusion | None:
    """The base of a repository, or None if nothing links it to this family.

    adapter_config.json names what the weights were trained on, so it overrides the tags whenever it
    can be read as a name on the Hub.

    Args:
        entry: the repository.
        family: the base and its mirrors.
        resolve: asks the Hub which base an unknown name means; None if the Hub does not know it.
    """
    tagged = _name_in(entry.bases, family, "tag")
    linked = tagged or _name_in(entry.card_bases, family, "card")
    written = entry.declared_base or ""
    declared = hub_name(written)
    if linked is None:
        return _unlinked(entry, declared, family, resolve)
    name = askable_name(written)
    if name is None:
        return linked
    named = _name_in([name], family, "peft_config")
    if named is not None:
        return linked if named.via is None or linked.via else named._replace(evidence="mirror")
    if namesake := family.namesake(name):
        return Conclusion(namesake, "peft_config")
    resolved = resolve(name)
    hidden = resolved is None and is_repo_id(name)
    if hidden and plain_name(name) != plain_name(family.base):
        # A hidden model with a different name is another base, such as a private merge. One with
        # the same name is most likely a private copy of this base.
        return Conclusion(name, "peft_config")
    if resolved is None or (resolved.canonical_base == family.base and resolved.via is None):
        return linked
    return resolved


def _unlinked(
    entry: Claims, declared: str | None, family: BaseFamily, resolve: Resolve
) -> Conclusion | None:
    """The base of a repository whose tags and card do not name the family."""
    if named := _name_in([declared] if declared else [], family, "peft_config"):
        return named
    tagged = [name for name in map(hub_name, (*entry.bases, *entry.card_bases)) if name]
    for name in dict.fromkeys([declared, *tagged] if declared else tagged):
        evidence: Evidence = "peft_config" if name == declared else "tag"
        if namesake := family.namesake(name):
            return Conclusion(namesake, evidence)
        # A name that differs from the base's only in its owner may be an untagged copy's.
        found = resolve(name) if plain_name(name) == plain_name(family.base) else None
        if found is not None and found.canonical_base == family.base:
            return found
        if found is not None:
            namesake = family.namesake(found.canonical_base)
            return Conclusion(namesake, evidence) if namesake else None
    if tagged or (declared and plain_name(declared) != plain_name(family.base)):
        return None
    for path in filter(None, (entry.declared_base, *entry.bases, *entry.card_bases)):
        if found := _by_path(path, family):
            return found
    return None


def _name_in(names: Iterable[str], family: BaseFamily, evidence: Evidence) -> Conclusion | None:
    """The first name that is the base's, or else the first that is a mirror's."""
    names = [hub_name(name) or name for name in names]
    if any(family.is_base(name) for name in names):
        return Conclusion(family.base, evidence)
    mirror = next(filter(None, map(family.mirror, names)), None)
    if mirror is None:
        return None
    return Conclusion(family.base, "mirror" if evidence == "tag" else evidence, mirror)


def _by_path(path: str, family: BaseFamily) -> Conclusion | None:
    """The base according to a path: by its cache folder, or by a folder with a model's name."""
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
