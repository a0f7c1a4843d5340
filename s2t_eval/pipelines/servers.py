"""What calibration and label collection take from models on servers: texts, scores, divergences."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from s2t_eval.engine import Request, Result
from s2t_eval.engine.progress import GenerationProgress
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.model_wrappers.served import UNKNOWN_WEIGHTS
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
    lm: EngineLM, requests: Sequence[Request], warmup_tokens: int
) -> dict[str, list[float]]:
    """The divergences of greedy texts at every step, by the trigger's key in a calibration.

    The triggers are those that servers can compute: `entropy64`, `margin`, `position`, and with a teacher
    both directions of `kl`. Entropies over the whole vocabulary and routers are not among them.

    Args:
        lm: the student on servers, with its teacher if there is one.
        requests: the problems.
        warmup_tokens: number of steps at the start of each text that are left out.
    """
    columns: list[dict[str, Tensor]] = []
    with TemporaryDirectory(prefix="s2t-eval-") as folder:
        saved = _SavedTexts(Path(folder))
        with GenerationProgress(len(requests), "Calibrating") as progress:
            for result in greedy_texts(lm).run(requests, progress.on_round):
                columns.append(_local_divergences(result))
                if isinstance(lm, SelectToThink):
                    saved.add(result)
                progress.update()
        if isinstance(lm, SelectToThink):
            scored = teacher_scorer(lm).run(saved.texts, with_argmax=False)
            for scores in tqdm(scored, desc="Scoring", total=len(saved.texts)):
                columns[scores.index] |= _kl_divergences(scores)
    return {
        key: [value for column in columns for value in column[key][warmup_tokens:].tolist()]
        for key in columns[0]
    }


class _SavedTexts:
    """Texts with 64 tokens at every step, of which a thousand need half a gigabyte: they are kept in files.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.texts: list[Callable[[], ScoredText]] = []
        """functions that read the texts, in the order in which they were added"""

    def add(self, result: Result) -> None:
        """Save a text."""
        assert result.top_ids is not None and result.top_log_probs is not None
        path = self.folder / f"{len(self.texts):06d}.safetensors"
        save_file({"top_ids": result.top_ids, "top_log_probs": result.top_log_probs}, path)
        self.texts.append(partial(_read_text, path, result.request.prompt_ids, tuple(result.output_ids)))


def _read_text(path: Path, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> ScoredText:
    tensors = load_file(path)
    return ScoredText(prompt_ids, output_ids, tensors["top_ids"], tensors["top_log_probs"])


def _local_divergences(result: Result) -> dict[str, Tensor]:
    assert result.top_log_probs is not None
    steps = torch.arange(len(result.output_ids))
    return {
        trigger_key(TopEntropyTrigger()): top_entropy(result.top_log_probs),
        trigger_key(MarginTrigger()): margin(result.top_log_probs),
        trigger_key(PositionTrigger()): 1 / (1 + steps.float()),
    }


def _kl_divergences(scores: TextScores) -> dict[str, Tensor]:
    student, teacher = scores.text.top_log_probs, scores.log_probs
    return {
        trigger_key(KlTrigger("student_teacher")): kl_divergence(student, teacher),
        trigger_key(KlTrigger("teacher_student")): kl_divergence(teacher, student),
    }
