"""Equivalent and different answers by kind: for every accepted pair there is a similar rejected one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2t_eval.evaluation.grading import Grader
from s2t_eval.evaluation.grading.equivalence.compare import is_equivalent
from s2t_eval.evaluation.grading.grader import GraderBrokenError
from tests.evaluation.equivalence_pairs import EQUAL, QUANTITIES, QUANTITIES_APART, UNEQUAL
from tests.harness_helpers import shared_records


def _cases(table: dict[str, list[tuple[str, str]]]) -> list[object]:
    return [
        pytest.param(*pair, id=f"{kind}: {' | '.join(pair)}")
        for kind, pairs in table.items()
        for pair in pairs
    ]


def test_every_kind_has_pairs_of_both_verdicts() -> None:
    assert set(EQUAL) == set(UNEQUAL)
    assert all(len(EQUAL[kind]) + len(UNEQUAL[kind]) >= 8 for kind in EQUAL)


@pytest.mark.parametrize(("gold", "answer"), _cases(EQUAL))
def test_equivalent(gold: str, answer: str) -> None:
    assert is_equivalent(gold, answer)


@pytest.mark.parametrize(("gold", "answer"), _cases(UNEQUAL))
def test_different(gold: str, answer: str) -> None:
    assert not is_equivalent(gold, answer)


@pytest.mark.parametrize(("gold", "answer"), QUANTITIES)
def test_quantities_within_tolerance(gold: str, answer: str) -> None:
    assert is_equivalent(gold, answer, 0.01)


@pytest.mark.parametrize(("gold", "answer"), QUANTITIES_APART)
def test_quantities_outside_tolerance(gold: str, answer: str) -> None:
    assert not is_equivalent(gold, answer, 0.01)


NOTATIONS = (
    lambda gold: gold,
    lambda gold: gold.replace(r"\frac", r"\dfrac"),
    lambda gold: rf"\displaystyle {gold}",
    lambda gold: rf"\textcolor{{red}}{{{gold}}}",
    lambda gold: f"{{{gold}}}.",
    lambda gold: f"${gold}$",
    lambda gold: gold.replace("-", "−").replace(r"\pi", "π").replace(r"\infty", "∞").replace(r"\cup", "∪"),
    lambda gold: gold.replace("(", r"\left(").replace(")", r"\right)"),
    lambda gold: gold.replace(", ", ",").replace("+ ", "+").replace(" +", "+"),
)


@pytest.mark.parametrize(
    "folder", ["HuggingFaceH4/MATH-500", "olympiadbench", "minerva_math", "math-ai/aime25"]
)
def test_gold_answers_equal_themselves_in_many_notations(folder: str) -> None:
    for gold in dict.fromkeys(str(doc["answer"]) for doc in shared_records(folder)):
        if gold.count("$") % 2:
            continue  # one broken record of OlympiadBench
        for rewrite in NOTATIONS:
            variant = rewrite(gold.replace("$.", "$").replace("$", ""))
            assert is_equivalent(gold, variant), (gold, variant)


@pytest.mark.parametrize("reach", [1, pytest.param(11, marks=pytest.mark.slow)])
def test_different_gold_answers_are_different(reach: int) -> None:
    """Every gold answer is compared with its successors, which detects too lenient comparisons."""
    golds = list(dict.fromkeys(str(doc["answer"]) for doc in shared_records("HuggingFaceH4/MATH-500")))
    golds = list({gold.replace(" ", "").removeprefix("x="): gold for gold in golds}.values())
    for index, gold in enumerate(golds):
        for other in golds[index + 1 : index + 1 + reach]:
            assert not is_equivalent(gold, other), (gold, other)


# ---------------------------------------------------------------- the worker


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    opened = Grader(seconds=6)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("5", "9" * 1_000_000, False),
        ("5", "9" * 4_000, False),
        ("9" * 3_000, "9" * 4_000, False),
        ("9" * 3_000, "9" * 2_999 + "8", False),
        ("9" * 3_000, "9" * 3_000, True),
        ("5", "10^{1000000}", False),
        ("10^{1000000}", "10^{1000000}+1", False),
        ("10^{1000000}", r"10\cdot 10^{999999}", True),
        ("5", "9^{9^9}", False),
        ("5", "1e999999999", False),
        ("5", "10^{-10^{10}}", False),
        ("5", r"\frac{1}{0}", False),
        ("5", "(" * 500, False),
        ("5", r"\frac{" * 90, False),
        ("5", r"\boxed{" * 80, False),
        ("5", "^" * 500, False),
        ("5", "\x00\ud800\U0001f600", False),
    ],
)
def test_comparisons_finish_within_the_limit(grader: Grader, gold: str, answer: str, verdict: bool) -> None:
    """A million digits used to take 18 s; a comparison that exceeds the limit returns None."""
    grader.check()
    assert grader.is_equivalent(gold, answer) is verdict


def _graded_with(
    shim: Path, code: str = "print(EXPRESSION.is_equivalent('x+1', '1+x'))"
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(shim), *filter(None, sys.path)])
    command = [sys.executable, "-c", f"from s2t_eval.evaluation.grading import EXPRESSION\n{code}"]
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _with_antlr(folder: Path, version: str) -> Path:
    """A folder with the metadata of another antlr version, as installed for another package."""
    info = folder / f"antlr4_python3_runtime-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: antlr4-python3-runtime\nVersion: {version}\n"
    )
    return folder


def _with_reader(folder: Path, source: str) -> Path:
    package = folder / "latex2sympy2_extended"
    package.mkdir()
    (package / "__init__.py").write_text(source)
    return folder


def test_grading_works_in_an_intact_environment(tmp_path: Path) -> None:
    done = _graded_with(tmp_path)
    assert (done.returncode, done.stdout) == (0, "True\n")


@pytest.mark.parametrize("version", ["4.12.0", "4.7.2"])
def test_unsupported_antlr_stops_the_run(tmp_path: Path, version: str) -> None:
    """math-verify then parses nothing without raising an error, so every score used to be zero."""
    done = _graded_with(_with_antlr(tmp_path, version))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert done.stdout == ""
    assert last.startswith(
        "s2t_eval.evaluation.grading.grader.GraderBrokenError: answers cannot be compared on this machine"
    )
    assert f"antlr4-python3-runtime {version}" in last
    assert "expected antlr4-python3-runtime 4.9.3, 4.11.0 or 4.13.2" in last
    assert "pip install 'math-verify[antlr4-11-0]'" in last


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ModuleNotFoundError('No module named latex2sympy2_extended')", "No module named"),
        ("def latex2sympy(*_, **__):\n    raise Exception('cannot deserialize')\n", "ModuleNotFoundError"),
    ],
)
def test_missing_or_mixed_installation_stops_the_run(tmp_path: Path, source: str, reason: str) -> None:
    done = _graded_with(_with_reader(tmp_path, source))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert "GraderBrokenError" in last
    assert reason in last
    assert "pip install 'math-verify[antlr4-11-0]'" in last


def test_grammar_that_parses_nothing_stops_the_run(tmp_path: Path) -> None:
    folder = _with_reader(tmp_path, "def latex2sympy(*_, **__):\n    raise Exception('cannot deserialize')\n")
    (folder / "latex2sympy2_extended" / "latex2sympy2.py").write_text(
        "class ConversionConfig:\n    def __init__(self, **_): pass\n"
    )
    done = _graded_with(folder)
    assert done.returncode == 1
    assert r"`x+\frac{1}{2}` and `0.5+x` should be equal and are not" in done.stderr.strip().splitlines()[-1]


def test_broken_grader_raises_but_a_failed_comparison_returns_none() -> None:
    with pytest.raises(GraderBrokenError, match=r"^nothing works$"):
        Grader(command=(sys.executable, "-c", "print('[false, \"nothing works\"]')")).is_equivalent("x", "y")
    one_broken = (
        "print('[true, \"\"]', flush=True)\nfor line in open(0): print('[null, \"Error\"]', flush=True)"
    )
    grader = Grader(command=(sys.executable, "-c", one_broken))
    assert grader.is_equivalent("x", "y") is None
    grader.close()


def test_broken_grader_ends_the_run_before_generation(tmp_path: Path) -> None:
    """It used to be detected at the first comparison, after all texts were generated."""
    shim = _with_antlr(tmp_path, "4.12.0")
    done = _graded_with(shim, "from s2t_eval.evaluation import benchmark_data\nbenchmark_data.math500()")
    assert done.returncode == 1
    assert "GraderBrokenError" in done.stderr.strip().splitlines()[-1]
