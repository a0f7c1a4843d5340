"""Make the shipped R2R router of the embedded pair: labels of its own training problems, then training.

    python scripts/train_embedded_r2r.py              # about a quarter of an hour on one CPU core

The problems extend the task's train split from the same stream; none of them is a dev or test problem.
LOG.md records the attempts. Low bits, and so the weights, depend on the machine.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from s2t_eval import cli
from s2t_eval.embedded import arith, embedded_path

NUM_PROBLEMS = 6_000
"""More than the task's train split has; the rest is drawn from the same stream. A text has 0.7 divergent
tokens on average."""

TRAIN = """--width 64 --blocks 2 --epochs 30 --patience 5 --lr 2e-3 --batch_size 32 --held_out 0.1
--weight_decay 5e-4"""


def main() -> None:
    """Write labels and the router; an interrupted run is resumed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/embedded-r2r"))
    parser.add_argument("--problems", type=int, default=NUM_PROBLEMS)
    parser.add_argument("--out", type=Path, default=embedded_path("embedded/r2r"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    labels, router = options.work / "labels", options.work / "router"
    arith.SPLIT_SIZES["train"] = options.problems
    student = ["--pretrained", "embedded/student", "--device", "cpu", "--dtype", "float32"]
    if not (labels / "manifest.json").exists():
        pair = [*student, "--teacher", "embedded/teacher", "--task", "s2t_arith"]
        size = ["--limit", str(options.problems), "--batch_size", "128", "--validate", "0.1"]
        cli.main(["r2r", "label", *pair, *size, "--out", str(labels)])
    cli.main(["r2r", "train", *student, "--labels", str(labels), "--out", str(router), *TRAIN.split()])
    shutil.copytree(router, options.out, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
