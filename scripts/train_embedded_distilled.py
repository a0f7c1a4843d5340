"""Make the shipped distilled adapter of the embedded student: labels of its own training problems, then kd.

    python scripts/train_embedded_distilled.py            # a few minutes on one CPU core

The learning rate was chosen on the dev split (LOG.md, 2026-11-23). Low bits, and so the weights, depend on
the machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from s2t_eval import cli
from s2t_eval.embedded import embedded_path

NUM_PROBLEMS = 4_000
DISTIL = "--method kd --lr 1e-3 --epochs 2 --batch_size 16 --accumulate 1"


def main() -> None:
    """Write labels and the adapter; a broken-off run goes on where it stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/embedded-distilled"))
    parser.add_argument("--out", type=Path, default=embedded_path("embedded/distilled"))
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    labels = given.work / "labels"
    student = ["--pretrained", "embedded/student", "--device", "cpu", "--dtype", "float32"]
    pair = [*student, "--teacher", "embedded/teacher"]
    if not (labels / "manifest.json").exists():
        size = ["--limit", str(NUM_PROBLEMS), "--batch_size", "256"]
        cli.main(["collect", *pair, "--task", "s2t_arith", "--steps", "all", *size, "--out", str(labels)])
    cli.main(["distil", *pair, "--labels", str(labels), "--out", str(given.out), *DISTIL.split()])


if __name__ == "__main__":
    main()
