"""Self-consistency: a vote over answers that the task's own rule extracts and compares."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from lm_eval.api.task import Task

from s2t_eval.evaluation.grading import EXPRESSION, INVALID, AnswerRule
from s2t_eval.model_wrappers.harness_tasks import built_task

STOCK_RULES = {"lm_eval.tasks.minerva_math.utils": EXPRESSION}
"""Stock modules with a `process_results` of their own, whose answers a rule of ours extracts."""

MOST_PLACES = 100
"""Digits in front of a number's point, or zeros behind it, up to which it is compared by value."""


class NoVotableAnswerError(ValueError):
    """A task whose outputs have no answer to vote on."""


@dataclass(frozen=True)
class Vote:
    """The outcome of a vote over the samples of one problem.

    Args:
        winner: index of the first sample with the winning answer; 0 where no answer is valid.
        answer: the winning answer in normal form, None where no answer is valid.
        share: of all samples, invalid ones included; of all weights where votes have weights.
        distinct: different valid answers.
        valid: samples with a valid answer.
    """

    winner: int
    answer: str | None
    share: float
    distinct: int
    valid: int


def vote(answers: Sequence[str | None], weights: Sequence[float] | None = None) -> Vote:
    """Plurality over normalised answers; None does not count, and the first of equally frequent ones wins.

    Args:
        answers: of each sample.
        weights: weight of each sample's vote, above 0; None: one each.
    """
    counts: dict[str, float] = {}
    for answer, weight in zip(answers, weights or [1] * len(answers), strict=True):
        if answer is not None:
            counts[answer] = counts.get(answer, 0) + weight
    if not counts:
        return Vote(0, None, 0.0, 0, 0)
    answer = max(counts, key=lambda known: counts[known])  # equal counts: the first occurrence
    share = counts[answer] / (len(answers) if weights is None else sum(weights))
    valid = sum(answer is not None for answer in answers)
    return Vote(answers.index(answer), answer, share, len(counts), valid)


def votable_task(name: str) -> Task:
    """The task of this name, if its answers can be voted on.

    Raises:
        NoVotableAnswerError: code, several answers, or answers that only the task's own scoring extracts.
    """
    task = built_task(name)
    if task is None:
        raise NoVotableAnswerError(
            f"maj8: task {name} did not build its requests in this process, so its answer rule is "
            "unknown; run it through lm_eval's own evaluation"
        )
    return require_votable(task)


def require_votable(task: Task) -> Task:
    """The task, if its answers can be compared.

    Raises:
        NoVotableAnswerError: code, several answers, or answers that only the task's own scoring reads.
    """
    name = task.config.task
    if getattr(task, "UNSAFE_CODE", False):
        raise NoVotableAnswerError(
            f"maj8: the answers of task {name} are code; programs have no answer to vote on (the paper "
            "leaves this cell empty); use --model greedy for it"
        )
    if "bypass" in task._metric_fn_list:
        raise NoVotableAnswerError(
            f"maj8: --predict_only replaces the scoring of task {name}, by whose rule answers are compared; "
            "run it without --predict_only"
        )
    if answer_rule(task) is not None:
        return task
    if "exact_match" not in task._metric_fn_list or callable(task.config.process_results):
        raise NoVotableAnswerError(
            f"maj8: task {name} has no answer to vote on: expected the metric exact_match over a "
            f"filtered answer, got {', '.join(task._metric_fn_list) or 'none'}"
            f"{' through its own process_results' if callable(task.config.process_results) else ''}"
        )
    return task


def answer_rule(task: Task) -> AnswerRule | None:
    """The answer rule of a task's own scoring; None where its filters and exact_match are used."""
    scoring = task.config.process_results
    rule = getattr(scoring, "rule", None)
    return rule if isinstance(rule, AnswerRule) else STOCK_RULES.get(getattr(scoring, "__module__", ""))


def votable_answers(task: Task, doc: Any, texts: Sequence[str]) -> list[str | None]:
    """One answer a text, None where it has none; answers equal by the task's rule become one string."""
    rule = answer_rule(task)
    if rule is None:
        return [extract_answer(task, doc, text) for text in texts]
    answers = [rule.extract(text) for text in texts]
    return [None if first is None else answers[first] for first in rule.equivalence_classes(answers)]


def extract_answer(task: Task, doc: Any, text: str) -> str | None:
    """The answer of the first of the task's filters that extracts one, in normal form."""
    for ensemble in task._filters:
        filters = [make() for make in ensemble.filters]
        # Filters that take the first k of several responses need as many; equal ones change no majority.
        responses: Any = [[text] * max(getattr(one, "k", 1) for one in filters)]
        for one in filters:
            responses = one.apply(responses, [doc])
        answer = next(iter(responses))
        if isinstance(answer, list | tuple):
            answer = answer[0] if answer else INVALID
        if isinstance(answer, str) and answer.strip() and answer != INVALID:
            return normalise(answer, task._metric_fn_kwargs.get("exact_match", {}))
    return None


def normalise(answer: str, options: dict[str, Any]) -> str:
    """Map equal answers to equal strings: by the metric's own options, then numbers by value.

    Args:
        answer: what a filter extracted.
        options: the arguments of the task's exact_match metric.
    """
    for pattern in options.get("regexes_to_ignore") or []:
        answer = re.sub(pattern, "", answer)
    if options.get("ignore_case"):
        answer = answer.lower()
    if options.get("ignore_punctuation"):
        answer = answer.translate(str.maketrans("", "", string.punctuation))
    answer = answer.strip()
    number = answer.removesuffix(".").replace(",", "").replace("$", "")
    try:
        value = Decimal(number)
    except ArithmeticError:
        return answer
    if not value.is_finite() or abs(value.adjusted()) > MOST_PLACES:
        return answer
    if not value:
        return "0"  # of either sign
    written = format(value, "f")  # unlike `normalize`, which rounds to 28 digits
    return written.rstrip("0").rstrip(".") if "." in written else written
