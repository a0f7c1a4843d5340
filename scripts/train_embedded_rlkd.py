"""Train the shipped RLKD adapter of the embedded student: label its training problems, then reward (rlkd).

    python -m scripts.train_embedded_rlkd            # some minutes on one CPU core

The settings were chosen on held-out training problems (LOG.md); `--lr` tries another rate. Floating-point
rounding, and with it the weights, depends on the machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from s2t_eval import cli
from s2t_eval.embedded import embedded_path
from scripts.embedded_labels import PAIR, collected_labels

RLKD = (
    "--limit 1800 --batch_size 32 --correctness_weight 0.2 --schedule linear --average_last 0.5 "
    "--evaluations 4 --rows 128"
)
"""1,800 problems of 4 texts are as many text visits as the shipped distilled adapter had."""


def main() -> None:
    """Write labels and adapter; an interrupted run is resumed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/embedded-distilled"))
    parser.add_argument("--out", type=Path, default=embedded_path("embedded/rlkd"))
    parser.add_argument("--lr", default="2e-4", help="peak learning rate")
    args = parser.parse_args()
    labels = collected_labels(args.work)
    cli.main(["rlkd", *PAIR, "--labels", str(labels), "--out", str(args.out), "--lr", args.lr, *RLKD.split()])


if __name__ == "__main__":
    main()
