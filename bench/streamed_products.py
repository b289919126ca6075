"""Whether a streamed finetune would gain from products of differences: milliseconds per layer.

A finetune's weight W_f is used once, for the tokens of all probes. In fp32 that is one product. By
differences it is two, in bf16, W (x - x_b) and (W_f - W) x, and the base's weight is read as well.

    OMP_NUM_THREADS=1 python bench/streamed_products.py
"""

import json
from collections.abc import Callable
from time import perf_counter

import torch

_TOKENS = 225  # five probes of 45 tokens
_SHAPES = ((4096, 4096), (14336, 4096))  # of Llama-3.1-8B: q_proj and up_proj
_ROUNDS = 7


def _milliseconds(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The fastest of several rounds, in which the ways take turns."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            begin = perf_counter()
            way()
            best[name] = min(best[name], (perf_counter() - begin) * 1e3)
    return {name: round(found, 1) for name, found in best.items()}


def main() -> None:
    """Print a line of JSON for each shape."""
    for shape in _SHAPES:
        base, tuned = (torch.randn(shape, dtype=torch.bfloat16) for _ in range(2))
        states = torch.randn(_TOKENS, shape[1])
        apart = states - torch.randn_like(states)

        def at_once(states=states, tuned=tuned) -> torch.Tensor:
            return states @ tuned.float().T

        def by_differences(states=states, apart=apart, base=base, tuned=tuned) -> torch.Tensor:
            change = (tuned.float() - base.float()).bfloat16()
            return (apart.bfloat16() @ base.T).float() + (states.bfloat16() @ change.T).float()

        print(
            json.dumps(
                {"shape": shape} | _milliseconds({f.__name__: f for f in (at_once, by_differences)})
            )
        )


if __name__ == "__main__":
    main()
