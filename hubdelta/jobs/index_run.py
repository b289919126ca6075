"""The nightly job: crawl a base's family, then embed what is new."""

import logging
import shutil
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from hubdelta.crawler.base_download import (
    fetch_base,
    fetch_base_config,
    fetch_base_tokenizer,
)
from hubdelta.crawler.crawl import crawl
from hubdelta.crawler.crawl_summary import CrawlProgress, CrawlSummary
from hubdelta.crawler.hub import Hub
from hubdelta.indexer.pipeline.plan import Plan, make_plan
from hubdelta.indexer.pipeline.progress import RunProgress
from hubdelta.indexer.pipeline.unchanged import keep_unchanged
from hubdelta.indexer.probes import ALPACA_5, ProbeSet
from hubdelta.indexer.readout import PAPERS
from hubdelta.indexer.recipe import FINAL_NORM, Recipe, is_encoder_decoder
from hubdelta.indexer.settings import IndexSettings
from hubdelta.jobs.derived import refresh_cache, refresh_clusters
from hubdelta.jobs.interrupt import stop_on_interrupt
from hubdelta.jobs.promotions import refresh_promotions
from hubdelta.jobs.targets import check_base, choose_base, find_named
from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.index import Index, new_run_id
from hubdelta.schemas.keys import AdapterName
from hubdelta.schemas.kinds import LISTED, Kind
from hubdelta.schemas.rows import CatalogRow, RunRow
from hubdelta.settings import versions

logger = logging.getLogger(__name__)


class Display(Protocol):
    """Shows the user how far a run has come."""

    def crawled(self, progress: CrawlProgress) -> None:
        """A page of a listing was read."""

    def planned(self, pending: int) -> None:
        """The number of adapters to embed is known."""

    def embedded(self, progress: RunProgress) -> None:
        """An adapter was finished."""


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


@dataclass
class IndexSummary:
    """How an index run ended.

    Attributes:
        base: the base, under its current name.
        base_revision: 40-hex commit of the base.
        run_id: the run's id in every row it made.
        outcome: done, interrupted or failed.
        embedded: vectors made and written.
        kept: vectors kept for a new commit, which changed none of the files they were made from.
        skipped: adapters skipped, by reason.
        failed: adapters that gave no vector, by reason.
        missing: the adapters named by hand that were not found.
        seconds: wall time of the whole run.
        adapters_per_second: embedded adapters per second of embedding, including loading of the
            base and all downloads.
        fetched_bytes: received from the Hub, without the base's files.
        needed_bytes: of these, what the vectors depend on, with headers and configs.
        resolves: file resolves for the adapters, which the Hub limits by account.
        busy: seconds in which each stage was busy.
        waited: seconds in which it was idle while adapters were pending.
        crawl: how the crawl ended, if there was one.
    """

    base: str
    base_revision: str
    run_id: str
    outcome: str = "failed"
    embedded: int = 0
    kept: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    seconds: float = 0.0
    adapters_per_second: float = 0.0
    fetched_bytes: int = 0
    needed_bytes: int = 0
    resolves: int = 0
    busy: dict[str, float] = field(default_factory=dict)
    waited: dict[str, float] = field(default_factory=dict)
    crawl: CrawlSummary | None = None


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


def run_index(
    request: IndexRequest,
    *,
    index: Index,
    hub: Hub,
    settings: IndexSettings,
    display: Display,
) -> IndexSummary:
    """Crawl, plan, embed, and record the outcome. The caller holds the index for writing.

    Raises:
        HubdeltaError: the run could not be completed; earlier results are kept in the index.
        KeyboardInterrupt: interrupted before anything was embedded, or twice.
    """
    started_at, started = datetime.now(UTC), time.monotonic()
    requests_before = hub.requests
    crawled = None
    if request.crawl and not request.names:
        crawled = crawl(
            index,
            hub,
            request.base.repo_id,
            relations=request.relations,
            full=request.full_crawl,
            on_page=display.crawled,
            versions=versions(),
        )
    present_name = crawled.base if crawled else request.base.repo_id
    base, revision = choose_base(replace(request.base, repo_id=present_name), index, hub)
    summary = IndexSummary(base, revision, new_run_id(started_at), crawl=crawled)
    run = _IndexRun(request, index, hub, settings, display, summary)
    try:
        used = run.run(started_at)
    except KeyboardInterrupt:
        summary.outcome = "interrupted"
        raise
    finally:
        summary.seconds = time.monotonic() - started
        row = _run_row(summary, started_at, hub.requests - requests_before)
        index.write([row], base=base)
    if summary.outcome == "done":
        refresh_clusters(index, base, run_id=summary.run_id, now=datetime.now(UTC))
        # The base's output layer takes the state after the final norm, and no other.
        if used is not None and used[0].layer == FINAL_NORM:
            recipe, folder = used
            refresh_promotions(
                index, base, recipe_id=recipe.id, base_folder=folder, run_id=summary.run_id
            )
        refresh_cache(index)
    return summary


