"""What calibration and label collection take from models on servers: texts, scores, divergences."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from s2t_eval.artifacts.manifest import UNKNOWN_WEIGHTS
from s2t_eval.engine import Request, Result
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.pipelines.unfinished import SERVED_TEXTS, run_missing, saved_columns
from s2t_eval.remote.labelling import RemoteScorer, ScoredText, TextScores
from s2t_eval.remote.scheduler import RemoteScheduler
from s2t_eval.selection.policy import greedy
from s2t_eval.selection.thresholds import trigger_key
from s2t_eval.selection.triggers import (
    KlTrigger,
    MarginTrigger,
    PositionTrigger,
    TopEntropyTrigger,
    kl_divergence,
    margin,
    top_entropy,
)
from s2t_eval.training.label_collection import CollectionFolder

logger = logging.getLogger(__name__)


def greedy_texts(lm: EngineLM) -> RemoteScheduler:
    """The student's greedy texts, with the most likely tokens of every step."""
    assert lm.served is not None
    return RemoteScheduler(
        lm.served.fleet,
        greedy(),
        lm.student.text_vocab,
        lm.served.settings,
        lm.tok_decode,
        lm.thoughts.answer_of,
        keep_top=True,
    )


def teacher_scorer(lm: EngineLM) -> RemoteScorer:
    """The teacher's scores of whole texts."""
    assert lm.served is not None
    return RemoteScorer(lm.served.fleet, lm.student.text_vocab, lm.served.settings)


def teacher_identity(lm: SelectToThink) -> str:
    """The teacher's fingerprint; where its weights are not on this machine, a warning and `unknown`."""
    if lm.teacher_fingerprint is None:
        logger.warning(
            "teacher_url: the teacher's weights are not on this machine, so its fingerprint is recorded as "
            "unknown and later runs cannot compare it; download the weights to have it recorded"
        )
    return lm.teacher_fingerprint or UNKNOWN_WEIGHTS


def divergences_on_servers(
    lm: EngineLM, requests: Sequence[Request], warmup_tokens: int, work: CollectionFolder
) -> dict[str, list[float]]:
    """The divergences of greedy texts at every step, by the trigger's key in a calibration.

    The triggers are those that servers can compute: `entropy64`, `margin`, `position`, and with a teacher
    both directions of `kl`. Entropies over the whole vocabulary and routers are not among them.

    Args:
        lm: the student on servers, with its teacher if there is one.
        requests: the problems.
        warmup_tokens: number of steps at the start of each text that are left out.
        work: texts of an interrupted run, which are not generated again; the teacher scores all of them.
    """
    run_missing(greedy_texts(lm), requests, work, SERVED_TEXTS, "Calibrating", _text_columns)
    columns = [_local_divergences(text) for text in saved_columns(work, SERVED_TEXTS, len(requests))]
    if isinstance(lm, SelectToThink):
        # Texts with 64 tokens at every step, of which a thousand need half a gigabyte, are read one by one.
        texts = [partial(_read_text, work, i, request.prompt_ids) for i, request in enumerate(requests)]
        scored = teacher_scorer(lm).run(texts, with_argmax=False)
        for scores in tqdm(scored, desc="Scoring", total=len(texts)):
            columns[scores.index] |= _kl_divergences(scores)
    return {
        key: [value for column in columns for value in column[key][warmup_tokens:].tolist()]
        for key in columns[0]
    }


def _text_columns(result: Result) -> dict[str, Tensor]:
    assert result.top_ids is not None and result.top_log_probs is not None
    output_ids = torch.tensor(result.output_ids, dtype=torch.int32)
    return {"output_ids": output_ids, "top_ids": result.top_ids, "top_log_probs": result.top_log_probs}


def _read_text(work: CollectionFolder, index: int, prompt_ids: Sequence[int]) -> ScoredText:
    text = work.load(SERVED_TEXTS, index)
    return ScoredText(prompt_ids, tuple(text["output_ids"].tolist()), text["top_ids"], text["top_log_probs"])


def _local_divergences(text: dict[str, Tensor]) -> dict[str, Tensor]:
    steps = torch.arange(len(text["output_ids"]))
    return {
        trigger_key(TopEntropyTrigger()): top_entropy(text["top_log_probs"]),
        trigger_key(MarginTrigger()): margin(text["top_log_probs"]),
        trigger_key(PositionTrigger()): 1 / (1 + steps.float()),
    }


def _kl_divergences(scores: TextScores) -> dict[str, Tensor]:
    student, teacher = scores.text.top_log_probs, scores.log_probs
    return {
        trigger_key(KlTrigger("student_teacher")): kl_divergence(student, teacher),
        trigger_key(KlTrigger("teacher_student")): kl_divergence(teacher, student),
    }
