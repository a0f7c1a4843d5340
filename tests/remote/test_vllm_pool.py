"""A pool of real servers of which one is killed in mid-run: no text is lost, and none differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2t_eval.embedded.arith import format_prompt, make_split
from s2t_eval.engine import Request, Result
from s2t_eval.models.vocabulary import stop_ids, text_vocabulary
from s2t_eval.remote.build import Fleet
from s2t_eval.remote.probe import connect
from s2t_eval.remote.scheduler import RemoteScheduler
from s2t_eval.remote.settings import RemoteSettings
from s2t_eval.selection.policy import s2t
from s2t_eval.selection.triggers import make_trigger
from tests.harness_helpers import tokenizer
from tests.remote.real_servers import serving_another, vllm_environment

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(vllm_environment() is None, reason="no vLLM: `make vllm` builds its environment"),
]

NUM_DOCUMENTS = 60
SETTINGS = RemoteSettings(chunk=8, concurrency=16, patience_s=120)
POLICY = s2t(make_trigger("entropy64"), 1.3)


def requests() -> list[Request]:
    stops = stop_ids(tokenizer(), None)
    prompts = [format_prompt(problem.question) for problem in make_split("test")[:NUM_DOCUMENTS]]
    return [
        Request(tuple(tokenizer()(prompt)["input_ids"]), 96, stops, seed=i)
        for i, prompt in enumerate(prompts)
    ]


def contents(results: list[Result]) -> list[tuple[object, ...]]:
    ordered = sorted(results, key=lambda result: result.index)
    return [
        (result.output_ids, result.finish, [(s.t, s.candidates, s.picked) for s in result.steps])
        for result in ordered
    ]


def scheduler(fleet: Fleet) -> RemoteScheduler:
    return RemoteScheduler(fleet, POLICY, text_vocabulary(tokenizer()), SETTINGS)


def test_a_server_that_is_killed_in_mid_run_loses_nothing(
    vllm_urls: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    student, teacher = vllm_urls
    alone = contents(list(scheduler(connect([student], [teacher], SETTINGS)).run(requests())))
    with serving_another("student", tmp_path) as other:
        fleet = connect([student, other.url], [teacher], SETTINGS)
        results = []
        for result in scheduler(fleet).run(requests()):
            results.append(result)
            if len(results) == 5:
                other.process.kill()
    assert contents(results) == alone
    assert f"student server {other.url}" in caplog.text and f"a text moves to {student}" in caplog.text