@dataclass(frozen=True)
class _IndexRun:
    request: IndexRequest
    index: Index
    hub: Hub
    settings: IndexSettings
    display: Display
    summary: IndexSummary

    def run(self, now: datetime) -> tuple[Recipe, Path] | None:
        """Embed what is pending; the recipe, and the base's folder, if it was needed."""
        config = self._base_config()
        settings = self._settings(config.parent)
        recipe = Recipe.of(
            self.summary.base,
            self.summary.base_revision,
            self.request.probes,
            readout=settings.readout,
            encoder_decoder=is_encoder_decoder(config),
        )
        plan = make_plan(
            self.index,
            base=recipe.base,
            recipe_id=recipe.id,
            now=now,
            kinds=self.request.kinds,
            only=self._named() if self.request.names else None,
            retry_failed=self.request.retry_failed,
            limit=self.request.limit,
        )
        self.summary.skipped += plan.skipped
        resolves_before = self.hub.resolves
        left = keep_unchanged(
            plan,
            index=self.index,
            base=recipe.base,
            recipe_id=recipe.id,
            hub=self.hub,
            run_id=self.summary.run_id,
            workers=self.settings.workers,
        )
        self.summary.resolves = self.hub.resolves - resolves_before
        self.summary.kept = len(plan.pending) - len(left.pending)
        plan = left
        self.display.planned(len(plan.pending))
        if not plan.pending:
            self.summary.outcome = "done"
            return None
        base_folder = self._base_folder(recipe)
        stopped = self._embed(plan, recipe, base_folder, settings)
        self.summary.outcome = "interrupted" if stopped else "done"
        return recipe, base_folder

    def _named(self) -> list[CatalogRow]:
        found = find_named(
            self.request.names,
            self.summary.base,
            self.index,
            self.hub,
            self.summary.run_id,
            max_bytes=self.settings.disk_budget_bytes,
        )
        self.summary.failed.update(failure.reason for failure in found.failures)
        self.summary.missing += map(str, found.missing)
        return found.rows

    def _settings(self, base_folder: Path) -> IndexSettings:
        """The settings, with the layer counted from the start, as the recipe has it."""
        if self.settings.layer is None:
            return self.settings
        from hubdelta.indexer.pipeline.recipe_check import counted_from_the_start

        layer = counted_from_the_start(base_folder, self.settings.readout).layer
        return replace(self.settings, layer=layer)

    def _embed(
        self, plan: Plan, recipe: Recipe, base_folder: Path, settings: IndexSettings
    ) -> bool:
        """Embed the plan; true if it was stopped."""
        from hubdelta.indexer.pipeline.run import (
            embed_plan,  # torch: only when there is work for it
        )

        downloads = self.index.root / "downloads"
        self._clear(downloads)
        if not self.settings.keep_downloads:
            # Separate per run: a download of an interrupted run may still be in progress.
            downloads /= self.summary.run_id
        before, resolves_before = self.hub.bytes_received, self.hub.resolves
        progress = RunProgress(received=lambda: self.hub.bytes_received - before)
        try:
            with stop_on_interrupt() as stop:
                embed_plan(
                    plan,
                    recipe=recipe,
                    probes=self.request.probes,
                    base_folder=base_folder,
                    index=self.index,
                    hub=self.hub,
                    settings=settings,
                    downloads=downloads,
                    run_id=self.summary.run_id,
                    stop=stop,
                    progress=progress,
                    on_progress=self.display.embedded,
                )
                return stop.is_set()
        finally:
            self._clear(self.index.root / "downloads")
            self.summary.embedded = progress.embedded
            self.summary.failed.update({str(why): n for why, n in progress.failed.items()})
            self.summary.adapters_per_second = progress.adapters_per_second
            self.summary.fetched_bytes = progress.received()
            self.summary.resolves += self.hub.resolves - resolves_before
            self.summary.needed_bytes = progress.needed_bytes
            self.summary.busy = progress.stages.busy
            self.summary.waited = progress.stages.waited

    def _base_config(self) -> Path:
        base = self.summary.base
        if self.request.base.is_local:
            return Path(base) / "config.json"
        return fetch_base_config(self.hub, base, self.summary.base_revision)

    def _base_folder(self, recipe: Recipe) -> Path:
        if self.request.base.is_local:
            return Path(recipe.base)
        logger.info("loading the base %s", recipe.base)
        return fetch_base(self.hub, recipe.base, recipe.base_revision)

    def _clear(self, downloads: Path) -> None:
        """Remove what a run, perhaps a killed one, left behind."""
        if not self.settings.keep_downloads:
            shutil.rmtree(downloads, ignore_errors=True)


def _run_row(summary: IndexSummary, started_at: datetime, requests: int) -> RunRow:
    counts = {
        "embedded": summary.embedded,
        "kept": summary.kept,
        "skipped": summary.skipped.total(),
        "failed": summary.failed.total(),
    }
    return RunRow(
        run_id=summary.run_id,
        kind="index",
        base=summary.base,
        base_revision=summary.base_revision,
        outcome=summary.outcome,
        started_at=started_at,
        seconds=summary.seconds,
        requests=requests,
        resolves=summary.resolves,
        fetched_bytes=summary.fetched_bytes,
        needed_bytes=summary.needed_bytes,
        busy=summary.busy,
        waited=summary.waited,
        counts=counts | {f"failed:{reason}": n for reason, n in summary.failed.items()},
        marks={},
        versions=versions(),
    )
