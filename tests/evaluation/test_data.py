"""Benchmark data from a folder, and errors for every kind of invalid folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset

from s2t_eval.embedded.arith import SPLIT_SIZES
from s2t_eval.evaluation import benchmark_data
from s2t_eval.evaluation.benchmark_data import (
    AIME25,
    DEV_PROBLEMS,
    GSM8K,
    HUMANEVAL,
    MATH500,
    MMLU_PRO,
    OLYMPIADBENCH,
)
from s2t_eval.evaluation.data import BenchmarkDataError, Source, load
from s2t_eval.reproduce import documents
from tests.benchmark_folder import write_benchmarks
from tests.harness_helpers import shared_data, shared_records

SIZES = {
    "gsm8k": 1319, "math500": 500, "olympiadbench": 674, "aime25": 30, "minerva_math": 272,
    "humaneval": 164, "mmlu_pro": 12_032,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("S2T_DATA", str(tmp_path))
    return write_benchmarks(tmp_path)


def test_recipes_know_the_size_of_every_task() -> None:
    own = {
        "s2t_gsm8k_dev": DEV_PROBLEMS,
        "s2t_arith": SPLIT_SIZES["test"],
        "s2t_arith_dev": SPLIT_SIZES["dev"],
    }
    assert {f"s2t_{name}": size for name, size in SIZES.items()} | own == documents.SIZES


@pytest.mark.parametrize("name", SIZES)
def test_benchmark_data_load(name: str, request: pytest.FixtureRequest) -> None:
    source: Source = getattr(benchmark_data, name.upper())
    if source is HUMANEVAL:
        request.getfixturevalue("sandbox")  # its programs are read only where they can be run
    splits = getattr(benchmark_data, name)(data=str(shared_data(source.folder)), version=1.0)
    assert len(splits["test"]) == SIZES[name]


def test_tests_read_the_layout_of_the_guide_and_skip_what_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a folder that has GSM8k only, or no file of reported answers, `make test` ended in failures."""
    monkeypatch.setenv("S2T_DATA", str(tmp_path))
    place = tmp_path / "openai" / "gsm8k"
    for folder in (place, place / "main"):  # as the guide has it, then as the Hub does
        folder.mkdir(parents=True)
        (folder / "test.jsonl").write_text('{"question": "1\u2028?"}\n', encoding="utf-8")
        assert shared_records("openai/gsm8k") == [{"question": "1\u2028?"}]
        (folder / "test.jsonl").unlink()
    assert shared_data("openai/gsm8k") == tmp_path
    with pytest.raises(pytest.skip.Exception, match=r"have no test\.jsonl in .*gsm8k"):
        shared_records("openai/gsm8k")
    with pytest.raises(pytest.skip.Exception, match="have no folder answers"):
        shared_records("answers", "pairs.jsonl")
    monkeypatch.setenv("S2T_DATA", str(tmp_path / "gone"))
    with pytest.raises(pytest.skip.Exception, match="set S2T_DATA to their folder"):
        shared_data()


def test_folder_from_environment_or_metadata(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(GSM8K)["test"][0]["question"] == "What is 9 times 2?"
    assert len(load(GSM8K)["train"]) == 1
    monkeypatch.delenv("S2T_DATA")
    assert isinstance(benchmark_data.math500(data=str(folder), version=1.0)["test"], Dataset)


def test_alternative_names_of_fields_and_splits(folder: Path) -> None:
    """OlympiadBench on the Hub: the split is called train, and answers are lists."""
    place = folder / "olympiadbench"
    (place / "test.jsonl").unlink()
    row = {"question": "Solve it.", "final_answer": ["$1$", "$-1$"], "id": 7}
    (place / "train.jsonl").write_text(json.dumps(row) + "\n")
    assert load(OLYMPIADBENCH)["test"][0] == {"id": 7, "problem": "Solve it.", "answer": "$1$,$-1$"}


def test_numeric_answers_become_strings(folder: Path) -> None:
    (folder / "HuggingFaceH4/MATH-500/test.jsonl").write_text('{"problem": "2?", "answer": 2}\n')
    assert load(MATH500)["test"][0]["answer"] == "2"


def breaks(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


GOOD = '{"problem": "p", "answer": "1"}\n'
FILE = "HuggingFaceH4/MATH-500/test.jsonl"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "{broken\n", r"MATH-500/test\.jsonl, line 2: expected one JSON object, got '\{broken'$"),
        (GOOD + "[1]\n", r"line 2: expected one JSON object, got '\[1\]'$"),
        (GOOD + "\n" + GOOD[:-3], r"line 3: expected one JSON object"),
        ('{"problem": "p"}\n', r"line 1: there is no field 'answer' or 'final_answer'; it has 'problem'$"),
        ('{"answer": "1"}\n', r"line 1: there is no field 'problem' or 'question'; it has 'answer'$"),
        (
            GOOD + '{"problem": "p", "answer": " "}\n',
            r"line 2: an item without an answer: its field 'answer'",
        ),
        ('{"problem": "p", "answer": null}\n', r"line 1: an item without an answer"),
        ('{"problem": "", "answer": "1"}\n', r"line 1: an item without a problem: its field 'problem' is"),
        ("\n", r"split 'test' is empty$"),
    ],
)
def test_invalid_record_is_reported_with_file_and_line(text: str, message: str, folder: Path) -> None:
    breaks(folder, FILE, text)
    with pytest.raises(BenchmarkDataError, match=message) as caught:
        load(MATH500)
    assert "\n" not in str(caught.value)


