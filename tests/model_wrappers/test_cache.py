"""`--use_cache`: a cache answers for the run that filled it and for no other, and survives Ctrl-C."""

from __future__ import annotations

import inspect
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from lm_eval.models.huggingface import HFLM
from sqlitedict import SqliteDict

from s2t_eval.engine import Finish, Request, Result, Usage
from s2t_eval.evaluation.generated import was_truncated
from s2t_eval.model_wrappers.arguments import SelectionArguments, TeacherArguments
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.local_arguments import LocalArguments
from s2t_eval.model_wrappers.requests import Origin
from s2t_eval.model_wrappers.response_cache import (
    CACHE_KEY,
    RESOLVED,
    WITHOUT_EFFECT,
    CacheMismatchError,
    TextCache,
    TimedResult,
    argument_values,
    require_same_run,
    software,
)
from s2t_eval.model_wrappers.s2t_local import S2TLocal
from s2t_eval.model_wrappers.splitting import LOADING_ARGS
from s2t_eval.model_wrappers.tah import TahArguments
from tests.forked import run_forked
from tests.harness_helpers import (
    TEACHER,
    arith_docs,
    counts,
    evaluate,
    inline_task,
    ours,
    read_trace,
    texts,
    tiny_folder,
)

FEW = 3
SELECTION = {"teacher": TEACHER, "threshold": 0.5, "verify": 1}  # costs that do not depend on times


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


MACHINE: dict[str, Any] = dict.fromkeys(
    ("seconds", "tokens_per_second", "peak_memory_bytes", "cached_texts"), 0
)
"""What two runs of the same texts may differ in."""
BATCH: dict[str, Any] = dict.fromkeys(("prefill_tokens", "teacher_tokens"), 0)
"""Prompts that are prefilled together share their beginnings; which do so depends on the batch."""


def generated(results: dict[str, Any]) -> int:
    """Texts that a run made itself."""
    return int(counts(results)["texts"] - counts(results)["cached_texts"])


def entries(cache: str) -> dict[str, Any]:
    with SqliteDict(f"{cache}_rank0.db", flag="r") as stored:
        return dict(stored)


@pytest.mark.parametrize(
    ("name", "model_args"),
    [("greedy", {}), ("s2t", SELECTION), ("maj8", {"num_samples": 2})],
)
def test_same_run_is_answered_from_the_cache(name: str, model_args: dict[str, Any], cache: str) -> None:
    first = evaluate(name, model_args, limit=FEW, use_cache=cache)
    assert counts(first)["tokens"] > 0
    again = evaluate(name, model_args, limit=FEW, use_cache=cache)
    assert texts(again) == texts(first) == texts(evaluate(name, model_args, limit=FEW))
    assert generated(again) == 0
    assert again["results"] == first["results"]
    assert {**counts(again), **MACHINE} == {**counts(first), **MACHINE}
    assert counts(again)["seconds"] == counts(first)["seconds"]


def test_larger_run_computes_what_is_missing(cache: str) -> None:
    """Its costs are those of all its texts: it once reported the two that it had made itself."""
    evaluate("greedy", limit=FEW, use_cache=cache)
    larger = evaluate("greedy", limit=FEW + 2, use_cache=cache)
    assert generated(larger) == 2
    whole = evaluate("greedy", limit=FEW + 2)
    assert texts(larger) == texts(whole)
    assert {**counts(larger), **MACHINE} == {**counts(whole), **MACHINE}


def test_smaller_run_costs_its_own_texts_alone(cache: str) -> None:
    evaluate("greedy", limit=FEW, use_cache=cache)
    smaller, alone = evaluate("greedy", limit=1, use_cache=cache), evaluate("greedy", limit=1)
    assert generated(smaller) == 0
    assert {**counts(smaller), **MACHINE} == {**counts(alone), **MACHINE}


