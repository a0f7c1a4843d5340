"""Many texts at once on servers: `run(requests)` as the engine's scheduler has it.

The HTTP client runs in an event loop of its own thread, so that a run also works where a loop is running
already, as in a notebook. Results and observers stay in the caller's thread.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import abc
from contextlib import closing, suppress
from dataclasses import replace

from s2t_eval.engine.request import Request, Result
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import OnRound, Round
from s2t_eval.engine.stop import AnswerOf, Decode, StopRule
from s2t_eval.remote.build import Fleet, LocalModels, Roles
from s2t_eval.remote.client import new_session
from s2t_eval.remote.protocol import MAX_IDS, SUPPORT
from s2t_eval.remote.settings import RemoteSettings
from s2t_eval.remote.text import TRIGGERS
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.selectors import LocalSelector
from s2t_eval.selection.triggers import KlTrigger

SECONDS_BETWEEN_ROUNDS = 0.5
"""How often an observer is called while no text ends."""


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
    ) -> None:
        self.local = local or LocalModels()
        require_servable(policy, fleet, has_student=self.local.student is not None)
        if policy.needs_teacher and not fleet.teachers and self.local.teacher is None:
            raise ValueError(f"policy {policy.name}: it needs a teacher and there is none")
        self.fleet = fleet
        self.policy = policy
        self.text_vocab = text_vocab
        self.settings = settings or RemoteSettings()
        if self.local.student is not None or self.local.teacher is not None:
            # A model of this process has a cache row for each text.
            self.settings = replace(self.settings, concurrency=self.local.rows)
        self.decode = decode
        self.answer_of = answer_of
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
        if not requests:
            return
        events: queue.SimpleQueue[Result | BaseException | None] = queue.SimpleQueue()
        loop = _LoopThread()
        try:
            loop.start(self._run_all(requests, events), events)
            yield from self._results(events, on_round)
        finally:
            loop.stop()
            self._active = {}

    def _results(
        self, events: queue.SimpleQueue[Result | BaseException | None], on_round: OnRound | None
    ) -> abc.Iterator[Result]:
        """The results until the run ends; its exception, if it ends with one."""
        while True:
            try:
                event = events.get(timeout=SECONDS_BETWEEN_ROUNDS)
            except queue.Empty:
                self._show(on_round, None)
                continue
            if event is None:
                return
            if isinstance(event, BaseException):
                raise event
            self._show(on_round, event)
            yield event

    def _show(self, on_round: OnRound | None, result: Result | None) -> None:
        """Call the observer with the active sequences, and the one that has just ended."""
        if on_round is None:
            return
        active = list(self._active.copy().values())
        rows = [row for row, seq in enumerate(active) if result is not None and seq.index == result.index]
        on_round(Round(active, [(row, result.finish) for row in rows] if result is not None else []))
        if result is not None:
            self._active.pop(result.index, None)

    async def _run_all(
        self, requests: abc.Sequence[Request], events: queue.SimpleQueue[Result | BaseException | None]
    ) -> None:
        """Decode all requests, at most `concurrency` at a time; the first error ends the others."""
        waiting = iter(enumerate(requests))
        longest = max(len(request.prompt_ids) + request.max_new_tokens for request in requests)
        roles = Roles(self.fleet, self.local, self.policy, self.text_vocab, self.settings, longest)
        async with new_session(self.settings) as session:
            with closing(roles.decoder(session)) as decoder:

                async def work() -> None:
                    for index, request in waiting:
                        seq = Sequence(index, request, StopRule(request, self.decode, self.answer_of))
                        self._active[index] = seq
                        events.put(await decoder.decode(seq))

                workers = range(min(self.settings.concurrency, len(requests)))
                tasks = [asyncio.create_task(work()) for _ in workers]
                try:
                    await asyncio.gather(*tasks)
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)

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


class _LoopThread:
    """An event loop in a thread of its own, with one task."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None

    def start(
        self, work: abc.Coroutine[None, None, None], events: queue.SimpleQueue[Result | BaseException | None]
    ) -> None:
        """Run the task; None, or its exception, is put behind its results."""
        self._thread = threading.Thread(target=self._run, args=(work, events), name="s2t-eval-servers")
        self._task = self._loop.create_task(work)
        self._thread.start()

    def _run(
        self, work: abc.Coroutine[None, None, None], events: queue.SimpleQueue[Result | BaseException | None]
    ) -> None:
        assert self._task is not None
        end: BaseException | None = None
        try:
            self._loop.run_until_complete(self._task)
        except BaseException as error:  # every end of the thread reaches the caller, who raises it
            end = error
        events.put(end)

    def stop(self) -> None:
        """End the task, whether it has finished or not, and wait for the thread."""
        if self._thread is not None and self._task is not None:
            with suppress(RuntimeError):  # the loop may have ended by itself
                self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join()
        self._loop.close()
