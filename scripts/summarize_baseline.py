"""Turn the output folders of lm_eval runs into committed baselines and one table.

    python scripts/summarize_baseline.py --task s2t_gsm8k --control greedy \
        --out results/baselines/gsm8k-qwen RUNS/greedy RUNS/s2t_tau5 ...

Each folder is one run made with `--log_samples --output_path FOLDER`; its name is the row's name.
Written are the harness's results, a line a document (hashes and score) instead of the samples, paths cut
to their last part, and `table.md`: accuracy with its 95 % Wilson interval, and paired against the control
the items won and lost, the exact McNemar p, and the 95 % interval of the difference by a seeded paired
bootstrap. Without `--task` and `--control` the table has every task of every run, unpaired.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from s2t_eval.report.baseline import write_baselines
from s2t_eval.report.compare import compare_pair
from s2t_eval.report.runs import Run, read_runs
from s2t_eval.statistics import wilson

HEADER = """\
| run | n | correct | 95 % | Δ to control (95 %) | won / lost | p (McNemar) | fired steps | flips | \
teacher tokens | forwards / token |
|---|---|---|---|---|---|---|---|---|---|---|"""


BENCHMARK_HEADER = """\
| run | task | n | correct | 95 % | with an answer | cut off | prompt hash |
|---|---|---|---|---|---|---|---|"""


def benchmark_row(run: Run) -> str:
    """One line of the table of all tasks."""
    n, hits = len(run.scored), int(run.scored["score"].sum())
    low, high = wilson(hits, n)
    found = run.results["results"][run.task]

    def share(name: str) -> str:
        value = next((found[key] for key in found if key.split(",")[0] == name), None)
        return "–" if value is None else f"{100 * value:.1f} %"

    prompts = run.ours.get("prompt_hashes", {}).get(run.task, "–")
    return (
        f"| {run.name} | {run.task} | {n} | {hits} ({100 * hits / n:.1f} %) "
        f"| {100 * low:.1f}–{100 * high:.1f} | {share('extracted')} | {share('truncated')} | {prompts} |"
    )


def row(run: Run, control: Run) -> str:
    """One line of the Markdown table."""
    n, hits = len(run.scored), int(run.scored["score"].sum())
    low, high = wilson(hits, n)
    paired = "– | – | –"
    if run is not control:
        pair = compare_pair(control, run)
        interval = f"{100 * pair.interval.low:+.1f} to {100 * pair.interval.high:+.1f}"
        paired = f"{100 * pair.delta:+.1f} ({interval}) | {len(pair.won)} / {len(pair.lost)} | {pair.p:.2g}"
    cost = run.cost
    return (
        f"| {run.name} | {n} | {hits} ({100 * hits / n:.1f} %) | {100 * low:.1f}–{100 * high:.1f} "
        f"| {paired} | {cost['triggers']:,} of {cost['tokens']:,} ({100 * cost['realised_rate']:.2f} %) "
        f"| {cost['flips']:,} | {cost['teacher_tokens']:,} | {cost['forwards_per_token']:.3f} |"
    )


def main() -> None:
    """Read the runs, write the baselines and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--task")
    parser.add_argument("--control", help="name of the run to compare with")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    try:
        if (given.task is None) != (given.control is None):
            raise ValueError("--task and --control: expected both or neither")
        runs = [run for run in read_runs(given.runs) if given.task in (None, run.task)]
        if given.task is None:
            runs = [run for run in runs if run.documents is not None]  # groups have none of their own
            table = "\n".join([BENCHMARK_HEADER, *map(benchmark_row, runs)])
        else:
            control = next((run for run in runs if run.name == given.control), None)
            if control is None:
                raise ValueError(f"--control: no run of {given.task} is named {given.control!r}")
            table = "\n".join([HEADER, *(row(run, control) for run in runs)])
        given.out.mkdir(parents=True, exist_ok=True)
        write_baselines(runs, given.out)
    except ValueError as error:
        raise SystemExit(f"collect: {error}") from error
    (given.out / "table.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
