"""The student that a training command adapts, with what identifies it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

StudentT = TypeVar("StudentT")


def load_student(parsed: argparse.Namespace, make: Callable[..., StudentT]) -> tuple[StudentT, Any]:
    """The student that the flags name, and its tokenizer.

    Args:
        parsed: with the flags of `add_loading_flags`.
        make: called with model, name, fingerprint, hash of the tokenizer and size of the text vocabulary.
    """
    from s2t_eval.artifacts.fingerprint import model_fingerprint
    from s2t_eval.models.loading import load_model
    from s2t_eval.models.vocabulary import text_vocabulary, vocabulary_hash

    model, tokenizer = load_model(
        "pretrained", parsed.pretrained, parsed.dtype, parsed.device, parsed.trust_remote_code
    )
    identity = (model_fingerprint(model), vocabulary_hash(tokenizer), text_vocabulary(tokenizer))
    return make(model, short_name(parsed.pretrained), *identity), tokenizer


def short_name(name: str) -> str:
    """How a model is called in what we write: no folder of this machine."""
    return name if name.startswith("embedded/") else Path(name).name
