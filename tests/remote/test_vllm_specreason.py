"""SpecReason on real servers in float32: the engine's texts, scores, decisions and costs."""

from __future__ import annotations

import os

import pytest

from tests.remote.real_servers import vllm_environment
from tests.remote.test_specreason import Pair, middle, pair_of, require_equal

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(vllm_environment() is None, reason="no vLLM: `make vllm` builds its environment"),
]

NUM_DOCUMENTS = int(os.environ.get("S2T_VLLM_METHOD_DOCUMENTS", "12"))


@pytest.fixture(scope="module")
def pair(vllm_urls: tuple[str, str]) -> Pair:
    return pair_of(vllm_urls, NUM_DOCUMENTS)


@pytest.mark.parametrize("here", ["", "student", "teacher"])
@pytest.mark.parametrize("name", ["digit", "expected", "logprob"])
def test_it_is_the_engines(pair: Pair, name: str, here: str) -> None:
    score = pair.score(name)
    accept = middle(pair, score, pair.requests)
    actual = pair.results(score, accept, pair.requests, here, chunk=8)
    require_equal(pair.expected(score, accept, pair.requests), actual)
    rejected = sum(result.usage.rejected_steps for result in actual)
    assert 0 < rejected < sum(result.usage.drafted_steps for result in actual)
