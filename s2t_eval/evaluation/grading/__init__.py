"""Grading of responses: extraction of answers, their equivalence, and unbiased estimators of metrics."""

from s2t_eval.evaluation.grading.grader import Grader, GraderBrokenError, shared_grader
from s2t_eval.evaluation.grading.rules import EXPRESSION, INTEGER, LETTER, NUMBER, QUANTITY, AnswerRule
from s2t_eval.evaluation.grading.scorer import INVALID, Answer, Scorer

__all__ = [
    "EXPRESSION",
    "INTEGER",
    "INVALID",
    "LETTER",
    "NUMBER",
    "QUANTITY",
    "Answer",
    "AnswerRule",
    "Grader",
    "GraderBrokenError",
    "Scorer",
    "shared_grader",
]
