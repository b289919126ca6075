"""Which base a declared name means, according to the Hub: each name is looked up once."""

from collections.abc import Callable, Mapping

from huggingface_hub.errors import HfHubHTTPError

from hubdelta.crawler.entry import Entry
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.hub_errors import is_hidden
from hubdelta.crawler.lineage import BaseFamily, Conclusion
from hubdelta.crawler.mirrors import Mirrors, Verdict


class DeclaredNames:
    """Looks up which base a declared name means, with one request per name.

    Args:
        hub: where to look.
        family: the base and its mirrors; a name that turns out to be the base's is added.
        mirrors: decides whether a model is a mirror of the base.
        known: what the Hub answered in earlier crawls, by declared name.
        on_mirror: called with each mirror that was in no listing.
    """

    def __init__(
        self,
        hub: Hub,
        family: BaseFamily,
        mirrors: Mirrors,
        known: Mapping[str, Conclusion] | None = None,
        on_mirror: Callable[[Entry, Verdict], None] | None = None,
    ) -> None:
        self.family = family
        self._hub, self._mirrors, self._on_mirror = hub, mirrors, on_mirror
        self._answers: dict[str, Conclusion | None] = {}
        for name, answer in (known or {}).items():
            self._answers[name.casefold()] = answer
            if answer.canonical_base == family.base and answer.via is None:
                family.add_alias(name)

    def __call__(self, name: str) -> Conclusion | None:
        """The base that a name means; None if the Hub does not show it.

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
            # 400: the Hub does not accept it as a name.
            if is_hidden(error) or error.response.status_code == 400:
                return None
            raise
        except ValueError:
            return None
        if self.family.is_base(entry.repo_id):
            self.family.add_alias(name)
            return Conclusion(self.family.base, "tag")
        if self.family.mirror(entry.repo_id):
            return Conclusion(self.family.base, "mirror", entry.repo_id)
        verdict = self._mirrors.judge(entry)
        if verdict is not None and verdict.is_mirror:
            if self._on_mirror is not None:
                self._on_mirror(entry, verdict)
            return Conclusion(self.family.base, "mirror", entry.repo_id)
        return Conclusion(entry.repo_id, "peft_config")
