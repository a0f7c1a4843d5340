"""How fast this machine multiplies a batch by the weights of a layer, measured."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MEASURED_SECONDS = 0.1


@dataclass(frozen=True)
class Product:
    """A matrix product: a batch against a layer's weights.

    Args:
        rows: of the batch.
        inputs, outputs: of the layer.
    """

    rows: int
    inputs: int = 1024
    outputs: int = 1024

    @property
    def multiplications(self) -> int:
        """Number of multiplications."""
        return self.rows * self.inputs * self.outputs

    def seconds(self, device: str, dtype: torch.dtype) -> float:
        """Seconds of the fastest of some products, the first ones left out."""
        import torch  # here, since the plan of a reproduction and `doctor` begin without it

        batch = torch.ones(self.rows, self.inputs, device=device, dtype=dtype)
        weights = torch.ones(self.outputs, self.inputs, device=device, dtype=dtype)
        best = float("inf")
        end = time.perf_counter() + MEASURED_SECONDS
        for number in range(1000):
            started = time.perf_counter()
            # Reading a value waits for the device.
            torch.nn.functional.linear(batch, weights)[0, 0].item()
            if number >= 2:
                best = min(best, time.perf_counter() - started)
            if number >= 4 and time.perf_counter() > end:
                break
        return best
