"""What the passes of a model runner return, and the count of its work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass
class Counters:
    """Work of a model: passes and tokens."""

    passes: int = 0
    tokens: int = 0


class Prefilled(NamedTuple):
    """The result of a prefill."""

    hidden: Tensor
    """hidden states at the last token of each text, [texts, hidden]"""
    computed: list[int]
    """tokens of each text that were computed, neither copied nor already cached"""


class CandidateStates(NamedTuple):
    """Hidden states at the ends of texts and at candidates appended to them."""

    hidden: Tensor
    """at the last token of each text, [texts, hidden]"""
    lanes: Tensor
    """at each candidate, [texts, K, hidden]"""
    computed: list[int]
    """tokens computed for each text, its candidates included"""
