"""A teacher on servers over whole texts, against the fake's model position by position."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch

from s2t_eval.engine import Request, Result
from s2t_eval.remote.build import Fleet
from s2t_eval.remote.labelling import RemoteScorer, ScoredText, TextScores, certain_argmax
from s2t_eval.remote.probe import connect
from s2t_eval.remote.protocol import SUPPORT
from s2t_eval.remote.scheduler import RemoteScheduler
from s2t_eval.remote.settings import RemoteSettings, ServerError
from s2t_eval.selection.policy import greedy
from tests.remote.fake_server import VOCAB, FakeServer, log_probs, serving

pytestmark = pytest.mark.usefixtures("no_waiting")

SETTINGS = RemoteSettings(concurrency=3, timeout_s=60, patience_s=120)
REQUESTS = [Request((1, 2, i), 20, frozenset({7})) for i in range(6)]


def texts(fleet: Fleet, text_vocab: int = VOCAB) -> list[Result]:
    scheduler = RemoteScheduler(fleet, greedy(), text_vocab, SETTINGS, keep_top=True)
    return sorted(scheduler.run(REQUESTS), key=lambda result: result.index)


def to_score(result: Result) -> ScoredText:
    assert result.top_ids is not None and result.top_log_probs is not None
    return ScoredText(result.request.prompt_ids, result.output_ids, result.top_ids, result.top_log_probs)


def scores(fleet: Fleet, results: list[Result], with_argmax: bool = True) -> list[TextScores]:
    functions: list[Callable[[], ScoredText]] = [partial(to_score, result) for result in results]
    scored = RemoteScorer(fleet, VOCAB, SETTINGS).run(functions, with_argmax)
    return sorted(scored, key=lambda one: one.index)


def both(student: FakeServer, teacher: FakeServer) -> Fleet:
    fleet = connect([student.url], [teacher.url], SETTINGS, needs_rows=True)
    teacher.requests.clear()
    return fleet


def test_texts_keep_the_most_likely_tokens_of_every_step(student: FakeServer) -> None:
    with serving(student):
        results = texts(connect([student.url], [], SETTINGS))
    for result in results:
        assert result.top_ids is not None and result.top_log_probs is not None
        assert result.top_ids.shape == result.top_log_probs.shape == (len(result.output_ids), SUPPORT)
        ids = list(result.request.prompt_ids)
        for t, token in enumerate(result.output_ids):
            values = log_probs(0, tuple(ids[-3:]))
            ranked = sorted(range(VOCAB), key=lambda i, values=values: (-values[i], i))  # type: ignore[misc]
            assert result.top_ids[t].tolist() == ranked[:SUPPORT]
            assert result.top_log_probs[t].tolist() == pytest.approx([values[i] for i in ranked[:SUPPORT]])
            assert token == ranked[0]
            ids.append(token)
    assert sum(result.usage.server_requests for result in results) == len(REQUESTS)


def test_rows_that_are_no_text_leave_the_end_of_the_support_empty(student: FakeServer) -> None:
    with serving(student):
        results = texts(connect([student.url], [], SETTINGS), text_vocab=80)
    for result in results:
        assert result.top_ids is not None and result.top_log_probs is not None
        filled = result.top_log_probs > -math.inf
        assert bool((result.top_ids[filled] < 80).all()) and not bool(result.top_ids[~filled].any())
        assert 0 < int((~filled).sum()) < filled.numel() / 2


@pytest.mark.parametrize("has_rows", [True, False])
def test_scores_are_the_models_at_every_step(
    student: FakeServer, teacher: FakeServer, has_rows: bool
) -> None:
    teacher.has_rows = has_rows
    with serving(student, teacher):
        fleet = both(student, teacher)
        results = texts(fleet)
        scored = scores(fleet, results)
    for result, one in zip(results, scored, strict=True):
        assert result.top_ids is not None and one.argmax is not None
        ids = list(result.request.prompt_ids)
        for t, token in enumerate(result.output_ids):
            values = log_probs(1, tuple(ids[-3:]))
            expected = [values[i] for i in result.top_ids[t].tolist()]
            assert one.log_probs[t].tolist() == pytest.approx(expected)
            assert int(one.argmax[t]) == max(range(VOCAB), key=lambda i, values=values: values[i])  # type: ignore[misc]
            ids.append(token)


def test_a_text_is_one_request_but_for_steps_whose_argmax_is_uncertain(
    student: FakeServer, teacher: FakeServer
) -> None:
    with serving(student, teacher):
        fleet = both(student, teacher)
        results = texts(fleet)
        without = scores(fleet, results, with_argmax=False)
        assert len(teacher.requests) == len(REQUESTS) and all(one.argmax is None for one in without)
        teacher.requests.clear()
        scored = scores(fleet, results)
    uncertain = [
        certain_argmax(ids, values) is None
        for result, one in zip(results, scored, strict=True)
        if result.top_ids is not None
        for ids, values in zip(result.top_ids.tolist(), one.log_probs.tolist(), strict=True)
    ]
    assert 0 < sum(uncertain) < len(uncertain)
    assert len(teacher.requests) == len(REQUESTS) + sum(uncertain)


def test_a_long_text_is_scored_in_parts(
    student: FakeServer, teacher: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(student, teacher):
        fleet = both(student, teacher)
        results = texts(fleet)
        whole = scores(fleet, results)
        monkeypatch.setattr("s2t_eval.remote.labelling.ROWS_A_REQUEST", 3)
        parts = scores(fleet, results)
    for one, other in zip(whole, parts, strict=True):
        assert torch.equal(one.log_probs, other.log_probs)
        assert one.argmax is not None and other.argmax is not None and torch.equal(one.argmax, other.argmax)


@pytest.mark.parametrize("fault", ["500", "cut", "null rows", "half"])
def test_a_fault_changes_no_score(student: FakeServer, teacher: FakeServer, fault: str) -> None:
    with serving(student, teacher):
        fleet = both(student, teacher)
        results = texts(fleet)
        expected = scores(fleet, results)
        teacher.requests.clear()
        teacher.faults = {0: fault, 30: fault}
        spoilt = scores(fleet, results)
    for one, other in zip(expected, spoilt, strict=True):
        assert torch.equal(one.log_probs, other.log_probs)
        assert one.argmax is not None and other.argmax is not None and torch.equal(one.argmax, other.argmax)


def test_certain_argmax_by_hand() -> None:
    assert certain_argmax([5, 6], [math.log(0.6), math.log(0.1)]) == 5
    assert certain_argmax([5, 6], [math.log(0.4), math.log(0.1)]) is None  # another may have up to 0.5
    assert certain_argmax([9, 6, 7], [math.log(0.3), math.log(0.3), math.log(0.3)]) == 6
    assert certain_argmax([5], [math.log(0.5)]) is None  # an equal one may have a smaller id


def test_a_text_that_is_too_long_for_the_teacher_is_refused(student: FakeServer, teacher: FakeServer) -> None:
    """The server refuses a prompt of its whole length, because it generates a token behind it."""
    with serving(student, teacher):
        fleet = both(student, teacher)
        longest = fleet.teachers[0].max_length
        empty = torch.zeros(1, SUPPORT)
        text = ScoredText([1] * (longest - 1), [2], empty.int(), empty)
        with pytest.raises(ServerError, match=f"needs a length of {longest + 1}, they have {longest}; raise"):
            list(RemoteScorer(fleet, VOCAB, SETTINGS).run([lambda: text], with_argmax=False))
        with pytest.raises(ServerError, match="there are none"):
            RemoteScorer(Fleet(fleet.students), VOCAB, SETTINGS)
