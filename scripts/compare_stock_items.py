"""Where a benchmark of ours and the stock task disagree, item by item.

    python scripts/compare_stock_items.py --ours RUNS/paper40 --ours-task s2t_gsm8k \
        --stock RUNS/stock_gsm8k --stock-task gsm8k --metric exact_match

Folders are lm_eval's, made with `--log_samples`. Prints a Markdown table: verdict and answer of both sides
for every document on which they differ, the stock task by each of its filters.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

from s2t_eval.artifacts.json_lines import read_json_lines

SHOWN = 60
HEADER = """\
| doc | target | ours | answer | stock | answer |
|---|---|---|---|---|---|"""


def read(folder: Path, task: str) -> dict[str, dict[int, dict[str, Any]]]:
    """Filter -> document -> sample."""
    files = sorted(folder.rglob(f"samples_{task}_*.jsonl"))
    if not files:
        raise SystemExit(f"{folder}: no samples of {task}; run lm_eval with --log_samples")
    found: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for _, sample in read_json_lines(files[-1]):
        found[sample.get("filter", "none")][sample["doc_id"]] = sample
    return found


def shown(sample: dict[str, Any]) -> str:
    """The answer that was scored, on one line."""
    answer = sample["filtered_resps"][0]
    while isinstance(answer, list):
        answer = answer[0]
    text = " ".join(str(answer).split()).replace("|", "\\|")
    return text if len(text) <= SHOWN else "…" + text[-SHOWN:]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for side in ("ours", "stock"):
        parser.add_argument(f"--{side}", type=Path, required=True)
        parser.add_argument(f"--{side}-task", required=True)
    parser.add_argument("--metric", required=True, help="of the stock task")
    parser.add_argument("--ours-metric", help="of our task, where it has another name")
    given = parser.parse_args()
    own = given.ours_metric or given.metric
    [ours] = read(given.ours, given.ours_task).values()
    for name, stock in read(given.stock, given.stock_task).items():
        docs = [doc for doc in ours if doc in stock]
        pairs = {doc: (float(ours[doc][own]), float(stock[doc][given.metric])) for doc in docs}
        differing = [doc for doc, (mine, theirs) in pairs.items() if mine != theirs]
        right = [int(sum(column)) for column in zip(*pairs.values(), strict=True)]
        print(
            f"\n{given.ours_task} {right[0]}, {given.stock_task} ({name}) {right[1]} of {len(pairs)}; "
            f"{len(differing)} differ\n\n{HEADER}"
        )
        for doc in differing:
            mine, theirs = pairs[doc]
            target = shown({"filtered_resps": [ours[doc]["target"]]})
            cells = (doc, target, f"{mine:g}", shown(ours[doc]), f"{theirs:g}", shown(stock[doc]))
            print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
