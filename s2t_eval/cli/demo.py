"""The main job on the embedded pair: every backend through the stock `lm_eval`, one table at the end.

python -m s2t_eval.cli.demo                 # about three minutes on one CPU core, no network
python -m s2t_eval.cli.demo --limit 60 --out runs/demo
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.console import Console
from rich.table import Table

from s2t_eval.cli.application import CommandLine
from s2t_eval.cli.command import Entry, require_flags
from s2t_eval.cli.execute import execute
from s2t_eval.pipelines.embedded_grid import GRID, NUM_CALIBRATION, STUDENT, TASK, TAUS, TEACHER, Row
from s2t_eval.ranges import AT_LEAST_1
from s2t_eval.report.cells import MISSING, accuracy, p_value, percent_sign, won_lost
from s2t_eval.report.compare import compare_pair
from s2t_eval.report.run import Run
from s2t_eval.report.runs import read_runs


def evaluate(row: Row, calibration: Path, folder: Path, limit: int | None, batch_size: int) -> Run:
    """Run the stock command in a process of its own, and read its results back."""
    model_args = ",".join(f"{name}={value}" for name, value in row.model_args(calibration).items())
    command = [sys.executable, "-m", "lm_eval", "--model", row.model, "--model_args", model_args]
    command += ["--tasks", TASK, "--batch_size", str(batch_size), "--log_samples"]
    command += ["--output_path", str(folder)]
    if limit is not None:
        command += ["--limit", str(limit)]
    call(command)
    [run] = read_runs([folder])
    return run


def call(command: Sequence[str]) -> None:
    """Run a command without its output; where it fails, print the output and stop."""
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


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Run every method on the embedded pair with the stock lm_eval and print one table.

    Args:
        out: folder for the results.
        limit: number of test items. None: all 300.
        batch_size: number of texts decoded at once.
    """

    EXAMPLE: ClassVar[str] = "python -m s2t_eval.cli.demo --limit 60 --out runs/demo"

    out: Path = Path("runs/demo")
    limit: int | None = None
    batch_size: int = 64

    def run(self) -> None:
        """Calibrate on the training split, run every backend, print the table."""
        require_flags(self, limit=AT_LEAST_1, batch_size=AT_LEAST_1)
        self.out.mkdir(parents=True, exist_ok=True)
        calibration = (self.out / "calibration.json").resolve()
        console = Console()
        console.print(f"calibrating on {NUM_CALIBRATION} training problems of {TASK} …")
        command = [sys.executable, "-m", "s2t_eval", "calibrate", "--pretrained", STUDENT]
        command += ["--teacher", TEACHER, "--task", TASK, "--limit", str(NUM_CALIBRATION)]
        call([*command, "--out", str(calibration), "--tau", *map(str, TAUS)])
        runs = []
        for number, row in enumerate(GRID, 1):
            console.print(f"[{number}/{len(GRID)}] lm_eval --model {row.model}: {row.label}")
            runs.append(evaluate(row, calibration, self.out / str(number), self.limit, self.batch_size))
        Console(width=max(console.width, 140)).print(table(GRID, runs))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the demo."""
    arguments = sys.argv[1:] if argv is None else argv
    execute(CommandLine([Entry("evaluate", "demo", Demo)]), ["demo", *arguments])


if __name__ == "__main__":
    main()
