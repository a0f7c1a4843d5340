"""Many texts at once on servers, whatever the method that decodes one of them."""

from __future__ import annotations

import logging
from collections import abc
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Protocol

import aiohttp

from s2t_eval.engine.out_of_memory import is_out_of_memory
from s2t_eval.engine.request import Request, Result
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import OnRound, Round
from s2t_eval.remote.build import LocalModels
from s2t_eval.remote.jobs import Work, run_jobs
from s2t_eval.remote.protocol import SUPPORT
from s2t_eval.remote.settings import RemoteSettings

logger = logging.getLogger(__name__)


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
    decoder: abc.Callable[[aiohttp.ClientSession, LocalModels], OneText],
    settings: RemoteSettings,
    local: LocalModels,
    on_round: OnRound | None,
) -> abc.Iterator[Result]:
    """The results, each as soon as its text has ended, in no fixed order.

    When memory runs out, the number of cache rows of a model of this process is halved, and unfinished texts
    are generated again, as in the engine. An error or Ctrl-C frees its cache.

    Args:
        requests: the texts to generate.
        sequence: the state of a new text, from its index and request.
        decoder: the method over an HTTP client and the models of this process; it is closed at the end.
        settings: texts at once where no model is in this process, timeouts.
        local: the models of this process.
        on_round: called when texts end and twice a second.
    """
    waiting = dict(enumerate(requests))
    local = replace(local, rows=max(1, min(local.rows, len(requests))))
    while waiting:
        try:
            for result in _decode(list(waiting.items()), sequence, decoder, settings, local, on_round):
                del waiting[result.index]
                yield result
        except GeneratorExit:  # the caller takes no further text, and may be decoding others by now
            raise
        except BaseException as error:  # Ctrl-C too, after which a session goes on with these models
            for runner in local.runners:
                runner.release()
            if not (local.runners and is_out_of_memory(error)) or local.rows == 1:
                raise
            local = replace(local, rows=local.rows // 2)
            logger.warning("out of memory: continuing with %d rows at once", local.rows)


def _decode(
    texts: abc.Sequence[tuple[int, Request]],
    sequence: abc.Callable[[int, Request], Sequence],
    decoder: abc.Callable[[aiohttp.ClientSession, LocalModels], OneText],
    settings: RemoteSettings,
    local: LocalModels,
    on_round: OnRound | None,
) -> abc.Iterator[Result]:
    """The results of texts with their indices, by models of this process with as many rows as `local` has."""
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

    def start(session: aiohttp.ClientSession) -> Work[tuple[int, Request], Result]:
        method = stack.enter_context(closing(decoder(session, local)))

        async def decode(_: int, text: tuple[int, Request]) -> Result:
            index, request = text
            active[index] = seq = sequence(index, request)
            return await method.decode(seq)

        return decode

    with stack:
        for result in run_jobs(texts, start, settings_beside(local, settings), lambda: show(None)):
            show(result)
            yield result


def settings_beside(local: LocalModels, settings: RemoteSettings) -> RemoteSettings:
    """The settings, with as many texts at once as a model of this process has cache rows."""
    return replace(settings, concurrency=local.rows) if local.runners else settings


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
