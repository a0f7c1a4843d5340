"""Tensors from the host to a device without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device.

    A copy from pageable memory waits until the GPU has done all its work; one from pinned memory is queued
    behind it.
    """
    if tensor.device.type == "cpu" and device.type == "cuda":
        return tensor.contiguous().pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
