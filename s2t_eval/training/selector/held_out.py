"""The held-out texts in two halves: one for every choice, the other for the reported figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from s2t_eval.training.labels import LabelError, Trajectory
from s2t_eval.training.split import split_by_question

FINGERPRINT = 10
"""Hex digits of a hash that are kept: any two of 10,000 questions share them in 1 of 20,000 sets."""


class HeldOut(NamedTuple):
    """Texts that are not trained on; those of one question are always in the same half."""

    choosing: list[Trajectory]
    """the checkpoint, the trigger, its rate and the weights are chosen on them"""
    reported: list[Trajectory]
    """figures are measured on them after every choice is made"""


def split_held_out(held_out: Sequence[Trajectory]) -> HeldOut:
    """The two halves of the held-out texts.

    Raises:
        LabelError: there is one question only.
    """
    if len({text.question_hash for text in held_out}) < 2:
        raise LabelError(
            "held_out: expected at least 2 held-out problems, one to choose the checkpoint on and one "
            "to report figures of, got 1; raise --held_out, or label more problems"
        )
    reported, choosing = split_by_question(held_out, 0.5, LabelError)
    return HeldOut(choosing, reported)


def halves_of_training(training: Mapping[str, Any], held_out: Sequence[Trajectory]) -> HeldOut:
    """The halves of a finished training; without reported texts if it used no halves (older versions).

    Args:
        training: the record in the selector's manifest.
        held_out: all texts that were held out of it.
    """
    return split_held_out(held_out) if "reported_problems" in training else HeldOut(list(held_out), [])


def question_fingerprints(texts: Sequence[Trajectory]) -> str:
    """The questions of these texts, `FINGERPRINT` hex digits each, sorted and joined: a short record."""
    return "".join(sorted({text.question_hash[:FINGERPRINT] for text in texts}))


def unseen_texts(training: Mapping[str, Any], texts: Sequence[Trajectory]) -> list[Trajectory] | None:
    """The texts whose questions a selector was neither trained on nor chosen by; None where it is not known.

    Args:
        training: the record in the selector's manifest; those of earlier versions do not list the questions.
        texts: labelled texts of any label set.
    """
    joined = training.get("question_fingerprints")
    if joined is None:
        return None
    seen = {joined[i : i + FINGERPRINT] for i in range(0, len(joined), FINGERPRINT)}
    return [text for text in texts if text.question_hash[:FINGERPRINT] not in seen]
