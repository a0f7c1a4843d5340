"""What a run leaves behind: the results file's entry, and a trace from which every choice can be replayed."""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from s2t_eval.artifacts.files import TraceError, TraceWriter, atomic_path, write_text
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.telemetry import peak_memory
from s2t_eval.report.shape import require_results
from tests.harness_helpers import (
    LIMIT,
    STUDENT,
    TEACHER,
    Results,
    arith_docs,
    counts,
    evaluate,
    generation,
    inline_task,
    logits_after,
    model,
    ours,
    prompts,
    read_trace,
    run_command,
    texts,
    tokenizer,
)

REPLAYED = 2
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "kl": ("s2t", {"threshold": 0.4}),
    "kl_other_direction": (
        "s2t",
        {"threshold": 0.4, "kl_direction": "teacher_student", "top_k": 5, "verify": 5},
    ),
    "entropy": ("s2t", {"trigger": "entropy", "threshold": 0.4, "warmup_tokens": 6}),
    "margin": ("s2t", {"trigger": "margin", "threshold": 0.4}),
    "takeover": ("takeover", {"threshold": 0.4, "top_k": 4, "verify": 1}),
}


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Results, list[Any]]]:
    """Runs a method once; gives the harness's results and the trace's lines."""
    runs: dict[str, tuple[Results, list[Any]]] = {}

    def run(name: str) -> tuple[Results, list[Any]]:
        if name not in runs:
            path = tmp_path_factory.mktemp("trace") / "trace.jsonl"
            method, model_args = METHODS.get(name, (name, {}))
            if method in ("s2t", "takeover"):
                model_args = {"teacher": TEACHER, **model_args}
            results = evaluate(method, {**model_args, "trace": str(path)})
            runs[name] = results, read_trace(path)
        return runs[name]

    return run


# ---------------------------------------------------------------- replay


def top(logits: torch.Tensor, k: int) -> list[int]:
    return logits.argsort(descending=True, stable=True)[:k].tolist()


def divergence(name: str, options: dict[str, Any], student: torch.Tensor, teacher: torch.Tensor) -> float:
    """From the definitions, in float64."""
    p = student.softmax(-1)
    if name == "entropy":
        return -sum(x * math.log(x) for x in p.tolist() if x > 0)
    if name == "margin":
        first, second, *_ = sorted(p.tolist(), reverse=True)
        return 1 - (first - second)
    support = top(student, 64)
    p, q = student[support].softmax(-1), teacher[support].softmax(-1)
    if options.get("kl_direction") == "teacher_student":
        p, q = q, p
    return float((p * (p / q).log()).sum())


@pytest.mark.parametrize("name", METHODS)
def test_every_step_can_be_replayed_by_plain_forwards(
    name: str, traced: Callable[..., tuple[Results, list[Any]]]
) -> None:
    """Each prefix is encoded afresh: what fired had to fire, and what did not was the argmax."""
    method, options = METHODS[name]
    threshold, top_k = options["threshold"], options.get("top_k", 8)
    fired = 0
    for line in traced(name)[1][:REPLAYED]:
        assert line["method"] == method
        assert line["threshold"] == threshold
        steps = {step["t"]: step for step in line["steps"]}
        for t, token in enumerate(line["output_ids"]):
            so_far = line["prompt_ids"] + line["output_ids"][:t]
            student = logits_after(model(STUDENT), so_far)
            teacher = logits_after(model(TEACHER), so_far)
            expected = divergence(options.get("trigger", "kl"), options, student, teacher)
            if t not in steps:
                assert expected < threshold + 1e-4 or t < options.get("warmup_tokens", 0)
                assert token == int(student.argmax())
                continue
            step = steps.pop(t)
            fired += 1
            assert t >= options.get("warmup_tokens", 0)
            assert step["divergence"] > threshold
            assert step["divergence"] == pytest.approx(expected, abs=1e-4)
            assert step["candidates"] == top(student, top_k)
            assert step["greedy"] == int(student.argmax())
            scores = teacher.softmax(-1)[step["candidates"]].tolist()
            assert step["scores"] == pytest.approx(scores, abs=1e-4)
            best = step["candidates"][scores.index(max(scores))]
            picked = int(teacher.argmax()) if method == "takeover" else best
            assert step["picked"] == picked == token
            assert step["teacher"] == int(teacher.argmax())
        assert not steps
    assert fired > REPLAYED


# ---------------------------------------------------------------- lines and results agree


