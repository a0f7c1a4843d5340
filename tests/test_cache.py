"""`--use_cache`: a cache answers for the run that filled it and for no other, and survives Ctrl-C."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlitedict import SqliteDict

from s2t_eval.model_wrappers.engine_lm import CACHE_KEY, CacheMismatchError
from tests.harness_helpers import (
    TEACHER,
    arith_docs,
    counts,
    evaluate,
    inline_task,
    run_command,
    texts,
    tiny_folder,
)

FEW = 3
SELECTION = {"teacher": TEACHER, "threshold": 0.5}


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


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
    assert counts(again)["tokens"] == counts(again)["texts"] == 0


def test_larger_run_computes_what_is_missing(cache: str) -> None:
    evaluate("greedy", limit=FEW, use_cache=cache)
    larger = evaluate("greedy", limit=FEW + 2, use_cache=cache)
    assert counts(larger)["texts"] == 2
    assert texts(larger) == texts(evaluate("greedy", limit=FEW + 2))


def test_batch_size_and_trace_do_not_matter(cache: str, tmp_path: Path) -> None:
    evaluate("greedy", limit=FEW, use_cache=cache)
    trace = {"trace": str(tmp_path / "trace.jsonl")}
    again = evaluate("greedy", trace, limit=FEW, use_cache=cache, batch_size=1)
    assert counts(again)["texts"] == 0


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
        ("s2t", "greedy", {}, r"backend s2t \(now greedy\)"),
        ("s2t", "takeover", SELECTION, r"backend s2t \(now takeover\)"),
        ("s2t", "s2t", {**SELECTION, "threshold": 0.6}, r"'threshold': 0\.5.* \(now .*0\.6"),
        ("s2t", "s2t", {**SELECTION, "top_k": 4}, r"'top_k': 8.* \(now .*'top_k': 4"),
        ("s2t", "s2t", {**SELECTION, "kl_direction": "teacher_student"}, r"now .*teacher_student"),
        ("s2t", "s2t", {**SELECTION, "trigger": "entropy"}, r"now .*'entropy'"),
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
    message = r"cache_rank0\.db was filled by another backend, which left no note of its model"
    with pytest.raises(CacheMismatchError, match=message):
        evaluate("greedy", limit=1, use_cache=cache)
    assert entries(cache) == before


def test_sampled_repeats_are_never_cached(cache: str) -> None:
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


# ---------------------------------------------------------------- Ctrl-C

INTERRUPTED = """
import signal, sys
sys.path.insert(0, sys.argv[1])
from s2t_eval.model_wrappers.telemetry import Telemetry
from tests.harness_helpers import evaluate

add = Telemetry.add
def add_then_interrupt(self, result):
    add(self, result)
    if self.texts == 4:
        # To this very thread, not to the process: any thread may take that one, and this one would go
        # on until it did, on a busy machine for a text or two.
        signal.raise_signal(signal.SIGINT)
Telemetry.add = add_then_interrupt
evaluate("greedy", {"trace": "trace.jsonl"}, limit=8, batch_size=1, use_cache=sys.argv[2])
"""


def test_run_goes_on_where_ctrl_c_ended_it(cache: str, tmp_path: Path) -> None:
    """The signal comes with the fourth text; the three before it are in the cache."""
    root = Path(__file__).parents[1]
    done = run_command(sys.executable, "-c", INTERRUPTED, root, cache, folder=tmp_path)
    assert done.returncode in (-signal.SIGINT, 130), done.stderr
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert len((tmp_path / "trace.jsonl.partial").read_text().splitlines()) == 3
    finished = entries(cache).keys() - {CACHE_KEY}
    assert len(finished) == 3
    rest = evaluate("greedy", limit=8, use_cache=cache)
    assert counts(rest)["texts"] == 5
    assert texts(rest) == texts(evaluate("greedy", limit=8))
