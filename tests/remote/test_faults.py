"""Faults of servers and connections: no text changes, and what cannot be mended ends in one message."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from s2t_eval.engine import Finish, Request, Result, Sampling
from s2t_eval.engine.prefix_cache import cached_prefix
from s2t_eval.remote.build import Fleet
from s2t_eval.remote.client import ATTEMPTS_PER_SERVER, RETRY_S, FailedAttemptError, Pin, Pool, Server
from s2t_eval.remote.probe import are_log_probabilities, connect, examine
from s2t_eval.remote.scheduler import RemoteScheduler
from s2t_eval.remote.settings import RemoteSettings, ServerError, ServersUnavailableError, server_urls
from s2t_eval.selection.policy import Policy, greedy, s2t, takeover
from s2t_eval.selection.triggers import make_trigger
from tests.remote.fake_server import RECORDED, UNCACHED, VOCAB, FakeServer, log_probs, serving
from tests.remote.recording import record, shape

pytestmark = pytest.mark.usefixtures("no_waiting")

SETTINGS = RemoteSettings(chunk=4, concurrency=3, timeout_s=60, patience_s=120)
REQUESTS = [Request((1, 2, i), 12, frozenset({7}), seed=i) for i in range(10)]
KL = s2t(make_trigger("kl"), 1.5, 4)
MARGIN = s2t(make_trigger("margin"), 0.8, 4)


def texts(
    policy: Policy,
    students: list[FakeServer],
    teachers: list[FakeServer],
    settings: RemoteSettings = SETTINGS,
    requests: list[Request] = REQUESTS,
) -> list[Result]:
    """The results of all requests, in their order; faults begin after the probe."""
    fleet = connect([s.url for s in students], [t.url for t in teachers], settings, needs_rows=True)
    for server in (*students, *teachers):
        server.requests.clear()
    return run(fleet, policy, settings, requests)


def run(fleet: Fleet, policy: Policy, settings: RemoteSettings, requests: list[Request]) -> list[Result]:
    results = RemoteScheduler(fleet, policy, VOCAB, settings).run(requests)
    return sorted(results, key=lambda result: result.index)


def contents(results: list[Result]) -> list[tuple[object, ...]]:
    """What no fault, chunk or number of servers may change."""
    return [(result.output_ids, result.finish, result.steps) for result in results]


def twin(policy: Policy, request: Request) -> tuple[list[int], list[int]]:
    """The text token by token, and the steps that fire, for the KL and margin triggers."""
    ids, fired = list(request.prompt_ids), []
    while len(ids) < len(request.prompt_ids) + request.max_new_tokens:
        student, teacher = (log_probs(seed, tuple(ids[-3:])) for seed in (0, 1))
        ranked = sorted(range(VOCAB), key=lambda i: -student[i])
        token = ranked[0]
        divergence = _kl(ranked[:64], student, teacher)
        if policy.trigger.name == "margin":
            divergence = 1 - (math.exp(student[ranked[0]]) - math.exp(student[ranked[1]]))
        if divergence > policy.trigger_threshold:
            fired.append(len(ids) - len(request.prompt_ids))
            token = max(ranked[: policy.top_k], key=lambda i: teacher[i])
        ids.append(token)
        if token in request.stop_ids:
            break
    return ids[len(request.prompt_ids) :], fired


def _kl(ids: list[int], left: list[float], right: list[float]) -> float:
    p = [math.exp(left[i]) for i in ids]
    q = [math.exp(right[i]) for i in ids]
    return sum(a / sum(p) * (math.log(a / sum(p)) - math.log(b / sum(q))) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("policy", [KL, MARGIN], ids=["kl", "margin"])
@pytest.mark.parametrize("chunk", [1, 3, 16])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_texts_are_those_of_one_token_at_a_time(
    student: FakeServer, teacher: FakeServer, policy: Policy, chunk: int, concurrency: int
) -> None:
    with serving(student, teacher):
        results = texts(policy, [student], [teacher], replace(SETTINGS, chunk=chunk, concurrency=concurrency))
    for result in results:
        expected, fired = twin(policy, result.request)
        assert result.output_ids == expected
        assert [step.t for step in result.steps] == fired
        assert result.finish is (Finish.STOP_ID if expected[-1] == 7 else Finish.LENGTH)
    assert sum(len(result.steps) for result in results) > 5
    assert sum(result.usage.flips for result in results) > 0


def test_kl_without_rows_takes_the_same_tokens_and_more_requests(
    student: FakeServer, teacher: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(student, teacher):
        by_rows = texts(KL, [student], [teacher])
        teacher.has_rows = False
        with caplog.at_level(logging.WARNING):
            one_by_one = texts(KL, [student], [teacher])
    assert "VLLM_USE_V2_MODEL_RUNNER=1" in caplog.text
    assert [r.output_ids for r in by_rows] == [r.output_ids for r in one_by_one]
    assert total(by_rows, "teacher_calls") < total(one_by_one, "teacher_calls")
    assert all(step.teacher is None for r in by_rows for step in r.steps)
    assert all(step.teacher is not None for r in one_by_one for step in r.steps)


def total(results: list[Result], field: str) -> int:
    return sum(getattr(result.usage, field) for result in results)


@pytest.mark.parametrize(
    "fault",
    [
        "429",
        "500",
        "503",
        "cut",
        "slow",
        "half",
        "wrong length",
        "no log-probabilities",
        "no choice",
        "all tokens lost",
    ],
)
def test_a_fault_changes_no_text(student: FakeServer, teacher: FakeServer, fault: str) -> None:
    with serving(student, teacher):
        expected = texts(MARGIN, [student], [teacher])
        student.faults = {2: fault, 5: fault}
        teacher.faults = {1: fault}
        settings = replace(SETTINGS, timeout_s=2) if fault == "slow" else SETTINGS
        spoilt = texts(MARGIN, [student], [teacher], settings)
    assert contents(spoilt) == contents(expected)
    assert len(student.requests) + len(teacher.requests) == total(spoilt, "server_requests") + 3


def test_steps_that_lost_their_tokens_are_generated_again(student: FakeServer, teacher: FakeServer) -> None:
    """Their candidates were once the token itself and token 0, and nothing said so."""
    with serving(student, teacher):
        expected = texts(MARGIN, [student], [teacher])
        requests = len(student.requests)
        student.faults = dict.fromkeys(range(0, 40, 2), "lost tokens")
        spoilt = texts(MARGIN, [student], [teacher])
    assert contents(spoilt) == contents(expected)
    assert len(student.requests) > requests


def test_a_server_that_never_returns_rows_scores_no_chunk(student: FakeServer, teacher: FakeServer) -> None:
    """`servers check` and the probe for shared batches read the absence of rows, not only a refusal."""
    student.faults = teacher.faults = dict.fromkeys(range(99), "null rows")
    with serving(student, teacher):
        fleet = connect([student.url], [teacher.url], SETTINGS, needs_rows=True, needs_shared_batches=True)
        assert not fleet.has_rows and not fleet.has_shared_batches
        student.faults = {}
        fleet = connect([student.url], [teacher.url], SETTINGS, needs_rows=True, needs_shared_batches=True)
        assert not fleet.has_rows and fleet.has_shared_batches


def test_null_rows_are_asked_for_again_without_the_cache(student: FakeServer, teacher: FakeServer) -> None:
    with serving(student, teacher):
        expected = texts(KL, [student], [teacher])
        teacher.faults = {0: "null rows"}
        spoilt = texts(KL, [student], [teacher])
    assert contents(spoilt) == contents(expected)
    repeated = [b["token_ids"] for b in teacher.requests if b["sampling_params"]["skip_reading_prefix_cache"]]
    assert repeated == [teacher.requests[0]["token_ids"]]
    # The server computed the rest of the chunk for the first one too, which was counted with 0 tokens.
    assert total(spoilt, "teacher_calls") == total(expected, "teacher_calls") + 1
    assert total(spoilt, "teacher_tokens") == total(expected, "teacher_tokens") + UNCACHED


def test_a_server_that_dies_leaves_its_texts_to_the_other(teacher: FakeServer) -> None:
    first, second = FakeServer(seed=0), FakeServer(seed=0)
    with serving(first, second, teacher):
        expected = texts(MARGIN, [first, second], [teacher])
        assert first.requests and second.requests
        fleet = connect([first.url, second.url], [teacher.url], SETTINGS)
        first.is_dead = True
        survived = run(fleet, MARGIN, SETTINGS, REQUESTS)
    assert contents(survived) == contents(expected)


def test_a_server_that_dies_in_mid_run_loses_nothing(teacher: FakeServer) -> None:
    """Its texts go on at the other server, which has read none of them; later ones never wait for it."""
    first, second = FakeServer(seed=0), FakeServer(seed=0)
    with serving(first, second, teacher):
        expected = texts(MARGIN, [first, second], [teacher])
        fleet = connect([first.url, second.url], [teacher.url], SETTINGS)
        first.requests.clear()
        first.dies_after = 7
        survived = run(fleet, MARGIN, SETTINGS, REQUESTS)
    assert contents(survived) == contents(expected)
    assert len(first.requests) <= 7 + ATTEMPTS_PER_SERVER + SETTINGS.concurrency


def test_texts_wait_for_a_server_that_comes_back(teacher: FakeServer) -> None:
    student = FakeServer(seed=0)
    with serving(student, teacher):
        expected = texts(MARGIN, [student], [teacher])
        student.faults = dict.fromkeys(range(5, 60), "cut")
        survived = texts(MARGIN, [student], [teacher])
    assert contents(survived) == contents(expected)
    assert len(student.requests) > 60


@pytest.mark.parametrize("status", ["429", "503"])
def test_an_overloaded_server_is_waited_for(student: FakeServer, status: str) -> None:
    """Twelve refusals ended a run after half a minute, whatever its patience."""
    settings = replace(SETTINGS, concurrency=1)
    with serving(student):
        expected = texts(greedy(), [student], [])
        fleet = connect([student.url], [], settings)
        first = len(student.requests)
        student.faults = dict.fromkeys(range(first, first + 30), status)
        waited = run(fleet, greedy(), settings, REQUESTS)
    assert contents(waited) == contents(expected)


def test_a_server_that_asks_for_no_wait_is_not_flooded(
    student: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Retry-After: 0` of an overloaded server had every text repeat its request without a pause."""
    monkeypatch.setattr("s2t_eval.remote.client.FIRST_WAIT_S", 0.1)
    monkeypatch.setattr("s2t_eval.remote.client.LONGEST_WAIT_S", 0.2)
    with serving(student):
        fleet = connect([student.url], [], SETTINGS)
        student.requests.clear()
        student.faults = dict.fromkeys(range(100_000), "503")
        with pytest.raises(ServersUnavailableError, match="HTTP 503"):
            run(fleet, greedy(), replace(SETTINGS, patience_s=1), REQUESTS[:1])
    assert len(student.requests) <= 21


