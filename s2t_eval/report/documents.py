"""The documents of a run: one row each, with the hashes that pair runs, and the score.

lm_eval writes them as samples (`samples_*.jsonl`); a committed baseline keeps one line for each.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from s2t_eval.report.json_files import ResultsError, part_of, read_json_lines
from s2t_eval.statistics import Scores

HASHES = ("doc_hash", "prompt_hash", "target_hash", "output_hash")
ALTERNATIVE = "|"
"""Separates the hashes of several texts of one document in a committed baseline. Where rounding decides
between two tokens, processors write different texts, and each text that was seen is accepted."""

KEPT_ROUNDING = 1e-5
"""Of a score, as a share of it: earlier versions kept six digits. Two shares of fewer than 100,000 responses
differ by more."""
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(\.\d+)?")
"""The date of a run as lm_eval writes it into the names of results and samples."""
HASH_LENGTH = 16
"""Hexadecimal digits that are kept of a sha256: enough to tell documents apart."""


def short_hash(text: str) -> str:
    """The first hexadecimal digits of a sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


def as_score(value: object) -> float | None:
    """A finite JSON number as a float; None for anything else: an infinite loss cannot be averaged."""
    number = as_number(value)
    return number if number is not None and math.isfinite(number) else None


def as_number(value: object) -> float | None:
    """A JSON number as a float; None for anything else, booleans included."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


class ResultsName(NamedTuple):
    """The name of a results file, without `.json`, in two parts.

    Args:
        name: `results` for `--output_path FOLDER`, NAME for `--output_path NAME.json` and in baselines.
        stamp: the date behind it, or what a user wrote behind `results_`; None where there is neither.
    """

    name: str
    stamp: str | None


def results_name(file: Path) -> ResultsName:
    """The parts of a results file's name.

    Example:
        >>> results_name(Path("greedy_2026-01-02T03-04-05.000006.json"))
        ResultsName(name='greedy', stamp='2026-01-02T03-04-05.000006')
    """
    name, _, stamp = file.stem.rpartition("_")
    if name and DATE.fullmatch(stamp):
        return ResultsName(name, stamp)
    if file.stem.startswith("results_"):
        return ResultsName("results", file.stem.removeprefix("results_"))
    return ResultsName(file.stem, None)


def samples_file(file: Path, task: str) -> Path:
    """Where lm_eval writes the samples of a task with `--log_samples`: beside the results file."""
    name, stamp = results_name(file)
    return file.with_name(f"samples_{task}_{name if stamp is None else stamp}.jsonl")


def read_documents(
    file: Path, results: dict[str, Any], name: str, tasks: Sequence[str], metric: str, filter_name: str
) -> pd.DataFrame | None:
    """The documents of a task or group: from the results file itself, or from the samples beside it.

    Args:
        file: the results file.
        results: its content.
        name: of the task or group.
        tasks: the task itself, or those of the group.
        metric, filter_name: the figure that becomes the score.

    Returns:
        A row for each document (columns doc_id, HASHES, score); None where no samples were kept.

    Raises:
        ResultsError: documents or samples that cannot be read.
    """
    lines_by_task = part_of(results, "documents")
    if name in lines_by_task:
        try:
            return parse_documents(lines_by_task[name])
        except (ValueError, KeyError, IndexError, AttributeError) as error:
            raise ResultsError(f"{file}: its documents of {name} cannot be read ({error})") from error
    tables = []
    for task in tasks:
        samples = samples_file(file, task)
        if not samples.exists():
            return None
        tables.append(documents_of(read_json_lines(samples), metric, filter_name, str(samples)))
    return pd.concat(tables, ignore_index=True)


def documents_of(
    samples: Sequence[dict[str, Any]], metric: str, filter_name: str, source: str
) -> pd.DataFrame:
    """A row for each document (columns doc_id, HASHES, score) from lm_eval's samples of one filter.

    Raises:
        ResultsError: a sample that lacks an entry which lm_eval writes.
    """
    rows = []
    for number, sample in enumerate(samples, 1):
        if not isinstance(sample, dict):
            raise ResultsError(f"{source}:{number}: expected a JSON object, one of lm_eval's samples")
        if sample.get("filter", filter_name) != filter_name:
            continue
        try:
            hashes = [str(sample[name])[:HASH_LENGTH] for name in HASHES[:3]]
            output = short_hash(json.dumps(sample["resps"], sort_keys=True))
            rows.append((int(sample["doc_id"]), *hashes, output, as_score(sample.get(metric))))
        except KeyError as error:
            raise ResultsError(f"{source}:{number}: a sample without {error}; expected lm_eval's") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise ResultsError(f"{source}:{number}: not one of lm_eval's samples ({error})") from error
    frame = pd.DataFrame(rows, columns=["doc_id", *HASHES, "score"])
    frame["score"] = frame["score"].astype(float)
    return frame.sort_values("doc_id", ignore_index=True)


def format_documents(documents: pd.DataFrame) -> list[str]:
    """A line for each document after a line of column names: the form that committed baselines keep."""
    lines = [" ".join(["doc_id", *HASHES, "score"])]
    for row in documents.itertuples(index=False):
        score = "-" if pd.isna(row.score) else _score_text(row.score)
        lines.append(" ".join([str(row.doc_id), *(getattr(row, name) for name in HASHES), score]))
    return lines


def _score_text(score: float) -> str:
    """A score as the shortest text that is read as the same number: 1 for right, 0.3333333333333333."""
    text = f"{score:g}"
    return text if float(text) == score else repr(float(score))


def same_scores(left: Scores | float, right: Scores | float) -> NDArray[np.bool_]:
    """Whether scores are equal, but for the rounding to six digits with which earlier versions kept them."""
    return np.isclose(left, right, rtol=KEPT_ROUNDING, atol=0.0, equal_nan=True)


def parse_documents(lines: Sequence[str]) -> pd.DataFrame:
    """The documents that `format_documents` wrote; raises `ValueError` for lines without its columns."""
    names = lines[0].split(" ")
    if missing := {"doc_id", *HASHES, "score"} - set(names):
        raise ValueError(f"no column {', '.join(sorted(missing))}")
    frame = pd.DataFrame([line.split(" ") for line in lines[1:]], columns=names)
    frame["doc_id"] = frame["doc_id"].astype(int)
    scores = pd.to_numeric(frame["score"].where(frame["score"] != "-")).astype(float)
    return frame.assign(score=scores.where(np.isfinite(scores)))
