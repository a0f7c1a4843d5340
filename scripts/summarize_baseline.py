"""Turn the output folders of lm_eval runs into committed baselines and one table.

    python scripts/summarize_baseline.py --task s2t_gsm8k --control greedy \
        --out results/baselines/gsm8k-qwen RUNS/greedy RUNS/s2t_tau5 ...

Each folder is one run made with `--log_samples --output_path FOLDER`; its name becomes the row's name.
The output folder receives the harness's results, with a line for each document (hashes and score) in place of
the samples and with paths cut to their last part, and `table.md`: accuracy with its 95 % Wilson interval, and
paired with the control the documents won and lost, the p of the test that its heading names, without a
correction over the rows, and the 95 % interval of the difference from a seeded paired bootstrap. Without
`--task` and `--control` the table has every task of every run, unpaired.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from s2t_eval.report.baseline import write_baselines
from s2t_eval.report.cells import MISSING, accuracy, delta, p_value, percent_sign, won_lost
from s2t_eval.report.compare import Comparison, compare_pair, p_heading
from s2t_eval.report.costs import cut_off
from s2t_eval.report.run import Run
from s2t_eval.report.runs import read_runs

HEADER = """\
| run | n | correct | 95 % | Δ to control (95 %) | won / lost | {p} | cut off | fired steps | \
flips | teacher tokens | scorer tokens | forwards / token |
|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


BENCHMARK_HEADER = """\
| run | task | n | correct | 95 % | with an answer | cut off | prompt hash |
|---|---|---|---|---|---|---|---|"""


def benchmark_row(run: Run) -> str:
    """One line of the table of all tasks."""
    score, figures = accuracy(run), run.results["results"][run.task]

    def figure(name: str) -> str:
        return percent_sign(next((figures[k] for k in figures if k.split(",")[0] == name), float("nan")))

    prompts = run.backend_info.get("prompt_hashes", {}).get(run.task, MISSING)
    return (
        f"| {run.name} | {run.task} | {score.n} | {score.count_text} | {score.interval_text} "
        f"| {figure('extracted')} | {figure('truncated')} | {prompts} |"
    )


def paired_table(runs: Sequence[Run], control: Run) -> str:
    """The Markdown table of runs of one task, paired with one of them."""
    pairs = [None if run is control else compare_pair(control, run) for run in runs]
    heading = p_heading([pair for pair in pairs if pair is not None])
    return "\n".join([HEADER.format(p=heading), *map(row, runs, pairs)])


def row(run: Run, pair: Comparison | None) -> str:
    """One line of the Markdown table; the control has no pair, and a run without telemetry no costs."""
    score = accuracy(run)
    paired = " | ".join([MISSING] * 3)
    if pair is not None:
        paired = " | ".join([delta(pair.delta, pair.interval), won_lost(pair), p_value(pair.p)])
    return (
        f"| {run.name} | {score.n} | {score.count_text} | {score.interval_text} | {paired} "
        f"| {percent_sign(cut_off([run]))} | {' | '.join(_costs(run))} |"
    )


def _costs(run: Run) -> list[str]:
    """The cells of fired steps, flips, tokens of teacher and scorer, and forward passes."""
    cost = run.cost
    if not cost:
        return [MISSING] * 5
    rate = percent_sign(cost.get("realised_rate", float("nan")), 2)
    passes = cost.get("forwards_per_token")
    return [
        f"{cost['triggers']:,} of {cost['tokens']:,} ({rate})",
        *(f"{cost.get(name, 0):,}" for name in ("flips", "teacher_tokens", "scorer_tokens")),
        MISSING if passes is None else f"{passes:.3f}",
    ]


def main() -> None:
    """Read the runs, write the baselines and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--task")
    parser.add_argument("--control", help="name of the run to compare with")
    parser.add_argument("--out", type=Path, required=True)
    parsed = parser.parse_args()
    try:
        if (parsed.task is None) != (parsed.control is None):
            raise ValueError("--task and --control: expected both or neither")
        runs = [run for run in read_runs(parsed.runs) if parsed.task in (None, run.task)]
        if parsed.task is None:
            runs = [run for run in runs if run.documents is not None]  # groups have none of their own
            table = "\n".join([BENCHMARK_HEADER, *map(benchmark_row, runs)])
        else:
            control = next((run for run in runs if run.name == parsed.control), None)
            if control is None:
                raise ValueError(f"--control: no run of {parsed.task} is named {parsed.control!r}")
            table = paired_table(runs, control)
        parsed.out.mkdir(parents=True, exist_ok=True)
        write_baselines(runs, parsed.out)
    except ValueError as error:
        raise SystemExit(f"summarize_baseline: {error}") from error
    (parsed.out / "table.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
