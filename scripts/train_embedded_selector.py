"""Train the shipped selector of the embedded student: label its training problems, then train.

    python scripts/train_embedded_selector.py              # about half an hour on one CPU core
    python scripts/train_embedded_selector.py --complete   # keeps the adapter: a quarter of an hour
    python scripts/train_embedded_selector.py --only-labels   # labels for recipes/embedded-search.yaml

The settings were chosen on held-out problems of the label set (LOG.md lists the alternatives). The label
set contains no dev or test problems of `s2t_arith`. The shipped folder was made in these two steps: it was
trained when a training served only one proposer, and then completed for the other one.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from s2t_eval import cli
from s2t_eval.embedded import arith, embedded_path

NUM_PROBLEMS = 20_000
"""More problems than the task's train split has; the others come next in the same stream."""

TRAIN = """--form direct --beta 0 --low_kl_fraction 0.1 --rank 64 --alpha 128 --epochs 4 --lr 2e-3
--batch_size 32 --accumulate 1 --evaluations 1 --held_out 0.02"""


def main() -> None:
    """Write labels and selector; an interrupted run is resumed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/embedded-selector"))
    parser.add_argument("--problems", type=int, default=NUM_PROBLEMS)
    parser.add_argument("--out", type=Path, default=embedded_path("embedded/selector"))
    parser.add_argument(
        "--complete", action="store_true", help="keep the adapter at --out and add the parts that it lacks"
    )
    parser.add_argument("--only-labels", action="store_true", help="make the label set and train nothing")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    labels = args.work / "labels"
    arith.SPLIT_SIZES["train"] = args.problems
    student = ["--pretrained", "embedded/student", "--device", "cpu", "--dtype", "float32"]
    if not (labels / "manifest.json").exists():
        pair = [*student, "--teacher", "embedded/teacher", "--task", "s2t_arith", "--steps", "all"]
        size = ["--limit", str(args.problems), "--batch_size", "256"]
        cli.main(["collect", *pair, *size, "--out", str(labels)])
    if args.only_labels:
        return
    flags = ["--complete", str(args.out)] if args.complete else TRAIN.split()
    selector = args.work / "selector"
    cli.main(["train", *student, "--labels", str(labels), "--out", str(selector), *flags])
    shutil.copytree(selector, args.out, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
