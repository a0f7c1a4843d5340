"""The main job on the embedded pair: every backend through the stock `lm_eval`, one table at the end.

python -m s2t_eval.cli.demo                 # about three minutes on one CPU core, no network
python -m s2t_eval.cli.demo --limit 60 --out runs/demo
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from s2t_eval.pipelines.embedded_grid import GRID, NUM_CALIBRATION, STUDENT, TASK, TAUS, TEACHER, Row
from s2t_eval.report.cells import MISSING, accuracy, p_value, percent_sign, won_lost
from s2t_eval.report.compare import compare_pair
from s2t_eval.report.run import Run
from s2t_eval.report.runs import read_runs


def evaluate(row: Row, calibration: Path, folder: Path, limit: int | None, batch_size: int) -> Run:
    """Run the stock command in a process of its own, and read its results back."""
    given = ",".join(f"{name}={value}" for name, value in row.model_args(calibration).items())
    command = [sys.executable, "-m", "lm_eval", "--model", row.model, "--model_args", given]
    command += ["--tasks", TASK, "--batch_size", str(batch_size), "--log_samples"]
    command += ["--output_path", str(folder)]
    if limit is not None:
        command += ["--limit", str(limit)]
    call(command)
    [run] = read_runs([folder])
    return run


def call(command: Sequence[str]) -> None:
    """Run a command quietly; where it fails, show what it said and stop."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"demo: this command failed: {' '.join(command)}")


def table(rows: Sequence[Row], runs: Sequence[Run]) -> Table:
    """Accuracy with its 95 % Wilson interval, paired against greedy, and what it cost."""
    out = Table(title=f"{TASK}, the embedded pair, n = {runs[0].n}")
    for name in ("method", "correct", "95 %", "won / lost", "p (McNemar)", "fired", "flipped"):
        out.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for name in ("tokens", "forwards / token", "teacher tokens", "tokens/s"):
        out.add_column(name, justify="right")
    for row, run in zip(rows, runs, strict=True):
        out.add_row(row.label, *_cells(run, runs[0]))
    return out


def _cells(run: Run, control: Run) -> list[str]:
    score, cost = accuracy(run), run.cost
    paired = [MISSING, MISSING]
    if run is not control:
        pair = compare_pair(control, run)
        paired = [won_lost(pair), p_value(pair.p)]
    return [
        percent_sign(score.value),
        score.interval_text,
        *paired,
        percent_sign(cost["realised_rate"]),
        percent_sign(cost["flip_rate"]),
        f"{cost['tokens']:,}",
        f"{cost['forwards_per_token']:.2f}",
        f"{cost['teacher_tokens']:,}",
        f"{cost['tokens_per_second']:,.0f}",
    ]


def main() -> None:
    """Calibrate on the training split, run every backend, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder for the results")
    parser.add_argument("--limit", type=int, help="test items (default: all 300)")
    parser.add_argument("--batch_size", type=int, default=64)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    calibration = (given.out / "calibration.json").resolve()
    console = Console()
    console.print(f"calibrating on {NUM_CALIBRATION} training problems of {TASK} …")
    command = [sys.executable, "-m", "s2t_eval", "calibrate", "--pretrained", STUDENT]
    command += ["--teacher", TEACHER, "--task", TASK, "--limit", str(NUM_CALIBRATION)]
    call([*command, "--out", str(calibration), "--tau", *map(str, TAUS)])
    runs = []
    for number, row in enumerate(GRID, 1):
        console.print(f"[{number}/{len(GRID)}] lm_eval --model {row.model}: {row.label}")
        runs.append(evaluate(row, calibration, given.out / str(number), given.limit, given.batch_size))
    Console(width=max(console.width, 140)).print(table(GRID, runs))


if __name__ == "__main__":
    main()
