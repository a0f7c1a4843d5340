"""A server that speaks the recorded protocol over models of transformers, for comparisons with the engine.

Real servers are tested in `test_vllm.py` and `test_vllm_methods.py`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import torch
from aiohttp import web

from tests.remote.fake_server import RECORDED, FakeServer


class ModelServer(FakeServer):
    """A server of one model, with adapters beside it.

    Args:
        model: a causal model in float32.
        adapters: name -> the model with the adapter.
        roots: name -> folder from which it is served.

    With `mixes_up` it has the fault of vLLM's CPU build: while a request to an adapter is open, it answers
    those to its model by the adapter too.
    """

    def __init__(
        self, model: Any, adapters: dict[str, Any] | None = None, roots: dict[str, str] | None = None
    ) -> None:
        super().__init__(vocab=model.get_output_embeddings().weight.shape[0])
        self.by_name = {"": model, **(adapters or {})}
        self.roots = roots or {}
        self._values: dict[tuple[str, tuple[int, ...]], list[float]] = {}
        self._name = ""
        self.mixes_up = False
        self._open: list[str] = []

    async def models(self, request: web.Request) -> web.Response:
        [base] = RECORDED["models"]["data"]
        base = {**base, "root": self.roots.get("", "")}
        others = [
            {
                **base,
                "id": name,
                "root": self.roots.get(name, ""),
                "parent": base["id"],
                "max_model_len": None,
            }
            for name in self.by_name
            if name
        ]
        return web.json_response({**RECORDED["models"], "data": [base, *others]})

    async def generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        name = body["model"] if body["model"] in self.by_name else ""
        if self.mixes_up:
            self._open.append(name)
            await asyncio.sleep(0.05)
            name = max(self._open)
            self._open.pop()
        self._name = name
        return web.json_response(self.answer(body["token_ids"], body["sampling_params"]))

    @torch.inference_mode()
    def values(self, ids: list[int]) -> list[float]:
        key = (self._name, tuple(ids))
        if key not in self._values:
            logits = self.by_name[self._name](torch.tensor([ids])).logits[0, -1]
            self._values[key] = logits.float().log_softmax(-1).tolist()
        return self._values[key]
