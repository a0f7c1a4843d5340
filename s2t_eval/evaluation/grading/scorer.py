"""Scorers named in task YAMLs: filters that extract answers, and metrics computed from the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from s2t_eval.evaluation.generated import was_truncated
from s2t_eval.evaluation.grading.estimators import majority_at_k, pass_at_k, reported_ks
from s2t_eval.evaluation.grading.rules import EXPRESSION, INTEGER, LETTER, NUMBER, QUANTITY, AnswerRule

INVALID = "[invalid]"
"""Placeholder of a missing answer, the same as in the harness's own filters."""


class Answer(str):
    """An extracted answer, as it is logged, with its metadata; it is serialised as a plain string.

    Args:
        answer: the extracted answer; None if there is none.
        truncated: whether the response stopped at the length limit; None if unknown.
    """

    is_extracted: bool
    truncated: bool | None

    def __new__(cls, answer: str | None, truncated: bool | None) -> Answer:
        instance = super().__new__(cls, INVALID if answer is None else answer)
        instance.is_extracted, instance.truncated = answer is not None, truncated
        return instance

    def __reduce__(self) -> tuple[Any, ...]:
        return (str, (str(self),))


class Scorer:
    """`process_results` of a task with one answer rule.

    The metrics are `exact_match` and, for n > 1 responses, `avg@n`, `maj@k` and `pass@k` for k = 1, 2, 4,
    ..., n; further `extracted` (fraction of responses with an answer), `ungraded` (fraction whose comparison
    timed out; these count as incorrect) and `truncated` (fraction that reached the length limit;
    omitted if the backend does not report it).

    Args:
        rule: extraction and equivalence of answers.
        gold: function from a document to its gold answer.
    """

    def __init__(self, rule: AnswerRule, gold: Callable[[dict[str, Any]], str]) -> None:
        self.rule = rule
        self.gold = gold

    def answers(self, resps: Sequence[Sequence[str]], docs: Sequence[object]) -> list[list[Answer]]:
        """The task's filter: extract an answer from every response."""
        return [[Answer(self.rule.extract(text), was_truncated(text)) for text in texts] for texts in resps]

    def optional_metrics(self, n: int) -> dict[str, bool]:
        """The metrics that only some runs of n responses have, and whether a higher value is better."""
        names = [f"avg@{n}", *(f"{kind}@{k}" for k in reported_ks(n) for kind in ("maj", "pass"))]
        return {"truncated": False, **dict.fromkeys(names if n > 1 else (), True)}

    def __call__(self, doc: dict[str, Any], results: Sequence[Sequence[Answer]]) -> dict[str, float]:
        answers, gold = results[0], self.gold(doc)
        verdicts = [
            self.rule.is_equivalent(gold, answer) if answer.is_extracted else False for answer in answers
        ]
        metrics = {
            "exact_match": _mean([verdict is True for verdict in verdicts]),
            "extracted": _mean([answer.is_extracted for answer in answers]),
            "ungraded": _mean([verdict is None for verdict in verdicts]),
        }
        truncated = [answer.truncated for answer in answers if answer.truncated is not None]
        if truncated:
            metrics["truncated"] = _mean(truncated)
        if len(answers) > 1:
            metrics |= self._sample_metrics(answers, [verdict is True for verdict in verdicts])
        return metrics

    def _sample_metrics(self, answers: Sequence[Answer], is_correct: Sequence[bool]) -> dict[str, float]:
        n = len(answers)
        classes = self.rule.equivalence_classes(
            [str(answer) if answer.is_extracted else None for answer in answers]
        )
        firsts = [index for index, first in enumerate(classes) if first == index]
        counts, correct = [classes.count(first) for first in firsts], [is_correct[first] for first in firsts]
        metrics = {f"avg@{n}": _mean(is_correct)}
        for k in reported_ks(n):
            metrics[f"maj@{k}"] = majority_at_k(counts, correct, n, k)
            metrics[f"pass@{k}"] = pass_at_k(n, sum(is_correct), k)
        return metrics

    def __repr__(self) -> str:
        return f"Scorer({self.rule.name})"


def _mean(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)


def _gold_answer(doc: dict[str, Any]) -> str:
    return str(doc["answer"])


def _gsm8k_gold(doc: dict[str, Any]) -> str:
    """The number after "####" at the end of a GSM8k solution."""
    return str(doc["answer"]).split("####")[-1].strip()


number = Scorer(NUMBER, _gsm8k_gold)
integer = Scorer(INTEGER, _gold_answer)
letter = Scorer(LETTER, _gold_answer)
expression = Scorer(EXPRESSION, _gold_answer)
quantity = Scorer(QUANTITY, _gold_answer)
number_answers = number.answers
integer_answers = integer.answers
letter_answers = letter.answers
expression_answers = expression.answers
quantity_answers = quantity.answers