def test_a_text_is_cached_whatever_its_place_among_the_requests() -> None:
    """Position, repeat and sample label a request; only what the engine reads identifies its text."""
    cached = Result(Request((1, 2), 4, origin=Origin(0)), 0, [7], Finish.LENGTH, [], Usage(tokens=1))
    store: dict[str, Any] = {}
    TextCache(store).put(TimedResult(cached, 0.5, 10))
    elsewhere = Request((1, 2), 4, origin=Origin(3, 1, 2))
    timed = TextCache(store).get(elsewhere, 5)
    assert timed is not None and timed.is_cached
    assert (timed.result.output_ids, timed.result.index) == ([7], 5)
    assert timed.result.request.origin == Origin(3, 1, 2)
    assert TextCache(store).get(Request((1, 2), 5, origin=Origin(0)), 0) is None


def test_batch_size_and_trace_do_not_matter(cache: str, tmp_path: Path) -> None:
    """A trace of texts from the cache is as whole as one of texts that were generated."""
    plain = str(tmp_path / "plain.jsonl")
    evaluate("s2t", {**SELECTION, "trace": plain}, limit=FEW, use_cache=cache)
    trace = str(tmp_path / "trace.jsonl")
    again = evaluate("s2t", {**SELECTION, "trace": trace}, limit=FEW, use_cache=cache, batch_size=1)
    assert generated(again) == 0
    lines, expected = read_trace(Path(trace)), read_trace(Path(plain))
    assert sorted(lines, key=lambda line: line["doc_id"]) == sorted(expected, key=lambda line: line["doc_id"])
    assert any(line["steps"] for line in lines)


def test_cached_text_remembers_that_it_was_cut_off(cache: str) -> None:
    """Our graders read a cut text otherwise; the harness's cache kept plain text."""
    task = inline_task("cut", arith_docs(FEW), generation_kwargs={"until": [], "max_gen_toks": 4})
    first = evaluate("greedy", tasks=[task], use_cache=cache)
    again = evaluate("greedy", tasks=[task], use_cache=cache)
    assert generated(again) == 0
    for results in (first, again):
        assert [was_truncated(text) for text in texts(results, "cut")] == [True] * FEW
        assert counts(results)["length_limited"] == FEW


