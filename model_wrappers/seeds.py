"""The harness's `--seed`, for our own random numbers."""

from __future__ import annotations

import torch
from lm_eval.defaults import DEFAULT_OTHER_SEED

TORCH_SEED = torch.default_generator.initial_seed()
"""torch's default seed."""


def harness_seed() -> dict[str, int]:
    """The argument `seed` with the value of the harness's `--seed`; empty where that is its default.

    The harness does not pass its seed to models, but seeds torch just before it makes one. Every text has
    a generator of its own, so the state of torch's generator does not matter.
    """
    seed = torch.initial_seed()
    return {} if seed in (DEFAULT_OTHER_SEED, TORCH_SEED) else {"seed": seed}
