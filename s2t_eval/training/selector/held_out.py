"""The held-out texts in two halves: one for every choice, the other for the reported figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from s2t_eval.training.labels import LabelError, LabelSet, Trajectory
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


def boundaries_of(train: Sequence[Trajectory], held_out: HeldOut) -> dict[str, str]:
    """Side -> the smallest hash of its questions, from which `divided_at` makes the same sides of any texts.

    The questions that choose have the smallest hashes; those of the figures follow, then those of training.
    """
    sides = {"reported": held_out.reported, "trained": train}
    return {side: min(text.question_hash for text in texts) for side, texts in sides.items()}


def divided_at(
    boundaries: Mapping[str, str], texts: Sequence[Trajectory]
) -> tuple[list[Trajectory], HeldOut]:
    """The texts of training, and the halves of the held-out ones, by the boundaries of an earlier training.

    Args:
        boundaries: of `boundaries_of`.
        texts: labelled texts, whether those of that training or others.

    Raises:
        LabelError: one of the three sides would be empty.
    """
    choosing, reported, trained = list[Trajectory](), list[Trajectory](), list[Trajectory]()
    for text in texts:
        is_reported = text.question_hash >= boundaries["reported"]
        side = (
            trained if text.question_hash >= boundaries["trained"] else reported if is_reported else choosing
        )
        side.append(text)
    if not (choosing and reported and trained):
        raise LabelError(
            f"labels: expected problems of all three sides of the selector's training, got {len(trained)} to "
            f"train on, {len(choosing)} to choose by and {len(reported)} to report; label more problems"
        )
    return trained, HeldOut(choosing, reported)


def split_as_trained(training: Mapping[str, Any], labels: LabelSet) -> tuple[list[Trajectory], HeldOut]:
    """The texts that a selector's training would train on, and the halves that it would hold out.

    Args:
        training: the record in the selector's manifest; those of earlier versions have no boundaries, and the
            labels must be of their problems.
        labels: labels of the problems of that training, or of others.

    Raises:
        LabelError: one of the sides would be empty.
    """
    if boundaries := training.get("boundaries"):
        return divided_at(boundaries, labels.trajectories)
    train, held_out = labels.split(training["settings"]["settings"]["held_out"])
    return train, halves_of_training(training, held_out)


def question_fingerprints(texts: Sequence[Trajectory], earlier: str | None) -> str:
    """The questions of these texts, `FINGERPRINT` hex digits each, sorted and joined: a short record.

    Args:
        texts: the texts that a selector is trained on or chosen by.
        earlier: the record of the selector that it started from; None: there is none.
    """
    return "".join(
        sorted({text.question_hash[:FINGERPRINT] for text in texts} | _fingerprints(earlier or ""))
    )


def _fingerprints(joined: str) -> set[str]:
    """The questions in a record."""
    return {joined[i : i + FINGERPRINT] for i in range(0, len(joined), FINGERPRINT)}


def unseen_texts(training: Mapping[str, Any], texts: Sequence[Trajectory]) -> list[Trajectory] | None:
    """The texts whose questions a selector was neither trained on nor chosen by; None where it is not known.

    Args:
        training: the record in the selector's manifest; those of earlier versions do not list the questions.
        texts: labelled texts of any label set.
    """
    joined = training.get("question_fingerprints")
    if joined is None:
        return None
    seen = _fingerprints(joined)
    return [text for text in texts if text.question_hash[:FINGERPRINT] not in seen]
