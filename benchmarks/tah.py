"""Think-at-Hard relative to greedy decoding, and its training relative to plain adapter tuning."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from benchmarks.decoding import (
    ClockedModel,
    Run,
    compare,
    decode,
    load_student,
    make_requests,
    warm_up,
)
from benchmarks.ratios import Ratio, Stopwatch, Target, alternate, divide
from benchmarks.workload import Settings, load_model
from s2t_eval.engine import Decoder, Request
from s2t_eval.engine.scheduler import Scheduler
from s2t_eval.methods.tah.decider import Decider, vote
from s2t_eval.methods.tah.decoder import LoopedDecoder, Votes
from s2t_eval.methods.tah.runner import LoopedRunner
from s2t_eval.methods.tah.settings import TOP_N, DeciderSettings, LoopedSettings
from s2t_eval.models.lm_head import LMHead
from s2t_eval.selection.policy import greedy
from s2t_eval.training.loop import Loss
from s2t_eval.training.tah.looped import LoopedModel
from s2t_eval.training.tah.objectives import DepthTraining, StageBatch, StageItem, collate
from s2t_eval.training.tah.plain_tuning import PlainTraining

RATE = 0.07
"""Fraction of tokens with further iterations; in the paper 93 % have none."""
NEW_TOKENS = 100
ALLOWANCE = 0.15
REFILLS = 4
TEXT, PROMPT, BATCH, WINDOWS = 200, 80, 8, 4
"""Tokens of a training text and of its prompt, texts per batch, batches per measured side."""
TRAINING_TARGET = Target(0.4, is_floor=True)


class ClockedLooped(LoopedRunner, ClockedModel):
    """A looped student that measures the time of its prefills."""


class DrawnVote:
    """Evaluates a decider of the paper's size but decides at random, independent of its random weights."""

    def __init__(self, decider: Decider, rate: float) -> None:
        self.decider = decider.eval()
        self.rate = rate

    def __call__(self, votes: Votes) -> Tensor:
        """Return which rows continue, bool [n]."""
        vote(self.decider, votes.states, votes.totals, TOP_N)
        return torch.tensor([row.trigger_numbers.random() < self.rate for row in votes.rows])


def measure(settings: Settings) -> list[Ratio]:
    """Wall-clock time per token at batch 1 and `batch`; target: (mean depth + 0.15) times greedy's."""
    student, tokenizer = load_student(settings)
    looped, vote_of = _looped(settings, student.text_vocab)
    ratios = []
    for batch in sorted({1, settings.batch}):
        # Slots are refilled: rows with more iterations end later, and the cost of a final half-empty batch
        # would be attributed to the iterations.
        num = settings.requests or REFILLS * batch
        requests = make_requests(settings, tokenizer, num, settings.new_tokens or NEW_TOKENS)
        sides: dict[str, Scheduler[Any]] = {
            "tah": LoopedDecoder(looped, vote_of, rows=batch),
            "greedy": Decoder(student, greedy(), rows=batch),
        }
        for decoder in sides.values():
            warm_up(decoder, requests)
        runs = alternate({k: partial(decode, v, requests) for k, v in sides.items()}, settings.repeats)
        ratios.append(_ratio(batch, runs["tah"], runs["greedy"], requests))
    return ratios


def _ratio(batch: int, over: list[Run], under: list[Run], requests: list[Request]) -> Ratio:
    mean_depth = over[0].forwards / over[0].tokens
    target = Target(mean_depth + ALLOWANCE)
    return compare(f"tah, batch {batch}", over, under, target, mean_depth=mean_depth, texts=len(requests))


def _looped(settings: Settings, text_vocab: int) -> tuple[ClockedLooped, DrawnVote]:
    """Create a separate looped student, since greedy runs without wrapped layers."""
    base = load_model(settings.student, settings)
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    peft = get_peft_model(base, config).eval()
    layers = DeciderSettings().layers_of(base.config.num_hidden_layers)
    looped = ClockedLooped(peft, "tah", text_vocab, layers)
    decider = Decider(looped.hidden_size, len(layers), min(TOP_N, text_vocab), DeciderSettings())
    return looped, DrawnVote(decider.to(looped.device), RATE)


# ---------------------------------------------------------------- training


def measure_training(settings: Settings) -> list[Ratio]:
    """Ratio of tokens/s of stage 1 (adapter only, oracle depths) to plain tuning of the same adapter."""
    sides: dict[str, Callable[[], float]] = {}
    batches = _batches(settings)
    for name, stage in (("tah", DepthTraining), ("plain", PlainTraining)):
        base = load_model(settings.student, settings)
        looped = LoopedModel(base, LoopedSettings(), LMHead(base).vocab)
        module = stage(looped).train()
        trained = [p for p in module.parameters() if p.requires_grad]
        sides[name] = partial(_train, module, torch.optim.AdamW(trained, lr=1e-5), batches)
        _train(module, torch.optim.AdamW(trained, lr=0.0), batches[:1])
    seconds = alternate(sides, settings.repeats)
    details = {"seconds": seconds["tah"], "seconds_of_base": seconds["plain"], "hard_rate": RATE}
    name = f"tah stage 1, tokens/s to plain tuning, texts of {TEXT} tokens"
    return [Ratio(name, divide(seconds["plain"], seconds["tah"]), TRAINING_TARGET, details)]


def _batches(settings: Settings) -> list[StageBatch]:
    config = load_model(settings.student, settings).config
    numbers = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(1 if settings.repeats == 1 else WINDOWS):
        items = []
        for _ in range(min(BATCH, settings.batch)):
            ids = torch.randint(0, config.vocab_size, (TEXT,), generator=numbers)
            hard = torch.rand(TEXT - PROMPT, generator=numbers) < RATE
            items.append(StageItem(ids, PROMPT, hard, 1.0, "random"))
        batches.append(collate(items, torch.device(settings.device)))
    return batches


def _train(module: nn.Module, optimizer: torch.optim.Optimizer, batches: list[StageBatch]) -> float:
    watch = Stopwatch()
    with watch.running():
        for batch in batches:
            loss: Loss = module(batch)
            loss.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return watch.wall
