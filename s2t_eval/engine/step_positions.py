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
        self._lengths: list[int] = []
        self._positions = torch.empty(0, dtype=torch.long, device=device)

    def at(self, lengths: Sequence[int]) -> Tensor:
        """The positions on the device, [rows].

        Args:
            lengths: the same positions on the host.
        """
        if list(lengths) == [length + 1 for length in self._lengths]:
            self._positions = self._positions + 1
        else:
            self._positions = to_device(torch.tensor(lengths), self._device)
        self._lengths = list(lengths)
        return self._positions
