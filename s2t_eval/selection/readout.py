"""The reserved rows that map a candidate's hidden state to a score (S2T-Local, section 4 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2t_eval.method_table import ScoreAs


@dataclass(frozen=True)
class Readout:
    """S(c) = v^T softmax(W h_c) with v = linspace(0, 1, bins): the expected bin.

    The rows are a matrix of their own instead of rows of the model's output head. So they cannot be
    generated as tokens, and the vocabulary needs no unused entries.

    Args:
        weight: the reserved rows W, [bins, hidden].
        score_as: "expected" is the paper's S in [0, 1]; "log_odds" is log S - log(1 - S), unbounded,
            so that a softmax over candidates can become as sharp as the labels are.

    Raises:
        ValueError: not a matrix of at least two rows, or an unknown `score_as`.
    """

    weight: Tensor
    score_as: ScoreAs = "expected"

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.weight.shape[0] < 2:
            raise ValueError(
                f"readout: expected a matrix [bins >= 2, hidden], got {tuple(self.weight.shape)}"
            )
        if self.score_as not in ("expected", "log_odds"):
            raise ValueError(f"score_as: expected 'expected' or 'log_odds', got {self.score_as!r}")

    def score(self, hidden: Tensor) -> Tensor:
        """Scores float32 [...] of candidates from their hidden states [..., hidden]."""
        logits = (hidden @ self.weight.to(hidden).T).float()
        values = torch.linspace(0, 1, self.weight.shape[0], device=logits.device)
        if self.score_as == "expected":
            # no matrix product: autocast (`train --precision bf16`) would compute it with three digits
            return (logits.softmax(-1) * values).sum(-1)
        # sum_b p_b v_b and its complement, in logs: exact where S is close to 0 or 1
        return (logits[..., 1:] + values[1:].log()).logsumexp(-1) - (
            logits[..., :-1] + (1 - values[:-1]).log()
        ).logsumexp(-1)
