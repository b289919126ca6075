"""From the hidden states of a probe's tokens to one state."""

import torch

from hubdelta.indexer.readout import Readout


def pooled(
    states: torch.Tensor, readout: Readout, ends: torch.Tensor | None = None
) -> torch.Tensor:
    """One state for each row, [rows, hidden].

    Args:
        states: hidden states [rows, tokens, hidden].
        readout: how to pool them.
        ends: position of each row's last token, int64 [rows]; padding after it does not count.
            None if it is the row's last position.
    """
    if readout.pooling == "last":
        if ends is None or states.shape[1] == 1:
            return states[:, -1]
        return states[torch.arange(len(states), device=states.device), ends]
    if ends is None:
        return states.mean(dim=1)
    places = torch.arange(states.shape[1], device=states.device)
    padding = (places > ends[:, None])[..., None]
    return states.masked_fill(padding, 0).sum(dim=1) / (ends[:, None] + 1)
