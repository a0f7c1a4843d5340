"""A folder of small benchmarks in the layout of the real ones, for tests without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.evaluation.answer_shapes import TWICE, TWICE_CHECK

Rows = list[dict[str, Any]]

MATH_ROWS: Rows = [
    {"problem": "What is half of one?", "answer": r"\frac{1}{2}"},
    {"problem": "Solve $x^2 = 1$.", "answer": "1,-1"},
]
BENCHMARKS: dict[str, Rows] = {
    "openai/gsm8k/main/train.jsonl": [{"question": "1 + 1?", "answer": "1+1=<<1+1=2>>2\n#### 2"}],
    "openai/gsm8k/main/test.jsonl": [
        {"question": "What is 9 times 2?", "answer": "9*2=18\n#### 18"},
        {"question": "What is 1000 plus 200?", "answer": "So\n#### 1,200"},
    ],
    "HuggingFaceH4/MATH-500/test.jsonl": MATH_ROWS,
    "olympiadbench/test.jsonl": MATH_ROWS,
    "minerva_math/test.jsonl": MATH_ROWS,
    "math-ai/aime25/test.jsonl": [
        {"problem": "Find 70.", "answer": "70"},
        {"problem": "Find 7.", "answer": "7"},
    ],
    "TIGER-Lab/MMLU-Pro/test.jsonl": [
        {"question": "Which is blue?", "options": ["Grass", "The sky"], "answer": "B", "category": "other"},
        {"question": "Which is green?", "options": ["Grass", "The sky"], "answer": "A", "category": "other"},
    ],
    "openai/openai_humaneval/test.jsonl": [
        {
            "task_id": f"HumanEval/{i}",
            "prompt": TWICE,
            "canonical_solution": "    return 2 * x\n",
            "test": TWICE_CHECK,
            "entry_point": "twice",
        }
        for i in range(2)
    ],
}  # fmt: skip
GSM8K_README = """---
configs:
- config_name: main
  data_files:
  - {split: train, path: main/train.jsonl}
  - {split: test, path: main/test.jsonl}
---
"""


def write_benchmarks(folder: Path) -> Path:
    """Every benchmark below a folder."""
    for name, rows in BENCHMARKS.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "openai/gsm8k/README.md").write_text(GSM8K_README)
    return folder
