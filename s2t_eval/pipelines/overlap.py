"""Evaluation problems are left out of what is calibrated on or learnt from, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s2t_eval.pipelines.prompts import PromptSet, TrainingDataError
from s2t_eval.report.benchmarks import DEV
from s2t_eval.training.contamination import LEAVE_OUT, find_overlap, require_no_overlap


def without_evaluation_problems(
    prompts: PromptSet, drop: bool, further: Mapping[str, Sequence[str]] | None = None
) -> PromptSet:
    """The prompts, if none of them is of a problem that models are scored on; with `drop`, the others alone.

    Args:
        prompts: training problems.
        drop: leave evaluation problems out instead of refusing them.
        further: name -> questions of more evaluation sets than the shipped ones.

    Raises:
        OverlapError: there are such problems, and they are not to be dropped.
        TrainingDataError: nothing is left.
    """
    questions = prompts.questions
    overlap = find_overlap(questions, further)
    if prompts.source.endswith(DEV):  # settings are chosen by them, so they may be calibrated on as well
        overlap = {i: name for i, name in overlap.items() if not name.endswith(DEV)}
    if not drop:
        require_no_overlap(overlap, len(questions), LEAVE_OUT)
    if len(overlap) == len(questions):
        raise TrainingDataError(f"all {len(overlap)} problems are evaluation problems; choose other data")
    return prompts.without(overlap) if overlap else prompts
