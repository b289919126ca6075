"""What `hubdelta index` is asked to do, and whether it can be done."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubdelta.crawler.base_download import fetch_base_tokenizer
from hubdelta.crawler.hub import Hub
from hubdelta.indexer.probes import ALPACA_5, ProbeSet
from hubdelta.indexer.readout import PAPERS
from hubdelta.indexer.settings import IndexSettings
from hubdelta.jobs.targets import check_base, choose_base
from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterName
from hubdelta.schemas.kinds import LISTED, Kind


@dataclass(frozen=True)
class IndexRequest:
    """A request to `hubdelta index`.

    Attributes:
        base: ORG/NAME[@revision], or a local folder.
        names: adapters named by hand; if empty, the whole catalog.
        crawl: crawl first.
        full_crawl: walk everything, not only what is new.
        relations: which relations to crawl.
        kinds: which kinds of catalog rows to embed: adapter, full.
        limit: embed at most this many.
        retry_failed: retry earlier failures, due or not.
        probes: the prompts whose hidden states are compared.
    """

    base: AdapterName
    names: Sequence[AdapterName] = ()
    crawl: bool = True
    full_crawl: bool = False
    relations: tuple[str, ...] = LISTED
    kinds: Collection[str] = (Kind.ADAPTER,)
    limit: int | None = None
    retry_failed: bool = False
    probes: ProbeSet = ALPACA_5


def check_request(
    request: IndexRequest, settings: IndexSettings, *, index: Index, hub: Hub
) -> None:
    """Reject what cannot be done, before creating an index for it.

    At most one request, and those for the base's tokenizer where probes are given.

    Args:
        request: what to do.
        settings: how to do it.
        index: the index, which need not exist.
        hub: where to look for the base.

    Raises:
        UsageError: a base without a listing, not a base, a setting that does not work here, or a
            probe that the base cannot read whole.
        HubdeltaError: the base has no tokenizer that transformers can load.
        HubError: the Hub does not know the base, or does not answer.
    """
    if request.base.is_local and not request.names:
        raise UsageError("a base in a local folder has no listing: name the adapters to embed")
    if settings.engine == "vllm" or settings.device != "auto" or settings.precision == "tf32":
        from hubdelta.indexer.engines.routing import check_usable  # torch: only if needed

        check_usable(settings)
    check_base(request.base, index, hub)
    if request.probes.id != ALPACA_5.id or settings.readout != PAPERS:
        from hubdelta.indexer.pipeline.recipe_check import check_recipe

        folder = _base_description(request.base, index, hub)
        check_recipe(folder, request.probes, settings.readout)


def _base_description(name: AdapterName, index: Index, hub: Hub) -> Path:
    """A folder with the configuration and tokenizer of a base."""
    base, revision = choose_base(name, index, hub)
    return Path(base) if name.is_local else fetch_base_tokenizer(hub, base, revision)
