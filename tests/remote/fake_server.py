"""A server that speaks the recorded protocol over a made-up model, to inject faults into its answers.

Real servers are tested in `test_vllm.py`. The shape of every answer is compared with a recorded one.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

VOCAB = 100
UNCACHED = 3
"""Tokens that a server computes of a chunk into which its cache reached."""
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded_answers.json").read_text())
"""Answers of vLLM 0.32.0 by the kind of request."""


@functools.cache
def log_probs(seed: int, last: tuple[int, ...], vocab: int = VOCAB) -> list[float]:
    """The made-up model: log-probabilities that depend on the last three tokens."""
    logits = np.random.default_rng([seed, *last]).normal(0, 2, vocab)
    return [float(value) for value in np.float32(logits - np.logaddexp.reduce(logits))]


@dataclass
class FakeServer:
    """A server of one made-up model.

    Args:
        seed: of the model.
        faults: number of a generate request, from 0 -> the fault of its answer.
        has_rows: whether it scores chunks.
        vocab: size of its vocabulary.
        is_dead: whether it cuts every connection.
        dies_after: number of generate requests after which it is dead.
        root: what it loaded its model from.
        has_logits: whether it returns logits in the place of log-probabilities.
        has_key: whether it answers to nobody without a key, but for generate requests, as vLLM does.
        slow_s: seconds before an answer with the fault `slow`.
        release: version of vLLM.
    """

    seed: int = 0
    faults: dict[int, str] = field(default_factory=dict)
    has_rows: bool = True
    vocab: int = VOCAB
    is_dead: bool = False
    dies_after: int | None = None
    root: str = RECORDED["models"]["data"][0]["root"]
    has_logits: bool = False
    has_key: bool = False
    slow_s: float = 3.0
    release: str = RECORDED["version"]["version"]
    url: str = ""
    is_closing: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0
    """connections that were cut"""
    most_open: int = 0
    """generate requests that were open at once"""
    _num_open: int = 0

    def values(self, ids: list[int]) -> list[float]:
        values = log_probs(self.seed, tuple(ids[-3:]), self.vocab)
        return [value + 20 for value in values] if self.has_logits else values

    async def models(self, request: web.Request) -> web.Response:
        if self.has_key:
            return web.json_response({"error": "Unauthorized"}, status=401)
        [model] = RECORDED["models"]["data"]
        return web.json_response({**RECORDED["models"], "data": [{**model, "root": self.root}]})

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({**RECORDED["version"], "version": self.release})

    async def generate(self, request: web.Request) -> web.StreamResponse:
        self._num_open += 1
        self.most_open = max(self.most_open, self._num_open)
        try:
            return await self._generated(request)
        finally:
            self._num_open -= 1

    async def _generated(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        fault = self.faults.get(len(self.requests), "")
        self.requests.append(body)
        self.is_dead |= self.dies_after is not None and len(self.requests) > self.dies_after
        if self.is_dead or fault == "cut":
            self.refused += 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault == "slow":
            await asyncio.sleep(self.slow_s)
        while fault == "hangs" and not self.is_closing:
            await asyncio.sleep(0.02)
        if fault.isdecimal():
            error = {"message": "told to fail", "type": "x", "param": None, "code": int(fault)}
            return web.json_response({"error": error}, status=int(fault), headers={"Retry-After": "0"})
        params = body["sampling_params"]
        if len(body["token_ids"]) >= RECORDED["models"]["data"][0]["max_model_len"]:
            error = {"message": "longer than the maximum model length", "code": 400}
            return web.json_response({"error": error}, status=400)
        if "prompt_logprob_token_ids" in params and not self.has_rows:
            return web.json_response(RECORDED["rows_refused"], status=400)
        answer = self.answer(body["token_ids"], params)
        spoil(answer, fault)
        return web.Response(
            text=json.dumps(answer)[: -20 if fault == "half" else None], content_type="application/json"
        )

    def answer(self, ids: list[int], params: dict[str, Any]) -> dict[str, Any]:
        tokens: list[int] = []
        content = []
        for _ in range(params["max_tokens"]):
            values = self.values([*ids, *tokens])
            ranked = sorted(range(self.vocab), key=lambda i, values=values: (-values[i], i))  # type: ignore[misc]
            named = params.get("logprob_token_ids", ranked)
            listed = [ranked[0], *(i for i in named if i != ranked[0])][: params.get("logprobs", 0)]
            top = [{"token_id": i, "logprob": values[i], "rank": ranked.index(i) + 1} for i in listed]
            content.append({**top[0], "top_logprobs": top} if top else None)
            tokens.append(ranked[0])
            if ranked[0] in params.get("stop_token_ids", ()):
                break
        recorded = RECORDED["rows" if "prompt_logprob_token_ids" in params else "draft"]
        [choice] = recorded["choices"]
        choice = {**choice, "token_ids": tokens}
        choice["logprobs"] = {"content": content} if params.get("logprobs") else None
        usage = {**recorded["usage"], "prompt_tokens": len(ids), "completion_tokens": len(tokens)}
        rows = self.rows(ids, params) if "prompt_logprob_token_ids" in params else None
        return {**recorded, "choices": [choice], "usage": usage, "prompt_token_id_logprobs": rows}

    def rows(self, ids: list[int], params: dict[str, Any]) -> str:
        lists, start = params["prompt_logprob_token_ids"], params["prompt_logprob_start"]
        assert len(lists) == len(ids) - 1 - start
        array = np.full((len(lists), max(map(len, lists))), -np.inf, np.float32)
        for place, scored in enumerate(lists):
            values = self.values(ids[: start + 1 + place])
            array[place, : len(scored)] = [values[i] for i in scored]
        return encoded(array)


def encoded(array: np.ndarray[Any, Any]) -> str:
    """An array as servers write it into JSON."""
    written = io.BytesIO()
    np.save(written, array)
    return base64.b64encode(written.getvalue()).decode()


def spoil(answer: dict[str, Any], fault: str) -> None:
    """Give an answer the content of a fault."""
    choice = answer["choices"][0]
    if fault == "null rows":
        # The cache reached into the chunk; a real server still computes the rest.
        answer["prompt_token_id_logprobs"] = None
        usage = answer["usage"]
        details = {**usage["prompt_tokens_details"], "cached_tokens": usage["prompt_tokens"] - UNCACHED}
        answer["usage"] = {**usage, "prompt_tokens_details": details}
    elif fault == "damaged weights" and answer["prompt_token_id_logprobs"] is not None:
        array = np.load(io.BytesIO(base64.b64decode(answer["prompt_token_id_logprobs"])))
        answer["prompt_token_id_logprobs"] = encoded(np.full_like(array, np.nan))
    elif fault == "damaged weights":
        # Outside of arrays the endpoint writes NaN as it writes minus infinity.
        for entry in choice["logprobs"]["content"]:
            for token in (entry, *entry["top_logprobs"]):
                token["logprob"] = -9999.0
    elif fault == "wrong length":
        choice["token_ids"] = [*choice["token_ids"], 1]
    elif fault == "no log-probabilities":
        choice["logprobs"] = None
    elif fault == "lost tokens":
        # As vLLM's first model runner answers where another request of the batch names tokens.
        for entry in choice["logprobs"]["content"][1:]:
            entry["top_logprobs"] = [
                *entry["top_logprobs"][:1],
                {"token_id": 0, "logprob": -9999.0, "rank": 0},
            ]
    elif fault == "all tokens lost":
        choice["logprobs"]["content"][0]["top_logprobs"] = choice["logprobs"]["content"][0]["top_logprobs"][
            :1
        ]
    elif fault == "no choice":
        answer["choices"] = []


@contextmanager
def serving(*servers: FakeServer) -> Iterator[None]:
    """Run servers on ports of their own, in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> list[web.AppRunner]:
        runners = []
        for server in servers:
            app = web.Application()
            app.router.add_get("/v1/models", server.models)
            app.router.add_get("/version", server.version)
            app.router.add_post("/inference/v1/generate", server.generate)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            runners.append(runner)
        return runners

    async def stop(runners: list[web.AppRunner]) -> None:
        for server in servers:
            server.is_closing = True
        for runner in runners:
            await runner.cleanup()

    runners = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(stop(runners), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
