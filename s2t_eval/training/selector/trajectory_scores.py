"""A trained selector's scores on labelled texts that it was not trained on, for analyses."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm
from transformers import PreTrainedModel

from s2t_eval.engine import ModelRunner
from s2t_eval.methods.selector_folder import Selector
from s2t_eval.training.labels import LabelError, LabelSet, Trajectory
from s2t_eval.training.selector.agreement import ranking_scores, score_items
from s2t_eval.training.selector.held_out import split_as_trained, unseen_texts
from s2t_eval.training.selector.items import make_items
from s2t_eval.training.selector.model import SelectorModel
from s2t_eval.training.selector.router_training import step_table
from s2t_eval.training.selector.settings import SelectorSettings

logger = logging.getLogger(__name__)

SOURCE = ("source", "split")
"""Entries that name where problems are from."""
PROBLEMS = ("source", "split", "hash", "problems")
"""Entries of a manifest's `data` that identify the problems."""


class TrajectoryScores(NamedTuple):
    """A selector's outputs on one labelled text."""

    router: np.ndarray | None
    """log-odds of the router of proposer `base` at every step, [steps]; None without such a router"""
    scores: dict[int, np.ndarray]
    """kept step -> scores of its candidates, [K] each, in the order of the student's probabilities; those by
    which proposer `base` ranks, with the selector's `proposal_weight`"""


def held_out_trajectories(selector: Selector, labels: LabelSet) -> list[Trajectory]:
    """The trajectories of a label set that this selector was neither trained on nor chosen by.

    Selectors made before held-out texts had halves were chosen by all of them, and get all, with a warning.
    Where a folder does not list its questions, problems of another set from the same source may be among
    them, and a warning says so.

    Raises:
        LabelError: no trajectory is left.
    """
    training, trained_on = selector.info.training, selector.info.labels["data"]
    if has_same_problems(selector.info.labels, asdict(labels.manifest)):
        _, halves = split_as_trained(training, labels)
        if not halves.reported:
            logger.warning(
                "selector=%s: all %d texts that it was not trained on chose its checkpoint, so figures on "
                "them are optimistic; train it anew for a half that chooses nothing",
                selector.folder,
                len(halves.choosing),
            )
        return halves.reported or halves.choosing
    unseen = unseen_texts(training, list(labels))
    if unseen is None:
        if all(trained_on.get(name) == labels.manifest.data.get(name) for name in SOURCE):
            logger.warning(
                "selector=%s: it was trained on other problems of %s, and its folder does not list which, so "
                "some of these %d may be among them; train it anew for figures without them",
                selector.folder,
                trained_on.get("source"),
                len(labels),
            )
        return list(labels)
    if not unseen:
        raise LabelError(
            f"labels: expected problems that selector={selector.folder} has not seen, got {len(labels)} that "
            "it was trained on or chosen by; label other problems"
        )
    return unseen


def has_same_problems(trained: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
    """Whether two label sets are of the same problems, which are then split in the same way.

    Texts, teacher and measurements do not matter: the split depends on the questions alone.

    Args:
        trained: manifest of the labels of training.
        current: manifest of other labels.
    """
    return all(trained["data"].get(name) == current["data"].get(name) for name in PROBLEMS)


def score_trajectories(
    selector: Selector, student: PreTrainedModel, text_vocab: int, trajectories: Sequence[Trajectory]
) -> dict[str, TrajectoryScores]:
    """Scores at every kept step and log-odds of the router at every step, by problem id.

    Args:
        selector: a selector of this student.
        student: the plain model; the selector's adapter is added to it.
        text_vocab: leading rows of its head that are text.
        trajectories: texts of the plain student, with candidates.
    """
    router = selector.routers.get("base")
    log_odds: list[np.ndarray | None] = [None] * len(trajectories)
    if router is not None:
        table = step_table(ModelRunner(student, "student", text_vocab), trajectories, is_own_text=True)
        steps = [len(features) for features in table.features]
        values = table.router_log_odds(router.to(student.device)).numpy()
        log_odds = list(np.split(values, np.cumsum(steps)[:-1]))
    model = load_trained(selector, student, text_vocab)
    scored = {}
    for row, row_log_odds in zip(tqdm(trajectories, desc="Scoring"), log_odds, strict=True):
        items = make_items([row], row.candidates.shape[1], -np.inf)
        scores: Sequence[np.ndarray] = []
        if items:
            weight = selector.info.proposal_weight
            scores = list(ranking_scores(score_items(model, items, 1)[0], items, weight).numpy())
        by_step = dict(zip(row.kept.tolist(), scores, strict=True))
        scored[row.problem_id] = TrajectoryScores(row_log_odds, by_step)
    return scored


def load_trained(selector: Selector, student: PreTrainedModel, text_vocab: int) -> SelectorModel:
    """The trained model of a selector folder, in evaluation mode."""
    settings = SelectorSettings.of_folder(selector.info.training["settings"]["selector"])
    model = SelectorModel(student, settings, text_vocab, readout=selector.readout.to(student.device))
    selector.load_adapter(model.peft)
    return model.eval()
