"""Make the shipped selector of the embedded student: labels of its own training problems, then training.

    python scripts/train_embedded_selector.py              # about half an hour on one CPU core
    python scripts/train_embedded_selector.py --complete   # keeps the adapter: a quarter of an hour

Settings were chosen on held-out problems of the label set; LOG.md has what was tried. Dev and test
problems of `s2t_arith` are in neither. The shipped folder was made in these two steps: trained when one
training served one proposer, then completed for the other with the same adapter.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from s2t_eval import cli
from s2t_eval.embedded import arith, embedded_path

NUM_PROBLEMS = 20_000
"""More than the task's train split has: it is drawn on from the same stream."""

TRAIN = """--form direct --beta 0 --quiet 0.1 --rank 64 --alpha 128 --epochs 4 --lr 2e-3 --batch_size 32
--accumulate 1 --evaluations 1 --held_out 0.02"""


def main() -> None:
    """Write labels and the selector; a broken-off run goes on where it stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/embedded-selector"))
    parser.add_argument("--problems", type=int, default=NUM_PROBLEMS)
    parser.add_argument("--out", type=Path, default=embedded_path("embedded/selector"))
    parser.add_argument(
        "--complete", action="store_true", help="keep the adapter at --out, add what it lacks"
    )
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    labels = given.work / "labels"
    arith.SPLIT_SIZES["train"] = given.problems
    student = ["--pretrained", "embedded/student", "--device", "cpu", "--dtype", "float32"]
    if not (labels / "manifest.json").exists():
        pair = [*student, "--teacher", "embedded/teacher", "--task", "s2t_arith", "--steps", "all"]
        size = ["--limit", str(given.problems), "--batch_size", "256"]
        cli.main(["collect", *pair, *size, "--out", str(labels)])
    how = ["--complete", str(given.out)] if given.complete else TRAIN.split()
    made = given.work / "selector"
    cli.main(["train", *student, "--labels", str(labels), "--out", str(made), *how])
    shutil.copytree(made, given.out, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
