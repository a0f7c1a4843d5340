"""Many texts at once on servers, whatever the method that decodes one of them."""

from __future__ import annotations

from collections import abc
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Protocol

import aiohttp

from s2t_eval.engine.request import Request, Result
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import OnRound, Round
from s2t_eval.remote.build import LocalModels
from s2t_eval.remote.jobs import Work, run_jobs
from s2t_eval.remote.protocol import SUPPORT
from s2t_eval.remote.settings import RemoteSettings


class OneText(Protocol):
    """A method that decodes one text."""

    def close(self) -> None:
        """End the work of models of this process."""
        ...

    async def decode(self, seq: Sequence) -> Result:
        """The whole text of a sequence."""
        ...


def decode_texts(
    requests: abc.Sequence[Request],
    sequence: abc.Callable[[int, Request], Sequence],
    decoder: abc.Callable[[aiohttp.ClientSession], OneText],
    settings: RemoteSettings,
    on_round: OnRound | None,
) -> abc.Iterator[Result]:
    """The results, each as soon as its text has ended, in no fixed order.

    Args:
        requests: the texts to generate.
        sequence: the state of a new text, from its index and request.
        decoder: the method over an HTTP client; it is closed at the end.
        settings: texts at once, timeouts.
        on_round: called when texts end and twice a second.
    """
    active: dict[int, Sequence] = {}

    def show(result: Result | None) -> None:
        """Call the observer with the active sequences, and the one that has just ended."""
        if on_round is not None:
            seqs = list(active.copy().values())
            rows = [row for row, seq in enumerate(seqs) if result is not None and seq.index == result.index]
            on_round(Round(seqs, [(row, result.finish) for row in rows] if result is not None else []))
        if result is not None:
            active.pop(result.index, None)

    stack = ExitStack()

    def start(session: aiohttp.ClientSession) -> Work[Request, Result]:
        method = stack.enter_context(closing(decoder(session)))

        async def decode(index: int, request: Request) -> Result:
            active[index] = seq = sequence(index, request)
            return await method.decode(seq)

        return decode

    with stack:
        for result in run_jobs(requests, start, settings, lambda: show(None)):
            show(result)
            yield result


def settings_beside(local: LocalModels, settings: RemoteSettings) -> RemoteSettings:
    """The settings, with as many texts at once as a model of this process has cache rows."""
    if local.student is None and local.teacher is None:
        return settings
    return replace(settings, concurrency=local.rows)


def require_room(requests: abc.Sequence[Request], longest: int) -> None:
    """Raise `ValueError` for a request that is too long, or samples from too many tokens.

    Args:
        requests: of a run.
        longest: most tokens of a text on all servers, prompt included.
    """
    most = max(requests, key=lambda request: request.max_length, default=None)
    if most is not None and most.max_length > longest:
        raise ValueError(
            f"max_gen_toks: a prompt of {len(most.prompt_ids)} tokens and {most.max_new_tokens} new ones "
            f"exceed the servers' {longest}; raise their --max-model-len (or cut off the beginning "
            f"of such prompts: max_length={longest} in lm_eval's --model_args)"
        )
    for request in requests:
        sampling = request.sampling
        if sampling is not None and not 0 < sampling.top_k <= SUPPORT:
            raise ValueError(
                f"top_k: servers return the {SUPPORT} most likely tokens, from which sampling draws, so "
                f"expected 1 to {SUPPORT}, got {sampling.top_k}; give top_k in --gen_kwargs (`sample_top_k` "
                "in --model_args of methods that sample by themselves)"
            )
