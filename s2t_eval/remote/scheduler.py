"""Many texts at once on servers: `run(requests)` as the engine's scheduler has it."""

from __future__ import annotations

from collections import abc

import aiohttp

from s2t_eval.engine.request import Request, Result, longest_text
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import OnRound
from s2t_eval.engine.stop import AnswerOf, Decode, StopRule
from s2t_eval.remote.build import Fleet, LocalModels, Roles
from s2t_eval.remote.many_texts import decode_texts, require_room
from s2t_eval.remote.protocol import MAX_IDS, SUPPORT
from s2t_eval.remote.settings import RemoteSettings
from s2t_eval.remote.text import TRIGGERS, TextDecoder
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.selectors import LocalSelector
from s2t_eval.selection.triggers import KlTrigger


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
        local: the models of this process, where one role is not on servers.
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
        local: LocalModels | None = None,
        keep_top: bool = False,
    ) -> None:
        self.local = local or LocalModels()
        require_servable(policy, fleet, has_student=self.local.student is not None)
        if policy.needs_teacher and not fleet.teachers and self.local.teacher is None:
            raise ValueError(f"policy {policy.name}: it needs a teacher and there is none")
        self.fleet = fleet
        self.policy = policy
        self.text_vocab = text_vocab
        self.settings = settings or RemoteSettings()
        self.decode = decode
        self.answer_of = answer_of
        self.keep_top = keep_top

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
        require_room(requests, self.fleet.max_length)
        longest = longest_text(requests)

        def decoder(session: aiohttp.ClientSession, local: LocalModels) -> TextDecoder:
            roles = Roles(self.fleet, local, self.policy, self.text_vocab, self.settings, longest)
            return roles.decoder(session, self.keep_top)

        def sequence(index: int, request: Request) -> Sequence:
            return Sequence(index, request, StopRule(request, self.decode, self.answer_of))

        return decode_texts(requests, sequence, decoder, self.settings, self.local, on_round)


def require_servable(policy: Policy, fleet: Fleet, has_student: bool = False) -> None:
    """Raise `ValueError` unless the policy can be followed with what servers return.

    Args:
        policy: of the run.
        fleet: the servers.
        has_student: whether the student is in this process, where every trigger of its own can be computed.
    """
    trigger = policy.trigger
    is_own = has_student and not trigger.needs_teacher
    if trigger.name == "entropy" and not is_own:
        raise ValueError(
            f"trigger=entropy: servers return the {SUPPORT} most likely tokens, not the whole distribution; "
            "use trigger=entropy64, which has thresholds of its own (s2t-eval calibrate measures them)"
        )
    if trigger.name not in TRIGGERS and not is_own:
        raise ValueError(
            f"trigger: expected one of {', '.join(TRIGGERS)} with the student on servers, got "
            f"{trigger.name!r}, which needs what servers do not return; load the student here (leave "
            "student_url out)"
        )
    if isinstance(trigger, KlTrigger) and trigger.support != SUPPORT:
        raise ValueError(f"support: expected {SUPPORT} on servers, got {trigger.support}")
    if isinstance(policy.selector, LocalSelector):
        _require_scorer(policy, policy.selector, fleet)
    if policy.top_k > SUPPORT:
        raise ValueError(f"top_k: expected at most {SUPPORT} on servers, got {policy.top_k}")
    assert SUPPORT < MAX_IDS


def _require_scorer(policy: Policy, selector: LocalSelector, fleet: Fleet) -> None:
    """Raise `ValueError` unless the students' servers have what a local selector scores with."""
    looks_ahead = selector.score.looks_ahead
    if not (fleet.reserved_rows if looks_ahead else fleet.adapter):
        needed = (
            "a checkpoint of `s2t-eval export --to_reserved_rows`"
            if looks_ahead
            else "its adapter as a LoRA (--enable-lora --lora-modules NAME=FOLDER)"
        )
        raise ValueError(
            f"policy {policy.name}: a selector of form {selector.score.form} needs servers of the student "
            f"with {needed}"
        )
