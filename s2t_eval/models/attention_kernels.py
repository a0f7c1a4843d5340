"""Which of torch's attention kernels a GPU uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_cudnn_attention() -> Iterator[None]:
    """Leave out cuDNN's attention on GPUs, in a forward pass and in its backward pass alike.

    It makes a plan for every new shape (0.44 s on a B200 with torch 2.11, FunASR issue 3704), and a pass over
    rows of different lengths nearly always has a new one. With a mask, and a length that is 64 above a
    multiple of 128, its backward pass gives NaN gradients of queries whose scores are all very negative,
    on an H100 (pytorch issue 196678). The 0.5B models of Qwen 2.5 have such heads.
    """
    was_enabled = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(was_enabled)
