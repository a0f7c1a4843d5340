"""Train the embedded student's second looks (Think-at-Hard), seeded, and what they are compared with.

    python scripts/train_embedded_tah.py                          # embedded/tah, into the package
    python scripts/train_embedded_tah.py --plain runs/plain       # the control

Both learn from the solutions of the 4,000 problems of s2t_arith's train split, with one adapter of one
size, for as many steps. `--plain FOLDER` writes the plainly tuned student, merged, to be run under
`--model greedy`. The threshold was chosen on the dev split. A few minutes each on one quiet core; low
bits, and so the weights, depend on the machine.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from s2t_eval.artifacts.files import atomic_path
from s2t_eval.embedded import embedded_path
from s2t_eval.embedded.arith import format_prompt, make_split
from s2t_eval.engine import ModelRunner
from s2t_eval.methods.tah.settings import DeciderSettings, LoopedSettings
from s2t_eval.training.contamination import question_hash
from s2t_eval.training.loop import LoopSettings
from s2t_eval.training.student import Student
from s2t_eval.training.tah.labels import Manifest, TahLabels, Text, label_hard
from s2t_eval.training.tah.plain import fit_plain
from s2t_eval.training.tah.train import (
    DecisionSettings,
    DepthSettings,
    train_decider,
    train_depths,
)

STUDENT = "embedded/student"
LOOPED = LoopedSettings(dropout=0.0)
DEPTHS = LoopSettings(epochs=3, lr=3e-3, batch_size=32, accumulate=1, lr_warmup_fraction=0.03, evaluations=1)
PLAIN = replace(DEPTHS, lr=1e-3)
EASY = 1.0
"""Every easy token is looked at again too: a decider errs at uncertain tokens, where a second look that was
trained on hard ones does harm (LOG.md, 2026-11-23)."""
DECIDER = DeciderSettings(width=64, blocks=2)
DECISIONS = LoopSettings(
    epochs=2, lr=2e-3, batch_size=32, accumulate=1, lr_warmup_fraction=0.03, evaluations=1
)
THRESHOLD = 0.9


def load_student() -> tuple[Student, Any]:
    """The student and its tokenizer."""
    folder = embedded_path(STUDENT)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return Student.of(model, tokenizer, STUDENT), tokenizer


def make_labels(student: Student, tokenizer: Any) -> TahLabels:
    """Which tokens of the training solutions are hard for the student."""
    texts = [
        Text(
            f"s2t_arith/train/{i}",
            question_hash(problem.question),
            tokenizer(format_prompt(problem.question))["input_ids"],
            tokenizer(" " + problem.solution + tokenizer.eos_token)["input_ids"],
        )
        for i, problem in enumerate(make_split("train"))
    ]
    found = list(label_hard(ModelRunner(student.model), texts))
    steps, hard = sum(len(text.hard) for text in found), sum(sum(text.hard) for text in found)
    data = {"source": "s2t_arith", "split": "train", "texts": len(found)}
    identity = (student.fingerprint, student.name, student.vocabulary)
    return TahLabels(Manifest(*identity, data, {}, steps, hard), found)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded student's second looks.")
    parser.add_argument("--out", type=Path, default=embedded_path("embedded/tah"))
    parser.add_argument("--plain", type=Path, help="write the plainly tuned student here, and nothing else")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    student, tokenizer = load_student()
    labels = make_labels(student, tokenizer)
    if args.plain is not None:
        work = args.plain.with_name(args.plain.name + ".training")
        looped, _ = fit_plain(student, labels, LOOPED, PLAIN, DepthSettings(), work)
        shutil.rmtree(work)
        model: Any = looped.peft.merge_and_unload()
        with atomic_path(args.plain) as partial_folder:
            model.save_pretrained(partial_folder)
            tokenizer.save_pretrained(partial_folder)
        return
    out: Path = args.out
    # Stage 1 writes a folder whole: the shipped one is replaced once both stages are done.
    unfinished = out.with_name(out.name + ".new")
    train_depths(student, labels, LOOPED, DEPTHS, DepthSettings(easy=EASY), unfinished)
    settings = DecisionSettings(decoding_threshold=THRESHOLD)
    train_decider(load_student()[0], labels, DECIDER, DECISIONS, settings, unfinished)
    (unfinished / "README.md").unlink()
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)


if __name__ == "__main__":
    main()
