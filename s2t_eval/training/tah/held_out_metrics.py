"""Held-out figures of a looped student: what a second look mends and what it spoils."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from s2t_eval.methods.tah.decider import Decider, vote
from s2t_eval.training.tah.looped import LoopedModel, Tokens, walk
from s2t_eval.training.tah.stages import StageItem, collate
from s2t_eval.training.trigger_recall import auroc

LOGITS_AT_ONCE = 1 << 22
"""Entries of accumulated logits of a batch; a batch has one text at least."""


@torch.no_grad()
def second_looks(looped: LoopedModel, items: Sequence[StageItem]) -> dict[str, float]:
    """Next-token accuracy at depth 1 and 2 on hard and easy tokens, every token asked both times.

    Tokens that the labels do not send deeper are asked alone: their deeper slots are seen by no other, so
    each figure is what a second look at that one token would have changed.

    Returns:
        `hard@1`, `hard@2`, `easy@1`, `easy@2`; `corrected` of the tokens wrong at depth 1, `overthought`
        of those right there; `oracle`, the accuracy if the hard tokens alone are looked at again; `nll`,
        the mean cross-entropy (nats) at those depths; `tokens`.
    """
    columns: list[tuple[Tensor, ...]] = []
    for part in _batches(looped, items):
        batch = collate(part, looped.device)
        hidden, _, memory = looped.begin(batch.ids)
        at = Tokens.where(batch.steps)
        first = looped.logits(hidden[at.texts, at.positions])
        hard = batch.hard[at.texts, at.positions]
        states, _ = looped.deepen(memory, looped.mix(first), at, 1, alone=~hard)
        second = first + looped.logits(states)
        target = batch.targets(at)
        oracle = torch.where(hard[:, None], second, first)
        nll = torch.nn.functional.cross_entropy(oracle, target, reduction="none")
        columns.append((hard, first.argmax(-1) == target, second.argmax(-1) == target, nll))
    hard, right_1, right_2, nll = (torch.cat(column).cpu() for column in zip(*columns, strict=True))
    return {
        "hard@1": _share(right_1, hard),
        "hard@2": _share(right_2, hard),
        "easy@1": _share(right_1, ~hard),
        "easy@2": _share(right_2, ~hard),
        "corrected": _share(right_2, ~right_1),
        "overthought": _share(~right_2, right_1),
        "oracle": float(torch.where(hard, right_2, right_1).float().mean()),
        "nll": float(nll.mean()),
        "tokens": float(len(hard)),
    }


@torch.no_grad()
def decisions(
    looped: LoopedModel, decider: Decider, items: Sequence[StageItem], threshold: float
) -> dict[str, float]:
    """How the decider votes at depth 0, and what comes of it.

    Args:
        looped: the looped student, whose layers are read.
        decider: in evaluation mode.
        items: held-out texts.
        threshold: a token continues where its probability is above it.

    Returns:
        `auroc` against the labels, `continue_rate`, `recall` and `precision` of hard tokens, `mean_depth`,
        `accuracy` with the decider's depths.
    """
    top_n = looped.settings.top_n

    def choose(depth: int, at: Tokens, totals: Tensor, states: Tensor | None) -> Tensor:
        assert states is not None
        return vote(decider, states, totals, top_n).sigmoid() > threshold

    odds, hard, right, depths = [], [], [], []
    for part in _batches(looped, items):
        batch = collate(part, looped.device)
        found = torch.zeros_like(batch.steps)
        depth = torch.ones_like(batch.ids)
        for look in walk(looped, batch.ids, batch.steps, choose):
            where = (look.at.texts, look.at.positions)
            found[where] = look.totals.argmax(-1) == batch.targets(look.at)
            depth[where] = look.depth + 1
            if look.depth == 0 and looped.settings.max_depth > 1:
                assert look.states is not None
                odds.append(vote(decider, look.states, look.totals, top_n).cpu())
        hard.append(batch.hard[batch.steps].cpu())
        right.append(found[batch.steps].cpu())
        depths.append(depth[batch.steps].cpu())
    values, is_hard = torch.cat(odds), torch.cat(hard)
    goes_on = torch.cat(depths) > 1
    return {
        "auroc": auroc(values.numpy(), is_hard.numpy()),
        "continue_rate": float(goes_on.float().mean()),
        "recall": _share(goes_on, is_hard),
        "precision": _share(is_hard, goes_on),
        "mean_depth": float(torch.cat(depths).float().mean()),
        "accuracy": float(torch.cat(right).float().mean()),
    }


def _batches(looped: LoopedModel, items: Sequence[StageItem]) -> Iterator[list[StageItem]]:
    """Items in order, as many at once as their logits leave room for."""
    part: list[StageItem] = []
    for item in items:
        if part and (sum(len(i.hard) for i in part) + len(item.hard)) * looped.text_vocab > LOGITS_AT_ONCE:
            yield part
            part = []
        part.append(item)
    if part:
        yield part


def _share(of: Tensor, among: Tensor) -> float:
    """Share of `of` among the marked ones; NaN where none is."""
    return float(of[among].float().mean())
