"""Every method on the embedded pair, a line each: what `make demo` shows and CI compares.

A new backend is a new line in `GRID` (then `make baseline`).
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
R2R = {"teacher": TEACHER, "router": "embedded/r2r", "tau": 0.05}
KL_ROUTER = {"teacher": TEACHER, "router": "embedded/selector", "tau": 0.05}


@dataclass(frozen=True)
class Row:
    """One run.

    Args:
        name: of its baseline file.
        label: in tables.
        model: lm_eval's `--model`.
        arguments: beside `pretrained`.
        needs_pair: adds the teacher and the calibration file.
        pretrained: the model that writes.
    """

    name: str
    label: str
    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs_pair: bool = False
    pretrained: str = STUDENT

    def model_args(self, calibration: Path) -> dict[str, Any]:
        """The arguments in full."""
        pair = {"teacher": TEACHER, "calibration": str(calibration)} if self.needs_pair else {}
        return {"pretrained": self.pretrained, **pair, **self.arguments}


def _pair(name: str, label: str, model: str, trigger: str, tau: float) -> Row:
    return Row(name, label, model, {"trigger": trigger, "tau": tau}, needs_pair=True)


GRID = (
    Row("greedy", "greedy", "greedy"),
    Row("maj1", "maj1", "maj_at_k", {"num_samples": 1}),
    Row("maj2", "maj2", "maj_at_k", {"num_samples": 2}),
    Row("maj4", "maj4", "maj_at_k", {"num_samples": 4}),
    Row("maj8", "maj8", "maj8"),
    Row("maj8_confidence", "maj8, weight confidence", "maj8", {"weight": "confidence"}),
    Row("distil", "distil (kd)", "distil", {"peft": "embedded/distilled"}),
    Row("tah", "tah", "tah", {"tah": "embedded/tah"}),
    _pair("s2t_kl_tau1", "s2t, kl, tau 1 %", "s2t", "kl", 0.01),
    _pair("s2t_kl_tau5", "s2t, kl, tau 5 %", "s2t", "kl", 0.05),
    _pair("s2t_entropy_tau5", "s2t, entropy, tau 5 %", "s2t", "entropy", 0.05),
    _pair("s2t_random_tau5", "s2t, random, tau 5 %", "s2t", "random", 0.05),
    Row(
        "s2t_position",
        "s2t, the first two tokens",
        "s2t",
        {"teacher": TEACHER, "trigger": "position", "threshold": 0.4},
    ),
    _pair("takeover_kl_tau5", "takeover, kl, tau 5 %", "takeover", "kl", 0.05),
    Row("r2r_tau5", "r2r, tau 5 %", "r2r", R2R),
    Row("s2t_r2r_tau5", "s2t, R2R's router, tau 5 %", "s2t", {**R2R, "trigger": "router"}),
    Row(
        "takeover_router_tau5",
        "takeover, router of the KL trigger, tau 5 %",
        "takeover",
        {**KL_ROUTER, "trigger": "router"},
    ),
    Row(
        "s2t_router_tau5",
        "s2t, router of the KL trigger, tau 5 %",
        "s2t",
        {**KL_ROUTER, "trigger": "router"},
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
