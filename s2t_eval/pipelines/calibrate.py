"""Measure the thresholds of all triggers on greedy texts of training problems (`s2t-eval calibrate`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.pipelines.problems import Problems, Prompting, TrainingDataError, question_of
from s2t_eval.selection.calibration import Calibration, quantile_thresholds, trigger_key
from s2t_eval.selection.triggers import EntropyTrigger, KlTrigger, MarginTrigger, Trigger
from s2t_eval.training.contamination import LEAVE_OUT, find_overlap, require_no_overlap


def calibrate(
    lm: EngineLM, problems: Problems, prompting: Prompting, taus: Sequence[float], warmup: int
) -> Calibration:
    """Decode the problems greedily and take quantiles of every trigger's divergence over all steps."""
    local: list[Trigger] = [EntropyTrigger(), MarginTrigger()]
    kl: list[Trigger] = [KlTrigger("student_teacher"), KlTrigger("teacher_student")]
    observed = local + kl if isinstance(lm, SelectToThink) else local
    values: list[list[float]] = [[] for _ in observed]
    jobs = lm._jobs(problems.instances)
    decoder = lm.decoder(observed)
    for result in tqdm(decoder.run([job.request for job in jobs]), total=len(jobs), desc="Calibrating"):
        for mine, theirs in zip(values, result.observed, strict=True):
            mine.extend(theirs[warmup:])
    if not values[0]:
        raise TrainingDataError(f"warmup: {warmup} tokens leave no step of {len(jobs)} texts to calibrate on")
    return Calibration(
        thresholds={
            trigger_key(trigger): dict(quantile_thresholds(mine, taus))
            for trigger, mine in zip(observed, values, strict=True)
        },
        num_steps=len(values[0]),
        num_texts=len(jobs),
        warmup=warmup,
        data={"source": problems.source, "split": problems.split, "hash": problems.hash},
        prompt={
            "system_instruction": prompting.system_instruction,
            "apply_chat_template": prompting.apply_chat_template,
            "num_fewshot": prompting.num_fewshot,
            "max_gen_toks": jobs[0].request.max_new_tokens,
        },
        student=lm.student_fingerprint,
        teacher=lm.teacher_fingerprint if isinstance(lm, SelectToThink) else None,
    )


def without_evaluation_problems(problems: Problems, drop: bool) -> Problems:
    """The problems, if none of them is one that models are scored on; with `drop`, the others alone.

    Raises:
        OverlapError: there are such problems, and they are not to be dropped.
        TrainingDataError: nothing is left.
    """
    overlap = find_overlap([question_of(instance) for instance in problems.instances])
    if not drop:
        require_no_overlap(overlap, len(problems.instances), LEAVE_OUT)
    kept = [instance for i, instance in enumerate(problems.instances) if i not in overlap]
    if not kept:
        raise TrainingDataError(f"all {len(overlap)} problems are evaluation problems; choose other data")
    return replace(problems, instances=kept)


def load_lm(pretrained: str, teacher: str | None, **stock: Any) -> EngineLM:
    """The student, with its teacher in lockstep if there is one."""
    if teacher is None:
        return Greedy(pretrained, **stock)
    return SelectToThink(pretrained, teacher=teacher, trigger="never", **stock)
