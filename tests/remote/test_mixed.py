"""One model in this process and the other on a server: the engine's texts and fired steps."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from s2t_eval.embedded.arith import format_prompt, make_split
from s2t_eval.engine import Decoder, ModelRunner, Request, Result, Sampling
from s2t_eval.engine.stepper import NonFiniteLogitsError
from s2t_eval.methods.r2r_folder import load_router
from s2t_eval.models.loading import load_model
from s2t_eval.models.vocabulary import line_ends, stop_ids, text_vocabulary, vocabulary_hash
from s2t_eval.remote.build import Fleet, LocalModels
from s2t_eval.remote.probe import connect
from s2t_eval.remote.scheduler import RemoteScheduler
from s2t_eval.remote.settings import RemoteSettings
from s2t_eval.selection.policy import Policy, greedy, r2r, s2t, takeover
from s2t_eval.selection.triggers import make_trigger
from tests.remote.fake_server import serving
from tests.remote.model_server import ModelServer

ANY_STUDENT = {
    "kl": s2t(make_trigger("kl"), 0.2),
    "kl takeover": takeover(make_trigger("kl", "teacher_student"), 0.2, warmup_tokens=3),
    "entropy64": s2t(make_trigger("entropy64"), 1.3),
    "margin": s2t(make_trigger("margin"), 0.9, warmup_tokens=3),
    "random": takeover(make_trigger("random"), 0.8),
    "always": s2t(make_trigger("always"), 0.0),
}
OWN_STUDENT = {
    "never": s2t(make_trigger("never"), 0.0),
    "entropy": s2t(make_trigger("entropy"), 1.0),
    "position": takeover(make_trigger("position"), 0.1),
}
"""Triggers that read more of a student than servers return."""
PLAIN = ("random", "always", "never")


def with_rows(*names: str) -> list[object]:
    """One row for the two kinds of triggers, four for all; those that read no model are slow."""
    few = [pytest.param(name, 1) for name in ("kl", "margin")]
    return few + [pytest.param(n, 4, marks=pytest.mark.slow if n in PLAIN else ()) for n in names]


@dataclass(frozen=True, eq=False)
class Pair:
    """The embedded pair in this process, and a server for each model."""

    student: ModelRunner
    teacher: ModelRunner
    tokenizer: Any
    student_server: ModelServer
    teacher_server: ModelServer

    @functools.cached_property
    def requests(self) -> list[Request]:
        stops = stop_ids(self.tokenizer, None)
        prompts = [format_prompt(problem.question) for problem in make_split("test")[:4]]
        return [
            Request(tuple(self.tokenizer(prompt)["input_ids"]), 32, stops, ("\n\n", "Question:"), seed=seed)
            for seed, prompt in enumerate(prompts)
        ]

    def expected(self, policy: Policy, requests: list[Request]) -> list[Result]:
        return ordered(Decoder(self.student, policy, self.teacher, 4, self.tokenizer.decode).run(requests))

    def results(
        self, policy: Policy, local: LocalModels, requests: list[Request], chunk: int = 16
    ) -> list[Result]:
        fleet = self.fleet(has_student=local.student is None)
        vocab, decode = self.student.text_vocab, self.tokenizer.decode
        scheduler = RemoteScheduler(fleet, policy, vocab, RemoteSettings(chunk), decode, None, local)
        return ordered(scheduler.run(requests))

    @functools.cache  # noqa: B019
    def fleet(self, has_student: bool) -> Fleet:
        students = [self.student_server.url] if has_student else []
        teachers = [] if has_student else [self.teacher_server.url]
        return connect(students, teachers, RemoteSettings(), needs_rows=True)


def ordered(results: Iterator[Result]) -> list[Result]:
    return sorted(results, key=lambda result: result.index)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    student, tokenizer = load_model("student", "embedded/student", "float32", "cpu", False)
    teacher, _ = load_model("teacher", "embedded/teacher", "float32", "cpu", False)
    vocab = text_vocabulary(tokenizer)
    servers = ModelServer(student), ModelServer(teacher)
    with serving(*servers):
        runners = ModelRunner(student, "student", vocab), ModelRunner(teacher, "teacher", vocab)
        yield Pair(*runners, tokenizer, *servers)


def require_equal(expected: list[Result], actual: list[Result], has_rows: bool = False) -> None:
    """Equal texts and steps; scores within float32, hits where the teacher's token is known."""
    assert [(r.output_ids, r.finish) for r in actual] == [(r.output_ids, r.finish) for r in expected]
    for one, other in zip(expected, actual, strict=True):
        assert [s._replace(scores=[], divergence=0.0, teacher=None) for s in other.steps] == [
            s._replace(scores=[], divergence=0.0, teacher=None) for s in one.steps
        ]
        for step, same in zip(one.steps, other.steps, strict=True):
            assert same.scores == pytest.approx(step.scores, abs=1e-4)
            assert same.divergence == pytest.approx(step.divergence, abs=1e-4)
            assert same.teacher == step.teacher or (has_rows and same.teacher is None)


@pytest.mark.parametrize(("name", "rows"), with_rows(*ANY_STUDENT, *OWN_STUDENT))
def test_a_student_here_and_a_teacher_on_a_server(pair: Pair, name: str, rows: int) -> None:
    policy = {**ANY_STUDENT, **OWN_STUDENT}[name]
    requests = pair.requests[: 2 if rows == 1 else None]
    actual = pair.results(policy, LocalModels(pair.student, None, rows), requests, chunk=5)
    require_equal(pair.expected(policy, requests), actual, has_rows=True)
    assert name == "never" or sum(result.usage.triggers for result in actual) > 0
    discarded = sum(result.usage.discarded_tokens for result in actual)
    assert discarded == 0 or name in ("kl", "kl takeover", "random")  # other triggers end a draft here


