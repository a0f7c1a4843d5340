"""A student of this process beside a teacher on servers: it drafts as `RemoteStudent` does."""

from __future__ import annotations

from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.sequence import Sequence
from s2t_eval.remote.drafting import IsEnd
from s2t_eval.remote.local_writer import LocalWriter
from s2t_eval.selection.policy import Policy


class LocalStudent(LocalWriter):
    """Drafts chunks of many texts in common passes, whose costs are those of the student.

    Args:
        runner: the student.
        policy: its trigger may end drafts.
        rows: texts drafted at once.
        capacity: longest text in tokens, prompt included.
        is_end: ends a step of reasoning; None where there are none.
    """

    def __init__(
        self, runner: ModelRunner, policy: Policy, rows: int, capacity: int, is_end: IsEnd | None = None
    ) -> None:
        super().__init__(runner, policy, _count, rows, capacity, is_end)


def _count(seq: Sequence, prompt_tokens: int, tokens: int) -> None:
    seq.usage.forwards += 1
    seq.usage.prefill_tokens += prompt_tokens
