"""Training that starts from a trained selector: the model that it gives, and the checks before that."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict

from s2t_eval.methods.selector_folder import Selector
from s2t_eval.methods.selector_info import SelectorError, SelectorInfo
from s2t_eval.selection.router import Router
from s2t_eval.training.labels import LabelManifest, LabelSet, Trajectory
from s2t_eval.training.selector.held_out import HeldOut
from s2t_eval.training.selector.model import SelectorModel
from s2t_eval.training.selector.settings import SelectorSettings
from s2t_eval.training.student import Student

logger = logging.getLogger(__name__)

LABEL_IDENTITY = ("student", "teacher", "vocabulary", "data", "prompt", "teacher_context", "steps", "tau")
"""Fields of a label set's manifest that identify its problems and labels. The texts depend on `rollouts` too,
see `has_same_writer`; the other fields are measurements."""


def make_model(student: Student, selector: SelectorSettings, start: Selector | None) -> SelectorModel:
    """An untrained selector, or one with the adapter and the readout of `start`."""
    if start is None:
        return SelectorModel(student.model, selector, student.text_vocab)
    readout = start.readout.to(student.model.device)
    model = SelectorModel(student.model, selector, student.text_vocab, readout)
    start.load_adapter(model.peft)
    return model


def router_of_start(
    start: Selector | None, labels: LabelManifest, limit: int | None, seed: int
) -> Router | None:
    """The router of proposer `base` of `start`, if this training would make the same one; else None.

    Args:
        start: the selector that is started from; None: none.
        labels: manifest of the labels of this training.
        limit: number of problems of this training; None: all.
        seed: of this training.
    """
    if start is None or not has_same_router(start.info, labels, limit, seed):
        return None
    return start.routers.get("base")


def has_same_router(trained: SelectorInfo, labels: LabelManifest, limit: int | None, seed: int) -> bool:
    """Whether a training's router of proposer `base` is the one that this training would make.

    It does not depend on the adapter. It depends on the seed, on the training texts, of which `limit` takes a
    part and which another selector may have written (`rollouts`), and on the held-out texts that choose its
    checkpoint, which in earlier versions were all of them: figures of this training would then be reported
    on texts that its router was chosen by.

    Args:
        trained: the manifest of the selector that is started from.
        labels: manifest of the labels of this training.
        limit: number of problems of this training; None: all.
        seed: of this training.
    """
    settings = trained.training["settings"]
    is_same_draw = settings["settings"].get("limit") == limit and settings["loop"]["seed"] == seed
    is_same_text = has_same_writer(trained, labels) and trained.labels.get("data") == labels.data
    return "reported_problems" in trained.training and is_same_draw and is_same_text


def has_same_writer(trained: SelectorInfo, labels: LabelManifest) -> bool:
    """Whether the texts of a selector's labels were written as those of these labels."""
    return bool(trained.labels.get("rollouts") == labels.rollouts)


def require_same_form(start: Selector, selector: SelectorSettings) -> None:
    """Raise `SelectorError` unless these settings describe the form and size of `start`."""
    trained = SelectorSettings.of_folder(start.info.training["settings"]["selector"])
    for name in ("form", "score_as", "bins", "rank", "alpha", "last_layers"):
        expected, actual = getattr(trained, name), getattr(selector, name)
        if expected != actual:
            raise SelectorError(
                f"start={start.folder}: it was trained with {name}={expected}, got {name}={actual}; give the "
                "same"
            )


def require_same_labels(artifact: str, info: SelectorInfo, labels: LabelSet) -> None:
    """Raise `SelectorError` unless these labels are of the problems that a selector was trained on.

    Only what identifies the labels is compared: labels that were collected twice differ in the last digits
    of their measurements, not in their problems. Their texts may differ.

    Args:
        artifact: the selector, as messages call it.
        info: the selector's manifest.
        labels: the label set of this run.
    """
    if differs := _differing(info, labels, LABEL_IDENTITY):
        raise SelectorError(
            f"{artifact}: it was trained on other labels ({differs}), so problems that are held out here "
            "may have been trained on; give the labels that it was trained on"
        )


def require_known_split(start: Selector, labels: LabelSet, held_out: float) -> None:
    """Raise `SelectorError` unless problems that are held out now were held out before.

    Texts may differ: a second round trains on texts that the selector wrote. So may the problems where the
    selector's manifest has the boundaries of its split.

    Args:
        start: the selector that is started from.
        labels: the label set of this run.
        held_out: held-out share of this run.
    """
    is_same_share = start.info.training["settings"]["settings"]["held_out"] == held_out
    names = [name for name in LABEL_IDENTITY if name != "data" or "boundaries" not in start.info.training]
    differs = _differing(start.info, labels, names)
    if differs or not is_same_share:
        raise SelectorError(
            f"start={start.folder}: it was trained on other labels or with another --held_out "
            f"({differs or 'held_out'}), so problems that are held out here may have been trained on; use "
            "the same, or train from the beginning"
        )


def _differing(info: SelectorInfo, labels: LabelSet, names: Sequence[str]) -> str:
    """The names of the fields in which labels are not those that a selector was trained on."""
    current = asdict(labels.manifest)
    return ", ".join(name for name in names if info.labels.get(name) != current[name])


def require_same_writer(artifact: str, info: SelectorInfo, labels: LabelSet) -> None:
    """Raise `SelectorError` unless the texts of these labels were written as those of the selector's.

    Args:
        artifact: the selector, as messages call it.
        info: the selector's manifest.
        labels: the label set of this run.
    """
    if not has_same_writer(info, labels.manifest):
        expected, actual = (
            "the student alone" if rollouts is None else f"selector {rollouts['selector']}"
            for rollouts in (info.labels.get("rollouts"), labels.manifest.rollouts)
        )
        raise SelectorError(
            f"{artifact}: it was trained on texts of {expected}, got labels of texts of {actual}; give the "
            "labels that it was trained on"
        )


def warn_of_earlier_choice(start: Selector) -> None:
    """Warn where all held-out texts chose the checkpoint of `start`, those of the figures included.

    Selectors were made so before held-out texts had two halves.
    """
    if "reported_problems" not in start.info.training:
        logger.warning(
            "start=%s: its checkpoint was chosen by all held-out problems, so the figures of this training "
            "are of problems that chose what it starts from; train from the beginning for others",
            start.folder,
        )


def seen_texts(
    train: Sequence[Trajectory], limit: int | None, held_out: HeldOut, start: Selector | None
) -> list[Trajectory]:
    """The texts that a selector is trained on or chosen by, those of the selector it starts from included.

    Args:
        train: the training side of the labels.
        limit: number of these texts that are trained on; None: all. That of `start` may have been another.
        held_out: the halves of the held-out texts.
        start: the selector that is started from.
    """
    if start is None:
        return [*train[:limit], *held_out.choosing]
    was_chosen_by_all = "reported_problems" not in start.info.training
    return [*train, *held_out.choosing, *(held_out.reported if was_chosen_by_all else [])]
