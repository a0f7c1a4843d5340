"""Labelled steps as data frames, the input of every analysis of labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

MISSED = 10_000
"""Rank of a teacher's token that is not among the kept candidates."""


def positions(
    trajectories: Iterable[Any], benchmark: str, ends_line: npt.NDArray[np.bool_] | None = None
) -> pd.DataFrame:
    """A row for each step: benchmark, problem_id, t, kl (student to teacher), kl_reverse and local signals.

    The signals are entropy, entropy64 where the labels have it, margin, position (1 / (1 + t)) and, where the
    tokens that end a line are known, line_entropy. Labels that servers made have entropy64 alone of the
    entropies.

    Args:
        trajectories: with the columns of a label set (`training.labels.Trajectory`).
        benchmark: of the texts.
        ends_line: whether a token ends a line, [text_vocab]; see `models.vocabulary.line_ends`.
    """
    frames = []
    for one in trajectories:
        columns = {
            "benchmark": benchmark,
            "problem_id": one.problem_id,
            "t": np.arange(len(one.output_ids)),
            "kl": one.kl_student_teacher,
            "kl_reverse": one.kl_teacher_student,
            **({"entropy": one.entropy} if one.has_exact_entropy else {}),
            "margin": one.margin,
            "position": 1 / (1 + np.arange(len(one.output_ids))),
        }
        if len(one.entropy64) or not one.has_exact_entropy:
            columns["entropy64"] = one.entropy64 if len(one.entropy64) else one.entropy
        if ends_line is not None and one.has_exact_entropy:
            begins = np.concatenate([[True], ends_line[one.output_ids[:-1]]])
            columns["line_entropy"] = np.where(begins, one.entropy, 0.0)
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def groups(trajectories: Iterable[Any], benchmark: str) -> pd.DataFrame:
    """A row for each step with candidates: benchmark, problem_id, t, kl, rank, student, teacher.

    `rank` is the rank of the teacher's token (argmax over its vocabulary) among the candidates, from 1, or
    MISSED; `student` and `teacher` are the candidates' log-probabilities [K], most likely of the student
    first.
    """
    rows = []
    for one in trajectories:
        for at, t in enumerate(one.kept):
            places = np.flatnonzero(one.candidates[at] == one.teacher_argmax[t])
            rank = int(places[0]) + 1 if len(places) else MISSED
            scores = (one.student_log_probs[at], one.teacher_log_probs[at])
            rows.append((benchmark, one.problem_id, int(t), float(one.kl_student_teacher[t]), rank, *scores))
    return pd.DataFrame(rows, columns=["benchmark", "problem_id", "t", "kl", "rank", "student", "teacher"])


def with_selector(
    every: pd.DataFrame, steps: pd.DataFrame, learned: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of `positions` and `groups` of texts that a trained selector has scored, with its scores.

    Args:
        every: of `positions`.
        steps: of `groups`.
        learned: problem -> the router's log-odds at every step or None (`router`), and the selector's scores
            of the candidates by step (`scores`).

    Returns:
        Both frames, the first with a column `router`, the second with a column `selector`.
    """
    every, steps = (frame[frame["problem_id"].isin(learned)] for frame in (every, steps))
    if all(one.router is not None for one in learned.values()):
        odds = [float(learned[p].router[t]) for p, t in zip(every["problem_id"], every["t"], strict=True)]
        every = every.assign(router=odds)
    scores = [learned[p].scores[t] for p, t in zip(steps["problem_id"], steps["t"], strict=True)]
    return every.reset_index(drop=True), steps.assign(selector=scores).reset_index(drop=True)


def top(steps: pd.DataFrame, all_steps: pd.DataFrame, tau: float) -> pd.DataFrame:
    """The rows of `steps` whose KL is among the top `tau` of all steps of their benchmark.

    Raises:
        ValueError: no step lies above the quantile, or labels with candidates at fewer steps.
    """
    parts = []
    for benchmark, part in all_steps.groupby("benchmark", sort=False):
        threshold = part["kl"].quantile(1 - tau)
        expected = int(is_top(part["kl"], tau, str(benchmark)).sum())
        chosen = steps[(steps["benchmark"] == benchmark) & (steps["kl"] > threshold)]
        if len(chosen) < expected:
            raise ValueError(
                f"tau {tau}: {expected} steps of {benchmark} lie above KL {threshold:.3g}, the labels have "
                f"candidates at {len(chosen)} of them; take a smaller --tau, or collect with a larger one"
            )
        parts.append(chosen)
    return pd.concat(parts, ignore_index=True)


def text_numbers(steps: pd.DataFrame) -> npt.NDArray[np.intp]:
    """The number of each step's text, from 0 in the order of the steps, [steps]; problems of two
    benchmarks may have one id."""
    return pd.factorize(steps["benchmark"] + "\0" + steps["problem_id"])[0]


def is_top(kl: pd.Series, tau: float, where: str) -> pd.Series:
    """Whether a step's KL is above the quantile 1 - tau of all, [steps].

    Raises:
        ValueError: no step is, as where there is a single one or all have the same KL.
    """
    threshold = kl.quantile(1 - tau)
    if not (kl > threshold).any():
        raise ValueError(
            f"tau {tau}: no step of {where} lies above KL {threshold:.3g} (n = {len(kl)}); label more "
            "problems, or take a larger --tau"
        )
    return kl > threshold
