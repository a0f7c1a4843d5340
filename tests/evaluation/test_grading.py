"""Graders against hand-written verdicts, and estimators against their definition."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from fractions import Fraction

import pytest

from s2t_eval.evaluation.generated import GeneratedText
from s2t_eval.evaluation.grading import (
    EXPRESSION,
    INTEGER,
    LETTER,
    NUMBER,
    QUANTITY,
    Answer,
    Grader,
    Scorer,
    shared_grader,
)
from s2t_eval.evaluation.grading.estimators import majority_at_k, pass_at_k, reported_ks
from s2t_eval.evaluation.grading.extraction.spans import box_spans, find_sentences
from s2t_eval.evaluation.grading.extraction.statements import find_statements
from s2t_eval.evaluation.grading.numbers.parsing import format_number, number_values, parse_number
from tests.evaluation.grader_pairs import NONE, PAIRS, RIGHT, WRONG
from tests.harness_helpers import shared_records

RULES = {rule.name: rule for rule in (NUMBER, EXPRESSION, INTEGER, LETTER, QUANTITY)}
ALL = [(rule, *pair) for rule, pairs in PAIRS.items() for pair in pairs]


def test_pairs_are_many_and_cover_every_verdict() -> None:
    assert len(ALL) >= 150
    for rule, pairs in PAIRS.items():
        verdicts = {verdict for _, _, verdict in pairs}
        assert {RIGHT, WRONG} <= verdicts, rule
    assert sum(verdict == NONE for *_, verdict in ALL) >= 10


@pytest.mark.parametrize(("rule", "gold", "text", "verdict"), ALL)
def test_verdict_matches_the_hand_written_one(rule: str, gold: str, text: str, verdict: str) -> None:
    answer = RULES[rule].extract(text)
    if answer is None:
        assert verdict == NONE
    else:
        assert {True: RIGHT, False: WRONG, None: "timeout"}[
            RULES[rule].is_equivalent(gold, answer)
        ] == verdict, answer


@pytest.mark.parametrize(
    ("folder", "rule"),
    [
        ("HuggingFaceH4/MATH-500", EXPRESSION),
        ("olympiadbench", EXPRESSION),
        ("minerva_math", QUANTITY),
        ("math-ai/aime25", INTEGER),
    ],
)
def test_gold_answers_are_extracted_from_boxes_and_equal_themselves(folder: str, rule: object) -> None:
    for gold in (doc["answer"] for doc in shared_records(folder)):
        if gold.count("$") % 2:
            continue  # one broken record of OlympiadBench
        answer = RULES[rule.name].extract(f"So it is $\\boxed{{{gold.strip('$')}}}$.")  # type: ignore[attr-defined]
        assert answer is not None and RULES[rule.name].is_equivalent(gold, answer), (gold, answer)  # type: ignore[attr-defined]


def test_gold_answers_of_gsm8k_are_numbers() -> None:
    for gold in (doc["answer"].split("#### ")[-1] for doc in shared_records("openai/gsm8k")):
        assert NUMBER.is_equivalent(gold, NUMBER.extract(f"so \\boxed{{{gold}}}") or "")


# ---------------------------------------------------------------- extraction


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234.50", Fraction(2469, 2)),
        (r"3\frac{1}{2}", Fraction(7, 2)),
        ("-$5", -5),
        ("2e-3", Fraction(1, 500)),
        (r"5 \times 10^{3}", 5000),
        ("5 cm", 5),
        (r"5\text{ m}", 5),
        ("2x", None),
        ("1,2", None),
        ("10^3", None),
        ("1/0", None),
        ("1e9999999", None),
        ("5 or 6", None),
        ("", None),
    ],
)
def test_a_number_is_read_as_a_fraction(text: str, value: Fraction | None) -> None:
    assert parse_number(text) == value


def test_numbers_in_a_text() -> None:
    assert number_values("10-5 of pages 3-5, -2, $1,000.50 or 1/2") == [
        10, 5, 3, 5, -2, Fraction(2001, 2), Fraction(1, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["0", "-3", "1200", "0.5", "-0.125", "1/3", "0.000000000001"])
def test_formatted_numbers_parse_to_the_same_value(text: str) -> None:
    value = parse_number(text)
    assert value is not None
    assert format_number(value) == text


def test_boxes_and_statements() -> None:
    boxes = box_spans(r"\boxed{\frac{1}{2}} \fbox{3} \boxed{} \boxed{a\}b} \boxed 7. \boxed{open")
    assert [box.content for box in boxes] == [r"\frac{1}{2}", "3", r"a\}b", "7"]
    text = "The answer is $x$ or so. Answer: 3.5 cm. More.\n#### 9"
    statements = find_statements(text, find_sentences(text))
    assert [statement.phrase for statement in statements] == ["$x$ or so", "3.5 cm", "9"]
    assert find_statements("The answer is not 5", find_sentences("The answer is not 5")) == []


def test_truncated_text_has_no_implicit_answer() -> None:
    assert EXPRESSION.extract("First we see that 3 + 4 = 7") == "7"
    assert EXPRESSION.extract(GeneratedText("First we see that 3 + 4 = 7", truncated=True)) is None
    assert EXPRESSION.extract(GeneratedText(r"\boxed{7} and then", truncated=True)) == "7"


# ---------------------------------------------------------------- the worker


@pytest.fixture
def grader() -> Iterator[Grader]:
    opened = Grader(seconds=60)  # of a busy machine; what has to time out sets its own
    yield opened
    opened.close()


def test_comparison_that_times_out_does_not_affect_the_next(grader: Grader) -> None:
    assert grader.is_equivalent("1+x", "x+1") is True
    grader.seconds = 1
    assert grader.is_equivalent("2", r"9^{9^{9^{9}}}") is None
    grader.seconds = 60
    assert grader.is_equivalent(r"\frac12", "0.5") is True
    grader.close()
    assert grader.is_equivalent("2", r"9^{9^{9^{9}}}") is None
    assert grader._process is None, "a verdict that is known needs no worker"


def test_killed_worker_is_restarted(grader: Grader) -> None:
    assert grader.is_equivalent("1+x", "x+1") is True
    assert grader._process is not None
    os.kill(grader._process.pid, signal.SIGKILL)
    assert grader.is_equivalent("2+x", "x+2") is True


def test_worker_that_does_not_start_names_the_command_to_run() -> None:
    grader = Grader(command=(sys.executable, "-c", "raise SystemExit(1)"))
    with pytest.raises(RuntimeError, match=r"does not start; .*`pip install math-verify`"):
        grader.is_equivalent("x", "y")


def test_hostile_answers_are_never_executed(grader: Grader, tmp_path: object) -> None:
    """Generated text must not be passed to `eval`."""
    grader.seconds = 3
    marker = f"{tmp_path}/marker"
    for text in (
        f"__import__('os').system('touch {marker}')",
        rf"\text{{__import__('os').system('touch {marker}')}}",
        f"open('{marker}','w')",
        "[" * 5000,
        r"\frac{" * 2000,
        "9" * 50_000,
        "x" * 100_000,
        "\x00\ud800",
    ):
        assert grader.is_equivalent("5", text) is not True
        assert grader.is_equivalent("x+1", text) is not True
    assert not os.path.exists(marker)


# ---------------------------------------------------------------- metrics

SCORER = Scorer(NUMBER, lambda doc: str(doc["answer"]))


def score(*texts: str, scorer: Scorer = SCORER, answer: str = "18") -> dict[str, float]:
    [answers] = scorer.answers([list(texts)], [None])
    return scorer({"answer": answer}, [answers])


def test_one_response() -> None:
    assert score(r"\boxed{18}") == {"exact_match": 1.0, "extracted": 1.0, "ungraded": 0.0}
    assert score(r"\boxed{19}") == {"exact_match": 0.0, "extracted": 1.0, "ungraded": 0.0}
    assert score("no idea") == {"exact_match": 0.0, "extracted": 0.0, "ungraded": 0.0}
    cut = score(GeneratedText("no idea", truncated=True))
    assert cut == {"exact_match": 0.0, "extracted": 0.0, "ungraded": 0.0, "truncated": 1.0}


def test_ungraded_answer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_grader(), "seconds", 1.0)
    scorer = Scorer(EXPRESSION, lambda doc: str(doc["answer"]))
    metrics = score(r"\boxed{9^{9^{9^{9}}}}", scorer=scorer, answer="2")
    assert metrics == {"exact_match": 0.0, "extracted": 1.0, "ungraded": 1.0}


def test_many_responses() -> None:
    metrics = score(r"\boxed{18}", "so 18.0", r"\boxed{20}", "hm")
    assert metrics["avg@4"] == metrics["exact_match"] == metrics["pass@1"] == metrics["maj@1"] == 0.5
    assert metrics["pass@2"] == pytest.approx(5 / 6)
    assert metrics["pass@4"] == metrics["maj@4"] == 1.0
    assert metrics["extracted"] == 0.75


def test_logged_answers_are_plain_text() -> None:
    assert json.dumps([Answer("5", None), Answer(None, True)]) == '["5", "[invalid]"]'
    stored = pickle.loads(pickle.dumps([Answer("5", None), Answer(None, True)]))
    assert (stored, {type(text) for text in stored}) == (["5", "[invalid]"], {str}), (
        "the form in which ranks are gathered"
    )


def brute_majority(labels: list[str | None], right: set[str], k: int) -> float:
    outcomes = []
    for order in itertools.permutations(labels, k):
        votes = [label for label in order if label is not None]
        winner = max(votes, key=lambda label: (votes.count(label), -votes.index(label)), default=None)
        outcomes.append(winner in right)
    return sum(outcomes) / len(outcomes)


@pytest.mark.parametrize(
    "labels",
    [
        ["a", "a", "b", "b", "c", None],
        ["a", "b", "c", "d", "e", "f"],
        ["a", "a", "a", "b", "b", "b"],
        ["b", "b", "b", "b", "a", None],
        [None, None, None, "a", "b", "b"],
        [None] * 6,
        ["a"] * 6,
    ],
)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 6])
def test_estimators_are_means_over_all_subsets_of_size_k(labels: list[str | None], k: int) -> None:
    names = sorted({label for label in labels if label is not None})
    counts = [labels.count(name) for name in names]
    estimate = majority_at_k(counts, [name == "a" for name in names], 6, k)
    assert estimate == pytest.approx(brute_majority(labels, {"a"}, k))
    hits = [any(label == "a" for label in some) for some in itertools.combinations(labels, k)]
    assert pass_at_k(6, labels.count("a"), k) == pytest.approx(sum(hits) / len(hits))


def test_reported_ks_and_invalid_k() -> None:
    assert [reported_ks(n) for n in (1, 2, 5, 8)] == [[1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8]]
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"^k: expected between 1 and the 3 samples, got {k}$"):
            pass_at_k(3, 1, k)


# ---------------------------------------------------------------- equivalence classes


def test_equivalence_classes() -> None:
    answers = [r"\frac{1}{2}", "0.5", None, "2", r"\dfrac12", "2.0", "x"]
    assert EXPRESSION.equivalence_classes(answers) == [0, 0, None, 3, 0, 3, 6]
    assert LETTER.equivalence_classes(["A", "B", "A", None]) == [0, 1, 0, None]
    assert NUMBER.equivalence_classes(["18", "18.0", "1,800"]) == [0, 0, 2]
