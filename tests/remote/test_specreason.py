"""SpecReason with one or both models on servers: the engine's texts, scores and decisions."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from s2t_eval import cli
from s2t_eval.embedded.arith import format_prompt, make_split
from s2t_eval.engine import ModelRunner, Request, Result, Sampling
from s2t_eval.method_table import Delimiter
from s2t_eval.methods.questions import reply_ids
from s2t_eval.methods.reasoning_steps import StepEnds
from s2t_eval.methods.specreason.on_servers import ServedSpecReason
from s2t_eval.methods.specreason.scores import MarkScore, StepScore, make_score
from s2t_eval.methods.specreason.stepper import SpecReasonDecoder
from s2t_eval.model_wrappers.specreason import SpecReason
from s2t_eval.models.loading import load_model
from s2t_eval.models.vocabulary import stop_ids, text_vocabulary
from s2t_eval.remote.build import LocalModels
from s2t_eval.remote.probe import connect
from s2t_eval.remote.settings import RemoteSettings
from s2t_eval.selection.calibration import OF_STEPS, Calibration
from tests.harness_helpers import STUDENT, TEACHER, counts, evaluate, texts
from tests.remote.fake_server import FakeServer, serving
from tests.remote.model_server import FIRST_RUNNER, ModelServer

SAME_COSTS = ("tokens", "drafted_steps", "rejected_steps", "teacher_generated", "evaluation_tokens")
"""Costs that do not depend on where the models are."""


@dataclass(frozen=True, eq=False)
class Pair:
    """The embedded pair in this process, and a server for each model."""

    student: ModelRunner
    teacher: ModelRunner
    tokenizer: Any
    urls: tuple[str, str]
    """of the student and of the teacher"""
    num_documents: int = 4

    @functools.cached_property
    def requests(self) -> list[Request]:
        stops = stop_ids(self.tokenizer, None)
        prompts = [format_prompt(problem.question) for problem in make_split("test")[: self.num_documents]]
        return [
            Request(tuple(self.tokenizer(prompt)["input_ids"]), 40, stops, ("\n\n", "Question:"), seed=seed)
            for seed, prompt in enumerate(prompts)
        ]

    def ends(self, max_step: int = 9, delimiter: Delimiter = "sentence") -> StepEnds:
        return StepEnds(self.tokenizer.decode, delimiter, max_step)

    def score(self, name: str) -> StepScore:
        if name == "logprob":
            return make_score("logprob", self.tokenizer, False)
        # The embedded teacher evaluates nothing; behind these words it writes a number all the same.
        question = tuple(self.tokenizer(" The answer is")["input_ids"])
        marks = tuple(reply_ids(self.tokenizer, [str(mark)]) for mark in range(10))
        return MarkScore(question, marks, is_expected=name == "expected")

    def expected(self, score: StepScore, accept: float, requests: list[Request]) -> list[Result]:
        decode = self.tokenizer.decode
        models = self.student, self.teacher
        return ordered(SpecReasonDecoder(*models, self.ends(), score, accept, 4, decode).run(requests))

    def results(
        self, score: StepScore, accept: float, requests: list[Request], here: str = "", chunk: int = 16
    ) -> list[Result]:
        """With the model of the role `here` in this process."""
        students = [] if here == "student" else [self.urls[0]]
        teachers = [] if here == "teacher" else [self.urls[1]]
        local = LocalModels(
            self.student if here == "student" else None, self.teacher if here == "teacher" else None, 4
        )
        decoder = ServedSpecReason(
            connect(students, teachers, RemoteSettings(), needs_rows=True),
            self.ends(),
            score,
            accept,
            self.student.text_vocab,
            RemoteSettings(chunk),
            self.tokenizer.decode,
            local=local,
        )
        return ordered(decoder.run(requests))


def ordered(results: Iterator[Result]) -> list[Result]:
    return sorted(results, key=lambda result: result.index)


def pair_of(urls: tuple[str, str], num_documents: int = 4) -> Pair:
    """The pair beside these servers."""
    student, tokenizer = load_model("student", "embedded/student", "float32", "cpu", False)
    teacher, _ = load_model("teacher", "embedded/teacher", "float32", "cpu", False)
    vocab = text_vocabulary(tokenizer)
    runners = ModelRunner(student, "student", vocab), ModelRunner(teacher, "teacher", vocab)
    return Pair(*runners, tokenizer, urls, num_documents)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[ModelServer, ModelServer]]:
    student, _ = load_model("student", "embedded/student", "float32", "cpu", False)
    teacher, _ = load_model("teacher", "embedded/teacher", "float32", "cpu", False)
    made = ModelServer(student), ModelServer(teacher)
    with serving(*made):
        yield made


@pytest.fixture(scope="module")
def pair(servers: tuple[ModelServer, ModelServer]) -> Pair:
    return pair_of((servers[0].url, servers[1].url))


def require_equal(expected: list[Result], actual: list[Result]) -> None:
    """Equal texts, decisions and costs of the method; scores within float32."""
    assert [(r.output_ids, r.finish) for r in actual] == [(r.output_ids, r.finish) for r in expected]
    for one, other in zip(expected, actual, strict=True):
        assert other.observed[0] == pytest.approx(one.observed[0], abs=1e-4)
        for name in SAME_COSTS:
            assert getattr(other.usage, name) == getattr(one.usage, name), name


def middle(pair: Pair, score: StepScore, requests: list[Request]) -> float:
    """A threshold between the scores of accepted drafts, clear of each of them."""
    scores = sorted({round(s, 3) for r in pair.expected(score, 0, requests) for s in r.observed[0]})
    assert len(scores) > 1, "the scores separate no drafts"
    least = median(scores)
    below = max(score for score in scores if score < least)
    return (least + below) / 2


PLACES = [("", 1), ("", 5), ("", 16), ("student", 5), ("teacher", 5)]
QUICK = {("digit", "", 1), ("expected", "", 5), ("logprob", "", 16), ("digit", "student", 5)}
QUICK |= {("logprob", "teacher", 5)}


@pytest.mark.parametrize(
    ("name", "here", "chunk"),
    [
        pytest.param(name, *place, marks=[] if (name, *place) in QUICK else pytest.mark.slow)
        for name in ("digit", "expected", "logprob")
        for place in PLACES
    ],
)
def test_it_is_the_engines(pair: Pair, name: str, here: str, chunk: int) -> None:
    score = pair.score(name)
    accept = middle(pair, score, pair.requests)
    expected = pair.expected(score, accept, pair.requests)
    actual = pair.results(score, accept, pair.requests, here, chunk)
    require_equal(expected, actual)
    rejected, drafted = (
        sum(getattr(r.usage, cost) for r in actual) for cost in ("rejected_steps", "drafted_steps")
    )
    assert 0 < rejected < drafted
    # Without a chunk there is nothing behind a step, so only rejected drafts are discarded.
    discarded = [sum(r.usage.discarded_tokens for r in results) for results in (expected, actual)]
    assert discarded[0] == discarded[1] if chunk == 1 else discarded[0] <= discarded[1]


@pytest.mark.parametrize("here", ["", "student", "teacher"])
def test_samples_are_the_engines(pair: Pair, here: str) -> None:
    """Both models sample, by the numbers of the request, in the order in which their tokens are written."""
    requests = [replace(request, sampling=Sampling(0.9, 0.9, 20)) for request in pair.requests]
    score = pair.score("logprob")
    accept = middle(pair, score, requests)
    require_equal(pair.expected(score, accept, requests), pair.results(score, accept, requests, here))


@pytest.mark.parametrize("here", ["", "student", "teacher"])
def test_thresholds_that_accept_every_draft_or_none(pair: Pair, here: str) -> None:
    """At 0 every draft is accepted; above 1 the teacher writes everything."""
    score = pair.score("logprob")
    for accept in (0.0, 1.01):
        actual = pair.results(score, accept, pair.requests, here)
        require_equal(pair.expected(score, accept, pair.requests), actual)
        for result in actual:
            assert result.usage.teacher_generated == (result.usage.tokens if accept else 0)


def test_a_teacher_with_the_first_model_runner_scores_token_by_token(
    pair: Pair, servers: tuple[ModelServer, ModelServer]
) -> None:
    score = pair.score("logprob")
    expected = pair.expected(score, 0.7, pair.requests[:2])
    by_chunk = pair.results(score, 0.7, pair.requests[:2])
    servers[1].quirks = {FIRST_RUNNER}
    try:
        by_token = pair.results(score, 0.7, pair.requests[:2])
    finally:
        servers[1].quirks = set()
    require_equal(expected, by_token)
    chunks, tokens = (sum(r.usage.server_requests for r in results) for results in (by_chunk, by_token))
    assert tokens > 2 * chunks


def test_a_teacher_with_the_first_model_runner_writes_and_scores_in_turn(
    pair: Pair, servers: tuple[ModelServer, ModelServer]
) -> None:
    """Sampled steps of one text lost their tokens beside marks of another, and were requested again."""
    requests = [replace(request, sampling=Sampling(0.9, 0.9, 20)) for request in pair.requests[:3]]
    score = pair.score("digit")
    expected = pair.expected(score, 1.01, requests)
    servers[1].quirks, servers[1].num_spoilt = {FIRST_RUNNER}, 0
    try:
        require_equal(expected, pair.results(score, 1.01, requests))
    finally:
        servers[1].quirks = set()
    assert servers[1].num_spoilt == 0


# ---------------------------------------------------------------- the backend


@pytest.mark.parametrize(
    ("roles", "score"),
    [(("student",), "digit"), (("teacher",), "logprob"), (("student", "teacher"), "digit")],
)
def test_the_backend(pair: Pair, roles: tuple[str, ...], score: str) -> None:
    arguments = {"teacher": TEACHER, "score": score, "delimiter": "sentence", "dtype": "float32"}
    by_role = dict(zip(("student", "teacher"), pair.urls, strict=True))
    urls = {f"{role}_url": by_role[role] for role in roles}
    expected = evaluate("specreason", arguments, limit=3)
    actual = evaluate("specreason", {**arguments, **urls}, limit=3)
    assert texts(actual) == texts(expected)
    for name in SAME_COSTS:
        assert counts(actual)[name] == counts(expected)[name], name
    assert counts(actual)["server_requests"] > 0


def test_a_teacher_without_a_name(pair: Pair) -> None:
    """Its vocabulary cannot be compared, and questions cannot be put without its tokenizer."""
    urls = {"student_url": pair.urls[0], "teacher_url": pair.urls[1]}
    model = SpecReason(STUDENT, score="logprob", **urls)
    assert model.describe()["teacher"] is None
    with pytest.raises(ValueError, match="score=digit: its question needs the teacher's tokenizer"):
        SpecReason(STUDENT, **urls)


def test_thresholds_of_acceptance_are_the_engines(pair: Pair, tmp_path: Path) -> None:
    options = ("--task", "s2t_arith", "--limit", "3", "--dtype", "float32", "--delimiter", "sentence")
    steps = ("--step_score", "logprob", "digit", "--accept_rate", "0.5", "0.8")
    urls = ("--student_url", pair.urls[0], "--teacher_url", pair.urls[1])
    for name, servers in (("here", ()), ("servers", urls)):
        models = ("--pretrained", STUDENT, "--teacher", TEACHER)
        cli.main(["calibrate", *models, *options, *steps, *servers, "--out", str(tmp_path / name)])
    here, servers = (Calibration.load(tmp_path / name) for name in ("here", "servers"))
    keys = [key for key in here.thresholds if key.startswith(OF_STEPS)]
    assert len(keys) == 2
    for key in keys:
        assert servers.thresholds[key] == pytest.approx(here.thresholds[key], abs=1e-4)
        assert servers.data["steps"][key]["drafts"] == here.data["steps"][key]["drafts"] > 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"teacher": None}, r"or teacher_url=URL of a server$"),
        ({"chunk": 4}, "chunk: it is a setting of servers"),
        ({"teacher_url": "b:1"}, "teacher_url: expected URLs"),
        ({"student_url": "http://a:1", "concurrency": 8}, "batch_size decides it, got 8"),
    ],
)
def test_arguments_that_do_not_fit(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpecReason(STUDENT, **{"teacher": TEACHER, **more})


def test_a_text_that_leaves_the_question_no_room_is_refused(pair: Pair) -> None:
    server = FakeServer()
    with serving(server):
        fleet = connect([server.url], [server.url], RemoteSettings())
    score = pair.score("digit")
    longest = fleet.longest_before(len(score.question))
    assert longest == fleet.max_length - len(score.question) - 1
    run = ServedSpecReason(fleet, pair.ends(), score, 0.5, 443)
    with pytest.raises(ValueError, match=f"exceed the servers' {longest}; raise their --max-model-len"):
        run.run([Request((1,), longest)])
