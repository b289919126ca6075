"""The nightly job: crawl a base's family, then embed what is new."""

import logging
import shutil
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from hubdelta.crawler.base_download import (
    fetch_base,
    fetch_base_config,
)
from hubdelta.crawler.crawl import crawl
from hubdelta.crawler.crawl_summary import CrawlProgress
from hubdelta.crawler.hub import Hub
from hubdelta.indexer.pipeline.plan import Plan, make_plan
from hubdelta.indexer.pipeline.progress import RunProgress
from hubdelta.indexer.pipeline.unchanged import keep_unchanged
from hubdelta.indexer.recipe import FINAL_NORM, Recipe, is_encoder_decoder
from hubdelta.indexer.settings import IndexSettings
from hubdelta.jobs.derived import refresh_cache, refresh_clusters
from hubdelta.jobs.index_request import IndexRequest
from hubdelta.jobs.index_summary import IndexSummary, run_row
from hubdelta.jobs.interrupt import stop_on_interrupt
from hubdelta.jobs.promotions import refresh_promotions
from hubdelta.jobs.targets import choose_base, find_named
from hubdelta.schemas.index import Index, new_run_id
from hubdelta.schemas.rows import CatalogRow
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
        row = run_row(summary, started_at, hub.requests - requests_before)
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
