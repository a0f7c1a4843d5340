"""Two processes share an evaluation: the results are those of one, and so is the trace."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.artifacts.files import TraceWriter
from s2t_eval.model_wrappers.greedy import Greedy
from tests.harness_helpers import (
    STUDENT,
    TEACHER,
    counts,
    evaluate,
    generation,
    prompts,
    read_trace,
    run_command,
    texts,
)

LIMIT = 5  # an odd number: the second process is given its last document twice

SCRIPT = """
import atexit, json, os, sys
from torch import distributed

@atexit.register  # registered before those of the package, so it runs after them
def say() -> None:
    open(f"group{os.environ['RANK']}", "w").write(str(distributed.is_initialized()))

sys.path.insert(0, sys.argv[1])
from lm_eval import simple_evaluate
from tests.harness_helpers import STUDENT, arith_task, task_manager

results = {}
for name, method, model_args, options in json.loads(sys.argv[2]):
    found = simple_evaluate(
        method, {"pretrained": STUDENT, **model_args}, tasks=[arith_task()], limit=int(sys.argv[3]),
        batch_size=4, task_manager=task_manager(), bootstrap_iters=0, **options,
    )
    if found is not None:  # the second process has none
        results[name] = {
            "results": found["results"],
            "resps": {s["doc_id"]: s["resps"] for s in found["samples"]["s2t_arith"]},
            "ours": found["config"]["s2t_eval"],
        }
if results:
    open("results.json", "w").write(json.dumps(results))
"""
SELECTION = {"teacher": TEACHER, "threshold": 0.4, "verify": 1}  # costs that do not depend on times
RUNS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("s2t", "s2t", {**SELECTION, "trace": "trace.jsonl"}, {}),
    ("first half", "maj8", {"num_samples": 2}, {"use_cache": "cache"}),
    ("again", "maj8", {"num_samples": 2}, {"use_cache": "cache"}),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes of torchrun left; the tests of it start three interpreters, so they are slow."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "script.py").write_text(SCRIPT)
    root = Path(__file__).parents[2]
    done = run_command(
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        "script.py", root, json.dumps(RUNS), str(LIMIT),
        folder=folder, ACCELERATE_USE_CPU="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def run(shared: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "results.json").read_text())[name]
    return found


MACHINE = ("seconds", "tokens_per_second", "peak_memory_bytes", "processes")
BATCH = ("prefill_tokens", "teacher_tokens")  # prompts that are prefilled together share their beginnings


@pytest.mark.slow
def test_results_are_those_of_one_process(shared: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    alone = evaluate("s2t", {**SELECTION, "trace": str(trace)}, limit=LIMIT, batch_size=4)
    together = run(shared, "s2t")
    assert together["results"] == alone["results"]
    # The document that filled up the second process's share has one response, not two.
    assert together["resps"] == {str(i): [[text]] for i, text in enumerate(texts(alone))}
    telemetry = together["ours"]["telemetry"]
    assert telemetry["processes"] == 2
    for name in counts(alone).keys() - {*MACHINE, *BATCH}:
        assert telemetry[name] == counts(alone)[name], name
    assert together["ours"]["prompt_hashes"] == alone["config"]["s2t_eval"]["prompt_hashes"]


@pytest.mark.slow
def test_one_trace_with_the_lines_of_both(shared: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    evaluate("s2t", {**SELECTION, "trace": str(trace)}, limit=LIMIT, batch_size=4)

    def lines(path: Path) -> dict[int, Any]:
        found = {line["doc_id"]: line for line in read_trace(path)}
        return {i: {k: found[i][k] for k in ("prompt_ids", "output_ids", "finish")} for i in sorted(found)}

    assert len(read_trace(shared / "trace.jsonl")) == LIMIT
    assert lines(shared / "trace.jsonl") == lines(trace)
    assert not list(shared.glob("*.partial"))


@pytest.mark.slow
def test_each_process_has_a_cache(shared: Path) -> None:
    assert sorted(path.name for path in shared.glob("cache*.db")) == ["cache_rank0.db", "cache_rank1.db"]
    first, again = run(shared, "first half"), run(shared, "again")
    assert first["resps"] == again["resps"]
    assert first["ours"]["telemetry"]["cached_texts"] == 0
    assert again["ours"]["telemetry"]["cached_texts"] == again["ours"]["telemetry"]["texts"] == 2 * LIMIT
    assert again["ours"]["telemetry"]["tokens"] == first["ours"]["telemetry"]["tokens"]


@pytest.mark.slow
def test_processes_leave_their_group_before_the_interpreter_ends(shared: Path) -> None:
    """About one run in twenty was aborted in its last moments on a busy machine, and its results with it."""
    assert [(shared / f"group{rank}").read_text() for rank in range(2)] == ["False", "False"]


def test_lines_are_handed_over_whole(tmp_path: Path) -> None:
    """Characters that end a line elsewhere do not here; a second task goes on."""
    path = tmp_path / "trace.jsonl"
    first, second = TraceWriter(path), TraceWriter(path, rank=1)
    for round_ in range(2):
        first.write({"process": 0, "round": round_})
        second.write({"process": 1, "text": "a\u2028b\u0085c\r\n"})
        lines = second.release_lines()
        assert len(lines) == 1
        first.finish(lines)
        second.discard()
    assert [json.loads(line) for line in path.read_text().split("\n")[:-1]] == [
        {"process": 0, "round": 0},
        {"process": 1, "text": "a\u2028b\u0085c\r\n"},
        {"process": 0, "round": 1},
        {"process": 1, "text": "a\u2028b\u0085c\r\n"},
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["trace.jsonl"]


def test_what_a_broken_process_left_is_kept(tmp_path: Path) -> None:
    left = tmp_path / "trace.jsonl.rank1.partial"
    left.write_text("half a night's work\n")
    with pytest.raises(ValueError, match=r"^trace: .*trace\.jsonl\.rank1\.partial exists; move it away"):
        TraceWriter(tmp_path / "trace.jsonl", rank=1)
    assert left.read_text() == "half a night's work\n"


def test_padding_is_the_harness_s_repetition() -> None:
    lm = Greedy(STUDENT)
    one, two = (generation(prompt, i, repeats=2) for i, prompt in enumerate(prompts(2)))
    assert lm.padding([one, one, two, two, two, two]) == {}
    lm._world_size = 2
    assert lm.padding([one, one, two, two, two, two]) == {4: 2, 5: 2}
    two.resps = ["a", "b", "a", "a"]
    lm.wait = lambda: None
    lm.barrier()
    assert two.resps == ["a", "b"]
