"""The positions of decode steps, which stay on the device from one step to the next."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from s2t_eval.engine.transfer import to_device


class StepPositions:
    """Positions of each row's next token; they are sent to the device only where rows changed.

    Args:
        device: of the model.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Lengths and positions change in one assignment, which Ctrl-C cannot split.
        self._last: tuple[list[int], Tensor] = ([], torch.empty(0, dtype=torch.long, device=device))

    def at(self, lengths: Sequence[int]) -> Tensor:
        """The positions on the device, [rows].

        Args:
            lengths: the same positions on the host.
        """
        last_lengths, positions = self._last
        if list(lengths) == [length + 1 for length in last_lengths]:
            positions = positions + 1
        else:
            positions = to_device(torch.tensor(lengths), self._device)
        self._last = (list(lengths), positions)
        return positions
