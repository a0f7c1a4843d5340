"""The labels of the embedded student's training problems, from which its adapters are trained."""

from __future__ import annotations

from pathlib import Path

from s2t_eval import cli

NUM_PROBLEMS = 4_000
"""Of the label set that distillation and RLKD share."""
STUDENT = ("--pretrained", "embedded/student", "--device", "cpu", "--dtype", "float32")
"""Options that name and load the embedded student."""
PAIR = (*STUDENT, "--teacher", "embedded/teacher")


def collected_labels(work: Path, num_problems: int = NUM_PROBLEMS) -> Path:
    """The label folder in `work`; it is made if need be, and an interrupted collection is resumed."""
    labels = work / "labels"
    work.mkdir(parents=True, exist_ok=True)
    if not (labels / "manifest.json").exists():
        size = ["--limit", str(num_problems), "--batch_size", "256"]
        cli.main(["collect", *PAIR, "--task", "s2t_arith", "--steps", "all", *size, "--out", str(labels)])
    return labels
