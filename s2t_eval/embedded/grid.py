"""The runs of all methods on the embedded pair, which `make demo` shows and CI compares with a baseline.

A new backend needs a new line in `GRID`, and then `make baseline`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TASK = "s2t_arith"
STUDENT, TEACHER = "embedded/student", "embedded/teacher"
TAUS = (0.01, 0.05, 0.1)
NUM_CALIBRATION = 100
SELECTOR = {"selector": "embedded/selector"}


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


def _pair(name: str, label: str, model: str, trigger: str, tau: float) -> Row:
    arguments: dict[str, Any] = {"trigger": trigger, "tau": tau}
    if trigger == "kl":
        # How far a student runs ahead of its teacher is measured; in lockstep the costs come out the same.
        arguments["verify"] = 1
    return Row(name, label, model, arguments, needs_pair=True)


GRID = (
    Row("greedy", "greedy", "greedy"),
    Row("maj1", "maj1", "maj_at_k", {"num_samples": 1}),
    Row("maj2", "maj2", "maj_at_k", {"num_samples": 2}),
    Row("maj4", "maj4", "maj_at_k", {"num_samples": 4}),
    Row("maj8", "maj8", "maj8"),
    Row(
        "tot",
        "tot, beam 2, branch 4",
        "tot",
        {"value": "loglik", "delimiter": "sentence", "max_line": 16, "budget": 272},
    ),
    Row("distil", "distil (kd)", "distil", {"peft": "embedded/distilled"}),
    Row("tah", "tah", "tah", {"tah": "embedded/tah"}),
    _pair("s2t_kl_tau1", "s2t, kl, tau 1 %", "s2t", "kl", 0.01),
    _pair("s2t_kl_tau5", "s2t, kl, tau 5 %", "s2t", "kl", 0.05),
    _pair("s2t_entropy_tau5", "s2t, entropy, tau 5 %", "s2t", "entropy", 0.05),
    _pair("s2t_random_tau5", "s2t, random, tau 5 %", "s2t", "random", 0.05),
    _pair("takeover_kl_tau5", "takeover, kl, tau 5 %", "takeover", "kl", 0.05),
    Row(
        "specreason",
        "specreason, accept 0.7",
        "specreason",
        {"teacher": TEACHER, "score": "logprob", "delimiter": "sentence", "accept": 0.7},
    ),
    Row("s2t_local", "s2t_local (adapted model writes)", "s2t_local", SELECTOR),
    Row("pps_local", "pps_local, its default", "pps_local", SELECTOR),
    Row(
        "pps_local_tau1",
        "pps_local, router, tau 1 %",
        "pps_local",
        {**SELECTOR, "trigger": "router", "tau": 0.01},
    ),
    Row(
        "pps_local_tau5",
        "pps_local, router, tau 5 %",
        "pps_local",
        {**SELECTOR, "trigger": "router", "tau": 0.05},
    ),
    Row("teacher", "teacher alone", "greedy", pretrained=TEACHER),
)
