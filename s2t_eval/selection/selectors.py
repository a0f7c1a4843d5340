"""Selectors of the token at a fired step: by the teacher among the candidates, by its argmax, or locally."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from s2t_eval.selection.scores import Evidence, Score


class Selection(NamedTuple):
    """The outcome of a selection at some steps."""

    scores: Tensor
    """of all candidates, [fired, K]"""
    picked: Tensor
    """the selected token, [fired]"""
    teacher: Tensor | None = None
    """the teacher's argmax token, candidate or not, [fired]"""


@dataclass(frozen=True)
class TeacherSelector:
    """S2T: the candidate with the highest probability under the teacher, S(c) = p_L(c | s) (equation 2)."""

    def select(self, candidates: Tensor, teacher_logits: Tensor) -> Selection:
        """Select from candidates [fired, K]; of equal scores the first candidate is selected."""
        scores = _probabilities(candidates, teacher_logits)
        best = scores.argmax(-1, keepdim=True)
        return Selection(scores, candidates.gather(-1, best)[:, 0], teacher_logits.argmax(-1))


@dataclass(frozen=True)
class TakeoverSelector:
    """The teacher's own argmax over the whole vocabulary: the control of selection."""

    def select(self, candidates: Tensor, teacher_logits: Tensor) -> Selection:
        """Select the argmax; the candidates [fired, K] are only recorded and may not contain it."""
        best = teacher_logits.argmax(-1)
        return Selection(_probabilities(candidates, teacher_logits), best, best)


@dataclass(frozen=True)
class LocalSelector:
    """S2T-Local: the candidate with the highest score by the student itself; no teacher."""

    score: Score

    def select(self, candidates: Tensor, evidence: Evidence) -> Selection:
        """Select from candidates [fired, K]; of equal scores the first candidate is selected."""
        scores = self.score.score(evidence)
        best = scores.argmax(-1, keepdim=True)
        return Selection(scores, candidates.gather(-1, best.to(candidates.device))[:, 0])


def _probabilities(candidates: Tensor, logits: Tensor) -> Tensor:
    chosen = logits.gather(-1, candidates.to(logits.device))
    return torch.exp(chosen - logits.logsumexp(-1, keepdim=True))
