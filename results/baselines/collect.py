"""Turn the output folders of lm_eval runs into committed baselines and one table.

    python results/baselines/collect.py --task s2t_gsm8k --control greedy \
        --out results/baselines/gsm8k-qwen RUNS/greedy RUNS/s2t_tau5 ...

Each folder is one run made with `--log_samples --output_path FOLDER`; its name is the row's name.
Written are the harness's results without the samples, paths cut to their last part, and
`table.md`: accuracy with its 95 % Wilson interval, and paired against the control the items won and
lost, the exact McNemar p, and the 95 % interval of the difference by a seeded paired bootstrap.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from s2t_eval.demo import newest

PATH = re.compile(r"(?<![\w.:/])/(?:[\w.@+ -]+/)+([\w.@+-]+)")
LEFT_OUT = ("pretty_env_info", "upper_git_hash", "model_source")


@dataclass(frozen=True)
class Baseline:
    """One run: its results file, and which documents it got right."""

    name: str
    results: dict[str, Any]
    correct: dict[int, bool]


def read(folder: Path, task: str) -> Baseline:
    """The newest results and samples below a run's folder."""
    results = json.loads(newest(folder, "results_*.json").read_text())
    lines = newest(folder, f"samples_{task}_*.jsonl").read_text().splitlines()
    samples = [json.loads(line) for line in lines]
    correct = {int(sample["doc_id"]): sample["exact_match"] == 1.0 for sample in samples}
    return Baseline(folder.name, results, correct)


def without_paths(value: Any) -> Any:
    """The same JSON value, absolute paths cut to their last part."""
    if isinstance(value, dict):
        return {key: without_paths(v) for key, v in value.items() if key not in LEFT_OUT}
    if isinstance(value, list):
        return [without_paths(v) for v in value]
    return PATH.sub(r"\1", value) if isinstance(value, str) else value


def row(baseline: Baseline, control: Baseline) -> str:
    """One line of the Markdown table."""
    right = np.array([baseline.correct[i] for i in sorted(control.correct)], dtype=float)
    other = np.array([control.correct[i] for i in sorted(control.correct)], dtype=float)
    n, hits = len(right), int(right.sum())
    low, high = proportion_confint(hits, n, method="wilson")
    paired = "– | – | –"
    if baseline is not control:
        won, lost = int((right > other).sum()), int((right < other).sum())
        p = mcnemar([[0, won], [lost, 0]], exact=True).pvalue if won + lost else 1.0
        delta = 100 * (right - other)
        interval = bootstrap(
            (delta,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(0)
        ).confidence_interval
        paired = (
            f"{delta.mean():+.1f} ({interval.low:+.1f} to {interval.high:+.1f}) | {won} / {lost} | {p:.2g}"
        )
    cost = baseline.results["config"]["s2t_eval"]["telemetry"]
    return (
        f"| {baseline.name} | {n} | {hits} ({100 * hits / n:.1f} %) | {100 * low:.1f}–{100 * high:.1f} "
        f"| {paired} | {cost['triggers']:,} of {cost['tokens']:,} ({100 * cost['realised_rate']:.2f} %) "
        f"| {cost['flips']:,} | {cost['teacher_tokens']:,} | {cost['forwards_per_token']:.3f} |"
    )


HEADER = """\
| run | n | correct | 95 % | Δ to control (95 %) | won / lost | p (McNemar) | fired steps | flips | \
teacher tokens | forwards / token |
|---|---|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Read the runs, write the baselines and the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--task", required=True)
    parser.add_argument("--control", required=True, help="name of the run to compare with")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    baselines = [read(folder, given.task) for folder in given.runs]
    control = next(baseline for baseline in baselines if baseline.name == given.control)
    for baseline in baselines:
        if baseline.correct.keys() != control.correct.keys():
            raise SystemExit(f"{baseline.name} and {control.name} answered different documents")
    given.out.mkdir(parents=True, exist_ok=True)
    for baseline in baselines:
        right = sorted(i for i, is_right in baseline.correct.items() if is_right)
        content = {**without_paths(baseline.results), "correct_doc_ids": right}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (given.out / f"{baseline.name}.json").write_text(text)
    table = "\n".join([HEADER, *(row(baseline, control) for baseline in baselines)])
    (given.out / "table.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
