"""The recipe: everything that two vectors must share to be comparable.

A vector is the mean over the probes of a hidden state's difference from the base's. Which hidden
state depends on the base alone:

- A decoder-only base reads the probe, with its tokenizer's default special tokens, and the state
  is that of the last token, after the last layer and the final norm (arXiv 2509.04442).
- An encoder-decoder base (T5, FLAN-T5, BART) reads the probe with its encoder, with its tokenizer's
  default special tokens (T5 ends it with </s>). The decoder gets one token,
  `decoder_start_token_id`, and the state is the decoder's at that token, after its last layer and
  its final norm: the state from which it would generate the first token of an answer.

A readout other than the paper's takes other states of a decoder-only base.
"""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from hubdelta.indexer.probes import ProbeSet
from hubdelta.indexer.readout import PAPERS, Readout
from hubdelta.schemas.errors import HubdeltaError

MAX_PROBE_TOKENS = 256
"""Probes are truncated to this many tokens, as in the paper."""


FINAL_NORM = "final_norm"
"""The layer of the paper: the last one, after its norm."""


@dataclass(frozen=True)
class Recipe:
    """How a vector is computed, except engine and precision, which must not change it.

    Attributes:
        base: ORG/NAME, or the absolute path of a local folder.
        base_revision: 40-hex commit of the base.
        probe_set: name of the probe set.
        probe_set_id: hash of its prompts.
        layer: where the hidden state is read: final_norm, after the last layer and its final norm;
            or after how many layers.
        token: at which token: last, the last of the probe; mean, the mean over its tokens; or
            decoder_start, the one at which the decoder starts.
        pooling: how the probes' differences become one vector.
    """

    base: str
    base_revision: str
    probe_set: str
    probe_set_id: str
    layer: str = FINAL_NORM
    token: str = "last"  # noqa: S105 (a position, not a password)
    pooling: str = "mean"

    @classmethod
    def of(
        cls,
        base: str,
        base_revision: str,
        probes: ProbeSet,
        *,
        readout: Readout = PAPERS,
        encoder_decoder: bool = False,
    ) -> "Recipe":
        """The recipe for a base at a commit; by default with the paper's readout.

        Args:
            base: ORG/NAME, or the absolute path of a local folder.
            base_revision: 40-hex commit of the base.
            probes: the probe set.
            readout: which hidden states of a probe count, its layer counted from the start; the
                paper's for an encoder-decoder.
            encoder_decoder: whether the base is one; see `is_encoder_decoder`.
        """
        token = "decoder_start" if encoder_decoder else readout.pooling
        layer = FINAL_NORM if readout.layer is None else str(readout.layer)
        return cls(base, base_revision, probes.name, probes.id, layer=layer, token=token)

    @property
    def id(self) -> str:
        """Hash of everything that matters, 16 hex digits; the probe set's name does not."""
        parts = {name: value for name, value in asdict(self).items() if name != "probe_set"}
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def is_encoder_decoder(config_file: Path) -> bool:
    """Whether a model's config.json says that it has an encoder and a decoder; needs no torch.

    Raises:
        HubdeltaError: the file cannot be read, or is not a config.json.
    """
    try:
        config = json.loads(config_file.read_bytes())
    except (OSError, ValueError) as error:
        raise HubdeltaError(f"{config_file} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise HubdeltaError(f"{config_file} does not hold a JSON object")
    return config.get("is_encoder_decoder") is True
