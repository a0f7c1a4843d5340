"""The larger model beside the student, loaded once for every backend that has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.engine import ModelRunner
from s2t_eval.model_wrappers.stock_arguments import require_context
from s2t_eval.models.loading import load_model
from s2t_eval.models.vocabulary import require_same_vocabulary, text_vocabulary


class Teacher(NamedTuple):
    """A loaded teacher."""

    runner: ModelRunner
    fingerprint: str
    """of its weights"""
    tokenizer: Any


def load_teacher(
    name: str,
    student_tokenizer: Any,
    device: torch.device | str,
    dtype: str | None,
    model_args: Mapping[str, Any],
) -> Teacher:
    """Load the teacher and compare its vocabulary with the student's.

    Args:
        name: a hub name, a folder or `embedded/teacher`.
        student_tokenizer: the student's tokenizer.
        device: where the teacher runs.
        dtype: None takes the student's argument `dtype`.
        model_args: stock `hf`'s arguments of the run.

    Raises:
        ModelLoadError: a model that is missing or unreadable.
        VocabularyMismatchError: teacher and student have different tokens.
    """
    trust = bool(model_args.get("trust_remote_code", False))
    model, tokenizer = load_model("teacher", name, dtype or model_args.get("dtype", "auto"), device, trust)
    require_same_vocabulary(student_tokenizer, tokenizer)
    require_context("teacher", model_args.get("max_length"), model.config)
    runner = ModelRunner(model, name, text_vocabulary(tokenizer))
    return Teacher(runner, model_fingerprint(model), tokenizer)
