"""Train the shipped RLKD adapter of the embedded student: label its training problems, then reward (rlkd).

    python scripts/train_embedded_rlkd.py            # some minutes on one CPU core

The settings were chosen on held-out training problems (LOG.md). Floating-point rounding, and with it the
weights, depends on the machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from s2t_eval import cli
from s2t_eval.embedded import embedded_path

NUM_PROBLEMS = 4_000
RLKD = "--limit 1800 --lr 1e-4 --batch_size 32 --evaluations 2 --rows 128"
"""1,800 problems of 4 texts are as many text visits as the shipped distilled adapter had."""


def main() -> None:
    """Write labels and adapter; an interrupted run is resumed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/embedded-distilled"))
    parser.add_argument("--out", type=Path, default=embedded_path("embedded/rlkd"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    labels = args.work / "labels"
    student = ["--pretrained", "embedded/student", "--device", "cpu", "--dtype", "float32"]
    pair = [*student, "--teacher", "embedded/teacher"]
    if not (labels / "manifest.json").exists():
        size = ["--limit", str(NUM_PROBLEMS), "--batch_size", "256"]
        cli.main(["collect", *pair, "--task", "s2t_arith", "--steps", "all", *size, "--out", str(labels)])
    cli.main(["rlkd", *pair, "--labels", str(labels), "--out", str(args.out), *RLKD.split()])


if __name__ == "__main__":
    main()
