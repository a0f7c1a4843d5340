"""The report of local triggers on ten steps, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from s2t_eval.training.trigger_recall import TAUS, trigger_report

KL = np.array([4.0, 0.0, 3.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0])


def test_recall_share_of_kl_and_auroc_are_of_as_many_steps_as_the_rate_allows() -> None:
    """The trigger fires first at steps 2 and 3; the largest KL is that of steps 0 and 2."""
    values = np.array([0.2, 0.1, 0.9, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    report = trigger_report({"one": values}, KL)
    assert report["one@0.1"] == pytest.approx({"recall": 0.0, "kl_share": 0.3, "auroc": 7 / 9})
    assert report["one@0.2"] == pytest.approx({"recall": 0.5, "kl_share": 0.4, "auroc": 15 / 16})
    assert report["one@0.01"] == report["one@0.05"] == report["one@0.1"]  # one step at least


def test_each_trigger_has_each_rate_and_kl_itself_finds_everything() -> None:
    report = trigger_report({"kl": KL, "inverse": -KL}, KL)
    assert report.keys() == {f"{name}@{tau}" for name in ("kl", "inverse") for tau in TAUS}
    assert report["kl@0.2"] == pytest.approx({"recall": 1.0, "kl_share": 0.7, "auroc": 1.0})
    assert report["inverse@0.2"] == pytest.approx({"recall": 0.0, "kl_share": 0.0, "auroc": 0.0})


def test_of_models_that_agree_everywhere_no_share_is_left() -> None:
    assert trigger_report({"one": KL}, np.zeros(10))["one@0.2"]["kl_share"] == 0.0
