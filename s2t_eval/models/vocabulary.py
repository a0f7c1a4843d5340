"""Which token ids are text, which end an answer, and whether two models share them."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import torch
from torch import Tensor

FILLER = re.compile(r"\[PAD\d+\]")
"""Names that a GGUF file gives to the rows that pad a vocabulary: neither text nor a difference."""

END_OF_TURN = (
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<|end|>",
)
"""Tokens that end an answer by their name: GGUF tokenizers forget which of their tokens are special."""


class VocabularyMismatchError(ValueError):
    """Teacher and student do not share their tokens; the message shows the first differences."""


def text_entries(tokenizer: Any) -> dict[str, int]:
    """Token name -> id without fillers."""
    vocab: dict[str, int] = tokenizer.get_vocab()
    return {name: i for name, i in vocab.items() if not FILLER.fullmatch(name)}


def text_vocabulary(tokenizer: Any) -> int:
    """Number of leading ids that are text; rows of the head from there on are never proposed."""
    return max(text_entries(tokenizer).values()) + 1


def vocabulary_hash(tokenizer: Any) -> str:
    """SHA-256 (first 16 hex digits) of the text entries: equal for a padded and an unpadded vocabulary."""
    entries = json.dumps(sorted(text_entries(tokenizer).items()), ensure_ascii=False)
    return hashlib.sha256(entries.encode()).hexdigest()[:16]


def require_same_vocabulary(student: Any, teacher: Any, shown: int = 3) -> None:
    """Raise `VocabularyMismatchError` unless both tokenizers give every token the same id."""
    ours, theirs = text_entries(student), text_entries(teacher)
    if ours == theirs:
        return
    by_id = sorted((i, name) for name, i in (ours.items() ^ theirs.items()))
    ids = list(dict.fromkeys(i for i, _ in by_id))[:shown]
    names_ours = {i: name for name, i in ours.items()}
    names_theirs = {i: name for name, i in theirs.items()}
    lines = [f"id {i}: {names_ours.get(i)!r} and {names_theirs.get(i)!r}" for i in ids]
    raise VocabularyMismatchError(
        f"teacher: its tokenizer is not the student's ({len(ours)} and {len(theirs)} tokens; first "
        f"differences, student and teacher: {'; '.join(lines)}); selection needs one vocabulary, so "
        "choose a teacher of the student's family"
    )


def stop_ids(tokenizer: Any, generation_config: Any) -> frozenset[int]:
    """Ids that end an answer: the tokenizer's, the generation config's, and end-of-turn names."""
    ids = {tokenizer.eos_token_id}
    configured = getattr(generation_config, "eos_token_id", None)
    ids.update(configured if isinstance(configured, list | tuple) else [configured])
    vocab = tokenizer.get_vocab()
    ids.update(vocab.get(name) for name in END_OF_TURN)
    return frozenset(i for i in ids if i is not None)


def line_ends(tokenizer: Any, text_vocab: int) -> Tensor:
    """Which tokens end a line: their own text ends with a newline, bool [text_vocab]."""
    texts = tokenizer.batch_decode([[i] for i in range(text_vocab)])
    return torch.tensor([text.endswith("\n") for text in texts])
