"""Votes of maj8: which answers are equal, who votes, and what the task's own rules read."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.task import Task

from s2t_eval.model_wrappers.maj8 import MajorityVote
from s2t_eval.model_wrappers.voting import (
    NoVotableAnswerError,
    Vote,
    extract_answer,
    normalise,
    require_votable,
    votable_task,
    vote,
)
from tests.harness_helpers import (
    STUDENT,
    arith_docs,
    counts,
    evaluate,
    inline_task,
    logits_after,
    model,
    ours,
    read_trace,
    task_manager,
    texts,
)

# ---------------------------------------------------------------- counting


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["1"], Vote(0, "1", 1.0, 1, 1)),
        (["1", "2", "2"], Vote(1, "2", 2 / 3, 2, 3)),
        (["1", "2", "3", "2", "1"], Vote(0, "1", 2 / 5, 3, 5)),
        (["3", "1", "2", "2", "1"], Vote(1, "1", 2 / 5, 3, 5)),
        ([None, None, None, "4"], Vote(3, "4", 1 / 4, 1, 1)),
        ([None, "4", "5", None, "5", None], Vote(2, "5", 2 / 6, 2, 3)),
        ([None, None], Vote(0, None, 0.0, 0, 0)),
    ],
)
def test_plurality(answers: list[str | None], expected: Vote) -> None:
    """Ties go to the answer seen first, None never votes, and the share is of all samples."""
    assert vote(answers) == expected


def test_votes_with_weights() -> None:
    """One sure text outvotes two that are not; equal weights are the plain vote; None has no vote."""
    answers = ["1", "2", "2", None]
    assert vote(answers, [5, 2, 2, 9]) == Vote(0, "1", 5 / 18, 2, 3)
    assert vote(answers, [1, 1, 1, 1]) == vote(answers) == Vote(1, "2", 2 / 4, 2, 3)
    assert vote([None, None], [1, 2]) == Vote(0, None, 0.0, 0, 0)


def test_weights_are_the_samples_own_confidence(tmp_path: Path) -> None:
    """The samples are those of the plain vote, and each weight is its definition, step by step."""
    plain_trace, weighted_trace = tmp_path / "plain.jsonl", tmp_path / "weighted.jsonl"
    few = {"num_samples": 3}
    evaluate("maj8", {**few, "trace": str(plain_trace)}, limit=3)
    results = evaluate("maj8", {**few, "weight": "confidence", "trace": str(weighted_trace)}, limit=3)
    assert ours(results)["sampling"]["weight"] == "confidence"
    plain, weighted = read_trace(plain_trace), read_trace(weighted_trace)
    key = lambda line: (line["doc_id"], line["sample"])  # noqa: E731
    for one, other in zip(sorted(plain, key=key), sorted(weighted, key=key), strict=True):
        assert one["output_ids"] == other["output_ids"] and one["vote"] == other["plain_vote"]
    line = weighted[0]
    means = []
    for t in range(len(line["output_ids"])):
        log_probs = logits_after(model(STUDENT), line["prompt_ids"] + line["output_ids"][:t]).log_softmax(-1)
        means.append(float(log_probs.topk(20).values.mean()))
    assert line["confidence"] == pytest.approx(-sum(means) / len(means), rel=1e-4)
    of_doc = [other for other in weighted if other["doc_id"] == line["doc_id"]]
    of_doc.sort(key=lambda other: other["sample"])
    expected = vote([other["answer"] for other in of_doc], [other["confidence"] for other in of_doc])
    assert line["vote"] == asdict(expected)


def test_confidence_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    """One by one, and in four rows that are refilled as texts end."""
    asked = {"num_samples": 3, "weight": "confidence"}
    by_rows = {}
    for rows in (1, 4):
        trace = tmp_path / f"{rows}.jsonl"
        evaluate("maj8", {**asked, "trace": str(trace)}, limit=4, batch_size=rows)
        by_rows[rows] = {(line["doc_id"], line["sample"]): line for line in read_trace(trace)}
    assert len(by_rows[1]) == 12 and by_rows[4].keys() == by_rows[1].keys()
    for key, line in by_rows[1].items():
        assert line["output_ids"] == by_rows[4][key]["output_ids"]
        assert line["confidence"] == pytest.approx(by_rows[4][key]["confidence"], rel=1e-5)
        assert line["vote"]["winner"] == by_rows[4][key]["vote"]["winner"]


def test_a_cached_vote_keeps_its_weights(tmp_path: Path) -> None:
    """Confidence has to survive in the cache: the votes of a repeated run would count nothing."""
    asked = {"num_samples": 3, "weight": "confidence"}
    first = evaluate("maj8", asked, limit=3, use_cache=str(tmp_path / "cache"))
    again = evaluate("maj8", asked, limit=3, use_cache=str(tmp_path / "cache"))
    assert texts(again) == texts(first) and counts(again)["cached_texts"] == 9


def test_another_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^weight: expected 'confidence', or none at all, got 'length'"):
        evaluate("maj8", {"weight": "length"}, limit=1)


# ---------------------------------------------------------------- equal answers


@pytest.mark.parametrize(
    "written",
    ["18", "18.0", "18.", " 18 ", "$18", "$18.00", "018", "1.8e1", "1.8E+1", "18,", "+18"],
)
def test_one_number_written_in_many_ways(written: str) -> None:
    assert normalise(written, {}) == "18"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1,000", "1000"),
        ("1e3", "1000"),
        ("$1,234,567.50", "1234567.5"),
        ("-3", "-3"),
        ("-3.0", "-3"),
        ("-0", "0"),
        ("0.00", "0"),
        (".5", "0.5"),
        ("0.50", "0.5"),
        ("1/2", "1/2"),
        ("x + 1", "x + 1"),
        ("A", "A"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("12 apples", "12 apples"),
        ("", ""),
    ],
)
def test_normal_form(written: str, expected: str) -> None:
    assert normalise(written, {}) == expected


@pytest.mark.parametrize(
    "written", ["1e1000000", "-1e1000000", "1e100000", "1e-100000", "1e99999999999999999999"]
)
def test_a_number_of_very_many_digits_is_its_text(written: str) -> None:
    """One sample with such an answer ended the run, or had a vote of 100,001 digits."""
    assert normalise(written, {}) == written


def test_long_numbers_are_not_rounded() -> None:
    """Two answers that differed in the 29th digit were one vote."""
    first, second = "1" * 29 + "2", "1" * 29 + "3"
    assert normalise(first, {}) == first and normalise(f"{second}.0", {}) == second


def test_numbers_that_are_not_equal() -> None:
    forms = [normalise(written, {}) for written in ("3", "-3", "0.3", "30", "3/1", "33")]
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize(
    ("written", "options", "expected"),
    [
        ("#### 1,200", {"regexes_to_ignore": [",", r"\$", "(?s).*#### ", r"\.$"]}, "1200"),
        ("Yes", {"ignore_case": True}, "yes"),
        ("Yes", {}, "Yes"),
        ("(B)", {"ignore_punctuation": True}, "B"),
        ("(B)", {}, "(B)"),
        ("$7. dollars", {"regexes_to_ignore": [" dollars"]}, "7"),
    ],
)
def test_the_metric_s_own_rules_come_first(written: str, options: dict[str, Any], expected: str) -> None:
    assert normalise(written, options) == expected


# ---------------------------------------------------------------- tasks

GSM8K_METRIC = {
    "metric": "exact_match",
    "aggregation": "mean",
    "higher_is_better": True,
    "ignore_case": True,
    "ignore_punctuation": False,
    "regexes_to_ignore": [",", r"\$", "(?s).*#### ", r"\.$"],
}
GSM8K_FILTERS = [
    {
        "name": "strict-match",
        "filter": [
            {"function": "regex", "regex_pattern": r"#### (\-?[0-9\.\,]+)"},
            {"function": "take_first"},
        ],
    },
    {
        "name": "flexible-extract",
        "filter": [
            {
                "function": "regex",
                "group_select": -1,
                "regex_pattern": r"(-?[$0-9.,]{2,})|(-?[0-9]+)",
            },
            {"function": "take_first"},
        ],
    },
]
"""As the stock gsm8k task has them."""


def load(**config: Any) -> Task:
    name = config.pop("name", "votes")
    task: Task = task_manager().load([inline_task(name, arith_docs(2), **config)])["tasks"][name]
    return task


@pytest.fixture(scope="module")
def gsm8k() -> Task:
    return load(name="gsm8k_like", metric_list=[GSM8K_METRIC], filter_list=GSM8K_FILTERS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("So 9 * 2 = 18.\n#### 18", "18"),
        ("So 9 * 2 = 18.\n#### 18.00\n", "18"),
        ("#### 1,200", "1200"),
        ("#### 5\nor rather 6", "5"),
        ("The answer is $1,200.", "1200"),
        ("It costs 3 dollars and then -7", "-7"),
        ("I do not know.", None),
        ("", None),
    ],
)
def test_filters_of_gsm8k_are_tried_in_their_order(text: str, expected: str | None, gsm8k: Task) -> None:
    """The strict filter reads first; where it finds nothing the flexible one does."""
    assert extract_answer(gsm8k, {}, text) == expected


def test_filters_that_take_several_responses_get_them() -> None:
    """Stock `gsm8k_cot_self_consistency` ended in an assertion in the middle of a run."""
    take = {"function": "take_first_k", "k": 64}
    steps = [{"function": "regex", "regex_pattern": "is (\\d+)"}, take, {"function": "majority_vote"}]
    steps.append({"function": "take_first"})
    task = load(name="consistent", filter_list=[{"name": "maj", "filter": steps}])
    assert extract_answer(task, {}, "It is 12.") == "12"


def test_task_without_filters_votes_on_the_text() -> None:
    task = load(name="plain", metric_list=[{"metric": "exact_match", "ignore_case": True}])
    assert extract_answer(task, {}, " Yes ") == "yes"
    assert extract_answer(task, {}, "  ") is None
    assert extract_answer(task, {}, "[invalid]") is None


def test_votes_through_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripted samples: the text handed on is the first that gives the answer most of them give."""
    said = {
        0: ["#### 1", "about 18", "#### 18.0", "no idea", "it is $18."],
        1: ["dunno", "who knows", "hm", "no", "none"],
    }
    scripts = {doc: iter(lines) for doc, lines in said.items()}
    monkeypatch.setattr(MajorityVote, "text", lambda self, asked, result: next(scripts[asked.doc_id]))
    task = inline_task("scripted", arith_docs(2), metric_list=[GSM8K_METRIC], filter_list=GSM8K_FILTERS)
    results = evaluate("maj8", {"num_samples": 5}, tasks=[task])
    assert texts(results, "scripted") == ["about 18", "dunno"]


