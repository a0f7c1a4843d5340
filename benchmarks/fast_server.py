"""A server that speaks vLLM's protocol and computes nothing, to measure the client alone.

    python -m benchmarks.fast_server        # prints its address, and ends when its input does

Every answer is made once for each length and then sent again, so a thousand texts at once leave it idle most
of the time. The last step of every chunk is one of high entropy; the teacher prefers the student's own token
there, so that nothing is discarded. It runs in a process of its own: its processor time is not the client's.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from aiohttp import web

MAX_LENGTH = 32768
FIRST_ID = 10
"""The most likely token of every step; the ids after it follow in their order."""
SURE, UNSURE = 0.9, 0.02
"""Probability of the most likely token, at most steps and at the last one of a chunk."""


class FastServer:
    """The handlers and what they count."""

    def __init__(self) -> None:
        self.requests = 0
        self.active = 0
        self.most_at_once = 0

    async def models(self, request: web.Request) -> web.Response:
        """One model."""
        model = {"id": "fast", "root": "embedded/teacher", "max_model_len": MAX_LENGTH}
        return web.json_response({"data": [model]})

    async def version(self, request: web.Request) -> web.Response:
        """The version whose protocol it speaks."""
        return web.json_response({"version": "0.32.0"})

    async def counts(self, request: web.Request) -> web.Response:
        """Requests so far, and the most that were answered at once."""
        return web.json_response({"requests": self.requests, "most_at_once": self.most_at_once})

    async def generate(self, request: web.Request) -> web.Response:
        """An answer of the right shape."""
        self.requests += 1
        self.active += 1
        self.most_at_once = max(self.most_at_once, self.active)
        try:
            body = await request.json()
            await asyncio.sleep(0)
            return web.Response(body=answer(len(body["token_ids"]), body["sampling_params"]))
        finally:
            self.active -= 1


def answer(num_prompt: int, params: dict[str, Any]) -> bytes:
    """The answer to a request by its sampling parameters."""
    rows = params.get("prompt_logprob_token_ids")
    if rows is not None:
        return rows_answer(num_prompt, len(rows), max(map(len, rows)))
    named = params.get("logprob_token_ids")
    if named is not None:
        return score_answer(num_prompt, tuple(named))
    return draft_answer(params["max_tokens"], params.get("logprobs", 1))


@functools.lru_cache(maxsize=4096)
def draft_answer(num_tokens: int, num_top: int) -> bytes:
    """A chunk of a student's text."""
    steps = [_step(range(FIRST_ID, FIRST_ID + num_top), SURE)] * (num_tokens - 1)
    steps.append(_step(range(FIRST_ID, FIRST_ID + num_top), UNSURE))
    return _answer(0, steps)


@functools.lru_cache(maxsize=4096)
def score_answer(num_prompt: int, named: tuple[int, ...]) -> bytes:
    """A teacher's step: the first named token is its own."""
    return _answer(num_prompt, [_step(list(dict.fromkeys(named)), SURE)])


@functools.lru_cache(maxsize=4096)
def rows_answer(num_prompt: int, num_rows: int, num_ids: int) -> bytes:
    """A teacher's scores of a chunk."""
    row = np.log([SURE, *[(1 - SURE) / num_ids] * (num_ids - 1)])
    written = io.BytesIO()
    np.save(written, np.tile(row.astype(np.float32), (num_rows, 1)))
    encoded = base64.b64encode(written.getvalue()).decode()
    return _answer(num_prompt, [_step([FIRST_ID], SURE)], encoded)


def _step(ids: Any, first: float) -> dict[str, Any]:
    rest = float(np.log((1 - first) / 64))
    top = [
        {"token_id": token, "logprob": rest if place else float(np.log(first)), "rank": place + 1}
        for place, token in enumerate(ids)
    ]
    return {**top[0], "top_logprobs": top}


def _answer(num_prompt: int, steps: list[dict[str, Any]], rows: str | None = None) -> bytes:
    choice = {
        "token_ids": [step["token_id"] for step in steps],
        "finish_reason": "length",
        "logprobs": {"content": steps},
    }
    usage = {"prompt_tokens": num_prompt, "completion_tokens": len(steps)}
    return json.dumps({"choices": [choice], "usage": usage, "prompt_token_id_logprobs": rows}).encode()


async def serve() -> None:
    """Serve on a free port until standard input ends."""
    server = FastServer()
    app = web.Application(client_max_size=2**26)
    app.router.add_get("/v1/models", server.models)
    app.router.add_get("/version", server.version)
    app.router.add_get("/counts", server.counts)
    app.router.add_post("/inference/v1/generate", server.generate)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


@contextmanager
def fast_server() -> Iterator[str]:
    """The address of a server in a process of its own, which ends with the block."""
    command = [sys.executable, "-m", "benchmarks.fast_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.communicate()


if __name__ == "__main__":
    asyncio.run(serve())
