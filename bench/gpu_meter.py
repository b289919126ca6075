"""Timing an engine at work and judging its answers: one row of the report of bench/gpu.py."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gpu_report import Report, Run
from rates import synchronize
from synthetic import Kind, dense_flops, low_rank_flops

from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Answer, Engine, Result
from hubdelta.indexer.prefetch import one_ahead
from hubdelta.schemas.errors import AdapterError

Vector = npt.NDArray[np.float64]


class Meter:
    """Times engines and adds what it finds to a report.

    Args:
        device: where the engines run.
        seconds: that a measurement takes at least.
        report: gets a run for each.

    Attributes:
        truth: pool → place of an adapter in it → its delta in fp32, for comparison.
    """

    def __init__(self, device: torch.device, seconds: float, report: Report) -> None:
        self._device, self._seconds, self._report = device, seconds, report
        self.truth: dict[str, dict[int, Vector]] = {}

    def now(self) -> float:
        """Seconds, once the device has finished its work."""
        synchronize(self._device)
        return time.perf_counter()

    def measure(
        self,
        base: BaseModel,
        engine: Engine,
        precision: str,
        kind: Kind,
        calls: Iterator[list[PeftAdapter]],
        set_up: float,
        *,
        source: str = "memory",
    ) -> None:
        """Warm up with the first call, then time others until the seconds are over."""
        self.reset_peak()
        started = self.now()
        answers = answers_of(engine, next(calls))
        warm_up = self.now() - started
        adapters = 0
        started = self.now()
        # As the pipeline drives it: while a step is computed, the next one is made ready.
        with closing(one_ahead(step for call in calls for step in engine.steps(call))) as steps:
            for step in steps:
                adapters += len(_sound(engine.run(step)))
                if self.now() - started >= self._seconds:
                    break
            seconds = self.now() - started
        self.add(
            base,
            kind,
            {place: answer.delta for place, answer in answers.items()},
            engine=next(iter(answers.values())).baseline.engine,
            precision=precision,
            source=source,
            adapters=adapters,
            seconds=seconds,
            set_up_seconds=set_up,
            warm_up_seconds=warm_up,
            noise_floor=max(answer.baseline.noise_floor for answer in answers.values()),
            signal_median=float(np.median([answer.signal for answer in answers.values()])),
            answered_in=dict(Counter(a.baseline.precision for a in answers.values())),
        )

    def add(
        self, base: BaseModel, kind: Kind, deltas: Mapping[int, Vector], **figures: Any
    ) -> None:
        """Put a run into the report, with what follows from its figures."""
        per_second = figures["adapters"] / figures["seconds"]
        answered_in = figures["answered_in"]
        limit = self._report.matrix_rates.get(max(answered_in, key=answered_in.__getitem__))
        truth = self.truth.get(kind.name, {})
        cosines = [_cosine(deltas[place], truth[place]) for place in deltas.keys() & truth.keys()]
        low_rank = low_rank_flops(base, sum(kind.ranks) / len(kind.ranks))
        run = Run(
            pool=kind.name,
            adapters_per_second=per_second,
            share_of_roofline=per_second * dense_flops(base) / limit if limit else None,
            low_rank_share=per_second * low_rank / limit if limit else None,
            peak_gb=self._peak(),
            cosine_median=float(np.median(cosines)) if cosines else None,
            cosine_min=min(cosines, default=None),
            **figures,
        )
        self._report.runs.append(run)
        print(f"  {run.line()}", flush=True)

    def reset_peak(self) -> None:
        """Begin to watch device memory."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def _peak(self) -> float | None:
        if self._device.type != "cuda":
            return None
        return torch.cuda.max_memory_allocated(self._device) / 1e9


def answers_of(engine: Engine, adapters: Sequence[PeftAdapter]) -> dict[int, Answer]:
    """An engine's answers by the adapters' places; raises what the first failed adapter met."""
    return _sound(engine.answers(adapters))


def _sound(results: Iterable[Result]) -> dict[int, Answer]:
    answers = {}
    for place, result in results:
        if isinstance(result, AdapterError):
            raise result
        answers[place] = result
    return answers


def _cosine(a: Vector, b: Vector) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
