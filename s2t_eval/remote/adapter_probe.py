"""Whether a server keeps its model and an adapter apart where both are computed in one batch.

In a batch with adapted requests vLLM's CPU build (0.32.0) looks up the adapter of a plain one by index -1,
which is the last slot. Its answer is then the adapter's, without any error. With one slot more than adapters
the last one is empty. Kernels of GPUs leave plain requests out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from s2t_eval.remote.client import Pool, Server, new_session
from s2t_eval.remote.probe import run_in_thread
from s2t_eval.remote.protocol import read_scores, score_body
from s2t_eval.remote.settings import RemoteSettings, ServerError

NUM_PROMPTS = 8
SCORED = tuple(range(1, 9))
VISIBLE = 0.1
"""Difference of log-probabilities from which the two models are distinguished."""


def require_separate(servers: Sequence[Server], adapter: str, settings: RemoteSettings) -> None:
    """Raise `ServerError` for a server that answers requests to its model by an adapter.

    Args:
        servers: of the student.
        adapter: name of a LoRA on all of them.
        settings: timeouts.
    """

    async def all_servers() -> None:
        async with new_session(settings) as session:
            for server in servers:
                pool = Pool("student", [server], session, settings, "s2t-eval-adapter")
                if await _is_mixed_up(pool, adapter):
                    raise ServerError(
                        f"student server {server.url}: in a batch with requests to the adapter {adapter} it "
                        "answers those to its own model by the adapter too (vLLM's CPU build does, with as "
                        "many slots as adapters); start it with --max-loras 2 or more"
                    )

    run_in_thread(all_servers())


async def _is_mixed_up(pool: Pool, adapter: str) -> bool:
    """Whether an answer of the model is closer to the adapter's as soon as both are requested at once."""
    names = (pool.servers[0].model, adapter)
    alone = [[await _scores(pool, name, i, "alone") for i in range(NUM_PROMPTS)] for name in names]
    together = await asyncio.gather(
        *(_scores(pool, name, i, "together") for i in range(NUM_PROMPTS) for name in names)
    )
    return any(
        _distance(own, other) > VISIBLE and _distance(answer, other) < _distance(answer, own)
        for own, other, answer in zip(*alone, together[::2], strict=True)
    )


async def _scores(pool: Pool, model: str, prompt: int, salt: str) -> list[float]:
    """Log-probabilities after a short prompt."""
    server = replace(pool.servers[0], model=model)
    one = replace(pool, servers=[server], salt=f"{pool.salt}-{salt}")
    body = score_body([1 + prompt] * (8 + prompt), SCORED)
    answer = await one.generate(one.pin(0), body, lambda content: read_scores(content, SCORED))
    return answer.log_probs


def _distance(left: Sequence[float], right: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(left, right, strict=True))
