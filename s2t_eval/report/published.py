"""The paper's numbers, read from `results/paper/` (shipped as `s2t_eval/report/paper`)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

FOLDER = Path(__file__).parent / "paper"
MATH_AVG_KEY = "math_avg"


def published() -> pd.DataFrame:
    """Accuracies in percent: columns size, benchmark, method, value, plus_minus, status, source."""
    return pd.read_csv(FOLDER / "published.csv", keep_default_na=True)


def quantities() -> pd.DataFrame:
    """Other published figures: columns quantity, size, benchmark, low, high, unit, source."""
    return pd.read_csv(FOLDER / "quantities.csv")


def sources() -> dict[str, dict[str, Any]]:
    """Source key -> title, where, setting."""
    content: dict[str, dict[str, Any]] = json.loads((FOLDER / "sources.json").read_text())
    return content


def size_of(model: str) -> str | None:
    """The size in a model's name ("0.5B"), which names the paper's blocks; None where the name has none."""
    match = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)[bB](?![a-zA-Z])", model.replace("_", "-"))
    return f"{float(match[1]):g}B" if match else None
