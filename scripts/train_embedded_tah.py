"""Train the shipped Think-at-Hard folder of the embedded student, or its baseline without loops.

    python scripts/train_embedded_tah.py                          # embedded/tah, in the package
    python scripts/train_embedded_tah.py --plain runs/plain       # the baseline

Both are trained on the solutions of the 4,000 problems of s2t_arith's train split, with an adapter of the
same size, for the same number of steps. `--plain FOLDER` writes the tuned student with its adapter merged,
for `--model greedy`. The threshold was chosen on the dev split. Each takes a few minutes on one idle core.
Runs are seeded; floating-point rounding, and with it the weights, depends on the machine.
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
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.student import Student
from s2t_eval.training.tah.decider_training import train_decider
from s2t_eval.training.tah.depth_training import train_depths
from s2t_eval.training.tah.labels import LabelledText, TahLabels, TahManifest, label_hard_tokens
from s2t_eval.training.tah.plain_tuning import fit_plain
from s2t_eval.training.tah.settings import DecisionSettings, DepthSettings
from s2t_eval.training.work_folder import work_folder

STUDENT = "embedded/student"
LOOPED = LoopedSettings(dropout=0.0)
DEPTHS = LoopSettings(epochs=3, lr=3e-3, batch_size=32, accumulate=1, lr_warmup_fraction=0.03, evaluations=1)
PLAIN = replace(DEPTHS, lr=1e-3)
EASY_FRACTION = 1.0
"""All easy tokens take part in the second pass too: a decider errs at uncertain tokens, where a second pass
that was trained on hard tokens only makes correct predictions wrong (LOG.md, 2026-11-23)."""
DECIDER = DeciderSettings(width=64, blocks=2)
DECISIONS = LoopSettings(
    epochs=2, lr=2e-3, batch_size=32, accumulate=1, lr_warmup_fraction=0.03, evaluations=1
)
DECODING_THRESHOLD = 0.9


def load_student() -> tuple[Student, Any]:
    """The student and its tokenizer."""
    folder = embedded_path(STUDENT)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return Student.of(model, tokenizer, STUDENT), tokenizer


def make_labels(student: Student, tokenizer: Any) -> TahLabels:
    """Label the tokens of the training solutions that are hard for the student."""
    texts = [
        LabelledText(
            f"s2t_arith/train/{i}",
            question_hash(problem.question),
            tokenizer(format_prompt(problem.question))["input_ids"],
            tokenizer(" " + problem.solution + tokenizer.eos_token)["input_ids"],
        )
        for i, problem in enumerate(make_split("train"))
    ]
    labelled = list(label_hard_tokens(ModelRunner(student.model), texts))
    manifest = TahManifest(
        labeller=student.fingerprint,
        labeller_name=student.name,
        vocabulary=student.vocabulary,
        data={"source": "s2t_arith", "split": "train", "texts": len(labelled)},
        prompt={},
        num_steps=sum(len(text.hard) for text in labelled),
        num_hard=sum(sum(text.hard) for text in labelled),
    )
    return TahLabels(manifest, labelled)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the Think-at-Hard folder of the embedded student.")
    parser.add_argument("--out", type=Path, default=embedded_path("embedded/tah"))
    parser.add_argument("--plain", type=Path, help="train the baseline instead, and write it here")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    student, tokenizer = load_student()
    labels = make_labels(student, tokenizer)
    if args.plain is not None:
        work = work_folder(args.plain)
        looped, _ = fit_plain(student, labels, LOOPED, PLAIN, DepthSettings(), work)
        shutil.rmtree(work)
        model: Any = looped.peft.merge_and_unload()
        with atomic_path(args.plain) as partial_folder:
            model.save_pretrained(partial_folder)
            tokenizer.save_pretrained(partial_folder)
        return
    out: Path = args.out
    # Both stages write the whole folder, so the shipped one is replaced only when both have ended.
    unfinished = out.with_name(out.name + ".new")
    train_depths(student, labels, LOOPED, DEPTHS, DepthSettings(EASY_FRACTION), unfinished)
    settings = DecisionSettings(decoding_threshold=DECODING_THRESHOLD)
    train_decider(load_student()[0], labels, DECIDER, DECISIONS, settings, unfinished)
    (unfinished / "README.md").unlink()
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)


if __name__ == "__main__":
    main()