def test_log_likelihoods_stay_with_the_harness(cache: str) -> None:
    docs = [{"question": "1 + 1 =", "choices": ["2", "3"], "answer": 0}]
    task = inline_task(
        "choice",
        docs,
        output_type="multiple_choice",
        doc_to_choice="choices",
        doc_to_target="answer",
        generation_kwargs=None,
        metric_list=[{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    )
    first = evaluate("greedy", tasks=[task], use_cache=cache)
    assert sum(isinstance(value, tuple) for value in entries(cache).values()) == 2
    assert evaluate("greedy", tasks=[task], use_cache=cache)["results"] == first["results"]


def test_log_likelihoods_of_the_cache_are_named_as_the_student_s(
    cache: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The harness passes on what its cache lacks alone.

    The same command again reported the adapted student's scores as the method's or the plain student's, and
    the same model object the costs of the evaluation before.
    """
    task = inline_task(
        "choice",
        [{"question": "1 + 1 =", "choices": ["2", "3"], "answer": 0}],
        output_type="multiple_choice",
        doc_to_choice="choices",
        doc_to_target="answer",
        generation_kwargs=None,
        metric_list=[{"metric": "acc"}],
    )
    lm = S2TLocal("embedded/student", selector="embedded/selector", device="cpu", batch_size=4)
    first = evaluate(lm, tasks=[task], use_cache=cache)
    assert counts(evaluate(lm, limit=1))["texts"] == 1
    caplog.clear()
    again = evaluate(lm, tasks=[task], use_cache=cache)
    assert again["results"] == first["results"]
    assert ours(again)["adapted_likelihoods"] == ours(first)["adapted_likelihoods"] == ["choice"]
    assert sum("scores of the adapted student alone" in r.getMessage() for r in caplog.records) == 1
    assert counts(again)["texts"] == 0 and ours(again)["prompt_hashes"] == {}


def test_a_cache_serves_its_own_evaluation_alone(cache: str) -> None:
    """A model object's next evaluation, which named no cache, took its texts from the last one's file."""
    lm = Greedy("embedded/student", device="cpu", batch_size=4)
    evaluate(lm, limit=FEW, use_cache=cache)
    size = len(entries(cache))
    plain = evaluate(lm, limit=FEW + 1)
    assert counts(plain)["cached_texts"] == 0 and len(entries(cache)) == size
    again = evaluate(lm, limit=FEW + 1, use_cache=cache)
    assert counts(again)["cached_texts"] == FEW and len(entries(cache)) == size + 1
    assert texts(again) == texts(plain)


def test_equal_prompts_are_voted_on_apart(cache: str) -> None:
    """Each document has its own seed; one text a prompt would answer the second with the first's."""
    twice = [*arith_docs(1), *arith_docs(1)]
    options = {"until": [], "max_gen_toks": 24}
    task = inline_task("twice", twice, generation_kwargs=options)
    model_args = {"num_samples": 2, "temperature": 2.0, "top_p": 1.0, "sample_top_k": 0}
    first = evaluate("maj8", model_args, tasks=[task], use_cache=cache)
    assert len(set(texts(first, "twice"))) == 2
    again = evaluate("maj8", model_args, tasks=[task], use_cache=cache)
    assert generated(again) == 0
    assert texts(again, "twice") == texts(first, "twice")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cache that greedy filled, and one that s2t did beside it."""
    folder = tmp_path_factory.mktemp("filled")
    evaluate("greedy", limit=1, use_cache=str(folder / "greedy"))
    evaluate("s2t", SELECTION, limit=1, use_cache=str(folder / "s2t"))
    return str(folder)


@pytest.mark.parametrize(
    ("by", "name", "model_args", "difference"),
    [
        ("greedy", "s2t", SELECTION, r"backend greedy \(now s2t\)"),
        ("greedy", "maj8", {}, r"backend greedy \(now maj8\)"),
        ("greedy", "greedy", {"pretrained": TEACHER}, r"student [0-9a-f]{16} \(now [0-9a-f]{16}\)"),
        ("greedy", "greedy", {"max_length": 512}, r"max_length 1024 \(now 512\)"),
        ("greedy", "greedy", {"seed": 1}, r"seed 0 \(now 1\)"),
        ("greedy", "greedy", {"dtype": "bfloat16"}, r"float32.* \(now .*bfloat16"),
        ("greedy", "greedy", {"truncation": True}, r"truncation False \(now True\)"),
        ("greedy", "greedy", {"attn_implementation": "eager"}, r"attn_implementation None \(now eager\)"),
        ("greedy", "greedy", {"softmax_dtype": "float32"}, r"softmax_dtype None \(now float32\)"),
        ("greedy", "greedy", {"prefix_token_id": 3}, r"prefix_token_id None \(now 3\)"),
        ("greedy", "greedy", {"add_bos_token": False}, r"add_bos_token None \(now False\)"),
        ("greedy", "greedy", {"use_fast_tokenizer": False}, r"use_fast_tokenizer True \(now False\)"),
        ("greedy", "greedy", {"revision": "other"}, r"revision main \(now other\)"),
        ("greedy", "greedy", {"enable_thinking": False}, r"enable_thinking None \(now False\)"),
        ("greedy", "greedy", {"think_end_token": "</think>"}, r"think_end_token None \(now </think>\)"),
        ("s2t", "greedy", {}, r"backend s2t \(now greedy\)"),
        ("s2t", "takeover", SELECTION, r"backend s2t \(now takeover\)"),
        ("s2t", "s2t", {**SELECTION, "threshold": 0.6}, r"'threshold': 0\.5.* \(now .*0\.6"),
        ("s2t", "s2t", {**SELECTION, "top_k": 4}, r"'top_k': 8.* \(now .*'top_k': 4"),
        ("s2t", "s2t", {**SELECTION, "kl_direction": "teacher_student"}, r"now .*teacher_student"),
        ("s2t", "s2t", {**SELECTION, "verify": "auto", "trigger": "entropy"}, r"now .*'entropy'"),
        (
            "s2t",
            "s2t",
            {**SELECTION, "teacher_dtype": "bfloat16"},
            r"teacher_dtype torch.float32 \(now torch.b",
        ),
        ("s2t", "s2t", {**SELECTION, "teacher": "tiny"}, r"teacher [0-9a-f]{16} \(now [0-9a-f]{16}"),
    ],
)
def test_cache_of_another_run_is_refused(
    by: str, name: str, model_args: dict[str, Any], difference: str, filled: str, tmp_path: Path
) -> None:
    """The harness's own keys hold neither model nor method, so greedy texts answered for s2t."""
    if model_args.get("teacher") == "tiny":
        model_args = {**model_args, "teacher": str(tiny_folder(tmp_path / "tiny"))}
    cache = f"{filled}/{by}"
    message = rf"^--use_cache: {re.escape(cache)}_rank0\.db was filled by another run: .*{difference}"
    with pytest.raises(CacheMismatchError, match=message) as caught:
        evaluate(name, model_args, limit=1, use_cache=cache)
    assert str(caught.value).endswith("; name another file for this run")


def test_cache_of_stock_hf_is_refused(cache: str) -> None:
    evaluate("hf", limit=1, use_cache=cache)
    before = entries(cache)
    message = r"cache_rank0\.db was filled by another backend, which did not record its model"
    with pytest.raises(CacheMismatchError, match=message):
        evaluate("greedy", limit=1, use_cache=cache)
    assert entries(cache) == before


def test_models_that_differ_in_their_configuration_alone(cache: str, tmp_path: Path) -> None:
    """The same weights with other rotary positions are another model."""
    for name, theta in (("one", 10_000.0), ("other", 20_000.0)):
        tiny_folder(tmp_path / name, rope_parameters={"rope_type": "default", "rope_theta": theta})
    evaluate("greedy", {"pretrained": str(tmp_path / "one"), "max_length": 256}, limit=1, use_cache=cache)
    model_args = {"pretrained": str(tmp_path / "other"), "max_length": 256}
    with pytest.raises(
        CacheMismatchError, match=r"by another run: student_config [0-9a-f]{16} \(now [0-9a-f]{16}\);"
    ):
        evaluate("greedy", model_args, limit=1, use_cache=cache)


def test_how_a_teacher_reads_changes_no_text(cache: str) -> None:
    first = evaluate("s2t", SELECTION, limit=2, use_cache=cache)
    again = evaluate("s2t", {**SELECTION, "verify": 8}, limit=2, use_cache=cache)
    assert texts(again) == texts(first)
    assert counts(again)["cached_texts"] == counts(again)["texts"]


def test_arguments_without_effect_are_named() -> None:
    """Whatever else stock or we take counts, so an argument that is added is not forgotten."""
    known = inspect.signature(HFLM.__init__).parameters.keys() | LOADING_ARGS
    own = {field.name for kind in (TeacherArguments, LocalArguments, TahArguments) for field in fields(kind)}
    assert not (WITHOUT_EFFECT | RESOLVED) - known - own
    values = argument_values(SelectionArguments(teacher="a", threshold=1.0), {"subfolder": "x", "trace": "y"})
    assert values["subfolder"] == "x"
    assert values["kl_direction"] == "student_teacher"
    assert not values.keys() & {"trace", "batch_size", "teacher"}
    teacher = {"teacher_revision": "older", "teacher_dtype": "float32", "teacher_token": "secret"}
    values = argument_values(SelectionArguments(teacher="a", threshold=1.0), teacher)
    assert values["teacher_revision"] == "older"
    assert not values.keys() & {"teacher_dtype", "teacher_token"}


def test_another_version_of_the_software(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate("greedy", limit=1, use_cache=cache)
    monkeypatch.setattr("s2t_eval.__version__", "9.9")
    with pytest.raises(CacheMismatchError, match=r"another run: s2t_eval [\w.+]+ \(now 9\.9\);"):
        evaluate("greedy", limit=1, use_cache=cache)


def test_texts_of_another_commit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version alone was compared, which every commit has: after `git pull` a run that had been broken off
    was half by the old code, and its results named the new commit."""
    store: dict[str, Any] = {}
    require_same_run(store, "mine.db", software())
    require_same_run(store, "mine.db", software())
    monkeypatch.setattr("s2t_eval.model_wrappers.response_cache.present_code", lambda: "files-1")
    with pytest.raises(CacheMismatchError, match=r"another run: code [\w-]+ \(now files-1\);"):
        require_same_run(store, "mine.db", software())


def test_sampled_repeats_are_cached_each_on_its_own(cache: str) -> None:
    """The harness's cache would make them alike and therefore leaves them out; ours knows their seeds."""
    task = inline_task(
        "repeated",
        arith_docs(1),
        repeats=3,
        generation_kwargs={"do_sample": True, "temperature": 1.0, "until": [], "max_gen_toks": 16},
    )
    first = evaluate("greedy", tasks=[task], use_cache=cache)
    again = evaluate("greedy", tasks=[task], use_cache=cache)
    assert texts(again, "repeated") == texts(first, "repeated")
    assert len(set(texts(again, "repeated")[0])) == 3
    assert generated(again) == 0


def foreign_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE notes (text)")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda path: path.write_text("dear to someone\n" * 300),
            r"cannot be used .*\(file is not a database\)",
        ),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(5000)), r"cannot be used as a response"),
        (lambda path: path.mkdir(), r"cannot be used .*\(unable to open database file\); expected"),
        (foreign_database, r"is no response cache of lm_eval \(it has the tables notes\); name another file"),
    ],
    ids=["text", "header alone", "folder", "another database"],
)
def test_file_that_is_no_cache(make: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    """One line, where sqlite and the harness's cache showed three tracebacks of a thread."""
    path = tmp_path / "cache_rank0.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(CacheMismatchError, match=rf"^--use_cache: {re.escape(str(path))} {message}"):
        evaluate("greedy", limit=1, use_cache=str(tmp_path / "cache"))
    assert before is None or path.read_bytes() == before


def test_stock_s_cache_is_left_to_stock(cache: str) -> None:
    evaluate("hf", limit=1, use_cache=cache)
    assert [type(value) for value in entries(cache).values()] == [str]
    assert texts(evaluate("hf", limit=1, use_cache=cache)) == [*entries(cache).values()]


# ---------------------------------------------------------------- Ctrl-C

INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
sys.path.insert(0, sys.argv[1])
from s2t_eval.model_wrappers.telemetry import Telemetry
from tests.harness_helpers import evaluate

add = Telemetry.add
def add_then_interrupt(self, timed):
    add(self, timed)
    if self.texts == 4:
        # To this very thread, not to the process: any thread may take that one, and this one would go
        # on until it did, on a busy machine for a text or two.
        signal.raise_signal(signal.SIGINT)
Telemetry.add = add_then_interrupt
evaluate("greedy", {"trace": "trace.jsonl"}, limit=8, batch_size=1, use_cache=sys.argv[2])
"""


def test_run_goes_on_where_ctrl_c_ended_it(cache: str, tmp_path: Path) -> None:
    """The signal comes with the fourth text; the three before it are in the cache."""
    root = Path(__file__).parents[2]
    done = run_forked("-c", INTERRUPTED, root, cache, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert len((tmp_path / "trace.jsonl.partial").read_text().splitlines()) == 3
    finished = entries(cache).keys() - {CACHE_KEY}
    assert len(finished) == 3
    rest = evaluate("greedy", limit=8, use_cache=cache)
    assert generated(rest) == 5
    whole = evaluate("greedy", limit=8)
    assert texts(rest) == texts(whole)
    assert {**counts(rest), **MACHINE, **BATCH} == {**counts(whole), **MACHINE, **BATCH}


@pytest.mark.parametrize(
    ("name", "model_args"), [("s2t", SELECTION), ("maj8", {"num_samples": 2})], ids=["s2t", "maj8"]
)
def test_killed_run_costs_what_an_uninterrupted_one_does(
    name: str, model_args: dict[str, Any], cache: str, tmp_path: Path
) -> None:
    root = Path(__file__).parents[2]
    script = INTERRUPTED.replace("raise_signal(signal.SIGINT", "raise_signal(signal.SIGKILL").replace(
        'evaluate("greedy", {', f"evaluate({name!r}, {{**{model_args!r}, "
    )
    done = run_forked("-c", script, root, cache, folder=tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    rest = evaluate(name, model_args, limit=8, use_cache=cache)
    assert 0 < counts(rest)["cached_texts"] <= 4
    whole = evaluate(name, model_args, limit=8)
    assert texts(rest) == texts(whole)
    assert rest["results"] == whole["results"]
    assert {**counts(rest), **MACHINE, **BATCH} == {**counts(whole), **MACHINE, **BATCH}
    assert counts(rest)["seconds"] > 0
