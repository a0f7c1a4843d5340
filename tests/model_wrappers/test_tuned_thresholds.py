"""Thresholds and routers of the plain student, offered where the adapted one writes.

Its steps fired at another rate than tau: at 0.4 % instead of 5 % with the divergence from the teacher.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s2t_eval.methods.r2r_error import R2RError
from s2t_eval.model_wrappers.s2t_local import PPSLocal, S2TLocal
from tests.harness_helpers import STUDENT, TEACHER
from tests.learning import selector

CALIBRATION = Path(__file__).parents[2] / "results" / "baselines" / "embedded" / "calibration.json"
KL = {"teacher": TEACHER, "trigger": "kl"}


def arguments(**more: Any) -> dict[str, Any]:
    return {"pretrained": STUDENT, "device": "cpu", "selector": str(selector()), **more}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({**KL, "tau": 0.05}, "tau=0.05: the selector's KL thresholds are the plain student's"),
        (
            {"trigger": "entropy", "tau": 0.05, "calibration": str(CALIBRATION)},
            "calibration=.*the plain student",
        ),
    ],
)
def test_thresholds_of_the_plain_student_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        S2TLocal(**arguments(**given))
    PPSLocal(**arguments(**given))  # the plain student writes


@pytest.mark.parametrize("folder", ["embedded/selector", "embedded/r2r"])
def test_a_router_of_other_states_is_refused(folder: str) -> None:
    """The router of another selector's folder reads the states of that selector's adapter."""
    with pytest.raises(R2RError, match="was not trained on the states of the adapted student"):
        S2TLocal(**arguments(router=folder, trigger="router", tau=0.05))


def test_the_selectors_own_thresholds_and_a_number_hold() -> None:
    own = S2TLocal(**arguments(trigger="entropy", tau=0.05))
    table = own.selector.info.thresholds["tuned"] if own.selector else {}
    assert own.policy().trigger_threshold == table["entropy"]["0.05"]
    assert S2TLocal(**arguments(**KL, threshold=2.0)).policy().trigger_threshold == 2.0
