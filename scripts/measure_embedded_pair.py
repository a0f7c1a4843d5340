"""Measure the embedded pair with simple loops that do not use the decoding engine.

    python -m scripts.measure_embedded_pair --split dev

The output contains the greedy accuracy of both models; the fraction of steps at which the teacher's argmax
is among the student's top K, over all steps of the student's greedy text and over the 10 % with the highest
KL(p_S || p_L); and the accuracy of S2T, in which the teacher selects among the student's top K at steps above
a KL threshold. The thresholds are quantiles over the greedy texts of training problems. KL is computed over
the whole vocabulary.
"""

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from s2t_eval.embedded import embedded_path
from s2t_eval.embedded.arith import Problem, format_prompt, make_split
from s2t_eval.statistics import wilson

MAX_NEW_TOKENS = 64
NUM_CALIBRATION = 300
TAUS = (0.01, 0.05, 0.1)


class Step(NamedTuple):
    """One decoding step of a batch; every field is [batch]."""

    token: torch.Tensor
    kl: torch.Tensor
    teacher_rank: torch.Tensor
    is_fired: torch.Tensor


@dataclass(frozen=True)
class Decoded:
    """A decoded batch: one text per row, and the records of all steps, each [steps]."""

    texts: list[str]
    kl: torch.Tensor
    teacher_rank: torch.Tensor
    is_fired: torch.Tensor

    def accuracy(self, problems: Sequence[Problem]) -> float:
        """The fraction of rows whose final number is the problem's answer."""
        pairs = zip(self.texts, problems, strict=True)
        return sum(final_number(text) == problem.answer for text, problem in pairs) / len(problems)


class Pair:
    """The two models and their tokenizer."""

    def __init__(self, student: Path, teacher: Path) -> None:
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(student)
        self.student = _load(student)
        self.teacher = _load(teacher)

    def greedy(self, problems: Sequence[Problem]) -> Decoded:
        """Decode greedily with the student, and evaluate the teacher at every step."""
        return self.select(problems, threshold=math.inf)

    def teacher_greedy(self, problems: Sequence[Problem]) -> Decoded:
        """Decode greedily with the teacher: selection at every step from the whole vocabulary."""
        return self.select(problems, threshold=-math.inf, k=len(self.tokenizer))

    @torch.inference_mode()
    def select(self, problems: Sequence[Problem], *, threshold: float, k: int = 8) -> Decoded:
        """Decode with S2T in lockstep on one left-padded batch.

        Args:
            problems: the batch, one row each.
            threshold: KL(p_S || p_L) in nats above which the teacher selects; infinity gives greedy decoding.
            k: number of the student's candidates.
        """
        prompts = [format_prompt(problem.question) for problem in problems]
        batch = self.tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
        student, teacher = _Run(self.student, batch), _Run(self.teacher, batch)
        steps: list[Step] = []
        are_open = [torch.ones(len(problems), dtype=torch.bool)]
        while are_open[-1].any() and len(steps) < MAX_NEW_TOKENS:
            steps.append(_step(student.log_probs, teacher.log_probs, threshold, k))
            are_open.append(are_open[-1] & (steps[-1].token != self.tokenizer.eos_token_id))
            student.advance(steps[-1].token)
            teacher.advance(steps[-1].token)
        return self._collect(steps, torch.stack(are_open[: len(steps)], dim=1))

    def _collect(self, steps: Sequence[Step], is_open: torch.Tensor) -> Decoded:
        """Concatenate the steps; `is_open` [batch, steps] masks the steps after a row's end."""
        token, kl, rank, fired = (torch.stack(column, dim=1) for column in zip(*steps, strict=True))
        texts = [
            str(self.tokenizer.decode(row[keep], skip_special_tokens=True))
            for row, keep in zip(token, is_open, strict=True)
        ]
        return Decoded(texts, kl[is_open], rank[is_open], fired[is_open])


class _Run:
    """One model on a batch: its KV cache and its next log-probabilities [batch, vocab]."""

    def __init__(self, model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> None:
        self.model = model
        self.cache = DynamicCache(config=model.config)
        self.mask = batch["attention_mask"]
        self._forward(batch["input_ids"], (self.mask.cumsum(-1) - 1).clamp(min=0))

    def advance(self, token: torch.Tensor) -> None:
        self.mask = torch.cat([self.mask, torch.ones_like(token)[:, None]], dim=1)
        self._forward(token[:, None], self.mask.sum(-1, keepdim=True) - 1)

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> None:
        output = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            logits_to_keep=1,
        )
        self.log_probs = output.logits[:, -1].float().log_softmax(-1)


def _load(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()


def _step(log_s: torch.Tensor, log_l: torch.Tensor, threshold: float, k: int) -> Step:
    """The next token from the student's and the teacher's log-probabilities [batch, vocab]."""
    kl = (log_s.exp() * (log_s - log_l)).sum(-1)
    order = log_s.argsort(-1, descending=True)
    candidates = order[:, :k]
    best = log_l.gather(1, candidates).argmax(-1, keepdim=True)
    is_fired = kl > threshold
    token = torch.where(is_fired, candidates.gather(1, best)[:, 0], order[:, 0])
    teacher_rank = (order == log_l.argmax(-1, keepdim=True)).int().argmax(-1)
    return Step(token, kl, teacher_rank, is_fired)


def final_number(text: str) -> int | None:
    """The number of the last "The answer is N", or None."""
    numbers = re.findall(r"The answer is (-?[0-9]+)", text)
    return int(numbers[-1]) if numbers else None


def _report(label: str, decoded: Decoded, problems: Sequence[Problem]) -> None:
    rate = decoded.accuracy(problems)
    low, high = wilson(round(rate * len(problems)), len(problems))
    fired = f"fired {int(decoded.is_fired.sum())} of {len(decoded.kl)} steps"
    print(f"{label:32s}{rate:6.1%} [{low:.1%}, {high:.1%}] n={len(problems)}  {fired}", flush=True)


def _report_hits(label: str, teacher_rank: torch.Tensor, k: int) -> None:
    first, among_k = ((teacher_rank < width).float().mean().item() for width in (1, k))
    print(f"{label:32s}Hit@1 {first:.1%}  Hit@{k} {among_k:.1%}  n={len(teacher_rank)}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the embedded student and teacher.")
    parser.add_argument("--split", default="dev", choices=["dev", "test"])
    parser.add_argument("--student", type=Path, default=embedded_path("embedded/student"))
    parser.add_argument("--teacher", type=Path, default=embedded_path("embedded/teacher"))
    parser.add_argument("--k", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pair, problems = Pair(args.student, args.teacher), make_split(args.split)
    greedy = pair.greedy(problems)
    _report("student, greedy", greedy, problems)
    _report("teacher, greedy", pair.teacher_greedy(problems), problems)
    _report_hits("all steps", greedy.teacher_rank, args.k)
    is_top = greedy.kl >= greedy.kl.quantile(0.9)
    _report_hits("top 10% of steps by KL", greedy.teacher_rank[is_top], args.k)
    calibration = pair.greedy(make_split("train")[:NUM_CALIBRATION]).kl
    for tau in TAUS:
        threshold = calibration.quantile(1 - tau).item()
        selected = pair.select(problems, threshold=threshold, k=args.k)
        _report(f"S2T, tau {tau:.0%} (KL > {threshold:.4f})", selected, problems)


if __name__ == "__main__":
    main()