MMLU = "TIGER-Lab/MMLU-Pro/test"
HUMAN = "openai/openai_humaneval/test.jsonl"


@pytest.mark.parametrize(
    ("source", "name", "text", "message"),
    [
        (
            MMLU_PRO,
            f"{MMLU}.csv",
            "question,options,answer\nWhich is blue?,\"['Grass', 'The sky']\",B\n",
            r"test\.csv, record 1: expected its options as a list of 2 to 10 texts, got .*CSV holds no lists",
        ),
        (
            MMLU_PRO,
            f"{MMLU}.jsonl",
            '{"question": "Which is blue?", "options": ["Grass", "The sky"], "answer": 1}\n',
            r"line 1: expected its answer as a letter from A to B, got '1'$",
        ),
        (
            MMLU_PRO,
            f"{MMLU}.jsonl",
            '{"question": "Which is blue?", "options": ["Grass", "The sky"], "answer": "C"}\n',
            r"line 1: expected its answer as a letter from A to B, got 'C'$",
        ),
        (
            GSM8K,
            "openai/gsm8k/main/test.jsonl",
            '{"question": "1 + 1?", "answer": "The answer is 2."}\n',
            r"line 1: its answer 'The answer is 2\.' is no number; expected a number, alone or behind",
        ),
        (
            AIME25,
            "math-ai/aime25/test.jsonl",
            '{"problem": "Find 70.", "answer": "seventy-ish"}\n',
            r"line 1: its answer 'seventy-ish' is no number",
        ),
        (
            HUMANEVAL,
            HUMAN,
            json.dumps(
                {
                    "prompt": "def twice(x):\n",
                    "test": "assert twice(2) == 4\n",
                    "entry_point": "twice",
                    "canonical_solution": "    return 2 * x\n",
                }
            ),
            r"line 1: its field 'test' defines no function 'check'$",
        ),
    ],
)
def test_records_that_no_response_can_match_are_refused(
    source: Source, name: str, text: str, message: str, folder: Path
) -> None:
    """A copy of MMLU-Pro in CSV put the letters of a text into the prompt as options; with right answers as
    indices, or without GSM8K's `####`, every response was graded incorrect. Neither was said."""
    for file in (folder / name).parent.glob("test.*"):
        file.unlink()
    breaks(folder, name, text)
    with pytest.raises(BenchmarkDataError, match=message):
        load(source)


def test_a_part_of_a_split_is_not_taken_for_the_whole(folder: Path) -> None:
    """After a download that stopped between two files, a benchmark was its first half."""
    place = (folder / MMLU).parent
    (place / "test.jsonl").unlink()
    rows = Dataset.from_list(
        [{"question": "Which is blue?", "options": ["Grass", "The sky"], "answer": "B"}] * 3
    )
    rows.to_parquet(str(place / "test-00000-of-00002.parquet"))
    with pytest.raises(
        BenchmarkDataError, match=r"split 'test' has 1 of its 2 files; test-00001-of-00002 is missing"
    ):
        load(MMLU_PRO)
    rows.to_parquet(str(place / "test-00001-of-00002.parquet"))
    assert len(load(MMLU_PRO)["test"]) == 6


def as_parquet(rows: list[dict[str, object]], file: Path) -> bytes:
    Dataset.from_list(rows).to_parquet(str(file))
    return file.read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "test.parquet",
            lambda whole: whole[: len(whole) // 2],
            r"test\.parquet: it cannot be read \(.+\); it",
        ),
        ("test.parquet", lambda _: b"", r"test\.parquet: it cannot be read \(.+\); it may have been cut off"),
        ("test.csv", lambda _: b"problem,answer\np,1\nq,2,3,4\n", r"test\.csv: it cannot be read \(.+\); it"),
        (
            "test.jsonl",
            lambda _: (
                b'{"problem": "p", "answer": 1, "level": 5}\n{"problem": "p", "answer": 1, "level": "5"}'
            ),
            r"split 'test': its records are of different forms \(.+\)$",
        ),
    ],
    ids=["cut off", "empty", "csv", "types"],
)
def test_damaged_files_end_in_one_line(
    name: str, content: Callable[[bytes], bytes], message: str, folder: Path
) -> None:
    """A Parquet file of a download that was cut off ended in a traceback of a hundred lines."""
    place = (folder / FILE).parent
    (folder / FILE).unlink()
    whole = as_parquet([{"problem": "p", "answer": "1"}] * 100, place / "test.parquet")
    (place / "test.parquet").unlink()
    (place / name).write_bytes(content(whole))
    with pytest.raises(BenchmarkDataError, match=message) as caught:
        load(MATH500)
    assert "\n" not in str(caught.value)


def test_missing_split_is_reported_with_existing_ones(folder: Path) -> None:
    (folder / FILE).rename((folder / FILE).with_name("validation.jsonl"))
    with pytest.raises(BenchmarkDataError, match=r"there is no split 'test'; it has .*'validation'$"):
        load(MATH500)


def test_missing_folder_names_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2T_DATA", str(tmp_path))
    with pytest.raises(BenchmarkDataError, match=r"^S2T_DATA=.*: it has no folder openai/openai_humaneval"):
        load(HUMANEVAL)
    (tmp_path / "olympiadbench").mkdir()
    with pytest.raises(BenchmarkDataError, match=r"no data files are found .*expected test\.jsonl"):
        load(OLYMPIADBENCH)


def test_missing_network_is_reported_with_the_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("S2T_DATA", raising=False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(BenchmarkDataError, match=r"set S2T_DATA=DIR to a folder that contains"):
        load(MATH500)
