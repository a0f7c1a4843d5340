"""Real servers in float32: votes, mixed pairs, adapters, reserved rows and merged checkpoints."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.embedded import embedded_path
from tests.harness_helpers import STUDENT, TEACHER, evaluate, read_trace, texts
from tests.remote.checkpoints import SELECTOR, export, look_ahead_selector, padded_student
from tests.remote.real_servers import TEACHER as TEACHER_SERVER
from tests.remote.real_servers import Served, serving_models, vllm_environment

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(vllm_environment() is None, reason="no vLLM: `make vllm` builds its environment"),
]

NUM_DOCUMENTS = int(os.environ.get("S2T_VLLM_METHOD_DOCUMENTS", "12"))
LORA = ("--enable-lora", "--max-lora-rank", "64", "--max-loras", "2")
ADAPTER = ("--lora-modules", f"sel={embedded_path(SELECTOR)}")


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    student = Served("student", embedded_path(STUDENT), LORA + ADAPTER)
    with serving_models(tmp_path_factory.mktemp("vllm"), student, TEACHER_SERVER) as [first, second]:
        yield {"student_url": first, "teacher_url": second}


class Run:
    """One run through lm_eval: texts, and the trace's steps, answers and votes."""

    def __init__(self, folder: Path, model: str, arguments: dict[str, Any]) -> None:
        trace = folder / f"{len(list(folder.iterdir()))}.jsonl"
        values = {"dtype": "float32", "trace": str(trace), **arguments}
        self.texts = texts(evaluate(model, values, limit=NUM_DOCUMENTS, batch_size=8))
        lines = sorted(read_trace(trace), key=lambda line: (line["doc_id"], line["sample"]))
        self.ids = [line["output_ids"] for line in lines]
        names = ("t", "candidates", "greedy", "picked")
        self.steps = [[tuple(step[name] for name in names) for step in line["steps"]] for line in lines]
        self.votes = [(line.get("answer"), line.get("vote")) for line in lines]

    @property
    def contents(self) -> tuple[Any, ...]:
        return self.texts, self.ids, self.steps, self.votes


def require_equal(folder: Path, model: str, arguments: dict[str, Any], servers: dict[str, Any]) -> Run:
    """The run with its models here and the run on servers have the same contents."""
    expected = Run(folder, model, arguments)
    # Arguments of servers may replace those of the models that are loaded here.
    actual = Run(folder, model, {**arguments, **servers})
    assert actual.contents == expected.contents
    return actual


def test_votes_are_the_engines(urls: dict[str, str], tmp_path: Path) -> None:
    run = require_equal(tmp_path, "maj8", {"num_samples": 4}, {"student_url": urls["student_url"]})
    assert len({tuple(ids) for ids in run.ids}) > NUM_DOCUMENTS  # samples of a document differ


FIRING = {
    "kl": {"trigger": "kl", "threshold": 0.2},
    "margin": {"trigger": "margin", "threshold": 0.9},
    "random": {"trigger": "random", "tau": 0.1},
}


@pytest.mark.parametrize("role", ["student_url", "teacher_url"])
@pytest.mark.parametrize("model", ["s2t", "takeover"])
@pytest.mark.parametrize("name", FIRING)
def test_one_model_here_and_the_other_on_a_server(
    urls: dict[str, str], tmp_path: Path, name: str, model: str, role: str
) -> None:
    arguments = {"teacher": TEACHER, "teacher_dtype": "float32", **FIRING[name]}
    more = {role: urls[role]} | ({"teacher_dtype": None} if role == "teacher_url" else {})
    run = require_equal(tmp_path, model, arguments, more)
    assert any(run.steps)


def test_a_local_entropy_and_a_remote_teacher(urls: dict[str, str], tmp_path: Path) -> None:
    arguments = {"teacher": TEACHER, "trigger": "entropy", "threshold": 1.0}
    assert any(require_equal(tmp_path, "s2t", arguments, {"teacher_url": urls["teacher_url"]}).steps)


def test_a_local_router_and_a_remote_teacher(urls: dict[str, str], tmp_path: Path) -> None:
    arguments = {"teacher": TEACHER, "router": "embedded/r2r"}
    assert any(require_equal(tmp_path, "r2r", arguments, {"teacher_url": urls["teacher_url"]}).steps)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"trigger": "random", "tau": 0.1},
        {"trigger": "margin", "tau": 0.05, "proposal_weight": 0.5},
    ],
)
def test_an_adapter_of_the_same_server_scores(
    urls: dict[str, str], tmp_path: Path, more: dict[str, Any]
) -> None:
    arguments = {"selector": SELECTOR, **more}
    run = require_equal(tmp_path, "pps_local", arguments, {"student_url": urls["student_url"]})
    assert any(run.steps)


def test_an_adapter_of_the_server_writes(urls: dict[str, str], tmp_path: Path) -> None:
    require_equal(tmp_path, "s2t_local", {"selector": SELECTOR}, {"student_url": urls["student_url"]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


def test_merged_checkpoints_on_servers(folder: Path, tmp_path: Path) -> None:
    """A merged selector of form direct, and a merged distilled adapter, decoded greedily."""
    selected = export(STUDENT, folder / "selected", "--selector", SELECTOR, "--merged")
    distilled = export(STUDENT, folder / "distilled", "--peft", "embedded/distilled", "--merged")
    with serving_models(tmp_path, Served("selected", selected), Served("distilled", distilled)) as servers:
        runs = tmp_path / "runs"
        runs.mkdir()
        expected = Run(runs, "s2t_local", {"selector": SELECTOR})
        actual = Run(runs, "greedy", {"pretrained": str(selected), "student_url": servers[0]})
        assert actual.texts == expected.texts
        expected = Run(runs, "distil", {"peft": "embedded/distilled"})
        actual = Run(runs, "distil", {"pretrained": str(distilled), "student_url": servers[1]})
        assert actual.contents == expected.contents


def test_reserved_rows_of_a_server_score(folder: Path, tmp_path: Path) -> None:
    """The paper's form: each candidate is appended, and the rows behind it are its score."""
    student = padded_student(folder / "padded")
    selector = look_ahead_selector(folder / "selector", student)
    options = ("--selector", str(selector), "--to_reserved_rows")
    exported = export(student, folder / "exported", *options)
    with serving_models(tmp_path, Served("exported", exported)) as [url]:
        runs = tmp_path / "runs"
        runs.mkdir()
        arguments = {"pretrained": str(student), "selector": str(selector), "top_k": 4}
        for firing in ({"trigger": "random", "tau": 0.1}, {"trigger": "always"}):
            run = require_equal(runs, "s2t_local", {**arguments, **firing}, {"student_url": url})
            assert any(run.steps)
