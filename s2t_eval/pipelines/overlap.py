"""Removal or refusal of evaluation problems in the data of calibration and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s2t_eval.pipelines.prompts import PromptSet, TrainingDataError
from s2t_eval.report.benchmarks import DEV
from s2t_eval.training.contamination import LEAVE_OUT, find_overlap, require_no_overlap


def without_evaluation_problems(
    prompts: PromptSet, drop: bool, extra_benchmarks: Mapping[str, Sequence[str]] | None = None
) -> PromptSet:
    """The prompts without those of evaluation problems.

    Args:
        prompts: training problems.
        drop: leave evaluation problems out instead of raising an error.
        extra_benchmarks: name -> questions of evaluation sets beside those of this package.

    Raises:
        OverlapError: there are evaluation problems, and `drop` is false.
        TrainingDataError: all problems are evaluation problems.
    """
    questions = prompts.questions
    overlap = find_overlap(questions, extra_benchmarks)
    if prompts.source.endswith(DEV):  # settings are chosen by them, so they may be calibrated on as well
        overlap = {i: name for i, name in overlap.items() if not name.endswith(DEV)}
    if not drop:
        by_index = {prompts.indices[i]: name for i, name in overlap.items()}
        require_no_overlap(by_index, len(questions), LEAVE_OUT)
    if len(overlap) == len(questions):
        raise TrainingDataError(f"all {len(overlap)} problems are evaluation problems; choose other data")
    return prompts.without(overlap) if overlap else prompts