@pytest.mark.parametrize("name", ["greedy", "maj8", "kl", "entropy", "takeover"])
def test_lines_and_results_agree(name: str, traced: Callable[..., tuple[Results, list[Any]]]) -> None:
    results, lines = traced(name)
    report = counts(results)
    steps = [step for line in lines for step in line["steps"]]
    assert len(lines) == report["texts"] == LIMIT * (8 if name == "maj8" else 1)
    assert report["tokens"] == sum(len(line["output_ids"]) for line in lines)
    assert report["forwards"] == report["tokens"] + report["discarded_tokens"]
    assert report["triggers"] == len(steps)
    assert report["flips"] == sum(step["picked"] != step["greedy"] for step in steps)
    hits = [step["teacher"] in step["candidates"] for step in steps if step["teacher"] is not None]
    assert (report["hits"], report["misses"]) == (sum(hits), len(hits) - sum(hits))
    assert report["hit_rate"] == (sum(hits) / len(hits) if hits else None)
    assert bool(hits) == (name in ("kl", "entropy", "takeover"))
    assert report["realised_rate"] == report["triggers"] / report["tokens"]
    assert report["flip_rate"] == report["flips"] / report["tokens"]
    assert report["length_limited"] == sum(line["finish"] == "length" for line in lines)
    for key in ("tokens", "triggers", "flips", "teacher_calls", "teacher_tokens", "discarded_tokens"):
        assert report[key] == sum(line["usage"][key] for line in lines)
    assert all(0 < line["seconds"] <= report["seconds"] for line in lines)
    if name != "maj8":
        assert [line["prompt_ids"] for line in sorted(lines, key=lambda line: line["doc_id"])] == [
            tokenizer()(prompt)["input_ids"] for prompt in prompts()
        ]
        shown = {line["doc_id"]: tokenizer().decode(line["output_ids"]) for line in lines}
        for doc_id, text in enumerate(texts(results)):
            assert shown[doc_id].startswith(text)


def test_teacher_s_cost(traced: Callable[..., tuple[Results, list[Any]]]) -> None:
    """In lockstep it reads every token by itself, in chunks many at once; with a local trigger it reads the
    text at the fired steps alone."""
    lockstep, local = counts(traced("takeover")[0]), counts(traced("entropy")[0])
    assert lockstep["teacher_calls"] == lockstep["tokens"]
    assert lockstep["discarded_tokens"] == 0
    chunks = counts(traced("kl_other_direction")[0])
    assert 0 < chunks["teacher_calls"] < chunks["tokens"] / 2
    prompts_read = chunks["teacher_tokens"] - chunks["tokens"] - chunks["discarded_tokens"] + chunks["texts"]
    assert 0 < prompts_read <= sum(len(line["prompt_ids"]) for line in traced("kl_other_direction")[1])
    assert 0 < local["teacher_calls"] == local["triggers"] < local["tokens"]
    assert counts(traced("greedy")[0])["teacher_calls"] == 0


def test_entry_in_the_results_file(traced: Callable[..., tuple[Results, list[Any]]]) -> None:
    entry = ours(traced("kl")[0])
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry
    assert entry["policy"] == {
        "method": "s2t",
        "trigger": {
            "name": "kl",
            "direction": "student_teacher",
            "support": 64,
            "needs_teacher": True,
        },
        "threshold": 0.4,
        "selector": "TeacherSelector",
        "score": None,
        "top_k": 8,
        "warmup": 0,
    }
    assert entry["pretrained"] == STUDENT
    assert entry["teacher_name"] == TEACHER
    assert entry["student"] != entry["teacher"]
    assert entry["batch_size"] == 16
    assert entry["calibration"] is None
    report = entry["telemetry"]
    assert report["tokens_per_second"] == pytest.approx(report["tokens"] / report["seconds"])
    assert 1e8 < report["peak_memory_bytes"] < 1e11


# ---------------------------------------------------------------- several evaluations of one model

