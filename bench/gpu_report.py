"""What bench/gpu.py found: gpu.json for programs and gpu.md for people."""

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import peft
import torch
import transformers


@dataclass(frozen=True)
class Run:
    """One engine at work on one pool of adapters.

    Attributes:
        engine: stacked, reference or published.
        precision: that was asked for.
        pool: of which adapters.
        source: where they came from, memory or disk.
        adapters: that were timed, without those of the warm-up.
        seconds: that they took.
        adapters_per_second: rate.
        share_of_roofline: FLOPs of the base's dense products that are needed, at this rate, over
            the matrix rate measured in the type of the products.
        low_rank_share: the same of the adapters' own products, beside it.
        set_up_seconds: until the engine was there.
        warm_up_seconds: of the call before those that were timed.
        peak_gb: most device memory that torch had allocated, 1e9 bytes; None on a CPU.
        cosine_median: of deltas to those of the stacked engine in fp32.
        cosine_min: the least of them.
        noise_floor: that the engine measured, the largest if there are several.
        signal_median: of deltas, over the noise floor.
        answered_in: precision → adapters, as `auto` computes some again in fp32.
    """

    engine: str
    precision: str
    pool: str
    source: str
    adapters: int
    seconds: float
    adapters_per_second: float
    share_of_roofline: float | None = None
    low_rank_share: float | None = None
    set_up_seconds: float | None = None
    warm_up_seconds: float | None = None
    peak_gb: float | None = None
    cosine_median: float | None = None
    cosine_min: float | None = None
    noise_floor: float | None = None
    signal_median: float | None = None
    answered_in: dict[str, int] = field(default_factory=dict)

    def line(self) -> str:
        """The run in a line."""
        share = "" if self.share_of_roofline is None else f", {self.share_of_roofline:.1%} of roof"
        cosine = "" if self.cosine_min is None else f", cosine >= {self.cosine_min:.6f}"
        return (
            f"{self.engine} {self.precision}, {self.pool} from {self.source}: "
            f"{self.adapters_per_second:.2f} adapters/s{share}{cosine}"
        )


def machine(device: str) -> dict[str, str]:
    """What the figures depend on beside the code: names and versions, and the date."""
    on_gpu = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "CPUs": str(len(os.sched_getaffinity(0))),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "Python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }


_COLUMNS = {
    "engine": "engine",
    "precision": "precision",
    "pool": "adapters",
    "source": "from",
    "adapters_per_second": "adapters/s",
    "share_of_roofline": "share of roofline",
    "low_rank_share": "low-rank share",
    "peak_gb": "peak GB",
    "cosine_median": "median cosine to fp32",
    "cosine_min": "least",
    "noise_floor": "noise floor",
    "signal_median": "median signal",
    "set_up_seconds": "set-up s",
    "warm_up_seconds": "warm-up s",
}


@dataclass
class Report:
    """All that was found, as far as it was found.

    Attributes:
        machine: names and versions.
        settings: of the benchmark.
        work: FLOPs and tokens of one adapter.
        matrix_rates: precision → FLOP/s.
        runs: in their order.
        errors: section → what broke it, or why it was left out.
    """

    machine: dict[str, str]
    settings: dict[str, Any]
    work: dict[str, float] = field(default_factory=dict)
    matrix_rates: dict[str, float] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def find(self, engine: str, precision: str) -> Run | None:
        """The run of an engine on plain LoRA from memory."""
        plain = (run for run in self.runs if (run.pool, run.source) == ("LoRA", "memory"))
        return next((r for r in plain if (r.engine, r.precision) == (engine, precision)), None)

    def summary(self) -> dict[str, Any]:
        """The figures that count, None where they were not had."""
        auto, published = self.find("stacked", "auto"), self.find("published", "stored")
        return {
            "adapters_per_second": auto and auto.adapters_per_second,
            "share_of_roofline": auto and auto.share_of_roofline,
            "speedup_over_published": auto
            and published
            and auto.adapters_per_second / published.adapters_per_second,
            "cosine_min": auto and auto.cosine_min,
            "answered_in": auto and auto.answered_in,
            "errors": sorted(self.errors),
        }

    def write(self, folder: Path) -> None:
        """Write gpu.json and gpu.md."""
        content = asdict(self) | {"summary": self.summary()}
        (folder / "gpu.json").write_text(json.dumps(content, indent=1) + "\n")
        (folder / "gpu.md").write_text(self._markdown())

    def _markdown(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        rates = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in self.matrix_rates.items())
        lines = [
            f"`{self.settings.get('command', '')}`: {facts}.",
            "",
            f"Matrix rate at the model's shapes, TFLOP/s: {rates}. One adapter needs "
            + ", ".join(f"{value:.4g} {name}" for name, value in self.work.items())
            + ".",
            "",
            "| " + " | ".join(_COLUMNS.values()) + " |",
            "|" + "---|" * len(_COLUMNS),
        ]
        for run in self.runs:
            cells = (_cell(name, getattr(run, name)) for name in _COLUMNS)
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", *(f"- {name}: {text}" for name, text in self.errors.items())]
        return "\n".join(lines).rstrip() + "\n"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if "share" in name:
        return f"{value:.1%}"
    return f"{value:.6f}" if "cosine" in name else f"{value:.3g}"