def test_a_router_here_and_a_teacher_on_a_server(pair: Pair) -> None:
    """R2R's router reads the hidden states of a student that is in this process."""
    identity = ("9033af129240fa3d", vocabulary_hash(pair.tokenizer), 64)
    embed: Any = pair.student.base.get_input_embeddings()
    policy = r2r(load_router("embedded/r2r", *identity).trigger(embed, "cpu"), 0.5)
    actual = pair.results(policy, LocalModels(pair.student, None, 4), pair.requests)
    require_equal(pair.expected(policy, pair.requests), actual)
    assert sum(result.usage.triggers for result in actual) > 0


def test_the_beginning_of_a_line_is_known_here(pair: Pair) -> None:
    lines = line_ends(pair.tokenizer, pair.student.text_vocab)
    policy = s2t(make_trigger("line_entropy", ends_line=lines), 0.5)
    actual = pair.results(policy, LocalModels(pair.student, None, 4), pair.requests)
    require_equal(pair.expected(policy, pair.requests), actual)


@pytest.mark.parametrize(("name", "rows"), with_rows(*ANY_STUDENT))
def test_a_student_on_a_server_and_a_teacher_here(pair: Pair, name: str, rows: int) -> None:
    policy = ANY_STUDENT[name]
    requests = pair.requests[: 2 if rows == 1 else None]
    actual = pair.results(policy, LocalModels(None, pair.teacher, rows), requests, chunk=5)
    require_equal(pair.expected(policy, requests), actual)
    assert sum(result.usage.triggers for result in actual) > 0


def test_samples_with_a_student_here(pair: Pair) -> None:
    """Each token is drawn where its step is decided, so a draft ends behind it."""
    requests = [replace(request, sampling=Sampling(0.7, 0.8, 20)) for request in pair.requests]
    policy = ANY_STUDENT["margin"]
    actual = pair.results(policy, LocalModels(pair.student, None, 4), requests)
    require_equal(pair.expected(policy, requests), actual)


def test_a_run_can_be_stopped_and_started_again(pair: Pair) -> None:
    """The caller takes one result and stops; the model of this process is then free for another run."""
    local = LocalModels(pair.student, None, 3)
    fleet, policy = pair.fleet(False), ANY_STUDENT["margin"]
    vocab, decode = pair.student.text_vocab, pair.tokenizer.decode
    run = RemoteScheduler(fleet, policy, vocab, RemoteSettings(), decode, None, local).run(pair.requests)
    next(run)
    run.close()  # type: ignore[attr-defined]
    require_equal(pair.expected(policy, pair.requests), pair.results(policy, local, pair.requests))


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_logits_that_are_no_numbers_end_the_run(pair: Pair, role: str) -> None:
    damaged, _ = load_model(role, f"embedded/{role}", "float32", "cpu", False)
    runner = ModelRunner(damaged, role, pair.student.text_vocab)
    runner.allocate(4, 512)
    with torch.no_grad():
        damaged.get_output_embeddings().weight[3] = math.nan
    local = LocalModels(runner, None, 4) if role == "student" else LocalModels(None, runner, 4)
    with pytest.raises(NonFiniteLogitsError, match=f"{role}: logits are not finite"):
        pair.results(ANY_STUDENT["margin"], local, pair.requests)
    assert runner.cache.rows == 0  # its memory is free for the next model of a session


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_memory_running_out_halves_the_rows_and_changes_no_text(
    pair: Pair, role: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended the run beside a server, where the same `batch_size` (or `auto`) went on without one."""
    extend = ModelRunner.extend

    def extend_if_it_fits(self: ModelRunner, rows: list[int], tokens: list[list[int]]) -> list[torch.Tensor]:
        if self.cache.rows > 2:
            raise torch.OutOfMemoryError("out of memory")
        return extend(self, rows, tokens)

    policy = ANY_STUDENT["kl"]
    expected = pair.expected(policy, pair.requests)
    runners = LocalModels(pair.student, None, 9) if role == "student" else LocalModels(None, pair.teacher, 9)
    monkeypatch.setattr(ModelRunner, "extend", extend_if_it_fits)
    with caplog.at_level(logging.WARNING):
        actual = pair.results(policy, runners, pair.requests)
    assert [(r.index, r.output_ids, r.finish) for r in actual] == [
        (r.index, r.output_ids, r.finish) for r in expected
    ]
    assert [line for line in caplog.messages if "memory" in line] == [
        "out of memory: continuing with 2 rows at once"
    ]


def test_memory_that_does_not_hold_one_row_is_an_error(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def never_fits(self: ModelRunner, rows: list[int], tokens: list[list[int]]) -> list[torch.Tensor]:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(ModelRunner, "extend", never_fits)
    with pytest.raises(torch.OutOfMemoryError):
        pair.results(ANY_STUDENT["margin"], LocalModels(pair.student, None, 4), pair.requests)


def test_a_student_on_a_server_refuses_what_only_its_states_tell(pair: Pair) -> None:
    for name, message in (("entropy", "use trigger=entropy64"), ("position", "leave student_url out")):
        with pytest.raises(ValueError, match=message):
            pair.results(OWN_STUDENT[name], LocalModels(None, pair.teacher), pair.requests)


def test_a_policy_without_trigger_needs_no_teacher(pair: Pair) -> None:
    actual = pair.results(greedy(), LocalModels(pair.student, None, 4), pair.requests)
    require_equal(pair.expected(greedy(), pair.requests), actual)
