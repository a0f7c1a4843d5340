"""How far texts go: what servers have room for, and where a student of this process stops a draft."""

from __future__ import annotations

from typing import Any, cast

from s2t_eval.engine import Finish, Request
from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stop import StopRule
from s2t_eval.remote.build import Fleet
from s2t_eval.remote.client import Server
from s2t_eval.remote.drafting import RemoteDraft
from s2t_eval.remote.local_student import LocalStudent
from s2t_eval.remote.protocol import DraftedStep
from s2t_eval.selection.policy import s2t
from s2t_eval.selection.triggers import make_trigger

SERVER = Server("http://a:1", "student", 100, "0.32.0")
STOP = 7


def test_a_candidate_behind_the_longest_text_has_room() -> None:
    """A text of exactly the servers' length was accepted and refused (HTTP 400) at its last fired step.

    There the candidate is the text's last token, and the server generates one more.
    """
    assert Fleet((SERVER,)).max_length == 100
    assert Fleet((SERVER,), adapter="a").max_length == 100  # a score is read at the text's own end
    assert Fleet((SERVER,), reserved_rows=(98, 99)).max_length == 99
    assert Fleet((SERVER,), (SERVER,), has_rows=True).max_length == 99


class _NoCache:
    """The part of a runner that no draft here goes beyond."""

    def allocate(self, rows: int, length: int, extra_slots: int = 0) -> None:
        """Nothing is computed."""


def _is_ended(divergence: float, token: int, num_output: int, warmup_tokens: int) -> bool:
    policy = s2t(make_trigger("entropy64"), 1.0, 4, warmup_tokens)
    student = LocalStudent(cast(ModelRunner, cast(Any, _NoCache())), policy, 1, 64)
    request = Request((1, 2), 32, frozenset({STOP}))
    seq = Sequence(0, request, StopRule(request, None))
    seq.output += [3] * num_output
    draft = RemoteDraft(seq, 0, 16, (), [DraftedStep(token, [token], [0.0], divergence)])
    try:
        return student.drafting.is_ended(draft)
    finally:
        student.close()


def test_a_draft_ends_with_its_text_where_nothing_may_fire_yet() -> None:
    """A stop token of high divergence among the warm-up steps did not end a draft.

    The student then wrote up to 256 tokens behind the end of the text, which were all discarded.
    """
    assert StopRule(Request((1,), 9, frozenset({STOP})), None).finish([STOP]) is Finish.STOP_ID
    assert _is_ended(divergence=2.0, token=STOP, num_output=0, warmup_tokens=8)
    assert not _is_ended(divergence=2.0, token=3, num_output=0, warmup_tokens=8)
    assert not _is_ended(divergence=2.0, token=3, num_output=7, warmup_tokens=8)
    assert _is_ended(divergence=2.0, token=3, num_output=8, warmup_tokens=8)
    assert _is_ended(divergence=0.5, token=STOP, num_output=0, warmup_tokens=8)
