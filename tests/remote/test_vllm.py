"""Real servers of the embedded pair in float32: texts, fired steps, candidates and picks of the engine."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from s2t_eval.embedded.arith import format_prompt, make_split
from s2t_eval.engine import Decoder, ModelRunner, Request, Result, Sampling
from s2t_eval.models.loading import load_model
from s2t_eval.models.vocabulary import stop_ids, text_vocabulary
from s2t_eval.remote.build import Fleet
from s2t_eval.remote.probe import connect, examine
from s2t_eval.remote.scheduler import RemoteScheduler
from s2t_eval.remote.settings import RemoteSettings
from s2t_eval.selection.policy import Policy, greedy, s2t, takeover
from s2t_eval.selection.triggers import make_trigger
from tests.remote.fake_server import RECORDED
from tests.remote.real_servers import vllm_environment
from tests.remote.recording import record, shape

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(vllm_environment() is None, reason="no vLLM: `make vllm` builds its environment"),
]

NUM_DOCUMENTS = int(os.environ.get("S2T_VLLM_DOCUMENTS", "300"))
NUM_ALONE = 24
"""Documents decoded one at a time, which takes about ten times as long as 32 at once."""

POLICIES = {
    "greedy": greedy(),
    "entropy64": s2t(make_trigger("entropy64"), 1.3),
    "margin": s2t(make_trigger("margin"), 0.9, warmup_tokens=3),
    "random": takeover(make_trigger("random"), 0.95),
    "kl": s2t(make_trigger("kl"), 0.2),
    "kl takeover": takeover(make_trigger("kl", "teacher_student"), 0.2),
    "always": s2t(make_trigger("always"), 0.0),
}
MOST_DOCUMENTS = {"always": 12}
"""Policies with a request a token, for which fewer documents are enough."""


@dataclass(frozen=True, eq=False)
class Pair:
    """The embedded pair in this process and on servers."""

    student: ModelRunner
    teacher: ModelRunner
    tokenizer: Any
    urls: tuple[str, str]
    fleet: Fleet

    @functools.cached_property
    def requests(self) -> list[Request]:
        """The test documents of s2t_arith as the task asks them."""
        stops = stop_ids(self.tokenizer, None)
        prompts = [format_prompt(problem.question) for problem in make_split("test")[:NUM_DOCUMENTS]]
        return [
            Request(tuple(self.tokenizer(prompt)["input_ids"]), 96, stops, ("\n\n", "Question:"), seed=seed)
            for seed, prompt in enumerate(prompts)
        ]

    def local(self, policy: Policy, requests: list[Request]) -> list[Result]:
        decoder = Decoder(self.student, policy, self.teacher, 32, self.tokenizer.decode)
        return in_order(decoder.run(requests))

    def remote(self, policy: Policy, requests: list[Request], settings: RemoteSettings) -> list[Result]:
        scheduler = RemoteScheduler(
            self.fleet, policy, self.student.text_vocab, settings, self.tokenizer.decode
        )
        return in_order(scheduler.run(requests))


def in_order(results: Iterator[Result]) -> list[Result]:
    return sorted(results, key=lambda result: result.index)


@pytest.fixture(scope="session")
def pair(vllm_urls: tuple[str, str]) -> Pair:
    student, tokenizer = load_model("student", "embedded/student", "float32", "cpu", False)
    teacher, _ = load_model("teacher", "embedded/teacher", "float32", "cpu", False)
    vocab = text_vocabulary(tokenizer)
    fleet = connect(vllm_urls[:1], vllm_urls[1:], RemoteSettings(), needs_rows=True)
    runners = ModelRunner(student, "student", vocab), ModelRunner(teacher, "teacher", vocab)
    return Pair(*runners, tokenizer, vllm_urls, fleet)


@functools.cache
def local_results(pair: Pair, name: str) -> list[Result]:
    """The engine's results of a policy, which every chunk and concurrency is compared with."""
    return pair.local(POLICIES[name], pair.requests[: MOST_DOCUMENTS.get(name)])


def require_equal(expected: list[Result], actual: list[Result]) -> None:
    """Equal texts and fired steps; scores and divergences within the rounding of float32."""
    assert [(r.output_ids, r.finish) for r in actual] == [(r.output_ids, r.finish) for r in expected]
    for one, other in zip(expected, actual, strict=True):
        assert [(s.t, s.candidates, s.greedy, s.picked) for s in other.steps] == [
            (s.t, s.candidates, s.greedy, s.picked) for s in one.steps
        ]
        for step, same in zip(one.steps, other.steps, strict=True):
            assert same.scores == pytest.approx(step.scores, abs=1e-4)
            assert same.divergence == pytest.approx(step.divergence, abs=1e-4)
            assert same.teacher in (None, step.teacher)


@pytest.mark.parametrize(("chunk", "concurrency"), [(8, 32), (16, 32), (8, 1), (16, 1)])
@pytest.mark.parametrize("name", POLICIES)
def test_results_are_the_engines(pair: Pair, name: str, chunk: int, concurrency: int) -> None:
    expected = local_results(pair, name)[: NUM_ALONE if concurrency == 1 else None]
    requests = [result.request for result in expected]
    actual = pair.remote(POLICIES[name], requests, RemoteSettings(chunk, concurrency))
    require_equal(expected, actual)
    assert name == "greedy" or sum(result.usage.triggers for result in actual) > 0


def test_kl_by_requests_of_one_token(pair: Pair) -> None:
    expected = local_results(pair, "kl")[:NUM_ALONE]
    fleet = replace(pair.fleet, has_rows=False)
    scheduler = RemoteScheduler(
        fleet, POLICIES["kl"], pair.student.text_vocab, RemoteSettings(), pair.tokenizer.decode
    )
    actual = in_order(scheduler.run([result.request for result in expected]))
    require_equal(expected, actual)
    assert [s.teacher for r in actual for s in r.steps] == [s.teacher for r in expected for s in r.steps]


def test_samples_of_a_vote(pair: Pair) -> None:
    requests = [replace(request, sampling=Sampling(0.7, 0.8, 20)) for request in pair.requests[:100]]
    require_equal(pair.local(greedy(), requests), pair.remote(greedy(), requests, RemoteSettings(8, 32)))


def test_the_fake_has_the_shape_of_the_real_server(pair: Pair) -> None:
    answers = record(pair.urls[1])
    assert {kind: shape(answer) for kind, answer in answers.items()} == {
        kind: shape(answer) for kind, answer in RECORDED.items() if kind in answers
    }


def test_the_probe_finds_everything_but_rows_at_the_first_runner(pair: Pair) -> None:
    [first, second] = examine([], pair.urls, RemoteSettings())
    absent = [[f.name for f in report.findings if not f.is_present] for report in (first, second)]
    assert absent == [["rows"], []]
    assert "prompt_logprob_token_ids requires the V2 model runner" in first.findings[-1].message
