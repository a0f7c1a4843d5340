"""Tokens per second of labelling, relative to a bare teacher prefill of the same texts."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmarks.ratios import Ratio, Stopwatch, Target, alternate
from benchmarks.workload import Settings, load_model
from s2t_eval.engine import ModelRunner
from s2t_eval.training.label_collection import KEEP_TOP, NUM_CANDIDATES
from s2t_eval.training.labelling import CHUNK, label_texts

PROMPT, STEPS, TEXTS = 100, 260, 3
TARGET = Target(0.8, is_floor=True)


def measure(settings: Settings) -> list[Ratio]:
    """Return the ratio; the bare prefill also computes the logits of every generated position."""
    teacher = ModelRunner(load_model(settings.teacher, settings), settings.teacher)
    steps = settings.new_tokens or STEPS
    generator = torch.Generator().manual_seed(0)
    vocab = teacher.text_vocab
    texts = torch.randint(0, vocab, (settings.requests or TEXTS, PROMPT + steps), generator=generator)
    shape = (len(texts), steps, min(KEEP_TOP, vocab))
    ids = torch.randint(0, vocab, shape, generator=generator, dtype=torch.int32)
    log_probs = torch.randn(shape, generator=generator).log_softmax(-1)
    sides = {
        "labelled": partial(labelled, teacher, texts, ids, log_probs),
        "bare": partial(bare, teacher, texts, steps),
    }
    for side in sides.values():
        side()
    runs = alternate(sides, settings.repeats)
    values = [slow / fast for slow, fast in zip(runs["bare"], runs["labelled"], strict=True)]
    per_second = [texts.numel() / seconds for seconds in runs["labelled"]]
    return [Ratio("labelling, tokens/s", values, TARGET, {"tokens_per_second": per_second})]


def labelled(teacher: ModelRunner, texts: Tensor, ids: Tensor, log_probs: Tensor) -> float:
    """Wall-clock seconds of labelling."""
    watch = Stopwatch()
    with watch.running():
        rows = texts.tolist()
        prompts, outputs = [row[:PROMPT] for row in rows], [row[PROMPT:] for row in rows]
        label_texts(teacher, prompts, outputs, list(ids), list(log_probs), NUM_CANDIDATES)
    return watch.wall


@torch.inference_mode()
def bare(teacher: ModelRunner, texts: Tensor, steps: int) -> float:
    """Wall-clock seconds of the prefill and the output head."""
    watch = Stopwatch()
    with watch.running():
        for states in teacher.encode([row[:-1] for row in texts.tolist()]):
            for begin in range(len(states) - steps, len(states), CHUNK):
                teacher.head(states[begin : begin + CHUNK])
    return watch.wall
