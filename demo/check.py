"""Measure the demo's adapters by the published method: do domains separate, do mixes add up?"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubdelta.demo.pool import MIXED, SINGLE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

logger = logging.getLogger(__name__)

# Delta Activations, arXiv 2509.04442: five paraphrases before one empty task.
PROBES = tuple(
    f"{lead}\n\n### Instruction:\nPlease provide a response. Input:Input.\n\n### Response:"
    for lead in (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.",
        "The task described below requires a response that completes the request accurately.",
        "Below is a description of a task. Provide a response that aligns with the requirements.",
        "The following instruction outlines a task. "
        "Generate a response that meets the specified request.",
        "You are given an instruction and input. "
        "Write a response that completes the task as requested.",
    )
)


def vectors_of(base: Path, hub: Path, adapters: Iterable[str]) -> dict[str, Vector]:
    """The Delta Activations [hidden] of adapters in a folder of repositories, by repository.

    Args:
        base: a transformers folder.
        hub: a folder with a folder for each repository.
        adapters: names of repositories.
    """
    activation = _Activation(base)
    origin = activation.of(None)
    return {name: activation.of(hub / name) - origin for name in adapters}


def findings(vectors: Mapping[str, Vector]) -> dict[str, Any]:
    """Silhouette of the single-domain adapters and the additivity of the mixed ones, JSON-ready.

    Keys: `silhouette` (cosine distance clipped to [0, 1], labels the domains);
    `separating_distances` [low, high): a graph that links adapters within a distance of that range
    has exactly the domains as its components; `norms`; `mixed`: for each mixed adapter, its cosines
    to the sum of the two adapters trained on the same splits (`sum_of_parts`, then each of the
    `parts`) and to the sum of the two domains' mean vectors (`sum_of_means`, then each of the
    `means`).

    Args:
        vectors: of all the demo's adapters, as `vectors_of` gives them.
    """
    import numpy as np
    from sklearn.metrics import silhouette_score

    labels = np.array([adapter.domains[0] for adapter in SINGLE])
    distance = _distances(np.stack([vectors[adapter.repo_id] for adapter in SINGLE]))
    within = labels[:, None] == labels[None, :]
    widest_link = max(
        _widest_link(distance[labels == domain][:, labels == domain]) for domain in set(labels)
    )
    part = {adapter.data[0]: vectors[adapter.repo_id] for adapter in SINGLE}
    mean = {
        domain: np.mean([vectors[a.repo_id] for a in SINGLE if a.domains[0] == domain], axis=0)
        for domain in set(labels)
    }
    mixed = {}
    for adapter in MIXED:
        mix = vectors[adapter.repo_id]
        parts = [part[piece] for piece in adapter.data]
        means = [mean[domain] for domain in adapter.domains]
        mixed[adapter.repo_id] = {
            "sum_of_parts": _cosine(mix, parts[0] + parts[1]),
            "parts": [_cosine(mix, one) for one in parts],
            "sum_of_means": _cosine(mix, means[0] + means[1]),
            "means": [_cosine(mix, one) for one in means],
        }
    return {
        "silhouette": round(float(silhouette_score(distance, labels, metric="precomputed")), 4),
        "separating_distances": [round(widest_link, 4), round(float(distance[~within].min()), 4)],
        "norms": {name: round(float(np.linalg.norm(v)), 2) for name, v in vectors.items()},
        "mixed": mixed,
    }


class _Activation:
    """Mean over probes of the last token's final hidden state, in fp32.

    Args:
        base: a transformers folder.
    """

    def __init__(self, base: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)
        tokenizer = AutoTokenizer.from_pretrained(base)
        self._probes = [
            tokenizer(probe, truncation=True, max_length=256, return_tensors="pt")
            for probe in PROBES
        ]
        self._model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()

    def of(self, adapter: Path | None) -> Vector:
        """The mean of an adapter, or of the base [hidden]; the base is restored afterwards."""
        from peft import PeftModel

        if adapter is None:
            return self._mean(self._model)
        wrapped = PeftModel.from_pretrained(self._model, adapter).eval()
        mean = self._mean(wrapped)
        self._model = wrapped.unload()
        return mean

    def _mean(self, model: Any) -> Vector:
        import numpy as np
        import torch

        states = []
        with torch.no_grad():
            for probe in self._probes:  # one at a time: a padded batch is another computation
                output = model(**probe, output_hidden_states=True, logits_to_keep=1)
                states.append(output.hidden_states[-1][0, -1].numpy())
        mean: Vector = np.mean(states, axis=0)
        return mean


def _distances(vectors: Vector) -> Vector:
    """Pairwise cosine distances [adapters, adapters], clipped to [0, 1]."""
    import numpy as np

    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distances: Vector = np.clip(1 - unit @ unit.T, 0, 1)
    np.fill_diagonal(distances, 0)
    return distances


def _widest_link(distances: Vector) -> float:
    """The smallest distance at which links up to that length connect all members."""
    import numpy as np

    reach = distances
    for stop in range(len(reach)):  # Floyd-Warshall; a path is as long as its longest link
        reach = np.minimum(reach, np.maximum(reach[:, stop, None], reach[None, stop, :]))
    return float(reach.max())


def _cosine(one: Vector, other: Vector) -> float:
    import numpy as np

    return round(float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other))), 4)
