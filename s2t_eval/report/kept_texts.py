"""The texts of a run, small enough to commit: what grading them again needs, and the verdict they had.

`NAME.texts.jsonl.gz` stands beside `NAME.json`: a head, then a JSON line for each document with its number
and hash, the right answer (for HumanEval prompt and checks), the responses, whether each was cut off at
the length limit, and the verdict. Questions and prompts are left out: no grader reads them. The texts of a
large run are in several such files, `NAME.texts-2.jsonl.gz` and so on, each small enough to commit.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from s2t_eval.artifacts.files import atomic_path
from s2t_eval.artifacts.typed_json import conform, parse_json
from s2t_eval.report.documents import HASH_LENGTH, same_scores, samples_file, short_hash
from s2t_eval.report.json_files import ResultsError, part_of, read_json, read_json_lines
from s2t_eval.report.runs import UNSCORED, bypass_filter, metric_of, results_files

SUFFIX = ".texts.jsonl.gz"
FORMAT, FORMAT_OF_PARTS = 1, 2
MOST_BYTES = 2_000_000
"""Of one file: results are committed with their texts."""
PROGRAM_FIELDS = ("task_id", "prompt", "test", "entry_point")
"""Fields of HumanEval's documents that its grader reads; other tasks' graders read the answer alone."""


@dataclass(frozen=True)
class KeptText:
    """The responses to one document, and their verdict.

    Args:
        task: of lm_eval.
        doc_id, doc_hash: of the document.
        output_hash: of the responses, as results name them.
        doc: the fields of the document that the grader reads.
        responses: the texts, one a repeat.
        truncated: of each, whether it ended at its length limit; None where that is unknown.
        metric: whose value the verdict is, with its filter: `exact_match,answer`.
        verdict: 1 for right, 0 for wrong, a share of several responses; None where there was none.
    """

    task: str
    doc_id: int
    doc_hash: str
    output_hash: str
    doc: dict[str, Any]
    responses: list[str]
    truncated: list[bool | None]
    metric: str
    verdict: float | None


def kept_texts(
    samples: Iterable[Mapping[str, Any]], task: str, metric: str, filter_name: str
) -> list[KeptText]:
    """What is kept of lm_eval's samples of one task.

    Raises:
        ResultsError: a sample that lacks what lm_eval writes.
    """
    texts = []
    for number, sample in enumerate(samples, 1):
        if sample.get("filter", filter_name) != filter_name:
            continue
        try:
            texts.append(_kept_text(sample, task, metric, filter_name))
        except (KeyError, IndexError, TypeError) as error:
            raise ResultsError(f"sample {number} of {task}: not one of lm_eval's ({error!r})") from error
    return sorted(texts, key=lambda text: text.doc_id)


def _kept_text(sample: Mapping[str, Any], task: str, metric: str, filter_name: str) -> KeptText:
    responses = [str(text) for text in sample["resps"][0]]
    names = PROGRAM_FIELDS if "entry_point" in sample["doc"] else ()
    program = {name: sample["doc"][name] for name in names if name in sample["doc"]}
    score = None if metric == UNSCORED else sample.get(metric)
    return KeptText(
        task=task,
        doc_id=int(sample["doc_id"]),
        doc_hash=str(sample["doc_hash"])[:HASH_LENGTH],
        output_hash=short_hash(json.dumps(sample["resps"], sort_keys=True)),
        doc=program or {"answer": sample["target"]},
        responses=responses,
        truncated=_truncated(sample.get("truncated"), len(responses)),
        metric=f"{metric},{filter_name}",
        verdict=None if score is None else float(score),
    )


def _truncated(share: float | None, count: int) -> list[bool | None]:
    """Of each response, whether it was cut off, from the share that were: known where it is none or all."""
    return [None if share not in (0, 1) else bool(share)] * count


def write_texts(path: Path, texts: Sequence[KeptText]) -> list[Path]:
    """Write the texts of a run; the same texts are the same bytes.

    Texts that do not fit into one file go into several equal parts: the first is `path`, the next are
    `NAME.texts-2.jsonl.gz` and so on. Further parts of an earlier run of this name are removed.

    Args:
        path: `NAME.texts.jsonl.gz`.
        texts: of all tasks of the run.

    Returns:
        The files, the first part first.

    Raises:
        ValueError: a single text that takes more than 2 MB.
    """
    contents = _file_contents(path, [_json_line(asdict(text)) for text in texts])
    files = [_part_path(path, number) for number in range(1, len(contents) + 1)]
    # The first part is written last: it names the others, and a reader begins with it.
    for file, content in reversed(list(zip(files, contents, strict=True))):
        with atomic_path(file) as partial:
            partial.write_bytes(content)
    for file in text_files(path):
        if file not in files:
            file.unlink()
    return files


def text_files(path: Path) -> list[Path]:
    """The files that hold the texts of a run, the first part first; empty where there are none.

    Args:
        path: `NAME.texts.jsonl.gz`.
    """
    further = re.compile(re.escape(path.name.removesuffix(SUFFIX)) + r"\.texts-([2-9]|[1-9]\d+)\.jsonl\.gz")
    numbers = [int(match[1]) for file in path.parent.iterdir() if (match := further.fullmatch(file.name))]
    return [path] * path.exists() + [_part_path(path, number) for number in sorted(numbers)]


def _part_path(path: Path, number: int) -> Path:
    name = path.name.removesuffix(SUFFIX)
    return path if number == 1 else path.with_name(f"{name}.texts-{number}.jsonl.gz")


def _file_contents(path: Path, lines: Sequence[str]) -> list[bytes]:
    """The bytes of the file, or of each of its parts."""
    contents = [_compressed({"format": FORMAT}, lines)]
    parts, digest = 1, short_hash("".join(lines))
    while max(map(len, contents)) > MOST_BYTES:
        if parts == len(lines):
            raise ValueError(
                f"{path}: one of its {len(lines)} texts takes {max(map(len, contents)) / 1e6:.1f} MB, "
                f"compressed; expected at most {MOST_BYTES / 1e6:.0f} MB; keep the run without that document"
            )
        # At least as many as the whole size needs, then a quarter more at a time: texts differ in length.
        parts = max(-(-len(contents[0]) // MOST_BYTES), 2) if parts == 1 else parts + -(-parts // 4)
        parts = min(parts, len(lines))
        contents = [
            _compressed({"format": FORMAT_OF_PARTS, "part": i + 1, "parts": parts, "run": digest}, part)
            for i, part in enumerate(_equal_parts(lines, parts))
        ]
    return contents


def _equal_parts(lines: Sequence[str], parts: int) -> Iterator[Sequence[str]]:
    """The lines in order, in parts whose counts differ by at most one."""
    for i in range(parts):
        yield lines[i * len(lines) // parts : (i + 1) * len(lines) // parts]


def _compressed(head: Mapping[str, object], lines: Iterable[str]) -> bytes:
    return gzip.compress("".join([_json_line(head), *lines]).encode(), compresslevel=9, mtime=0)


def _json_line(record: Mapping[str, object]) -> str:
    return json.dumps(record, ensure_ascii=True, separators=(",", ":")) + "\n"


@dataclass(frozen=True)
class _Head:
    """The first line of a file.

    Args:
        format: FORMAT, or FORMAT_OF_PARTS.
        part, parts: which of how many; 1 of 1 is a whole run.
        run: hash of the texts of all parts; empty for a whole run.
    """

    format: int
    part: int = 1
    parts: int = 1
    run: str = ""

    def __post_init__(self) -> None:
        if self.format not in (FORMAT, FORMAT_OF_PARTS):
            raise ValueError(f"expected format {FORMAT} or {FORMAT_OF_PARTS}, got {self.format!r}")


def read_texts(path: Path) -> list[KeptText]:
    """What `write_texts` wrote, of all parts.

    Raises:
        ResultsError: a file that is missing, damaged, of another format or a part of other texts; names the
            file, and the line where there is one.
    """
    first, texts = _read_file(path)
    _require_part(path, first, replace(first, part=1))
    for number in range(2, first.parts + 1):
        file = _part_path(path, number)
        head, part = _read_file(file)
        _require_part(file, head, replace(first, part=number))
        texts += part
    return texts


def _require_part(file: Path, head: _Head, expected: _Head) -> None:
    if head != expected:
        raise ResultsError(
            f"{file}: expected part {expected.part} of {expected.parts} of the texts {expected.run}, got "
            f"part {head.part} of {head.parts} of {head.run or 'a whole run'}; keep them again"
        )


def _read_file(path: Path) -> tuple[_Head, list[KeptText]]:
    try:
        lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
        raise ResultsError(
            f"{path}: no texts of a run ({error}); keep them again, or remove the file"
        ) from error
    head: _Head | None = None
    texts: list[KeptText] = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            record = parse_json(line)
            if head is None:
                head = conform(record, _Head, "")
            else:
                texts.append(conform(record, KeptText, ""))
        except (ValueError, AttributeError) as error:
            raise ResultsError(f"{path}, line {number}: {error}") from error
    if head is None:
        raise ResultsError(f"{path}: no texts of a run (it is empty); keep them again, or remove the file")
    return head, texts


@dataclass(frozen=True)
class RunTexts:
    """The texts of one results file.

    Args:
        source: the results file.
        texts: of all of its tasks; None where none were kept.
    """

    source: Path
    texts: list[KeptText] | None


def find_texts(path: Path) -> Iterator[RunTexts]:
    """The texts of every results file at or below a path, from kept ones or lm_eval's own samples.

    Raises:
        ResultsError: nothing there, or files that are damaged or do not belong together.
    """
    if not path.exists():
        raise ResultsError(f"{path}: there is no such file or folder; expected results")
    files = [path] if path.is_file() else sorted(results_files(path))
    if not files:
        raise ResultsError(
            f"{path}: no results in it; expected results_*.json, or files of results/baselines"
        )
    for file in files:
        yield RunTexts(file, texts_of(file))


def texts_of(source: Path) -> list[KeptText] | None:
    """The texts of one results file; None where neither kept texts nor samples lie beside it."""
    results = read_json(source)
    kept_path = source.with_name(source.stem + SUFFIX)
    if kept_path.exists():
        texts = read_texts(kept_path)
        _require_same_run(kept_path, texts, results)
        return texts
    sample_texts: list[KeptText] = []
    for task in part_of(results, "configs"):
        samples = samples_file(source, task)
        if not samples.exists():
            return None
        figures = part_of(results["results"], task)
        unscored = bypass_filter(figures)
        metric, filter_name = (UNSCORED, unscored) if unscored else metric_of(source, task, figures)
        sample_texts += kept_texts(read_json_lines(samples), task, metric, filter_name)
    return sample_texts or None


def _require_same_run(path: Path, texts: Sequence[KeptText], results: dict[str, Any]) -> None:
    """Raise `ResultsError` for texts that are not those of the results beside them."""
    text_of_document = {(text.task, text.doc_id): text for text in texts}
    tasks = {text.task for text in texts}
    for task, (head, *lines) in part_of(results, "documents").items():
        if task not in tasks:
            continue  # a group: its texts have the names of its tasks
        names = head.split(" ")
        for line in lines:
            row = dict(zip(names, line.split(" "), strict=True))
            text = text_of_document.get((task, int(row["doc_id"])))
            if text is None or text.doc_hash != row["doc_hash"]:
                raise ResultsError(
                    f"{path}: it has no text of document {row['doc_id']} of {task}, or that of another one; "
                    "keep the texts of this run again"
                )
            score = None if row["score"] == "-" else float(row["score"])
            is_same_text = text.output_hash in row["output_hash"].split("|")
            if not (is_same_text and _same_verdict(text.verdict, score)):
                raise ResultsError(
                    f"{path}: document {text.doc_id} of {task} is not as in the results beside it (its text "
                    f"is {text.output_hash} against {row['output_hash']}, its verdict {text.verdict} "
                    f"against {score}); keep the texts of this run again"
                )


def _same_verdict(left: float | None, right: float | None) -> bool:
    return left is right if left is None or right is None else bool(same_scores(left, right))
