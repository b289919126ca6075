"""A base on which the vLLM engine and the reference engine must agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from families import Family, make_base

from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Answer
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.vllm.engine import VllmEngine
from hubdelta.indexer.probes import ALPACA_5

MAX_RANK = 16
MAX_LORAS = 4

LEAST_COSINE = 0.99999


@dataclass(frozen=True)
class Bench:
    """A base, and both engines with it."""

    folder: Path
    vllm: VllmEngine
    reference: ReferenceEngine

    def assert_agreement(self, adapters: Sequence[PeftAdapter]) -> None:
        """Both engines' vectors of each adapter point the same way, and are as long."""
        assert all(map(self.vllm.can_embed, adapters))
        given, wanted = dict(self.vllm.answers(adapters)), dict(self.reference.answers(adapters))
        assert given.keys() == wanted.keys() == set(range(len(adapters)))
        for place, adapter in enumerate(adapters):
            own, other = given[place], wanted[place]
            assert isinstance(own, Answer), (adapter.key, own)
            assert isinstance(other, Answer), (adapter.key, other)
            lengths = np.linalg.norm(own.delta), np.linalg.norm(other.delta)
            assert own.delta @ other.delta >= LEAST_COSINE * lengths[0] * lengths[1], adapter.key
            np.testing.assert_allclose(*lengths, rtol=1e-4)


class Benches:
    """Makes benches, one at a time, as a process has room for one vLLM engine; it takes seconds."""

    def __init__(self) -> None:
        self._now: tuple[tuple[Path, str], Bench] | None = None

    def on(self, folder: Path, precision: str = "fp32") -> Bench:
        """The bench of a base; the one before it can no longer be used."""
        if self._now is None or self._now[0] != (folder, precision):
            self.close()
            # vLLM first: the reference engine must work in a process that vLLM has changed.
            vllm = VllmEngine(
                folder, ALPACA_5, precision=precision, max_rank=MAX_RANK, max_loras=MAX_LORAS
            )
            reference = ReferenceEngine(BaseModel.load(folder, ALPACA_5))
            self._now = (folder, precision), Bench(folder, vllm, reference)
        return self._now[1]

    def close(self) -> None:
        """Shut the engine down that is running."""
        if self._now is not None:
            self._now[1].vllm.close()
            self._now = None


def small_base(folder: Path, family: Family, **config: Any) -> Path:
    """A tiny base whose attention heads have 32 dimensions: vLLM has kernels for few sizes."""
    sizes: dict[str, Any] = {"hidden_size": 128, "num_attention_heads": 4}
    own = dict(family.config)
    if "head_dim" in own:
        own |= {"head_dim": 32}
    return make_base(folder, model_type=family.model_type, **sizes | own | config)
