"""The harness's `--seed`, for what we draw ourselves."""

from __future__ import annotations

import torch
from lm_eval.defaults import DEFAULT_OTHER_SEED

TORCH_SEED = torch.default_generator.initial_seed()
"""torch's own, where nobody has set one."""


def harness_seed() -> dict[str, int]:
    """The argument `seed` as the harness's `--seed` has it; nothing where that is its default.

    The harness gives its seed to no model, but to torch just before it makes one. Every text has a
    generator of its own, so the state of torch's does not matter.
    """
    seed = torch.initial_seed()
    return {} if seed in (DEFAULT_OTHER_SEED, TORCH_SEED) else {"seed": seed}
