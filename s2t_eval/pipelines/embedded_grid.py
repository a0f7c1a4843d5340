"""Runs of every method on the embedded pair, made from the method table: `make demo` and `make regress`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s2t_eval.method_table import METHODS, EmbeddedRun, Method

TASK = "s2t_arith"
STUDENT, TEACHER = "embedded/student", "embedded/teacher"
TAUS = (0.01, 0.05, 0.1)
NUM_CALIBRATION = 100


@dataclass(frozen=True)
class Row:
    """One run.

    Args:
        name: name of its baseline file.
        label: its name in tables.
        model: `--model` of lm_eval.
        arguments: model arguments beside `pretrained`.
        needs_pair: whether the teacher and the calibration file are added to the arguments.
        pretrained: the student.
    """

    name: str
    label: str
    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs_pair: bool = False
    pretrained: str = STUDENT

    def model_args(self, calibration: Path) -> dict[str, Any]:
        """The complete model arguments."""
        pair = {"teacher": TEACHER, "calibration": str(calibration)} if self.needs_pair else {}
        return {"pretrained": self.pretrained, **pair, **self.arguments}


def rows_of(method: Method) -> tuple[Row, ...]:
    """The runs of a method; none for a method without a backend of this project."""
    if method.backend is None:
        return ()
    runs = method.embedded or (EmbeddedRun(method.models[0]),)
    return tuple(
        Row(run.name, run.label or run.name, run.model or method.models[0], run.arguments, run.needs_pair)
        for run in runs
    )


GRID = (
    *(row for method in METHODS for row in rows_of(method)),
    Row("teacher", "teacher alone", "greedy", pretrained=TEACHER),
)
