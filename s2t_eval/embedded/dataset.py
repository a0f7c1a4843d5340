"""The splits of the task `s2t_arith`, generated on the fly: no network, no files."""

from __future__ import annotations

import functools
from dataclasses import asdict

from datasets import Dataset

from s2t_eval.embedded.arith import SPLIT_SIZES, make_split


def arith(**_metadata: object) -> dict[str, Dataset]:
    """The splits train, dev and test; lm_eval passes the task's metadata, which is not needed."""
    return {split: _dataset(split) for split in SPLIT_SIZES}


@functools.cache
def _dataset(split: str) -> Dataset:
    return Dataset.from_list([asdict(problem) for problem in make_split(split)])
