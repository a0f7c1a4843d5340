"""The published numbers, read from the files of `s2t_eval/report/paper`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

FOLDER = Path(__file__).parent / "paper"
MATH_AVG_KEY = "math_avg"
STUDENTS = {"0.5B": "Qwen2.5-0.5B-Instruct", "1.5B": "Qwen2.5-1.5B-Instruct"}
"""Size -> the student of the published numbers."""


def published() -> pd.DataFrame:
    """Accuracies in percent: columns size, benchmark, method, value, plus_minus, status, source."""
    return pd.read_csv(FOLDER / "published.csv", keep_default_na=True)


def published_accuracies(student: str, benchmark: str) -> dict[str, float]:
    """Method -> its published accuracy in percent, of a published student; else nothing.

    Args:
        student: see `published_size`.
        benchmark: its key.
    """
    data = published()
    data = data[(data["size"] == published_size(student)) & (data["benchmark"] == benchmark)]
    values = data.set_index("method")["value"].dropna().to_dict()
    return {str(method): float(value) for method, value in values.items()}


def published_times(student: str) -> dict[str, float]:
    """Method -> its published time as a multiple of greedy decoding's, of a published student; else nothing.

    Args:
        student: see `published_size`.
    """
    data = pd.read_csv(FOLDER / "times.csv")
    data = data[data["size"] == published_size(student)]
    return {str(method): float(value) for method, value in data.set_index("method")["times_greedy"].items()}


def published_gains(student: str, benchmark: str) -> dict[str, float]:
    """Method -> its published points over greedy decoding, of a published student; else nothing.

    Args:
        student: see `published_size`.
        benchmark: its key.
    """
    values = published_accuracies(student, benchmark)
    greedy = values.pop("greedy", None)
    return {} if greedy is None else {method: value - greedy for method, value in values.items()}


def sources() -> dict[str, dict[str, Any]]:
    """Source key -> title, where, setting."""
    content: dict[str, dict[str, Any]] = json.loads((FOLDER / "sources.json").read_text())
    return content


def published_size(student: str) -> str | None:
    """The size under which a student's numbers were published, "0.5B"; None for every other student.

    Args:
        student: a model's name on the Hub or its folder. Its last part must be the published name: the Coder
            models of the same sizes, quantised files and fine-tuned checkpoints are other students.
    """
    name = student.rstrip("/").rsplit("/", 1)[-1].lower()
    return next((size for size, published_name in STUDENTS.items() if name == published_name.lower()), None)
