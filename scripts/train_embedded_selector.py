"""Train the shipped selector of the embedded student: label its training problems, then train.

    python -m scripts.train_embedded_selector              # about half an hour on one CPU core
    python -m scripts.train_embedded_selector --complete   # keeps the adapter: a quarter of an hour
    python -m scripts.train_embedded_selector --only-labels   # labels for recipes/embedded-search.yaml

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
from scripts.embedded_labels import STUDENT, collected_labels

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
    arith.SPLIT_SIZES["train"] = args.problems
    labels = collected_labels(args.work, args.problems)
    if args.only_labels:
        return
    flags = ["--complete", str(args.out)] if args.complete else TRAIN.split()
    selector = args.work / "selector"
    cli.main(["train", *STUDENT, "--labels", str(labels), "--out", str(selector), *flags])
    shutil.copytree(selector, args.out, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
