"""The files that the paper's release writes, with the same keys, so that notebooks read ours.

`results_summary.json` is that of its main experiment; the npz is that of its script for any list of
models.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PaperFiles:
    """What both files say.

    Attributes:
        base: ORG/NAME of the base, or a local folder.
        model_family: the base's architecture, as its config.json names it.
        models: the adapters, org/name[/subfolder] [n].
        embeddings: their Delta Activations, fp32 [n, hidden].
        silhouette: of their labels, with distance clip(1 - cos, 0, 1); None without labels.
        probe_set: name of the probe set.
        prompts: its probes.
    """

    base: str
    model_family: str
    models: Sequence[str]
    embeddings: NDArray[np.float32]
    silhouette: float | None
    probe_set: str
    prompts: Sequence[str]

    def write_npz(self, file: BinaryIO) -> None:
        """Write `embeddings` [n, hidden], `model_names` [n], `base_model` and `probe_info`.

        `probe_info` is JSON: the probe set's name and prompts. numpy.load reads all of it without
        pickle.
        """
        info = {"probe_set": self.probe_set, "prompts": list(self.prompts)}
        np.savez(
            file,
            allow_pickle=False,
            embeddings=self.embeddings,
            model_names=np.array(self.models, np.str_),
            base_model=np.array(self.base),
            probe_info=np.array(json.dumps(info, ensure_ascii=False)),
        )

    def write_summary(self, file: BinaryIO) -> None:
        """Write the summary as JSON."""
        summary = {
            "model_family": self.model_family,
            "base_model": self.base,
            "num_models_analyzed": len(self.models),
            "silhouette_score": self.silhouette,
            "model_paths": list(self.models),
        }
        file.write(json.dumps(summary, indent=2, ensure_ascii=False).encode() + b"\n")
