"""Adapters of every kind made by PEFT, each with the activations that PEFT itself gives for it."""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import hypothesis
import numpy as np
import peft
import torch
from adapter_kinds import KINDS, Kind, is_tested
from families import Family, make_base, wrap_and_save
from hypothesis import strategies as st

from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.weights import read_tensors
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Activations
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.keys import AdapterKey


@dataclass(frozen=True)
class Made:
    """An adapter that PEFT made.

    Attributes:
        name: kind and settings, for messages.
        folder: where PEFT saved it.
        adapter: as read from there.
        expected: PEFT's own activations, [probes, hidden].
    """

    name: str
    folder: Path
    adapter: PeftAdapter
    expected: Activations


@dataclass(frozen=True)
class Pool:
    """A tiny base of a family and its adapters, each kind made when it is first asked for.

    Attributes:
        family: the base's architecture.
        folder: where the base and the adapters are kept.
    """

    family: Family
    folder: Path
    _made: dict[str, tuple[Made, ...]] = field(default_factory=dict)

    @cached_property
    def base(self) -> BaseModel:
        folder = self.folder / "base"
        make_base(folder, model_type=self.family.model_type, **self.family.config)
        return BaseModel.load(folder, ALPACA_5)

    @cached_property
    def base_activations(self) -> Activations:
        return run(self.base.model, self.base.probes)

    def all_kinds(self) -> list[Made]:
        kinds = (kind for kind in KINDS if is_tested(self.family, kind))
        return [made for kind in kinds for made in self.made(kind)]

    def made(self, kind: Kind) -> tuple[Made, ...]:
        if kind.name not in self._made:
            self._made[kind.name] = tuple(
                self._make(kind, number, settings, dtype)
                for number, (settings, dtype) in enumerate(self._drawn(kind))
            )
        return self._made[kind.name]

    def _drawn(self, kind: Kind) -> list[tuple[dict[str, Any], torch.dtype]]:
        shared = set.intersection(*(set(probe.flatten().tolist()) for probe in self.base.probes))
        return drawn(
            kind.draw(self.family, sorted(shared)),
            kind.examples,
            seed=crc32(f"{self.family} {kind}".encode()),
        )

    def _make(self, kind: Kind, number: int, settings: dict[str, Any], dtype: torch.dtype) -> Made:
        folder = self.folder / f"{kind.name} {number}"
        kind.config(**copy.deepcopy(settings)).save_pretrained(folder)
        with warnings.catch_warnings():
            # PEFT says what is unusual about a config, which is what these are about.
            warnings.simplefilter("ignore")
            wrapped = wrap_and_save(
                folder,
                copy.deepcopy(self.base.model),
                peft.PeftConfig.from_pretrained(folder),
                base_name=str(self.base.folder),
                seed=number,
                scale=kind.scale,
                dtype=dtype,
            )
            # The rest of what PeftModel.from_pretrained does, once it has read the config and
            # made the modules.
            wrapped.load_adapter(folder, "default")
            expected = run(wrapped.eval(), self.base.probes)
        return Made(f"{kind} {settings} in {dtype}", folder, read_adapter(folder), expected)

    def load(self, folder: Path) -> peft.PeftModel:
        """A saved adapter on a copy of the base, as PEFT loads it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # see _make
            return peft.PeftModel.from_pretrained(copy.deepcopy(self.base.model), folder).eval()


def drawn(strategy: st.SearchStrategy[Any], count: int, *, seed: int) -> list[Any]:
    """So many examples, the same at every call; not the simplest, which hypothesis tries first."""
    examples: list[Any] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count + 1, deadline=None, database=None, phases=[hypothesis.Phase.generate]
    )
    @hypothesis.given(strategy)
    def keep(example: Any) -> None:
        examples.append(example)

    keep()
    return examples[-count:]


def read_adapter(folder: Path) -> PeftAdapter:
    return PeftAdapter(
        AdapterKey(folder.as_posix(), "", "0" * 40),
        AdapterConfig.read(folder / "adapter_config.json"),
        read_tensors(sorted(folder.glob("adapter_model*"))),
        weight_bytes=0,
    )


@torch.inference_mode()
def run(model: torch.nn.Module, probes: Sequence[torch.Tensor]) -> Activations:
    """Each probe alone through transformers: the last hidden state where it is read, in fp32.

    That is at the last token, or at the token with which a decoder starts.
    """
    options: dict[str, Any] = {"output_hidden_states": True, "use_cache": False}
    states = "hidden_states"
    if model.config.is_encoder_decoder:
        options["decoder_input_ids"] = torch.tensor([[model.config.decoder_start_token_id]])
        states = "decoder_hidden_states"
    rows = [
        model(input_ids=probe, attention_mask=torch.ones_like(probe), **options)[states][-1][0, -1]
        for probe in probes
    ]
    return torch.stack(rows).numpy()


def relative_error(activations: Activations, expected: Activations) -> float:
    """The largest over the probes of ‖difference‖ / ‖expected‖."""
    difference = np.linalg.norm(activations.astype(np.float64) - expected, axis=1)
    return float((difference / np.linalg.norm(expected, axis=1)).max())


def relative_change(activations: Activations, base: Activations) -> float:
    """The smallest over the probes of ‖activations - base‖ / ‖activations‖."""
    change = np.linalg.norm(activations.astype(np.float64) - base, axis=1)
    return float((change / np.linalg.norm(activations, axis=1)).min())
