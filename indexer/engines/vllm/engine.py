"""The vLLM engine: several adapters per pass, on as many GPUs as the base needs."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
import torch

from hubdelta.indexer.adapters.adapter import Adapter, PeftAdapter
from hubdelta.indexer.adapters.peft_config import tensors_that_count
from hubdelta.indexer.base_structure import BaseStructure
from hubdelta.indexer.engines.base_model import BaseModel, tokenized
from hubdelta.indexer.engines.edits.edits import Edits
from hubdelta.indexer.engines.edits.reading import EditReader
from hubdelta.indexer.engines.engine import (
    Activations,
    Answer,
    Baseline,
    Engine,
    Result,
    attempt,
    distance,
    no_longer_works,
    noise_floor,
    not_finite,
    unexpected,
)
from hubdelta.indexer.engines.vllm.adapter_files import write_adapter
from hubdelta.indexer.engines.vllm.noise import idle, noise_in_delta
from hubdelta.indexer.engines.vllm.pooler import DTYPES, Pooler
from hubdelta.indexer.engines.vllm.support import (
    MODEL_TYPES,
    are_plain_factors,
    is_plain_lora,
    smallest_room,
)
from hubdelta.indexer.probes import ProbeSet
from hubdelta.schemas.errors import AdapterError, HubdeltaError, Reason, UsageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pass:
    """Adapters of one pass.

    Attributes:
        folder: holds their folders; deleted after the pass.
        folders: place of each adapter → its files for vLLM.
    """

    folder: Path
    folders: dict[int, Path]


class VllmEngine(Engine):
    """Plain LoRA adapters, several per pass, one per vLLM request.

    A process can have only one such engine at a time: vLLM keeps its device groups in globals.

    Args:
        folder: a transformers folder of the base. Only vLLM loads its weights.
        probes: the probe set.
        precision: fp32, tf32, fp16, bf16, or auto: what vLLM chooses for the stored dtype.
        tensor_parallel: GPUs that share each layer.
        max_rank: the largest rank accepted. vLLM pads every adapter to it.
        max_loras: adapters in a pass.
        gpu_memory: share of a GPU's memory that must be free; None for vLLM's default.

    Attributes:
        baseline: the base's own answer.

    Raises:
        MissingExtraError: vLLM is not installed.
        UsageError: the base is not one that vLLM computes exactly, or overflows in the precision;
            or there is no such precision, rank or number.
        HubdeltaError: vLLM cannot run the base.
    """

    name = "vllm"

    def __init__(
        self,
        folder: Path,
        probes: ProbeSet,
        *,
        precision: str = "auto",
        tensor_parallel: int = 1,
        max_rank: int = 128,
        max_loras: int = 8,
        gpu_memory: float | None = None,
    ) -> None:
        if precision not in DTYPES:
            raise UsageError(f"no precision {precision!r}: one of {', '.join(DTYPES)}")
        structure = BaseStructure.read(folder)
        if structure.model_type not in MODEL_TYPES:
            raise UsageError(
                f"vLLM's {structure.model_type} has not been compared with transformers': use the "
                f"stacked engine, or a base of {', '.join(sorted(MODEL_TYPES))}"
            )
        ids = tokenized(folder, probes)
        # Without weights: adapters are checked against names and shapes.
        base = BaseModel(folder, structure.model, structure.shapes, ids)
        self._base = base
        self._reader = EditReader(base, torch.unique(torch.cat(ids, dim=1)))
        self._max_loras, self._max_rank = max_loras, smallest_room(max_rank)
        self._pooler = Pooler(
            folder,
            structure.model.config,
            [row[0].tolist() for row in ids],
            precision=precision,
            tensor_parallel=tensor_parallel,
            max_loras=max_loras,
            max_rank=self._max_rank,
            gpu_memory=gpu_memory,
        )
        self._modules = self._pooler.lora_modules(list(structure.shapes))
        self._scratch = TemporaryDirectory(prefix="hubdelta-vllm-")
        self.baseline = self._measured()

    def can_embed(self, adapter: Adapter) -> bool:
        """Whether an adapter is only low-rank factors of layers that vLLM supports."""
        return (
            isinstance(adapter, PeftAdapter)
            and is_plain_lora(adapter.config)
            and are_plain_factors(
                tensors_that_count(adapter, self._base), self._modules, self._max_rank
            )
        )

    def steps(self, adapters: Sequence[Adapter]) -> Iterator[Result | _Pass]:
        """Write the files of the adapters of one pass at a time.

        Each adapter must be one that it can embed; one that cannot be read is a separate step.
        """
        for start in range(0, len(adapters), self._max_loras):
            folders: dict[int, Path] = {}
            together = Path(mkdtemp(dir=self._scratch.name))
            for place in range(start, min(start + self._max_loras, len(adapters))):
                write = partial(self._written, adapters[place], together / str(place))
                written = attempt(adapters[place].key, write)
                if isinstance(written, AdapterError):
                    yield place, written
                else:
                    folders[place] = written
            yield _Pass(together, folders)

    def run(self, step: Result | _Pass) -> Iterator[Result]:
        """Answer a pass.

        Raises:
            HubdeltaError: the base no longer answers as before.
        """
        if not isinstance(step, _Pass):
            yield step
            return
        try:
            results = self._results(step)
        except HubdeltaError:
            raise
        except Exception as error:
            raise no_longer_works(error) from error
        finally:
            shutil.rmtree(step.folder)
        yield from results

    def close(self) -> None:
        """Free the devices and the disk; otherwise this happens when the process ends."""
        self._pooler.close()
        self._scratch.cleanup()

    def _written(self, adapter: Adapter, folder: Path) -> Path:
        if not isinstance(adapter, PeftAdapter):
            raise AdapterError(Reason.UNSUPPORTED_ADAPTER, "vLLM takes adapters only")
        write_adapter(folder, self._reader.read(adapter), self._pooler.dtype)
        return folder

    def _results(self, step: _Pass) -> list[Result]:
        results: list[Result] = []
        loaded: dict[int, Any] = {}
        for place, folder in step.folders.items():
            request = attempt(folder, partial(self._pooler.load, folder), self._check)
            if isinstance(request, AdapterError):
                results.append((place, request))
            else:
                loaded[place] = request
        results += self._run_all(loaded)
        for request in loaded.values():
            self._pooler.unload(request)
        return results

    def _run_all(self, loaded: dict[int, Any]) -> Iterator[Result]:
        """Run the adapters together; if that fails or overflows, each alone."""
        if not loaded:
            return
        again: dict[int, Any] = {}
        try:
            states = self._pooler.states(list(loaded.values()))
        except Exception as error:
            logger.debug("a pass of %d adapters", len(loaded), exc_info=True)
            self._check(error)
            again, failure = loaded, unexpected(error)
        else:
            for (place, request), own in zip(loaded.items(), states, strict=True):
                if np.isfinite(own).all():
                    yield place, Answer(own, self.baseline)
                else:
                    again[place] = request
            failure = not_finite(self.baseline.precision)
            if again:
                # It affects others in this and later passes through the cache, where vLLM
                # multiplies values past a prompt's end by zero: NaN stays NaN.
                self._pooler.clear_cache()
        for place, request in again.items():
            if len(loaded) == 1:
                yield place, failure
            else:
                yield from self._run_all({place: request})

    def _is_sound(self) -> bool:
        self._pooler.forget_requests()
        self._pooler.clear_cache()
        now = self._pooler.states([None])[0]
        return distance(now, self.baseline.activations) <= self.baseline.noise_floor

    def _measured(self) -> Baseline:
        """The base alone, and how far its answers vary without any adapter's effect."""
        precision = self._pooler.precision
        alone = self._pooler.states([None])[0]
        if not np.isfinite(alone).all():
            raise UsageError(f"the base overflows in {precision}: use another precision")
        shapes = {module: self._base.shapes[module] for module in sorted(self._modules)}
        same = [*self._pooler.states([None] * self._max_loras), *self._run_edits([idle(shapes)])]
        eps = torch.finfo(self._pooler.dtype).eps
        noise = noise_in_delta(self._run_edits, alone, shapes, eps)
        floor = max(noise, noise_floor(alone, same))
        return Baseline(self.name, precision, alone, floor)

    def _run_edits(self, adapters: Sequence[Edits]) -> Activations:
        """States [adapters, probes, hidden] under generated adapters."""
        states = []
        for start in range(0, len(adapters), self._max_loras):
            with TemporaryDirectory(dir=self._scratch.name) as folder:
                loaded = []
                for number, edits in enumerate(adapters[start : start + self._max_loras]):
                    write_adapter(own := Path(folder) / str(number), edits, self._pooler.dtype)
                    loaded.append(self._pooler.load(own))
                states.append(self._pooler.states(loaded))
                for adapter in loaded:
                    self._pooler.unload(adapter)
        return np.concatenate(states)
