"""Train the shipped distilled adapter of the embedded student: label its training problems, then distil (kd).

    python -m scripts.train_embedded_distilled            # a few minutes on one CPU core

The learning rate was chosen on the dev split (LOG.md, 2026-11-23). Floating-point rounding, and with it the
weights, depends on the machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from s2t_eval import cli
from s2t_eval.embedded import embedded_path
from scripts.embedded_labels import PAIR, collected_labels

DISTIL = "--method kd --lr 1e-3 --epochs 2 --batch_size 16 --accumulate 1"


def main() -> None:
    """Write labels and adapter; an interrupted run is resumed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/embedded-distilled"))
    parser.add_argument("--out", type=Path, default=embedded_path("embedded/distilled"))
    args = parser.parse_args()
    labels = collected_labels(args.work)
    cli.main(["distil", *PAIR, "--labels", str(labels), "--out", str(args.out), *DISTIL.split()])


if __name__ == "__main__":
    main()
