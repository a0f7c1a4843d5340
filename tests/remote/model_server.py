"""A server that speaks the recorded protocol over models of transformers, for comparisons with the engine.

Real servers are tested in `test_vllm.py` and `test_vllm_methods.py`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import torch
from aiohttp import web

from tests.remote.fake_server import RECORDED, FakeServer

FIRST_RUNNER, CPU_ADAPTERS = "first runner", "cpu adapters"


class ModelServer(FakeServer):
    """A server of one model, with adapters beside it.

    With `quirks` it behaves as some servers of vLLM 0.32.0 do while other requests are in the same batch:
    `FIRST_RUNNER` returns nothing but its own token for a draft beside a request for named tokens;
    `CPU_ADAPTERS` answers requests to its model by the adapter of another one.

    Args:
        model: a causal model in float32.
        adapters: name -> the model with the adapter.
        roots: name -> folder from which it is served.
    """

    def __init__(
        self, model: Any, adapters: dict[str, Any] | None = None, roots: dict[str, str] | None = None
    ) -> None:
        super().__init__(vocab=model.get_output_embeddings().weight.shape[0])
        self.by_name = {"": model, **(adapters or {})}
        self.roots = roots or {}
        self.quirks: set[str] = set()
        self.num_spoilt = 0
        self._values: dict[tuple[str, tuple[int, ...]], list[float]] = {}
        self._name = ""
        self._batch: list[dict[str, Any]] = []

    async def models(self, request: web.Request) -> web.Response:
        [base] = RECORDED["models"]["data"]
        base = {**base, "root": self.roots.get("", "")}
        others = [
            {**base, "id": name, "root": self.roots.get(name, ""), "parent": base["id"]}
            for name in self.by_name
            if name
        ]
        return web.json_response({**RECORDED["models"], "data": [base, *others]})

    async def generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        params = body["sampling_params"]
        if FIRST_RUNNER in self.quirks and "prompt_logprob_token_ids" in params:
            return web.json_response(RECORDED["rows_refused"], status=400)
        batch = await self._batch_of(body)
        names = [other["model"] for other in batch if other["model"] in self.by_name]
        own = body["model"] if body["model"] in self.by_name else ""
        self._name = own or (names[0] if CPU_ADAPTERS in self.quirks and names else "")
        answer = self.answer(body["token_ids"], params)
        is_beside_scores = any("logprob_token_ids" in other["sampling_params"] for other in batch)
        if FIRST_RUNNER in self.quirks and is_beside_scores and "logprob_token_ids" not in params:
            self.num_spoilt += 1
            for entry in answer["choices"][0]["logprobs"]["content"]:
                entry["top_logprobs"] = entry["top_logprobs"][:1]
        return web.json_response(answer)

    async def _batch_of(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The requests that are open at any time while this one is, where that makes a difference."""
        if not self.quirks:
            return []
        self._batch.append(body)
        batch = list(self._batch)
        await asyncio.sleep(0.02)
        batch += self._batch
        self._batch.remove(body)
        return batch

    @torch.inference_mode()
    def values(self, ids: list[int]) -> list[float]:
        key = (self._name, tuple(ids))
        if key not in self._values:
            logits = self.by_name[self._name](torch.tensor([ids])).logits[0, -1]
            self._values[key] = logits.float().log_softmax(-1).tolist()
        return self._values[key]
