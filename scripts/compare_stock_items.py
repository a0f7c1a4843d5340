"""Lists the documents on which a benchmark of s2t-eval and the stock task disagree.

    python scripts/compare_stock_items.py --project RUNS/paper40 --project-task s2t_gsm8k \
        --stock RUNS/stock_gsm8k --stock-task gsm8k --metric exact_match

Folders are lm_eval's, made with `--log_samples`. The output is a Markdown table for each filter of the stock
task: verdict and answer of both tasks for every document on which they differ.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s2t_eval.artifacts.json_lines import read_json_lines
from s2t_eval.report.documents import DATE

MAX_ANSWER_LENGTH = 60
HEADER = """\
| doc | target | s2t-eval | answer | stock | answer |
|---|---|---|---|---|---|"""


def read(folder: Path, task: str) -> dict[str, dict[int, dict[str, Any]]]:
    """Filter -> document -> sample, of the newest run of the task below a folder.

    Raises:
        SystemExit: there is none.
    """
    start = f"samples_{task}_"
    # `samples_gsm8k_*` also matches the samples of gsm8k_cot.
    dates = {
        path.stem.removeprefix(start): path
        for path in folder.rglob(f"{start}*.jsonl")
        if DATE.fullmatch(path.stem.removeprefix(start))
    }
    if not dates:
        raise SystemExit(f"{folder}: no samples of {task}; run lm_eval with --log_samples")
    samples: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for _, sample in read_json_lines(dates[max(dates)]):
        samples[sample.get("filter", "none")][sample["doc_id"]] = sample
    return samples


def answer_text(sample: dict[str, Any]) -> str:
    """The answer that was scored, on one line."""
    answer = sample["filtered_resps"][0]
    while isinstance(answer, list):
        answer = answer[0]
    text = " ".join(str(answer).split()).replace("|", "\\|")
    return text if len(text) <= MAX_ANSWER_LENGTH else "…" + text[-MAX_ANSWER_LENGTH:]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for side in ("project", "stock"):
        parser.add_argument(f"--{side}", type=Path, required=True)
        parser.add_argument(f"--{side}-task", required=True)
    parser.add_argument("--metric", required=True, help="of the stock task")
    parser.add_argument("--project-metric", help="of the task of s2t-eval, where it has another name")
    parsed = parser.parse_args(argv)
    metric = parsed.project_metric or parsed.metric
    [project] = read(parsed.project, parsed.project_task).values()
    for name, stock in read(parsed.stock, parsed.stock_task).items():
        docs = [doc for doc in project if doc in stock]
        if not docs:
            raise SystemExit(f"{parsed.project}, {parsed.stock}: the runs have no document in common")
        scores = {doc: (float(project[doc][metric]), float(stock[doc][parsed.metric])) for doc in docs}
        differing = [
            doc for doc, (project_score, stock_score) in scores.items() if project_score != stock_score
        ]
        correct = [int(sum(column)) for column in zip(*scores.values(), strict=True)]
        print(
            f"\n{parsed.project_task} {correct[0]}, {parsed.stock_task} ({name}) {correct[1]} of "
            f"{len(scores)}; {len(differing)} differ\n\n{HEADER}"
        )
        for doc in differing:
            project_score, stock_score = scores[doc]
            target = answer_text({"filtered_resps": [project[doc]["target"]]})
            answers = (answer_text(project[doc]), answer_text(stock[doc]))
            cells = (doc, target, f"{project_score:g}", answers[0], f"{stock_score:g}", answers[1])
            print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
