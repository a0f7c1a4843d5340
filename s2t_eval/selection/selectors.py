"""What to pick at a fired step: the teacher's choice among candidates, its own, the student's score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from s2t_eval.selection.scores import Evidence, Score


class Selection(NamedTuple):
    """What a selector made of the candidates of some steps."""

    scores: Tensor
    """of all candidates, [fired, K]"""
    picked: Tensor
    """the token taken, [fired]"""
    teacher: Tensor | None = None
    """the teacher's own token, candidate or not, [fired]"""


@dataclass(frozen=True)
class TeacherSelector:
    """S2T: the candidate that the teacher finds most likely, S(c) = p_L(c | s) (equation 2)."""

    def select(self, candidates: Tensor, teacher_logits: Tensor) -> Selection:
        """Among equals the student's first wins."""
        scores = _probabilities(candidates, teacher_logits)
        best = scores.argmax(-1, keepdim=True)
        return Selection(scores, candidates.gather(-1, best)[:, 0], teacher_logits.argmax(-1))


@dataclass(frozen=True)
class TakeoverSelector:
    """The teacher's own argmax over the whole vocabulary: the control of selection."""

    def select(self, candidates: Tensor, teacher_logits: Tensor) -> Selection:
        """The candidates only serve the record; the token may be none of them."""
        best = teacher_logits.argmax(-1)
        return Selection(_probabilities(candidates, teacher_logits), best, best)


@dataclass(frozen=True)
class LocalSelector:
    """S2T-Local: the candidate with the highest score of the student's own; no teacher."""

    score: Score

    def select(self, candidates: Tensor, evidence: Evidence) -> Selection:
        """Pick from candidates [fired, K]; among equals the student's first wins."""
        scores = self.score.score(evidence)
        best = scores.argmax(-1, keepdim=True)
        return Selection(scores, candidates.gather(-1, best.to(candidates.device))[:, 0])


def _probabilities(candidates: Tensor, logits: Tensor) -> Tensor:
    chosen = logits.gather(-1, candidates.to(logits.device))
    return torch.exp(chosen - logits.logsumexp(-1, keepdim=True))
