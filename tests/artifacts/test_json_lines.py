"""Every reader and writer of JSON lines ends a record at a newline and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.artifacts.files import TraceWriter, write_text
from s2t_eval.artifacts.json_lines import read_json_lines
from s2t_eval.evaluation.data import Source, load
from s2t_eval.evaluation.humaneval.score import Outcome
from s2t_eval.evaluation.sandbox import ProgramVerdict
from s2t_eval.methods.tah.votes import OracleVote
from s2t_eval.pipelines.collect_labels import _json_lines
from s2t_eval.pipelines.prompts import _read_lines
from s2t_eval.report.json_files import ResultsError
from s2t_eval.report.json_files import read_json_lines as read_report_lines

LINE_BOUNDARIES = "\u2028 \u2029 \x85 \x0b \x0c \x1c \x1d \x1e \r \r\n \n"
"""Every character at which `str.splitlines` splits."""
ROOT = Path(__file__).parents[2]


def records() -> list[dict[str, Any]]:
    texts = [*LINE_BOUNDARIES, LINE_BOUNDARIES, "a\u2028b"]
    return [
        {"question": f"q {text} {i}", "answer": text * 2 + "7", "prompt_ids": [i], "output_ids": [i, 2]}
        for i, text in enumerate(texts)
    ]


@pytest.fixture(params=[True, False], ids=["as they are", "escaped"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "texts" / "test.jsonl"
    path.parent.mkdir()
    if request.param:
        writer = TraceWriter(path)
        for record in records():
            writer.write(record)
        writer.finish()
        assert "\u2028" in path.read_text(encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records()))
    return path


def test_every_reader_reads_every_record(file: Path) -> None:
    assert [line.record for line in read_json_lines(file)] == records()
    assert read_report_lines(file) == records()
    assert _json_lines(file, "--evaluation") == records()
    assert _read_lines(file, 1000) == records()
    assert _read_lines(file, 3) == records()[:3]
    assert OracleVote.read(file).references == {
        tuple(record["prompt_ids"]): record["output_ids"] for record in records()
    }
    fields = {"question": ("question",), "answer": ("answer",)}
    source = Source("org/texts", "texts", {"test": ("test",)}, fields)
    rows = load(source, str(file.parent.parent))["test"]
    assert [row["question"] for row in rows] == [record["question"] for record in records()]


@pytest.mark.parametrize(
    ("content", "numbers"),
    [
        (b'{"a": 1}\n\n  \n{"a": 2}', [1, 4]),
        (b'{"a": 1}\r\n{"a": 2}\r\n', [1, 2]),
        (b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n', [1, 2]),
        (b"", []),
        (b"\n", []),
    ],
)
def test_byte_order_marks_crlf_and_empty_lines_are_accepted(
    content: bytes, numbers: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(content)
    assert [line.number for line in read_json_lines(path)] == numbers


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b'{"a": 1', r"'\{\"a\": 1'"),
        (b'{"a": 1} {"a": 2}', r"'\{\"a\": 1\} \{\"a\": 2\}'"),
        (b"[1]", r"'\[1\]'"),
        (b"null", "'null'"),
        (b'{"a": "\xff"}', r"'\{\"a\": \"�\"\}'"),
        (b'{"a": ' + b"1" * 5000 + b"}", r"'\{\"a\": 1{54}'"),
        (b'{"a": ' + b"[" * 100_000 + b"}", r"'\{\"a\": \[{54}'"),
    ],
)
def test_invalid_line_is_reported_with_its_number(line: bytes, shown: str, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes('{"text": "a\u2028b\x85c"}\n'.encode() + line + b"\n")
    expected = rf"^--x {path}, line 2: expected one JSON object, got {shown}; do better$"
    with pytest.raises(ResultsError, match=expected):
        list(read_json_lines(path, ResultsError, "--x ", "do better"))
    with pytest.raises(ResultsError, match=r"none\.jsonl: it cannot be read \(No such file or directory\)$"):
        list(read_json_lines(tmp_path / "none.jsonl", ResultsError))


def test_lone_surrogates_are_written_as_escapes(tmp_path: Path) -> None:
    """UTF-8 cannot encode them: the error used to lose the whole samples file or trace."""
    record = {"text": "a\ud800b \udfff", "doc_id": 1}
    writer = TraceWriter(tmp_path / "trace.jsonl")
    writer.write(record)
    writer.finish()
    writer.write(record)
    writer.finish()
    assert [line.record for line in read_json_lines(tmp_path / "trace.jsonl")] == [record, record]
    write_text(tmp_path / "one.json", json.dumps(record, ensure_ascii=False))
    assert json.loads((tmp_path / "one.json").read_text(encoding="utf-8")) == record
    outcome = Outcome(
        "text", "def f(): return '\ud800'", ProgramVerdict(False, "it printed \udc00", 1.0, "none")
    )
    assert json.loads(outcome.encode("utf-8"))["program"] == "def f(): return '\ud800'"
