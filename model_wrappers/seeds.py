"""The harness's `--seed`, for our own random numbers."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence

import torch
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.defaults import DEFAULT_OTHER_SEED

from s2t_eval.model_wrappers.registration import is_harness_command, is_option, options_and_values

GIVEN_SEEDS = 2**32
"""Seeds below this are taken as given. torch seeds itself with 64 random bits where nobody does."""


def harness_seed() -> dict[str, int]:
    """The argument `seed` with the value of the harness's `--seed`; empty where none was given.

    The harness does not pass its seed to models, but seeds torch just before it makes one, with 1234 where
    none was given: only its command line, or the file of its `--config`, tells that from `--seed 1234`. Every
    text has a generator of its own, so the state of torch's generator does not matter.

    Without a seed, as with `--seed None`, torch has a random one. A seed above 2^32 counts where the command
    line names it.
    """
    seed = torch.initial_seed()
    is_default = seed == DEFAULT_OTHER_SEED and not _names_seed(sys.argv)
    is_given = seed < GIVEN_SEEDS or any(str(seed) in word for word in sys.argv)
    return {"seed": seed} if is_given and not is_default else {}


def _names_seed(arguments: Sequence[str]) -> bool:
    """Whether a command line is one of lm_eval with the option `--seed`, or a `--config` with a seed."""
    if not is_harness_command(arguments):
        return False
    words = options_and_values(arguments)
    if any(is_option(word, "--seed", len("--se")) for word in words):
        return True
    files = [file for option, file in itertools.pairwise(words) if option in ("--config", "-C")]
    return any("seed" in EvaluatorConfig.load_yaml_config(file) for file in files[-1:])
