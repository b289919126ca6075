"""What the host does for an adapter: from its file to a batch that is ready to launch.

    python bench/host.py [--adapters N] [--rounds N]

A Llama of Llama-3.1-8B's modules (32 layers, seven linear layers each) but a hundredth of its
width, so that copying takes next to nothing and what is left is the host's work for each adapter
and each tensor: opening its file, checking its config and header, finding the place of every
tensor, checking its numbers, and stacking. Adapters lie in memory (a folder in shared memory, if
there is one) and are all different. Nothing is launched; a pass is counted apart.

The last line is one JSON object: `host_ms_per_adapter` for a batch of one layout,
`mixed_host_ms_per_adapter` for one of eight layouts (ranks, targets, DoRA), each the least of all
rounds, the parts `inspect`, `read` and `stack` of both, `by_tensor`: stacking the same adapters
tensor by tensor, as is done with whatever was not read as a block, and `launches_per_pass`:
operations of torch in a pass over such a batch.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

# Before torch is loaded: threads that spin while they wait slow a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from rates import machine
from safetensors.torch import save_file
from synthetic import SIZES, TARGETS, make_base
from torch.utils._python_dispatch import TorchDispatchMode

from hubdelta.crawler.hub import Hub, HubSettings
from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.adapter_config import CONFIG_FILE
from hubdelta.indexer.adapters.compatibility import PREFIX
from hubdelta.indexer.adapters.loading import Obtainer
from hubdelta.indexer.adapters.local import describe_folder
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.process import keep_freed_memory, use_threads
from hubdelta.schemas.keys import AdapterName

SIZES["llama-8b-narrow"] = SIZES["llama-8b"] | {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 500,
}

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class Layout:
    """What adapters of one layout have in common."""

    rank: int = 4
    targets: tuple[str, ...] = TARGETS
    dora: bool = False


MIXED = (
    Layout(),
    Layout(rank=2),
    Layout(rank=8),
    Layout(targets=_ATTENTION),
    Layout(rank=2, targets=("q_proj", "v_proj")),
    Layout(rank=16, targets=_ATTENTION),
    Layout(dora=True),
    Layout(rank=2, targets=_ATTENTION, dora=True),
)


@dataclass
class Seconds:
    """Where the time of one round went."""

    inspect: float = 0.0
    read: float = 0.0
    stack: float = 0.0
    by_tensor: float = 0.0

    @property
    def total(self) -> float:
        """Of the round."""
        return self.inspect + self.read + self.stack


@dataclass
class _Launches(TorchDispatchMode):
    """Counts torch's operations."""

    count: int = field(default=0)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        self.count += 1
        return function(*arguments, **(options or {}))


def main() -> None:
    """Measure, print a table, and one line of JSON."""
    options = _options()
    use_threads(options.threads)
    keep_freed_memory()
    base = make_base("llama-8b-narrow", torch.device("cpu"))
    engine = StackedEngine(base)
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 (only looked for)
    figures: dict[str, Any] = {"machine": machine(), "adapters": options.adapters}
    with tempfile.TemporaryDirectory(dir=shared) as place:
        root = Path(place)
        obtainer = Obtainer(Hub(HubSettings()), base, root / "downloads", max_bytes=2**40)
        for name, layouts in (("", (Layout(),)), ("mixed_", MIXED)):
            pending = [
                _saved(root / f"{name}{number}", base, layouts[number % len(layouts)], number)
                for number in range(options.adapters)
            ]
            _launches(engine, _round(engine, obtainer, pending)[1])  # a first pass is checked more
            rounds = [_round(engine, obtainer, pending) for _ in range(options.rounds)]
            best = min((seconds for seconds, _ in rounds), key=lambda seconds: seconds.total)
            best.by_tensor = min(seconds.by_tensor for seconds, _ in rounds)
            per_adapter = {
                part: 1000 * getattr(best, part) / options.adapters
                for part in ("inspect", "read", "stack", "by_tensor", "total")
            }
            figures[f"{name}host_ms_per_adapter"] = per_adapter.pop("total")
            figures[f"{name}parts_ms"] = per_adapter
            sys.stdout.write(
                f"{name or 'one layout ':12} {figures[f'{name}host_ms_per_adapter']:6.3f} ms  "
                + "  ".join(f"{part} {ms:.3f}" for part, ms in per_adapter.items())
                + "\n"
            )
            if not name:
                figures["launches_per_pass"] = _launches(engine, rounds[-1][1])
    sys.stdout.write(json.dumps(figures) + "\n")


def _round(
    engine: StackedEngine, obtainer: Obtainer, pending: Sequence[Pending]
) -> tuple[Seconds, list[Any]]:
    """One round's times, and its batches."""
    seconds, adapters = Seconds(), list[PeftAdapter]()
    for each in pending:
        started = time.perf_counter()
        inspected = obtainer.inspect(each)
        then = time.perf_counter()
        obtainer.fetch(inspected)
        read = obtainer.read(inspected)
        if not isinstance(read, PeftAdapter):
            raise TypeError("a whole model was read")
        adapters.append(read)
        seconds.inspect += then - started
        seconds.read += time.perf_counter() - then
    started = time.perf_counter()
    if not all(engine.can_embed(adapter) for adapter in adapters):
        raise RuntimeError("the stacked engine refuses an adapter")
    batches = list(engine.steps(adapters))
    seconds.stack = time.perf_counter() - started
    single = [replace(each, tensors=dict(each.tensors)) for each in adapters]
    started = time.perf_counter()
    list(engine.steps(single))
    seconds.by_tensor = time.perf_counter() - started
    return seconds, batches


def _launches(engine: StackedEngine, batches: Sequence[Any]) -> int:
    """Operations in the last of a round's passes."""
    with _Launches() as seen:
        list(engine.run(batches[-1]))
    return seen.count


def _saved(folder: Path, base: BaseModel, layout: Layout, seed: int) -> Pending:
    """An adapter of random numbers as PEFT saves it, as a row of the catalog."""
    folder.mkdir()
    numbers = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (out_features, in_features) in base.shapes.items():
        if not name.endswith(layout.targets):
            continue
        shapes = {
            "lora_A.weight": (layout.rank, in_features),
            "lora_B.weight": (out_features, layout.rank),
        }
        if layout.dora:
            shapes["lora_magnitude_vector"] = (out_features,)
        for part, shape in shapes.items():
            random = torch.randn(shape, generator=numbers) * 0.01
            tensors[f"{PREFIX}{name}.{part}"] = random.to(torch.bfloat16)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "org/base",
        "r": layout.rank,
        "lora_alpha": layout.rank * (1 + seed % 3),
        "target_modules": list(layout.targets),
        "use_dora": layout.dora,
        "task_type": "CAUSAL_LM",
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    row = describe_folder(AdapterName(str(folder)), "org/base", run_id="bench")
    return Pending(row, 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--adapters", type=int, default=64, help="in a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
