"""A trained selector over labelled texts that it never learnt from: what analyses show of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
from tqdm import tqdm
from transformers import PreTrainedModel

from s2t_eval.engine import ModelRunner
from s2t_eval.methods.selector_folder import Selector
from s2t_eval.training.labels import LabelSet, Trajectory
from s2t_eval.training.router import tabulate
from s2t_eval.training.selector.agreement import score_items
from s2t_eval.training.selector.model import SelectorModel, SelectorSettings
from s2t_eval.training.selector.packing import make_items


class Judged(NamedTuple):
    """What a selector makes of one labelled text."""

    router: np.ndarray | None
    """log-odds of its router for proposer `base` at every step, [steps]; None where it has none"""
    scores: dict[int, np.ndarray]
    """its scores of the kept candidates, most likely of the student first, by step, [K] each"""


def unseen(selector: Selector, labels: LabelSet) -> list[Trajectory]:
    """The trajectories of a label set that this selector was not trained on."""
    if selector.info.labels != asdict(labels.manifest):
        return list(labels)
    _, held_out = labels.split(selector.info.training["settings"]["settings"]["held_out"])
    return held_out


def judge(
    selector: Selector, student: PreTrainedModel, text_vocab: int, trajectories: Sequence[Trajectory]
) -> dict[str, Judged]:
    """Scores and router odds at every kept step, by problem.

    Args:
        selector: of this student.
        student: the plain model; an adapter is put into it.
        text_vocab: leading rows of its head that are text.
        trajectories: texts of the plain student, with candidates.
    """
    router = selector.routers.get("base")
    odds: list[np.ndarray | None] = [None] * len(trajectories)
    if router is not None:
        table = tabulate(ModelRunner(student, "student", text_vocab), trajectories, has_written=True)
        steps = [len(features) for features in table.features]
        odds = list(np.split(table.router_odds(router.to(student.device)).numpy(), np.cumsum(steps)[:-1]))
    model = load_trained(selector, student, text_vocab)
    found = {}
    for row, own in zip(tqdm(trajectories, desc="Judging"), odds, strict=True):
        items = make_items([row], row.candidates.shape[1], -np.inf)
        scores: Sequence[np.ndarray] = list(score_items(model, items, 1)[0].numpy()) if items else []
        found[row.problem_id] = Judged(own, dict(zip(row.kept.tolist(), scores, strict=True)))
    return found


def load_trained(selector: Selector, student: PreTrainedModel, text_vocab: int) -> SelectorModel:
    """The model that training optimised, as it was kept, in evaluation mode."""
    settings = SelectorSettings(**selector.info.training["settings"]["selector"])
    model = SelectorModel(student, settings, text_vocab, readout=selector.readout.to(student.device))
    selector.load_adapter(model.peft)
    return model.eval()
