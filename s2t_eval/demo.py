"""The main job on the embedded pair: every backend through the stock `lm_eval`, one table at the end.

python -m s2t_eval.demo                 # about three minutes on one CPU core, no network
python -m s2t_eval.demo --limit 60 --out runs/demo
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

TASK = "s2t_arith"
STUDENT, TEACHER = "embedded/student", "embedded/teacher"


@dataclass(frozen=True)
class Run:
    """One row of the table: a backend and its arguments beside `pretrained`."""

    label: str
    model: str
    arguments: str = ""
    pretrained: str = STUDENT


def runs(calibration: Path) -> list[Run]:
    """Every backend; the teacher alone is `greedy` on the teacher."""
    pair = f"teacher={TEACHER},calibration={calibration}"
    return [
        Run("greedy", "greedy"),
        Run("maj8", "maj8"),
        Run("s2t, kl, tau 1 %", "s2t", f"{pair},trigger=kl,tau=0.01"),
        Run("s2t, kl, tau 5 %", "s2t", f"{pair},trigger=kl,tau=0.05"),
        Run("s2t, entropy, tau 5 %", "s2t", f"{pair},trigger=entropy,tau=0.05"),
        Run("s2t, random, tau 5 %", "s2t", f"{pair},trigger=random,tau=0.05"),
        Run("takeover, kl, tau 5 %", "takeover", f"{pair},trigger=kl,tau=0.05"),
        Run("teacher alone", "greedy", pretrained=TEACHER),
    ]


@dataclass(frozen=True)
class Outcome:
    """What one run gave: correctness by document, and its telemetry."""

    run: Run
    correct: dict[int, bool]
    telemetry: dict[str, Any]


def evaluate(run: Run, folder: Path, limit: int | None, batch_size: int) -> Outcome:
    """Run the stock command in a process of its own, and read its results file back."""
    given = f"pretrained={run.pretrained}" + (f",{run.arguments}" if run.arguments else "")
    command = [sys.executable, "-m", "lm_eval", "--model", run.model, "--model_args", given]
    command += ["--tasks", TASK, "--batch_size", str(batch_size), "--log_samples"]
    command += ["--output_path", str(folder)]
    if limit is not None:
        command += ["--limit", str(limit)]
    call(command)
    results = json.loads(newest(folder, "results_*.json").read_text())
    lines = newest(folder, f"samples_{TASK}_*.jsonl").read_text().splitlines()
    samples = [json.loads(line) for line in lines]
    correct = {sample["doc_id"]: sample["exact_match"] == 1.0 for sample in samples}
    return Outcome(run, correct, results["config"]["s2t_eval"]["telemetry"])


def call(command: Sequence[str]) -> None:
    """Run a command quietly; where it fails, show what it said and stop."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"demo: this command failed: {' '.join(command)}")


def newest(folder: Path, pattern: str) -> Path:
    """The last written file that fits the pattern, anywhere below the folder."""
    return max(folder.rglob(pattern), key=lambda path: path.stat().st_mtime)


def table(outcomes: Sequence[Outcome]) -> Table:
    """Accuracy with its 95 % Wilson interval, paired against greedy, and what it cost."""
    control = outcomes[0]
    out = Table(title=f"{TASK}, the embedded pair, n = {len(control.correct)}")
    for name in ("method", "correct", "95 %", "won / lost", "p (McNemar)", "fired", "flipped"):
        out.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for name in ("tokens", "forwards / token", "teacher tokens", "tokens/s"):
        out.add_column(name, justify="right")
    for outcome in outcomes:
        out.add_row(*_cells(outcome, control))
    return out


def _cells(outcome: Outcome, control: Outcome) -> list[str]:
    n, hits = len(outcome.correct), sum(outcome.correct.values())
    low, high = proportion_confint(hits, n, method="wilson")
    won = sum(outcome.correct[i] and not control.correct[i] for i in outcome.correct)
    lost = sum(control.correct[i] and not outcome.correct[i] for i in outcome.correct)
    paired = ["–", "–"]
    if outcome is not control:
        p = mcnemar([[0, won], [lost, 0]], exact=True).pvalue if won + lost else 1.0
        paired = [f"{won} / {lost}", f"{p:.2g}"]
    cost = outcome.telemetry
    return [
        outcome.run.label,
        f"{100 * hits / n:.1f} %",
        f"{100 * low:.1f}–{100 * high:.1f}",
        *paired,
        f"{100 * cost['realised_rate']:.1f} %",
        f"{100 * cost['flip_rate']:.1f} %",
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
    console.print(f"calibrating on 100 training problems of {TASK} …")
    command = [sys.executable, "-m", "s2t_eval", "calibrate", "--pretrained", STUDENT]
    command += ["--teacher", TEACHER, "--task", TASK, "--limit", "100", "--out", str(calibration)]
    call([*command, "--tau", "0.01", "0.05", "0.1"])
    outcomes = []
    for number, run in enumerate(runs(calibration), 1):
        console.print(f"[{number}/{len(runs(calibration))}] lm_eval --model {run.model}: {run.label}")
        folder = given.out / str(number)
        outcomes.append(evaluate(run, folder, given.limit, given.batch_size))
    Console(width=max(console.width, 140)).print(table(outcomes))


if __name__ == "__main__":
    main()