def test_one_text_at_a_time_tries_a_server_that_did_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a server hangs, each of its texts once waited for the whole timeout before moving."""
    now = 1000.0
    monkeypatch.setattr("s2t_eval.remote.client.time.monotonic", lambda: now)
    servers = [Server(f"http://{name}", "m", 512, "0.32.0") for name in "ab"]
    pool = Pool("student", servers, None, SETTINGS, "salt")  # type: ignore[arg-type]
    assert [pool.pin(i).server.url[-1] for i in range(4)] == ["a", "b", "a", "b"]
    servers[0].failures = ATTEMPTS_PER_SERVER
    assert {pool.pin(i).server.url[-1] for i in range(4)} == {"b"}
    now += RETRY_S
    assert [pool.pin(i).server.url[-1] for i in range(4)] == ["a", "b", "b", "b"]
    servers[0].failures = 0
    assert [pool.pin(i).server.url[-1] for i in range(4)] == ["a", "b", "a", "b"]
    for server in servers:
        server.failures = ATTEMPTS_PER_SERVER
    assert [pool.pin(i).server.url[-1] for i in range(2)] == ["a", "b"], "none answers: all are tried"


def test_a_text_leaves_a_server_that_hangs_for_one_that_was_not_tried() -> None:
    """Three timeouts took as long as the patience, which ended the run beside a healthy server."""
    hanging, healthy = FakeServer(seed=0), FakeServer(seed=0)
    with serving(hanging, healthy):
        fleet = connect([hanging.url, healthy.url], [], SETTINGS)
        expected = run(fleet, greedy(), SETTINGS, REQUESTS[:1])
        first, asked = len(hanging.requests), len(healthy.requests)
        hanging.faults = dict.fromkeys(range(first, first + 99), "slow")
        settings = replace(SETTINGS, timeout_s=2, patience_s=1)
        assert contents(run(fleet, greedy(), settings, REQUESTS[:1])) == contents(expected)
    assert len(healthy.requests) > asked


def test_a_request_that_hangs_for_ever_ends_the_run_while_the_other_server_is_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was repeated for hours, whatever the patience: the server that was down counted as not tried."""
    hanging, down = FakeServer(seed=0), FakeServer(seed=0)
    settings = replace(SETTINGS, timeout_s=0.2, patience_s=0.5)
    with serving(hanging, down):
        fleet = connect([hanging.url, down.url], [], SETTINGS)
        down.is_dead, fleet.students[1].failures = True, 96
        fleet.students[1].tried_at = time.monotonic()
        first = len(hanging.requests)
        hanging.faults, hanging.slow_s = dict.fromkeys(range(first, first + 99), "slow"), 1.0
        with caplog.at_level(logging.WARNING), pytest.raises(ServersUnavailableError, match=r"for 0\.5 s"):
            run(fleet, greedy(), settings, REQUESTS[:1])
    assert len(hanging.requests) - first <= 5, "each waits for the whole timeout"
    assert "the other servers do not answer either, so a text stays" in caplog.text


