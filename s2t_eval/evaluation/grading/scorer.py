"""What a task YAML names: answers out of responses, and metrics out of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from s2t_eval.evaluation.generated import was_truncated
from s2t_eval.evaluation.grading.estimators import majority_at_k, pass_at_k, sizes
from s2t_eval.evaluation.grading.rules import EXPRESSION, INTEGER, LETTER, NUMBER, QUANTITY, AnswerRule

INVALID = "[invalid]"
"""What stands for an answer where there is none, as in the harness's own filters."""


class Answer(str):
    """An extracted answer as it is logged, and what is known beside it; stored, a plain text."""

    found: bool
    truncated: bool | None

    def __new__(cls, answer: str | None, truncated: bool | None) -> Answer:
        made = super().__new__(cls, INVALID if answer is None else answer)
        made.found, made.truncated = answer is not None, truncated
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return (str, (str(self),))


class Scorer:
    """`process_results` of a task whose answers are read by one rule.

    For one response: `exact_match`; for n of them also `avg@n`, `maj@k` and `pass@k` for k = 1, 2, 4
    ... n. Beside them `extracted` (share with an answer), `ungraded` (share whose answer could not
    be compared in time; it counts as not right) and `truncated` (share that hit the length limit;
    left out where the backend does not tell).

    Args:
        rule: how answers are read and compared.
        gold: document -> the right answer.
    """

    def __init__(self, rule: AnswerRule, gold: Callable[[dict[str, Any]], str]) -> None:
        self.rule = rule
        self.gold = gold

    def answers(self, resps: Sequence[Sequence[str]], docs: Sequence[object]) -> list[list[Answer]]:
        """The task's filter: every response to its answer, none left out."""
        return [[Answer(self.rule.extract(text), was_truncated(text)) for text in texts] for texts in resps]

    def __call__(self, doc: dict[str, Any], results: Sequence[Sequence[Answer]]) -> dict[str, float]:
        answers, gold = results[0], self.gold(doc)
        verdicts = [self.rule.same(gold, answer) if answer.found else False for answer in answers]
        metrics = {
            "exact_match": _share([verdict is True for verdict in verdicts]),
            "extracted": _share([answer.found for answer in answers]),
            "ungraded": _share([verdict is None for verdict in verdicts]),
        }
        cut = [answer.truncated for answer in answers if answer.truncated is not None]
        if cut:
            metrics["truncated"] = _share(cut)
        if len(answers) > 1:
            metrics |= self._of_many(answers, [verdict is True for verdict in verdicts])
        return metrics

    def _of_many(self, answers: Sequence[Answer], right: Sequence[bool]) -> dict[str, float]:
        n = len(answers)
        classes = self.rule.classes([str(answer) if answer.found else None for answer in answers])
        firsts = [place for place, first in enumerate(classes) if first == place]
        counts, correct = [classes.count(first) for first in firsts], [right[first] for first in firsts]
        metrics = {f"avg@{n}": _share(right)}
        for k in sizes(n):
            metrics[f"maj@{k}"] = majority_at_k(counts, correct, n, k)
            metrics[f"pass@{k}"] = pass_at_k(n, sum(right), k)
        return metrics

    def __repr__(self) -> str:
        return f"Scorer({self.rule.name})"


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)


def _answer(doc: dict[str, Any]) -> str:
    return str(doc["answer"])


def _after_hashes(doc: dict[str, Any]) -> str:
    """GSM8k's answers end in "#### 18"."""
    return str(doc["answer"]).split("####")[-1].strip()


number = Scorer(NUMBER, _after_hashes)
integer = Scorer(INTEGER, _answer)
letter = Scorer(LETTER, _answer)
expression = Scorer(EXPRESSION, _answer)
quantity = Scorer(QUANTITY, _answer)
number_answers = number.answers
integer_answers = integer.answers
letter_answers = letter.answers
expression_answers = expression.answers
quantity_answers = quantity.answers