def test_seed_of_the_harness_reaches_the_samples() -> None:
    """`--seed` did not: every run of maj8 drew the same samples, whatever was given there."""
    model_args = {"num_samples": 1, "temperature": 3.0, "top_p": 1.0, "sample_top_k": 0}
    found = evaluate("maj8", model_args, limit=2, torch_random_seed=5)
    named = evaluate("maj8", {**model_args, "seed": 5}, limit=2)
    assert ours(found)["seed"] == ours(named)["seed"] == 5
    assert texts(found) == texts(named)
    default = evaluate("maj8", model_args, limit=2)
    assert ours(default)["seed"] == 0
    assert texts(default) != texts(found)
    both = evaluate("maj8", {**model_args, "seed": 0}, limit=2, torch_random_seed=5)
    assert (ours(both)["seed"], texts(both)) == (0, texts(default))
    as_text = evaluate("maj8", f"pretrained={STUDENT},num_samples=1", limit=1, torch_random_seed=7)
    assert ours(as_text)["seed"] == 7


# ---------------------------------------------------------------- tasks that cannot vote

CODE = {"unsafe_code": True}
OWN_SCORING = {"process_results": lambda doc, results: {"exact_match": 1.0}}
OTHER_METRIC = {"metric_list": [{"metric": "bleu", "aggregation": "bleu", "higher_is_better": True}]}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CODE, r"^maj8: the answers of task unvotable are code; .* use --model greedy for it$"),
        (OTHER_METRIC, r"^maj8: task unvotable has no answer to vote on: expected the metric exact_m.*"
                       r"got bleu$"),
        (OWN_SCORING, r"got exact_match through its own process_results$"),
    ],
)  # fmt: skip
def test_task_without_an_answer_is_refused_before_anything_is_generated(
    config: dict[str, Any], message: str
) -> None:
    lm = MajorityVote(STUDENT)
    task = inline_task("unvotable", arith_docs(2), **config)
    with pytest.raises(NoVotableAnswerError, match=message):
        evaluate(lm, tasks=[task], confirm_run_unsafe_code=True)
    assert lm.telemetry.texts == 0
    assert lm.student.counters.passes == 0


def test_a_vote_without_the_task_s_scoring_is_refused_with_its_reason() -> None:
    """`--predict_only` was reported as a task without exact_match."""
    task = task_manager().load([inline_task("unscored", arith_docs(1))])["tasks"]["unscored"]
    assert require_votable(task) is task
    task.override_metric("bypass")
    with pytest.raises(NoVotableAnswerError, match=r"scoring of task unscored, .*without --predict_only$"):
        require_votable(task)


def test_task_that_nobody_built_is_refused() -> None:
    with pytest.raises(NoVotableAnswerError, match=r"^maj8: task nonesuch did not build its requests"):
        votable_task("nonesuch")