RECALL = {
    "task": "recall",
    "custom_dataset": lambda **_: {"test": Dataset.from_list(arith_docs(3))},
    "output_type": "loglikelihood",
    "test_split": "test",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": " {{answer}}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


def stable(results: Results) -> dict[str, Any]:
    """Costs that do not depend on the machine, and the hashes of the prompts."""
    machine = ("seconds", "tokens_per_second", "peak_memory_bytes")
    costs = {name: value for name, value in counts(results).items() if name not in machine}
    return {**costs, "prompt_hashes": ours(results)["prompt_hashes"]}


def test_each_evaluation_of_one_model_has_its_own_costs() -> None:
    """Texts, costs and prompts of the earlier evaluations stood in the later results."""
    lm = Greedy(STUDENT, batch_size=16, device="cpu")
    other = inline_task("other", arith_docs(3))
    stable_alone = {limit: stable(evaluate("greedy", limit=limit)) for limit in (4, 2)}
    assert stable(evaluate(lm, limit=4)) == stable_alone[4]
    assert stable(evaluate(lm, limit=2)) == stable_alone[2]
    assert list(ours(evaluate(lm, tasks=[other], limit=3))["prompt_hashes"]) == ["other"]
    only_scored = ours(evaluate(lm, tasks=[RECALL], limit=3))
    assert only_scored["telemetry"]["texts"] == 0 and not only_scored["prompt_hashes"]


def test_an_evaluation_of_several_kinds_of_requests_is_counted_as_a_whole() -> None:
    """The harness calls the model once for each kind; all of them belong to one evaluation."""
    lm = Greedy(STUDENT, batch_size=16, device="cpu")
    evaluate(lm, limit=1)
    tasks = [inline_task("first", arith_docs(3)), RECALL, inline_task("second", arith_docs(2))]
    for order in (tasks, tasks[::-1]):
        found = ours(evaluate(lm, tasks=order, limit=3))
        assert found["telemetry"]["texts"] == 5
        assert set(found["prompt_hashes"]) == {"first", "second"}


def test_calls_without_a_task_add_up() -> None:
    """Requests that no task has built belong to the evaluation before them."""
    lm = Greedy(STUDENT, batch_size=16, device="cpu")
    for doc_id, prompt in enumerate(prompts(2)):
        lm.generate_until([generation(prompt, doc_id)])
    assert lm.telemetry.texts == 2


def test_memory_is_that_of_the_models_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """With device=cpu on a machine with a GPU, the GPU's memory was reported: none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "max_memory_allocated", lambda device=None: 5 + torch.device(device).index
    )
    cpu, first, second = torch.device("cpu"), torch.device("cuda", 0), torch.device("cuda", 1)
    assert peak_memory([cpu, torch.device("meta")]) > 1e8
    assert peak_memory([cpu, second]) == 6
    assert peak_memory([first, second]) == 11
    lm = Greedy(STUDENT, batch_size=16, device="cpu")
    lm.generate_until([generation(prompts(1)[0])])
    assert lm.get_model_info()["s2t_eval"]["telemetry"]["peak_memory_bytes"] > 1e8


@pytest.mark.parametrize(
    ("options", "threshold"), [({"trigger": "always"}, 0.0), ({"threshold": math.inf}, "inf")]
)
def test_infinite_numbers_stay_json(options: dict[str, Any], threshold: float | str, tmp_path: Path) -> None:
    """JSON has no word for the divergence of `always` and for a threshold that is never reached.

    Traces had such a threshold as `Infinity`, and reports refused the results of the run.
    """
    path = tmp_path / "trace.jsonl"
    results = evaluate("s2t", {"teacher": TEACHER, **options, "trace": str(path)}, limit=1)
    assert json.dumps(ours(results), allow_nan=False)
    require_results(results)
    [line] = read_trace(path)
    assert json.dumps(line, allow_nan=False)
    assert line["threshold"] == ours(results)["policy"]["threshold"] == threshold
    fired = len(line["output_ids"]) if "trigger" in options else 0
    assert [step["t"] for step in line["steps"]] == list(range(fired))


def test_votes_are_traced(traced: Callable[..., tuple[Results, list[Any]]]) -> None:
    results, lines = traced("maj8")
    for doc_id, text in enumerate(texts(results)):
        samples = [line for line in lines if line["doc_id"] == doc_id]
        assert [line["sample"] for line in samples] == list(range(8))
        [vote] = {json.dumps(line["vote"], sort_keys=True) for line in samples}
        winner = json.loads(vote)["winner"]
        shown = tokenizer().decode(samples[winner]["output_ids"])
        assert shown.startswith(text)
        if samples[winner]["answer"] is not None:
            assert f"The answer is {samples[winner]['answer']}" in text


def test_repeats_have_lines_of_their_own(tmp_path: Path) -> None:
    from s2t_eval.model_wrappers.greedy import Greedy

    path = tmp_path / "trace.jsonl"
    lm = Greedy(STUDENT, trace=str(path), batch_size=4)
    asked = generation(prompts(1)[0], doc_id=7, do_sample=True, temperature=1.0, repeats=3)
    found = lm.generate_until([asked] * 3)
    lines = sorted(read_trace(path), key=lambda line: line["repeat"])
    assert [(line["doc_id"], line["repeat"]) for line in lines] == [(7, 0), (7, 1), (7, 2)]
    for line, text in zip(lines, found, strict=True):
        assert tokenizer().decode(line["output_ids"], skip_special_tokens=True).startswith(text)


def test_second_task_goes_on_with_the_same_trace(tmp_path: Path) -> None:
    from s2t_eval.model_wrappers.greedy import Greedy

    path = tmp_path / "trace.jsonl"
    lm = Greedy(STUDENT, trace=str(path))
    lm.generate_until([generation(prompts(1)[0], task="first")])
    assert [line["task"] for line in read_trace(path)] == ["first"]
    lm.generate_until([generation(prompts(1)[0], task="second")])
    assert [line["task"] for line in read_trace(path)] == ["first", "second"]
    assert not path.with_name("trace.jsonl.partial").exists()


# ---------------------------------------------------------------- files


def test_existing_trace_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("dear to someone\n")
    with pytest.raises(ValueError, match=r"^trace: .*trace\.jsonl exists; move it away or name"):
        evaluate("greedy", {"trace": str(path)}, limit=1)
    assert path.read_text() == "dear to someone\n"


def test_what_a_broken_run_left_is_kept(tmp_path: Path) -> None:
    partial = tmp_path / "trace.jsonl.partial"
    partial.write_text("half a night's work\n")
    with pytest.raises(ValueError, match=r"^trace: .*trace\.jsonl\.partial exists; move it away"):
        TraceWriter(tmp_path / "trace.jsonl")
    assert partial.read_text() == "half a night's work\n"


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^trace: there is no folder .*gone to write trace\.jsonl"):
        evaluate("greedy", {"trace": str(tmp_path / "gone" / "trace.jsonl")}, limit=1)


def test_file_bears_its_name_when_it_is_whole(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "trace.jsonl")
    writer.write({"a": 1})
    writer.write({"b": "ü\n"})
    assert not writer.path.exists()
    assert writer.partial.read_text() == '{"a": 1}\n{"b": "ü\\n"}\n'
    writer.finish()
    writer.finish()
    writer.write({"c": 3})
    writer.finish()
    assert read_trace(writer.path) == [{"a": 1}, {"b": "ü\n"}, {"c": 3}]
    assert [path.name for path in tmp_path.iterdir()] == ["trace.jsonl"]


def test_write_text_leaves_the_old_file_where_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_text(path, "old")

    def write_half() -> None:
        with atomic_path(path) as partial:
            partial.write_text("half of it")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from s2t_eval.artifacts.files import TraceError, TraceWriter

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
writer = TraceWriter(Path(sys.argv[1]))
try:
    for i in range(100):
        writer.write({"i": i, "text": "ü" * int(sys.argv[2])})
except TraceError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [10_000, 30_000])
def test_full_disk_is_one_error_and_leaves_whole_lines(size: int, tmp_path: Path) -> None:
    """A file-size limit stands for the disk; lines are longer than the buffer, or several fit in it."""
    path = tmp_path / "trace.jsonl"
    done = run_command(sys.executable, "-c", FULL_DISK, path, str(size), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = read_trace(path.with_name("trace.jsonl.partial"))
    assert [line["i"] for line in lines] == list(range(len(lines)))
    assert len(lines) == 100_000 // (2 * size + 22)
    assert not path.exists()
    [message] = done.stdout.splitlines()
    assert message == (
        f"trace: cannot write {path}.partial: File too large; its {len(lines)} lines are complete; "
        "make room (or leave trace= out) and run again"
    )


def test_full_disk_ends_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way through the harness, in this process."""
    import signal

    path = tmp_path / "trace.jsonl"
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, before[1]))
    try:
        with pytest.raises(TraceError, match=r"^trace: cannot write .*File too large; its \d lines"):
            evaluate("s2t", {"teacher": TEACHER, "threshold": 0.4, "trace": str(path)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    lines = read_trace(path.with_name("trace.jsonl.partial"))
    assert 0 < len(lines) < LIMIT
    assert not path.exists()
