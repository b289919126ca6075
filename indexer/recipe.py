"""The recipe: everything that two vectors must share to be comparable."""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256

from hubdelta.indexer.probes import ProbeSet

MAX_PROBE_TOKENS = 256
"""Probes are cut after this many tokens, as in the paper."""


@dataclass(frozen=True)
class Recipe:
    """How a vector is made, but for engine and precision, which must not change it.

    Attributes:
        base: ORG/NAME, or the absolute path of a local folder.
        base_revision: 40-hex commit of the base.
        probe_set: name of the probe set.
        probe_set_id: hash of its prompts.
        layer: where the hidden state is read: after the last layer and its final norm.
        token: at which token of each probe.
        pooling: how the probes' differences become one vector.
    """

    base: str
    base_revision: str
    probe_set: str
    probe_set_id: str
    layer: str = "final_norm"
    token: str = "last"  # noqa: S105 (a position, not a password)
    pooling: str = "mean"

    @classmethod
    def of(cls, base: str, base_revision: str, probes: ProbeSet) -> "Recipe":
        """The recipe of the paper for a base at a commit."""
        return cls(base, base_revision, probes.name, probes.id)

    @property
    def id(self) -> str:
        """Hash of all that matters, 16 hex digits; the probe set's name does not."""
        parts = {name: value for name, value in asdict(self).items() if name != "probe_set"}
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