def test_a_text_at_a_server_that_hangs_tests_the_others_from_time_to_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that had been restarted was never tried again by the last texts of a run."""
    now = 1000.0
    monkeypatch.setattr("s2t_eval.remote.client.time.monotonic", lambda: now)
    servers = [Server(f"http://{name}", "m", 512, "0.32.0") for name in "ab"]
    pool = Pool("student", servers, None, SETTINGS, "salt")  # type: ignore[arg-type]
    hung = FailedAttemptError("TimeoutError", is_answered=False, has_hung=True)
    servers[1].failures, servers[1].tried_at = 96, now - 1
    pins = [Pin(servers[0]) for _ in range(2)]
    assert [pool.move(pin, servers[0], hung) for pin in pins] == [False, False]
    now += RETRY_S
    assert [pool.move(pin, servers[0], hung) for pin in pins] == [True, False]
    assert [pin.server.url[-1] for pin in pins] == ["b", "a"]


def test_requests_of_one_text_that_fail_together_move_it_once() -> None:
    """Eight candidates moved their text back and forth, and it ended at the server that was down."""
    servers = [Server(f"http://{name}", "m", 512, "0.32.0") for name in "ab"]
    pool = Pool("student", servers, None, SETTINGS, "salt")  # type: ignore[arg-type]
    pin = pool.pin(0)
    failed = FailedAttemptError("ConnectionError", is_answered=False)
    for _ in range(8):
        pool.move(pin, servers[0], failed)
    assert pin.server is servers[1]
    pool.move(pin, servers[1], failed)
    assert pin.server is servers[0]


def test_a_text_of_the_servers_whole_length(student: FakeServer, teacher: FakeServer) -> None:
    """A teacher that scores a chunk generates a token behind it, which a full text once had no room for."""
    with serving(student, teacher):
        fleet = connect([student.url], [teacher.url], SETTINGS, needs_rows=True)
        length = fleet.students[0].max_length
        assert fleet.max_length == length - 1
        [result] = run(fleet, KL, SETTINGS, [Request((1,) * (length - 9), 8)])
        assert len(result.output_ids) == 8
        with pytest.raises(ValueError, match=f"exceed the servers' {length - 1}"):
            run(fleet, KL, SETTINGS, [Request((1,) * (length - 8), 8)])


def test_a_document_stays_with_its_server_and_its_salt(teacher: FakeServer) -> None:
    first, second = FakeServer(seed=0), FakeServer(seed=0)
    with serving(first, second, teacher):
        texts(MARGIN, [first, second], [teacher])
    documents = [{body["token_ids"][2] for body in server.requests} for server in (first, second)]
    assert documents == [{0, 2, 4, 6, 8}, {1, 3, 5, 7, 9}]
    salts = {body["cache_salt"] for server in (first, second, teacher) for body in server.requests}
    assert len(salts) == 1


def test_finished_texts_arrive_before_the_error_of_a_dead_pool(student: FakeServer) -> None:
    """A run that ends with an error has handed over every text that was finished: the cache has it."""
    settings = replace(SETTINGS, concurrency=1, patience_s=0.2)
    with serving(student):
        fleet = connect([student.url], [], settings)
        results = RemoteScheduler(fleet, greedy(), VOCAB, settings).run(REQUESTS)
        first = next(results)
        student.is_dead = True
        arrived = [first]
        with pytest.raises(
            ServersUnavailableError, match=r"no student server answered for 0\.2 s .*--use_cache"
        ):
            arrived.extend(results)
    assert [result.index for result in arrived] == list(range(len(arrived)))


def test_a_fault_that_stays_ends_in_one_message(student: FakeServer) -> None:
    with serving(student):
        student.faults = dict.fromkeys(range(1000), "500")
        fleet = Fleet(connect_ignoring_faults(student).students)
        with pytest.raises(
            ServerError, match=r"student server http.*HTTP 500: .*told to fail.* \(12 attempts\)"
        ):
            run(fleet, greedy(), SETTINGS, REQUESTS)


@pytest.mark.parametrize(
    ("policy", "role"),
    [(KL, "teacher"), (MARGIN, "teacher"), (MARGIN, "student"), (greedy(), "student")],
    ids=["rows", "scores", "drafts", "plain"],
)
def test_log_probabilities_that_are_no_numbers_end_in_one_message(
    student: FakeServer, teacher: FakeServer, policy: Policy, role: str
) -> None:
    """A model with damaged weights: its NaN became thresholds, labels or steps that never fire.

    A teacher that scored single steps seemed to give no candidate any probability, so that every pick was the
    student's own token; a student's answer was blamed on requests of another client.
    """
    with serving(student, teacher):
        fleet = connect([student.url], [teacher.url], SETTINGS, needs_rows=True)
        {"student": student, "teacher": teacher}[role].faults = dict.fromkeys(range(99), "damaged weights")
        with pytest.raises(ServerError, match=rf"{role} server http.*log-probabilities that are not finite"):
            run(fleet, policy, SETTINGS, REQUESTS[:1])


def test_a_refused_request_is_not_sent_again(student: FakeServer) -> None:
    with serving(student):
        student.faults = dict.fromkeys(range(1000), "400")
        fleet = Fleet(connect_ignoring_faults(student).students)
        with pytest.raises(ServerError, match="HTTP 400, told to fail"):
            run(fleet, greedy(), SETTINGS, REQUESTS[:1])
        assert len(student.requests) == 1


def connect_ignoring_faults(student: FakeServer) -> Fleet:
    faults, student.faults = student.faults, {}
    fleet = connect([student.url], [], SETTINGS)
    student.requests.clear()
    student.faults = faults
    return fleet


def test_a_run_that_is_abandoned_stops_its_requests(student: FakeServer) -> None:
    with serving(student):
        fleet = connect([student.url], [], SETTINGS)
        results = RemoteScheduler(fleet, greedy(), VOCAB, replace(SETTINGS, concurrency=1)).run(REQUESTS)
        next(results)
        results.close()  # type: ignore[attr-defined]
        asked = len(student.requests)
    assert asked <= len(REQUESTS) + 6


def test_sampled_texts_draw_the_requests_own_numbers(student: FakeServer) -> None:
    sampled = [replace(request, sampling=Sampling(0.7, 0.8, 20)) for request in REQUESTS]
    with serving(student):
        short = texts(greedy(), [student], [], replace(SETTINGS, chunk=1), sampled)
        long = texts(greedy(), [student], [], replace(SETTINGS, chunk=16), sampled)
        plain = texts(greedy(), [student], [])
    assert contents(short) == contents(long)
    assert contents(short) != contents(plain)
    assert total(long, "discarded_tokens") > 0 == total(short, "discarded_tokens")


@dataclass
class CachingServer(FakeServer):
    """Its prefix cache has every token that it has computed."""

    computed: list[list[int]] = field(default_factory=list)

    def answer(self, ids: list[int], params: dict[str, Any]) -> dict[str, Any]:
        answer = super().answer(ids, params)
        cached = max((cached_prefix(ids, text) for text in self.computed), default=0)
        self.computed.append([*ids, *answer["choices"][0]["token_ids"][:-1]])
        return {**answer, "usage": {**answer["usage"], "prompt_tokens_details": {"cached_tokens": cached}}}


@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_a_token_of_a_text_is_counted_once(chunk: int) -> None:
    """The last token of a chunk was also prefilled by the next request: work doubled with chunks of one."""
    request = Request((5, 2, 3), 24, sampling=Sampling(0.7, 0.8, 20))
    with serving(server := CachingServer(seed=0)):
        [result] = texts(greedy(), [server], [], replace(SETTINGS, chunk=chunk), [request])
    usage = result.usage
    assert usage.server_requests > 1
    assert usage.prefill_tokens == len(request.prompt_ids)
    assert usage.forwards == usage.tokens + usage.discarded_tokens


def test_random_and_always_and_takeover(student: FakeServer, teacher: FakeServer) -> None:
    policies = [takeover(make_trigger("random"), 0.7), takeover(make_trigger("always"), 0.0, warmup_tokens=3)]
    with serving(student, teacher):
        for policy in policies:
            short = texts(policy, [student], [teacher], replace(SETTINGS, chunk=1))
            long = texts(policy, [student], [teacher], replace(SETTINGS, chunk=16))
            assert contents(short) == contents(long)
            assert all(step.picked == step.teacher for result in long for step in result.steps)
            # The engine counted what a teacher writes, servers did not.
            assert total(long, "teacher_generated") == total(long, "triggers") > 0
    assert [step.t for step in long[0].steps] == list(range(3, len(long[0].output_ids)))


def test_a_greedy_text_is_one_request(student: FakeServer) -> None:
    with serving(student):
        results = texts(greedy(), [student], [])
    assert [result.usage.server_requests for result in results] == [1] * len(REQUESTS)


def test_rows_that_pad_the_vocabulary_are_never_text(student: FakeServer) -> None:
    text_vocab = 30  # the made-up model's favourite is often beyond it
    with serving(student):
        fleet = connect([student.url], [], SETTINGS)
        results = list(RemoteScheduler(fleet, greedy(), text_vocab, SETTINGS).run(REQUESTS))
    for result in results:
        ids = list(result.request.prompt_ids)
        for token in result.output_ids:
            values = log_probs(0, tuple(ids[-3:]))
            assert token == max(range(text_vocab), key=lambda i, values=values: values[i])  # type: ignore[misc]
            ids.append(token)


# ---------------------------------------------------------------- the fake, the probe, bad input


def test_the_fake_answers_in_the_recorded_shape(student: FakeServer) -> None:
    with serving(student):
        answers = record(student.url)
    for kind, answer in answers.items():
        assert shape(answer) == shape(RECORDED[kind]), kind


def test_the_probe_names_the_flag_of_each_missing_property(student: FakeServer, teacher: FakeServer) -> None:
    teacher.has_rows = False
    with serving(student, teacher):
        reports = examine([student.url], [teacher.url], SETTINGS)
    by_name = {finding.name: finding for finding in reports[1].findings}
    assert by_name["endpoint"].is_present and by_name["top tokens"].is_present and by_name["raw"].is_present
    assert not by_name["rows"].is_present and "VLLM_USE_V2_MODEL_RUNNER=1" in by_name["rows"].message
    assert "--enable-prompt-tokens-details" in by_name["prefix cache"].message
    assert reports[0].faults == reports[1].faults == []


@pytest.mark.parametrize(("fault", "flag"), [("404", "--enable-scale-out"), ("400", "answers HTTP 400")])
def test_connect_refuses_servers_that_cannot_serve(student: FakeServer, fault: str, flag: str) -> None:
    student.faults = {0: fault}
    with serving(student), pytest.raises(ServerError, match=flag):
        connect([student.url], [], SETTINGS)


def test_an_older_server_without_the_endpoint_is_named_with_its_version() -> None:
    """The message named a flag alone, which older versions of vLLM refuse as unknown."""
    for release, more in (("0.32.0", ""), ("0.11.0", r" \(vLLM 0\.11\.0 may lack it; tested: 0\.32\)")):
        server = FakeServer(faults={0: "404"}, release=release)
        with serving(server), pytest.raises(ServerError, match=f"start it with --enable-scale-out{more}$"):
            connect([server.url], [], SETTINGS)


def test_connect_refuses_too_few_log_probabilities(student: FakeServer) -> None:
    student.faults = {1: "400"}
    with serving(student), pytest.raises(ServerError, match="--max-logprobs 128"):
        connect([student.url], [], SETTINGS)


@pytest.mark.parametrize(
    "logits", [[31.2, 29.9, 27.1, 12.0], [-33.1, -34.0, -36.5, -41.0], [-0.1, -0.2, -0.3, -0.4]]
)
def test_logits_are_no_log_probabilities(logits: list[float]) -> None:
    """`--logprobs-mode raw_logits` does not change with the temperature, and passed for `raw_logprobs`."""
    log_total = math.log(sum(map(math.exp, logits)))
    assert not are_log_probabilities(logits)
    assert are_log_probabilities([logit - log_total for logit in logits])
    assert are_log_probabilities([-math.log(300_000)] * 8), "a model that knows nothing"


def test_connect_refuses_a_server_that_returns_logits(student: FakeServer) -> None:
    """Its margins were hugely negative, so that no step ever fired, without a word."""
    student.has_logits = True
    with serving(student), pytest.raises(ServerError, match=r"logits .*--logprobs-mode raw_logprobs"):
        connect([student.url], [], SETTINGS)


def test_a_server_with_a_key_is_named_as_such(student: FakeServer) -> None:
    """The message doubted that it was a vLLM server."""
    student.has_key = True
    message = r"student server http\S+: it requires a key \(HTTP 401\); .* without --api-key and VLLM_API_KEY"
    with serving(student), pytest.raises(ServerError, match=message):
        connect([student.url], [], SETTINGS)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(
        ServersUnavailableError, match=r"student server http://127\.0\.0\.1:9 does not answer"
    ):
        connect(["http://127.0.0.1:9"], [], SETTINGS)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handling of Ctrl-C, which background jobs of a shell ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_a_server_that_hangs_does_not_hold_up_ctrl_c() -> None:
    """A wrong address, or a server that is stuck: Ctrl-C had no effect until the request had timed out."""
    server = FakeServer(faults={0: "hangs"})
    ident = threading.get_ident()

    def interrupt() -> None:
        while not server.requests:
            time.sleep(0.01)
        signal.pthread_kill(ident, signal.SIGINT)

    with serving(server):
        thread = threading.Thread(target=interrupt, daemon=True)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            connect([server.url], [], replace(SETTINGS, timeout_s=3600))
        assert len(server.requests) == 1


REFUSED: list[tuple[Callable[[Fleet], object], str]] = [
    (lambda f: RemoteScheduler(f, s2t(make_trigger("entropy"), 1.0), VOCAB), "trigger=entropy64"),
    (lambda f: RemoteScheduler(f, MARGIN, VOCAB), "needs a teacher"),
    (lambda f: RemoteScheduler(f, replace(MARGIN, top_k=65), VOCAB), "top_k: expected at most 64"),
    (lambda f: run(f, greedy(), SETTINGS, [Request((1,), 5000)]), "--max-model-len"),
    (
        lambda f: run(f, greedy(), SETTINGS, [Request((1,), 5, sampling=Sampling())]),
        "^top_k: servers return the 64",
    ),
]


@pytest.mark.parametrize(("attempt", "message"), REFUSED)
def test_what_servers_cannot_serve_is_refused(
    student: FakeServer, attempt: Callable[[Fleet], object], message: str
) -> None:
    with serving(student):
        fleet = connect([student.url], [], SETTINGS)
        with pytest.raises(ValueError, match=message):
            attempt(fleet)


def test_addresses() -> None:
    assert server_urls("student_url", "http://a:1/+https://b:2/v1") == ("http://a:1", "https://b:2")
    for text in ("a:1", "http://a:1+", "http://a:1+http://a:1/", "http://"):
        with pytest.raises(ValueError, match="student_url: e"):
            server_urls("student_url", text)


@pytest.mark.parametrize("url", ["http://me:secret@a:1", "https://b:1+http://secret@a:1", "secret@a:1"])
def test_addresses_with_a_password_are_refused_without_repeating_it(url: str) -> None:
    """The client signed in, and the password stood in every warning, in the results and in scan.json."""
    with pytest.raises(ValueError, match="student_url: an address with a user name or password") as caught:
        server_urls("student_url", url)
    assert "@a:1: this client sends no key" in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["chunk", "concurrency", "timeout_s", "patience_s"])
def test_settings_outside_their_range(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected"):
        RemoteSettings(**{name: 0})
