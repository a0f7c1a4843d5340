"""The structure reward of a text: how far its steps follow those of the reference."""

from __future__ import annotations

from collections.abc import Sequence

from s2t_eval.training.rlkd.alignment import Aligner, StepAgreement
from s2t_eval.training.rlkd.settings import Aggregate
from s2t_eval.training.rlkd.structure import SolutionStep

DISAGREEMENT = 0.5
"""Factor of a step's reward for a query, and another for an answer, that does not agree."""


def step_rewards(agreements: Sequence[StepAgreement]) -> list[float]:
    """The reward of each step: 1, halved for another query and halved for another answer.

    From the first step on that works on another sub-problem, all rewards are 0.

    Args:
        agreements: of the k-th step of the student with the k-th step of the reference, k = 1, 2, ...

    Example:
        >>> step_rewards([StepAgreement(True, True, False), StepAgreement(False, False, False)])
        [0.5, 0.0]
    """
    rewards, on_path = [], True
    for agreement in agreements:
        on_path = on_path and agreement.meta
        factors = (DISAGREEMENT ** (not agreement.query)) * (DISAGREEMENT ** (not agreement.answer))
        rewards.append(factors if on_path else 0.0)
    return rewards


def aggregated(rewards: Sequence[float], num_reference_steps: int, aggregate: Aggregate) -> float:
    """The structure reward of a text from those of its steps.

    Args:
        rewards: of the steps that student and reference both have.
        num_reference_steps: number of the reference's steps, at least 1.
        aggregate: `sum`, as published, or `mean`: divided by the number of the reference's steps, so that
            the structure of the reference gives 1.
    """
    return sum(rewards) / (num_reference_steps if aggregate == "mean" else 1)


def structure_rewards(
    structures: Sequence[list[SolutionStep] | None],
    references: Sequence[list[SolutionStep]],
    aligner: Aligner,
    aggregate: Aggregate,
) -> list[float | None]:
    """The structure reward of each text; None for a text that could not be divided into steps.

    Steps are paired by their position, as published: a step that is left out or inserted shifts all later
    ones. Further steps than the reference has are neither rewarded nor punished.

    Args:
        structures: steps of the student's texts.
        references: steps of the reference of each text's problem.
        aligner: compares the paired steps of all texts at once.
        aggregate: see `aggregated`.
    """
    pairs = [
        list(zip(steps or [], reference, strict=False))
        for steps, reference in zip(structures, references, strict=True)
    ]
    agreements = iter(aligner.align([pair for text_pairs in pairs for pair in text_pairs]))
    rewards: list[float | None] = []
    for steps, reference, text_pairs in zip(structures, references, pairs, strict=True):
        values = step_rewards([next(agreements) for _ in text_pairs])
        rewards.append(None if steps is None else aggregated(values, len(reference), aggregate))
    return rewards
