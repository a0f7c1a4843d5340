"""Measure the thresholds of all triggers on greedy texts of training problems (`s2t-eval calibrate`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from s2t_eval.artifacts.fingerprint import folder_hash
from s2t_eval.engine import Request, Result
from s2t_eval.methods.r2r_folder import find_router, load_router
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.model_wrappers.teacher import teacher_model_args
from s2t_eval.models.vocabulary import line_ends, vocabulary_hash
from s2t_eval.pipelines.prompts import PromptSet, TrainingDataError, recorded_prompting
from s2t_eval.pipelines.servers import divergences_on_servers, teacher_identity
from s2t_eval.pipelines.settings import Prompting
from s2t_eval.pipelines.unfinished import DIVERGENCES, run_missing, saved_columns
from s2t_eval.selection.calibration import Calibration
from s2t_eval.selection.thresholds import OF_R2R, measure_thresholds, trigger_key
from s2t_eval.selection.triggers import (
    EntropyTrigger,
    KlTrigger,
    LineEntropyTrigger,
    MarginTrigger,
    PositionTrigger,
    TopEntropyTrigger,
    Trigger,
)
from s2t_eval.training.label_collection import CollectionFolder

KL_TRIGGERS = (KlTrigger("student_teacher"), KlTrigger("teacher_student"))
SERVED_TRIGGERS = ("entropy64", "margin", "position")
"""Local triggers that servers can compute (`divergences_on_servers`)."""


def calibrate(
    lm: EngineLM,
    prompts: PromptSet,
    prompting: Prompting,
    taus: Sequence[float],
    warmup_tokens: int,
    work: CollectionFolder,
    router: str | None = None,
) -> Calibration:
    """Decode the problems greedily, and take quantiles of each trigger's divergence over all steps.

    Texts of an interrupted run are not decoded again. On servers the triggers are those that servers can
    compute; see `divergences_on_servers`.

    Args:
        lm: the student, with its teacher if the KL triggers are to be calibrated.
        prompts: training problems.
        prompting: how the problems were prompted; it is saved with the thresholds.
        taus: rates at which each trigger is to fire.
        warmup_tokens: number of steps at the start of each text that never fire and are left out.
        work: of the problems, longest prompt first; see `unfinished_calibration`.
        router: folder of an R2R router that is calibrated too.

    Raises:
        LabelError: a file of an interrupted run that cannot be read.
        R2RError: a router of another student.
        ServerError: a server refuses a request or answers it wrongly.
        ServersUnavailableError: no server answers.
        TrainingDataError: no text is longer than `warmup_tokens`.
    """
    requests = prompts.longest_first
    if lm.served is None:
        values = _divergences(lm, requests, warmup_tokens, router, work)
    else:
        values = divergences_on_servers(lm, requests, warmup_tokens, work)
    num_steps = len(next(iter(values.values())))
    if not num_steps:
        raise TrainingDataError(
            f"warmup_tokens: expected fewer tokens than the longest of {len(requests)} texts has, got "
            f"{warmup_tokens}; no step is left to calibrate on"
        )
    return Calibration(
        thresholds=measure_thresholds(values, taus),
        num_steps=num_steps,
        num_texts=len(requests),
        warmup=warmup_tokens,
        data={"source": prompts.source, "split": prompts.split, "hash": prompts.hash},
        prompt=recorded_prompting(prompting, requests[0]),
        student=lm.student_fingerprint,
        teacher=teacher_of(lm),
    )


def teacher_of(lm: EngineLM) -> str | None:
    """Fingerprint of the teacher whose KL is measured; None where there is none."""
    return teacher_identity(lm) if isinstance(lm, SelectToThink) else None


def measured_keys(has_teacher: bool, uses_servers: bool = False, router: str | None = None) -> list[str]:
    """Keys of the thresholds that `calibrate` measures.

    Args:
        has_teacher: whether there is a teacher, whose KL is measured too.
        uses_servers: whether a model is on servers, which cannot compute all triggers.
        router: folder of an R2R router that is calibrated too.

    Raises:
        R2RError: there is no such router.
    """
    local = _local_triggers(torch.empty(0, dtype=torch.bool))
    keys = [trigger_key(trigger) for trigger in local]
    if uses_servers:
        keys = [key for key in keys if key in SERVED_TRIGGERS]
    if router is not None:
        keys.append(f"{OF_R2R}{folder_hash(find_router(router))}")
    return [*keys, *(trigger_key(trigger) for trigger in KL_TRIGGERS if has_teacher)]


def _local_triggers(ends_line: Tensor) -> list[Trigger]:
    lines = LineEntropyTrigger(ends_line)
    return [EntropyTrigger(), TopEntropyTrigger(), MarginTrigger(), lines, PositionTrigger()]


def _divergences(
    lm: EngineLM, requests: Sequence[Request], warmup_tokens: int, router: str | None, work: CollectionFolder
) -> dict[str, list[float]]:
    """The divergences of greedy texts at every step after the warm-up, by the trigger's key."""
    local = _local_triggers(line_ends(lm.tokenizer, lm.student.text_vocab))
    if router is not None:
        identity = (lm.student_fingerprint, vocabulary_hash(lm.tokenizer), int(lm.student.config.hidden_size))
        embed: Any = lm.student.base.get_input_embeddings()
        local.append(load_router(router, *identity).trigger(embed, lm.device))
    observed = [*local, *KL_TRIGGERS] if isinstance(lm, SelectToThink) else local
    keys = [trigger_key(trigger) for trigger in observed]

    def columns_of(result: Result) -> dict[str, Tensor]:
        columns = (torch.tensor(values, dtype=torch.float64) for values in result.observed)
        return dict(zip(keys, columns, strict=True))

    run_missing(lm.decoder(observed), requests, work, DIVERGENCES, "Calibrating", columns_of)
    values: dict[str, list[float]] = {key: [] for key in keys}
    for columns in saved_columns(work, DIVERGENCES, len(requests)):
        for key in keys:
            values[key].extend(columns[key][warmup_tokens:].tolist())
    return values


def load_lm(pretrained: str, teacher: str | None, teacher_args: str = "", **stock: Any) -> EngineLM:
    """Load the student, and with a teacher also the teacher, whose KL is measured at every step.

    Args:
        pretrained: the student.
        teacher: the teacher; None loads the student only, unless `teacher_url` names its servers.
        teacher_args: how the teacher is loaded; see `model_wrappers.teacher.read_teacher_args`.
        stock: further arguments of lm_eval's `hf` model, such as `dtype`, and those of servers.

    Raises:
        ValueError: arguments of a teacher that are unusable, or that there is none of.
    """
    options = teacher_model_args(teacher_args)
    if teacher is None and stock.get("teacher_url") is None:
        if options:
            raise ValueError(
                f"--teacher_args {teacher_args}: there is no teacher; name it by --teacher MODEL"
            )
        return Greedy(pretrained, **stock)
    return SelectToThink(pretrained, teacher=teacher, trigger="never", **options, **stock)
