"""Token ids that are text, token ids that end an answer, and the comparison of two vocabularies."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import torch
from torch import Tensor

FILLER = re.compile(r"\[PAD\d+\]")
"""Names of the rows that pad a vocabulary in a GGUF file: they are no text and are not compared."""

END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>")
"""Names of tokens that end a document, and so every answer."""
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")
"""Names of tokens that end the turn of a chat: GGUF tokenizers do not record which tokens are special."""
HARMONY_END = "<|return|>"
"""The end of a turn in gpt-oss's format, where `<|end|>` only ends a message, such as that of a thought."""
SHOWN = 3
"""Different tokens that the message of a mismatch shows."""


class VocabularyMismatchError(ValueError):
    """Teacher and student have different tokens; the message shows the first differences."""


def text_entries(tokenizer: Any) -> dict[str, int]:
    """Token name -> id, without the rows that pad the vocabulary."""
    vocab: dict[str, int] = tokenizer.get_vocab()
    return {name: i for name, i in vocab.items() if not FILLER.fullmatch(name)}


def text_vocabulary(tokenizer: Any) -> int:
    """Number of leading ids that are text; the rows of the head after them are never proposed."""
    return max(text_entries(tokenizer).values()) + 1


def vocabulary_hash(tokenizer: Any) -> str:
    """SHA-256 (first 16 hex digits) of the text entries: equal for a padded and an unpadded vocabulary."""
    entries = json.dumps(sorted(text_entries(tokenizer).items()), ensure_ascii=False)
    return hashlib.sha256(entries.encode()).hexdigest()[:16]


def require_same_vocabulary(student: Any, teacher: Any) -> None:
    """Raise `VocabularyMismatchError` unless both tokenizers give every token the same id."""
    student_ids, teacher_ids = text_entries(student), text_entries(teacher)
    if student_ids == teacher_ids:
        return
    by_id = sorted((i, name) for name, i in (student_ids.items() ^ teacher_ids.items()))
    ids = list(dict.fromkeys(i for i, _ in by_id))[:SHOWN]
    student_names = {i: name for name, i in student_ids.items()}
    teacher_names = {i: name for name, i in teacher_ids.items()}
    lines = [f"id {i}: {student_names.get(i)!r} and {teacher_names.get(i)!r}" for i in ids]
    raise VocabularyMismatchError(
        f"teacher: its tokenizer is not the student's ({len(student_ids)} and {len(teacher_ids)} tokens; "
        f"first differences, student and teacher: {'; '.join(lines)}); selection needs one vocabulary, so "
        "choose a teacher of the student's family"
    )


def stop_ids(tokenizer: Any, generation_config: Any) -> frozenset[int]:
    """Ids that end an answer: those of the tokenizer and of the generation config, and others by their names.

    Tokens that end a document always do. Those that end a turn do where none of the model's own ids ends one:
    the settings of base models, of students fine-tuned from them and of many GGUF files name the end of a
    document only, and with a chat template their answers end with the turn.
    """
    vocab = tokenizer.get_vocab()
    configured = getattr(generation_config, "eos_token_id", None)
    own = {tokenizer.eos_token_id, *(configured if isinstance(configured, list | tuple) else [configured])}
    ends = {vocab[name] for name in turn_ends(vocab) if name in vocab}
    added = {vocab[name] for name in END_OF_TEXT if name in vocab}
    if own.isdisjoint(ends):
        added |= ends
    return frozenset(i for i in own | added if i is not None)


def turn_ends(vocab: dict[str, int]) -> tuple[str, ...]:
    """Names of tokens that end a turn in this vocabulary."""
    return (HARMONY_END,) if HARMONY_END in vocab else TURN_ENDS


def line_ends(tokenizer: Any, text_vocab: int) -> Tensor:
    """Which tokens end a line: their own text ends with a newline, bool [text_vocab]."""
    texts = tokenizer.batch_decode([[i] for i in range(text_vocab)])
    return torch.tensor([text.endswith("\n") for text in texts])
