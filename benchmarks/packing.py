"""Packed training relative to re-encoding K sequences per group: groups/s of a forward and backward pass."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from benchmarks.ratios import Ratio, Stopwatch, Target, alternate
from benchmarks.workload import Settings, load_model
from s2t_eval.models.lm_head import LMHead
from s2t_eval.selection.scores import Evidence
from s2t_eval.training.selector.items import Item
from s2t_eval.training.selector.losses import listwise_kl
from s2t_eval.training.selector.model import SelectorModel
from s2t_eval.training.selector.settings import SelectorSettings

K = 16
PROMPT, STEPS, TOP = 60, 300, 0.1
TARGET = Target(30.0, is_floor=True)


def measure(settings: Settings) -> list[Ratio]:
    """Measure a trajectory of 300 tokens of which 10 % of the steps are labelled.

    The baseline encodes only the K sequences of the middle group, in one batch without padding: a whole
    trajectory would take minutes, with the same number of groups per second.
    """
    base = load_model(settings.student, settings)
    text_vocab = LMHead(base).vocab
    model = SelectorModel(base, SelectorSettings(form="residual", beta=0.0), text_vocab)
    steps = settings.new_tokens or STEPS
    item = trajectory(text_vocab, steps)
    middle = len(item.steps) // 2
    one = replace(
        item,
        steps=item.steps[middle : middle + 1],
        candidates=item.candidates[middle : middle + 1],
        student_log_probs=item.student_log_probs[middle : middle + 1],
        teacher_log_probs=item.teacher_log_probs[middle : middle + 1],
    )
    sides = {"packed": partial(packed, model, item), "re-encoded": partial(reencoded, model, one)}
    for side in sides.values():
        side()
    runs = alternate(sides, settings.repeats)
    rates = {
        "packed": [len(item.steps) / t for t in runs["packed"]],
        "slow": [1 / t for t in runs["re-encoded"]],
    }
    values = [a / b for a, b in zip(rates["packed"], rates["slow"], strict=True)]
    details = {"groups": len(item.steps), "groups_per_second": rates}
    return [Ratio(f"packed training, K {K}, {steps} tokens", values, TARGET, details)]


def trajectory(vocab: int, steps: int) -> Item:
    """A group of random tokens; the cost does not depend on their values."""
    generator = torch.Generator().manual_seed(0)
    at = torch.linspace(0, steps - 1, max(1, round(TOP * steps))).round().long()
    shape = (len(at), K)
    ids = torch.randint(0, vocab, (PROMPT + steps,), generator=generator)
    candidates = torch.randint(0, vocab, shape, generator=generator)
    log_probs = torch.randn(2, *shape, generator=generator).log_softmax(-1)
    return Item(ids, PROMPT, at, candidates, log_probs[0], log_probs[1], "random")


def packed(model: SelectorModel, item: Item) -> float:
    """Seconds for one trajectory packed into one sequence."""
    watch = Stopwatch()
    with watch.running():
        model(model.pack([item])).loss.backward()
    model.zero_grad()
    return watch.wall


def reencoded(model: SelectorModel, item: Item) -> float:
    """Seconds for one group with a separate sequence per candidate."""
    watch = Stopwatch()
    device = model.readout.device
    with watch.running():
        prefix = item.text_ids[: item.prompt_length + int(item.steps[0])]
        ids = torch.cat([prefix.expand(K, -1), item.candidates[0][:, None]], dim=1).to(device)
        hidden = model.base_model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[:, -1]
        log_probs = item.student_log_probs.to(device)
        scores = model.score.score(Evidence(log_probs, hidden=hidden[None]))
        listwise_kl(scores, item.teacher_log_probs.to(device), 1.0).sum().backward()
    model.zero_grad()
    return watch.wall
