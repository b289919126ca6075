"""How the probes become the rows of a pass: grouped by length, or all side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Rows:
    """Probes that share a pass.

    Attributes:
        places: which probes.
        ids: their tokens [probes, tokens].
        ends: position of each row's last token, [probes]; None if it is the row's last position.
    """

    places: tuple[int, ...]
    ids: torch.Tensor
    ends: torch.Tensor | None = None


@dataclass
class Ends:
    """Where the rows of the current pass end.

    Attributes:
        at: position of the last token, [rows]; None if it is the row's last position.
    """

    at: torch.Tensor | None = None

    def of(self, x: torch.Tensor) -> torch.Tensor:
        """Only the last token of each row: [rows, ..., tokens, features] with one token."""
        if self.at is None or x.shape[-2] == 1:
            return x[..., -1:, :]
        return torch.take_along_dim(x, self.at.view(-1, *[1] * (x.dim() - 1)), dim=-2)


def by_length(probes: Sequence[torch.Tensor]) -> tuple[Rows, ...]:
    """Probes grouped by length, without padding; the longest first."""
    lengths = sorted({probe.shape[1] for probe in probes}, reverse=True)
    groups = []
    for length in lengths:
        places = tuple(i for i, probe in enumerate(probes) if probe.shape[1] == length)
        groups.append(Rows(places, torch.cat([probes[place] for place in places])))
    return tuple(groups)


def side_by_side(probes: Sequence[torch.Tensor]) -> Rows:
    """All probes together, the shorter ones padded with their last token.

    Causal attention never sees the padding; other models' answers would change.
    """
    longest = max(probe.shape[1] for probe in probes)
    padded = [
        torch.cat([probe, probe[:, -1:].expand(1, longest - probe.shape[1])], dim=1)
        for probe in probes
    ]
    ends = torch.tensor([probe.shape[1] - 1 for probe in probes], device=probes[0].device)
    return Rows(tuple(range(len(probes))), torch.cat(padded), ends)
