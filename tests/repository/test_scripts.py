"""Scripts read and write the folders that the repository has: a move of the scripts once left them behind."""

from __future__ import annotations

from s2t_eval.embedded import embedded_path
from scripts import run_embedded_baseline, train_embedded_pair
from tests.report_helpers import EMBEDDED


def test_the_baseline_is_run_at_the_committed_thresholds() -> None:
    """`make regress` ended at the first row with a rate, for want of a calibration beside the script."""
    assert run_embedded_baseline.CALIBRATION == EMBEDDED / "calibration.json"
    assert run_embedded_baseline.CALIBRATION.is_file() and run_embedded_baseline.TRACES.is_dir()


def test_the_embedded_pair_is_trained_into_the_package() -> None:
    for recipe in train_embedded_pair.RECIPES:
        assert train_embedded_pair.INTO / recipe.name == embedded_path(f"embedded/{recipe.name}")
