"""Many texts at once on servers: `run(requests)` as the engine's scheduler has it."""

from __future__ import annotations

import secrets
from collections import abc
from dataclasses import dataclass

import aiohttp

from s2t_eval.engine.request import Request, Result
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import OnRound, Round
from s2t_eval.engine.stop import AnswerOf, Decode, StopRule
from s2t_eval.remote.client import Pool, Server
from s2t_eval.remote.jobs import Work, run_jobs
from s2t_eval.remote.protocol import MAX_IDS, SUPPORT
from s2t_eval.remote.settings import RemoteSettings
from s2t_eval.remote.student import RemoteStudent
from s2t_eval.remote.teacher import RemoteTeacher
from s2t_eval.remote.text import TRIGGERS, TextDecoder
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.selectors import LocalSelector
from s2t_eval.selection.triggers import KlTrigger


@dataclass(frozen=True)
class Fleet:
    """The servers of a run, as `connect` finds them.

    Args:
        students: at least one.
        teachers: may be empty.
        has_rows: whether every teacher scores a chunk in one request.
    """

    students: tuple[Server, ...]
    teachers: tuple[Server, ...] = ()
    has_rows: bool = False

    @property
    def max_length(self) -> int:
        """The longest text, prompt included, that every server takes.

        A teacher that scores a chunk in one request generates a token behind it.
        """
        teachers = [server.max_length - self.has_rows for server in self.teachers]
        return min([*(server.max_length for server in self.students), *teachers])


class RemoteScheduler:
    """Generates texts for requests under one policy, on servers.

    Concurrency, chunks and the servers' number do not change a text, except by their rounding.

    Args:
        fleet: the servers.
        policy: which steps fire, and which selector picks the token there.
        text_vocab: size of the text vocabulary; ids from there on are never proposed.
        settings: chunk, concurrency, timeouts.
        decode: token ids to text, for requests with stop strings.
        answer_of: the answer outside of a text's thoughts, for requests with thoughts.
        keep_top: at every step record the student's `SUPPORT` most likely tokens (for labels).

    Raises:
        ValueError: a policy that servers cannot serve; the message says why.
    """

    def __init__(
        self,
        fleet: Fleet,
        policy: Policy,
        text_vocab: int,
        settings: RemoteSettings | None = None,
        decode: Decode | None = None,
        answer_of: AnswerOf | None = None,
        keep_top: bool = False,
    ) -> None:
        require_servable(policy)
        if policy.needs_teacher and not fleet.teachers:
            raise ValueError(f"policy {policy.name}: it needs a teacher and there is none")
        self.fleet = fleet
        self.policy = policy
        self.text_vocab = text_vocab
        self.settings = settings or RemoteSettings()
        self.decode = decode
        self.answer_of = answer_of
        self.keep_top = keep_top
        self._active: dict[int, Sequence] = {}

    def run(self, requests: abc.Sequence[Request], on_round: OnRound | None = None) -> abc.Iterator[Result]:
        """Generate; each result is yielded as soon as its text has ended, in no fixed order.

        Args:
            requests: the texts to generate.
            on_round: called when texts end and twice a second, for progress bars and displays.

        Raises:
            ValueError: a request that no server can serve.
            ServerError: a server refuses a request or answers it wrongly.
            ServersUnavailableError: no server of a pool answers.
        """
        self._require_room(requests)

        def start(session: aiohttp.ClientSession) -> Work[Request, Result]:
            decoder = self._decoder(session)

            async def decode(index: int, request: Request) -> Result:
                seq = Sequence(index, request, StopRule(request, self.decode, self.answer_of))
                self._active[index] = seq
                return await decoder.decode(seq)

            return decode

        try:
            for result in run_jobs(requests, start, self.settings, lambda: self._show(on_round, None)):
                self._show(on_round, result)
                yield result
        finally:
            self._active = {}

    def _show(self, on_round: OnRound | None, result: Result | None) -> None:
        """Call the observer with the active sequences, and the one that has just ended."""
        if on_round is not None:
            active = list(self._active.copy().values())
            rows = [row for row, seq in enumerate(active) if result is not None and seq.index == result.index]
            on_round(Round(active, [(row, result.finish) for row in rows] if result is not None else []))
        if result is not None:
            self._active.pop(result.index, None)

    def _decoder(self, session: aiohttp.ClientSession) -> TextDecoder:
        """A decoder over the fleet's pools, with a salt of this run's own."""
        salt = secrets.token_hex(8)
        student = Pool("student", self.fleet.students, session, self.settings, salt)
        teacher = Pool("teacher", self.fleet.teachers, session, self.settings, salt)
        return TextDecoder(
            self.policy,
            RemoteStudent(student, self.text_vocab),
            self._teacher(teacher),
            self.settings.chunk,
            self.keep_top,
        )

    def _teacher(self, pool: Pool) -> RemoteTeacher | None:
        if not self.policy.needs_teacher:
            return None
        has_rows = self.fleet.has_rows or not isinstance(self.policy.trigger, KlTrigger)
        return RemoteTeacher(pool, self.text_vocab, has_rows)

    def _require_room(self, requests: abc.Sequence[Request]) -> None:
        """Raise `ValueError` for a request that is too long, or samples from too many tokens."""
        for request in requests:
            length = len(request.prompt_ids) + request.max_new_tokens
            if length > self.fleet.max_length:
                raise ValueError(
                    f"max_gen_toks: a prompt of {len(request.prompt_ids)} tokens and "
                    f"{request.max_new_tokens} new ones exceed the servers' {self.fleet.max_length}; "
                    "raise their --max-model-len"
                )
            sampling = request.sampling
            if sampling is not None and not 0 < sampling.top_k <= SUPPORT:
                raise ValueError(
                    f"sample_top_k: servers return the {SUPPORT} most likely tokens, so expected 1 to "
                    f"{SUPPORT}, got {sampling.top_k}"
                )


def require_servable(policy: Policy) -> None:
    """Raise `ValueError` unless the policy can be followed with what servers return."""
    trigger = policy.trigger
    if trigger.name == "entropy":
        raise ValueError(
            f"trigger=entropy: servers return the {SUPPORT} most likely tokens, not the whole distribution; "
            "use trigger=entropy64, which has thresholds of its own (s2t-eval calibrate measures them)"
        )
    if trigger.name not in TRIGGERS:
        raise ValueError(f"trigger: expected one of {', '.join(TRIGGERS)} on servers, got {trigger.name!r}")
    if isinstance(trigger, KlTrigger) and trigger.support != SUPPORT:
        raise ValueError(f"support: expected {SUPPORT} on servers, got {trigger.support}")
    if isinstance(policy.selector, LocalSelector):
        raise ValueError(
            f"policy {policy.name}: servers serve no local selector; expected a teacher's, or takeover"
        )
    if policy.top_k > SUPPORT:
        raise ValueError(f"top_k: expected at most {SUPPORT} on servers, got {policy.top_k}")
    assert SUPPORT < MAX_IDS
