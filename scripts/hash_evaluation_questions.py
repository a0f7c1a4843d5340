"""Write `s2t_eval/training/evaluation_questions.json`: hashes of the questions of every benchmark.

    python -m scripts.hash_evaluation_questions DATA      # a folder in the layout of the Hugging Face Hub

The file is what `training.contamination` compares training problems with.
"""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path

from s2t_eval.artifacts.files import write_text
from s2t_eval.artifacts.json_lines import read_json_lines
from s2t_eval.evaluation.benchmark_data import gsm8k
from s2t_eval.training.contamination import HASHES
from s2t_eval.training.question_index import records

SOURCES = {
    "gsm8k": ("openai/gsm8k", "question"),
    "math500": ("HuggingFaceH4/MATH-500", "problem"),
    "humaneval": ("openai/openai_humaneval", "prompt"),
    "mmlu_pro": ("TIGER-Lab/MMLU-Pro", "question"),
    "aime25": ("math-ai/aime25", "problem"),
    "olympiadbench": ("olympiadbench", "problem"),
    "minerva_math": ("minerva_math", "problem"),
}
"""Benchmark -> its folder and the field of its records that holds the question."""


def main() -> None:
    """Hash the questions of the benchmarks in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder in the layout of the Hugging Face Hub")
    data: Path = parser.parse_args().data
    questions = {}
    for name, (folder, field) in SOURCES.items():
        (path,) = sorted((data / folder).rglob("test*.jsonl"))
        questions[name] = [line.record[field] for line in read_json_lines(path)]
    questions["gsm8k_dev"] = list(gsm8k(str(data))["dev"]["question"])
    content = {}
    for name, texts in questions.items():
        hashed = records(texts)
        content[name] = base64.b64encode(hashed.tobytes()).decode()
        print(f"{name}: {len(hashed)} different questions of {len(texts)}")
    write_text(HASHES, json.dumps(content, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
