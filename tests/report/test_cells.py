"""One form for each kind of figure, and none for what is not defined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s2t_eval.report.cells import accuracy, delta, percent_sign, rounded, share
from s2t_eval.report.runs import read_runs
from s2t_eval.statistics import UNDEFINED, Interval, wilson
from tests.report_helpers import EMBEDDED, edited

NAN = float("nan")


def test_accuracy_of_documents_that_are_right_or_wrong() -> None:
    [run] = read_runs([EMBEDDED / "greedy.json"])
    score = accuracy(run)
    assert (score.correct, score.n) == (133, 300) and score.interval == wilson(133, 300)
    assert score.count_text == "133 (44.3 %)" and score.interval_text == "38.8–50.0"


def test_scores_between_right_and_wrong_have_no_wilson_interval(tmp_path: Path) -> None:
    def half(content: dict[str, Any]) -> None:
        lines = content["documents"]["s2t_arith"]
        lines[1] = lines[1].rsplit(" ", 1)[0] + " 0.5"

    [run] = read_runs([edited(EMBEDDED / "greedy.json", tmp_path / "a.json", half)])
    assert accuracy(run).interval_text == "–"


def test_a_figure_above_one_is_no_share(tmp_path: Path) -> None:
    """A perplexity without samples ended the report: Wilson's interval was asked for 12.5 of 1 documents."""

    def perplexity(content: dict[str, Any]) -> None:
        del content["documents"]
        content["results"]["s2t_arith"]["exact_match,answer"] = 12.5

    [run] = read_runs([edited(EMBEDDED / "greedy.json", tmp_path / "a.json", perplexity)])
    assert accuracy(run).interval_text == "–" and accuracy(run).n == 300


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (delta(0.125, Interval(-0.05, 0.198)), "+12.5 (-5.0 to +19.8)"),
        (delta(-0.02, UNDEFINED), "-2.0"),
        (share(0.342, Interval(0.06, 0.63)), "34 % (6 to 63)"),
        (share(0.342, UNDEFINED), "34 % (interval undefined)"),
        (share(NAN, UNDEFINED), "–"),
        (percent_sign(NAN), "–"),
        (rounded(float("inf")), "–"),
        (rounded(1234.4), "1,234"),
    ],
)
def test_figures_as_text(text: str, expected: str) -> None:
    assert text == expected
