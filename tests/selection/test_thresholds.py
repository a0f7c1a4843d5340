"""One table of thresholds, whether a calibration or a selector has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from s2t_eval.artifacts.manifest import UNKNOWN_WEIGHTS
from s2t_eval.artifacts.typed_json import conform
from s2t_eval.embedded import embedded_path
from s2t_eval.methods.selector_info import SelectorError, SelectorInfo, read_info
from s2t_eval.selection.calibration import Calibration, CalibrationError
from s2t_eval.selection.thresholds import (
    ThresholdError,
    ThresholdLookup,
    ThresholdTable,
    measure_thresholds,
    trigger_key,
)
from s2t_eval.selection.triggers import EntropyTrigger, KlTrigger, MarginTrigger

RATES = {"entropy": {"0.05": 0.7, "0.1": 0.5}, "kl:student_teacher": {"0.1": 1.5}}


def calibrated(rates: Any) -> ThresholdTable:
    return Calibration(rates, 3, 1, 0, {}, {}, "student", None).table


def selected(rates: Any) -> ThresholdTable:
    content = json.loads((embedded_path("embedded/selector") / "selector.json").read_text())
    info: SelectorInfo = conform({**content, "thresholds": {"base": rates}}, SelectorInfo, "")
    return info.table("base")


def test_models_whose_weights_were_not_there_are_not_compared() -> None:
    """A calibration made on servers was refused by every row that loaded its student."""
    served = Calibration(RATES, 3, 1, 0, {}, {}, UNKNOWN_WEIGHTS, UNKNOWN_WEIGHTS)
    served.require("student", "teacher", 0)
    local = Calibration(RATES, 3, 1, 0, {}, {}, "student", "teacher")
    local.require("student", None, 0)
    with pytest.raises(CalibrationError, match="another student"):
        local.require("other", "teacher", 0)


def test_a_rate_at_which_nothing_fires_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """`position` at 1 % was greedy decoding without a word: one step in thirty is a text's first."""
    values = {"position": [1 / (1 + step % 30) for step in range(300)], "entropy": list(range(300))}
    rates = measure_thresholds(values, [0.0, 0.01, 0.03, 0.1])
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(
        "trigger position: it never fires at tau=0.01 and 0.03, because 3.3 % of the steps"
    )
    assert rates["position"]["0.1"] < 1 and rates["entropy"]["0.01"] < 299


@pytest.mark.parametrize("make", [calibrated, selected])
def test_a_threshold_is_found_alike(make: Any) -> None:
    table = make(RATES)
    assert table.at(EntropyTrigger(), 0.05) == 0.7
    assert table.at(EntropyTrigger(), 0.1 + 1e-12) == 0.5
    assert table.at(KlTrigger("student_teacher"), 0.1) == 1.5
    for trigger, tau, measured in (
        (EntropyTrigger(), 0.02, "0.02 0.05 0.1"),  # the rates that the file has are not lost
        (MarginTrigger(), 0.1, "0.05 0.1"),
        (KlTrigger("teacher_student"), 0.1, "0.05 0.1"),
    ):
        with pytest.raises(ThresholdError) as caught:
            table.at(trigger, tau)
        assert str(caught.value) == (
            f"{table.source}: it has no threshold for trigger {trigger_key(trigger)} at tau={tau} (it has "
            "entropy: 0.05, 0.1; kl:student_teacher: 0.1); name one of these, give threshold=NUMBER, or "
            f"measure it with `s2t-eval calibrate --tau {measured}`"
        )


@pytest.mark.parametrize(
    ("key", "rate", "expected"),
    [
        ("entropy", 0.05, True),
        ("entropy", 0.02, False),
        ("margin", 0.05, False),
        ("router", 0.2, True),  # R2R's, whose key is known when it is loaded
        ("router", 0.1, False),
        (None, 0.2, True),  # a selector's default trigger
        (None, 0.02, False),
        ("margin", None, True),
    ],
)
def test_what_is_looked_up_is_in_a_table(key: str | None, rate: float | None, expected: bool) -> None:
    rates = {**RATES, "r2r:0123": {"0.2": 0.3}}
    assert ThresholdLookup("c.json", None, 0, "tau", rate, key).is_in(rates) is expected


@pytest.mark.parametrize("make", [calibrated, selected])
@pytest.mark.parametrize("rate", ["often", "", "nan", "inf", "-0.1", "5", "0,1"])
def test_a_rate_that_is_none(make: Any, rate: str) -> None:
    with pytest.raises(ValueError, match=r"thresholds\.entropy: expected rates from 0 to 1 as names, got"):
        make({"entropy": {rate: 0.5}})


def test_a_proposer_without_thresholds() -> None:
    info = read_info(embedded_path("embedded/selector"))
    with pytest.raises(SelectorError, match=r"has thresholds for proposer=base, tuned alone, got .*=other"):
        info.table("other")


def test_measured_thresholds_leave_the_wanted_share_above_them() -> None:
    steps = [i / 1000 for i in range(1000)]
    rates = measure_thresholds({"entropy": steps, "margin": steps[::-1]}, (0.01, 0.2))
    assert rates["entropy"] == rates["margin"] and rates["entropy"].keys() == {"0.01", "0.2"}
    assert sum(value > rates["entropy"]["0.2"] for value in steps) == 200
