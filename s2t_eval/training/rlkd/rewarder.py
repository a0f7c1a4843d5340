"""The reward of a text: its structure and its final answer, weighted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from s2t_eval.training.rlkd.alignment import Aligner
from s2t_eval.training.rlkd.cost import JudgeCost
from s2t_eval.training.rlkd.problems import Grade, RlkdProblem, Text
from s2t_eval.training.rlkd.reward import structure_rewards
from s2t_eval.training.rlkd.settings import RlkdSettings
from s2t_eval.training.rlkd.structure import Structurer


class Reward(NamedTuple):
    """The reward of one text."""

    structure: float | None
    """None where the text could not be divided into steps, or where its weight is 0"""
    correct: float
    """1 for a right final answer, else 0"""


class Rewarder:
    """Rewards texts.

    Args:
        structurer: divides texts into steps.
        aligner: compares steps.
        grade: the task's answer rule.
        settings: weights and aggregation.
        judge_cost: what the prompted model of structurer and aligner costs; None: there is none.
    """

    def __init__(
        self,
        structurer: Structurer,
        aligner: Aligner,
        grade: Grade,
        settings: RlkdSettings,
        judge_cost: JudgeCost | None = None,
    ) -> None:
        self.structurer = structurer
        self.aligner = aligner
        self.grade = grade
        self.settings = settings
        self.judge_cost = judge_cost or JudgeCost()

    def rewards(
        self, problems: Sequence[RlkdProblem], groups: Sequence[Sequence[Text]]
    ) -> list[list[Reward]]:
        """The rewards of the texts of each problem."""
        numbered = [(p, text) for p, texts in zip(problems, groups, strict=True) for text in texts]
        structures: list[float | None] = [None] * len(numbered)
        if self.settings.structure_weight:
            structures = structure_rewards(
                self.structurer.structure(
                    [p.question for p, _ in numbered], [text.content for _, text in numbered]
                ),
                [p.steps for p, _ in numbered],
                self.aligner,
                self.settings.aggregate,
            )
        remaining = iter(structures)
        return [
            [Reward(next(remaining), correct) for correct in self.grade(problem, texts)]
            for problem, texts in zip(problems, groups, strict=True)
        ]

    def totals(self, group: Sequence[Reward]) -> list[float]:
        """The weighted reward of each text of a group.

        A text without a structure reward gets the mean of the others', so that it is neither preferred nor
        avoided for its structure.
        """
        scored = [reward.structure for reward in group if reward.structure is not None]
        mean = sum(scored) / len(scored) if scored else 0.0
        return [
            self.settings.structure_weight * (mean if reward.structure is None else reward.structure)
            + self.settings.correctness_weight * reward.correct
            for reward in group
        ]
