"""What the two stages optimise: first the passes, then the decider (METHODS: TaH)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from s2t_eval.methods.tah.decider import Decider, vote
from s2t_eval.training.tah.labels import Text
from s2t_eval.training.tah.looped import Look, LoopedModel, Tokens, walk

LOSS_CHUNK = 256
"""Positions whose logits over the vocabulary exist at once."""


class StageItem(NamedTuple):
    """One text."""

    ids: Tensor
    """prompt and text, [text]"""
    prompt_length: int
    hard: Tensor
    """of the text's tokens, bool [steps]"""
    weight: float
    """positions that give a gradient (as many as are expected, where some are drawn)"""
    source: str


class StageBatch(NamedTuple):
    """Some texts, right-padded, [batch, seq] each; a token stands where it is predicted from."""

    ids: Tensor
    next_ids: Tensor
    steps: Tensor
    """positions that predict a token of a text, bool"""
    hard: Tensor
    """those whose token is hard, bool"""

    def targets(self, at: Tokens) -> Tensor:
        """The next token of these, [n]."""
        return self.next_ids[at.texts, at.positions]


def make_item(text: Text, weight: float) -> StageItem:
    """An item of a labelled text."""
    return StageItem(
        torch.tensor([*text.prompt_ids, *text.output_ids]),
        len(text.prompt_ids),
        torch.tensor(text.hard),
        weight,
        text.problem_id,
    )


def collate(items: Sequence[StageItem], device: torch.device) -> StageBatch:
    """Lay items out as a batch."""
    shape = (len(items), max(len(item.ids) for item in items))
    ids, next_ids = torch.zeros(2, *shape, dtype=torch.long)
    steps, hard = torch.zeros(2, *shape, dtype=torch.bool)
    for row, item in enumerate(items):
        end = len(item.ids)
        ids[row, :end] = item.ids
        next_ids[row, : end - 1] = item.ids[1:]
        steps[row, item.prompt_length - 1 : end - 1] = True
        hard[row, item.prompt_length - 1 : end - 1] = item.hard
    return StageBatch(*(tensor.to(device) for tensor in (ids, next_ids, steps, hard)))


class Loss(NamedTuple):
    """A loss summed over weights."""

    loss: Tensor


class DepthTraining(nn.Module):
    """Stage 1: next-token cross-entropy on accumulated logits, oracle labels drive the depth.

    A hard token is looked at again, and once more as long as its accumulated first guess is wrong. With
    the adapter alone in training nothing at depth 0 has a gradient, so only deeper tokens count.

    Args:
        looped: what is trained.
        easy: share of the easy tokens that is looked at again too, drawn anew each time (0: the paper).
            The decider will err, and a pass that has only seen hard tokens turns every easy one wrong.
    """

    def __init__(self, looped: LoopedModel, easy: float = 0.0) -> None:
        super().__init__()
        self.looped = looped
        self.easy = easy

    def item(self, text: Text) -> StageItem:
        """An item of a labelled text; its weight is the number of positions in the loss."""
        if self.looped.settings.train_base:
            return make_item(text, len(text.hard))
        hard = sum(text.hard)
        return make_item(text, hard + self.easy * (len(text.hard) - hard))

    def forward(self, batch: StageBatch) -> Loss:
        """Cross-entropy summed over the positions that give a gradient."""
        drawn = torch.rand(batch.ids.shape).to(batch.ids.device) < self.easy
        deeper = batch.hard | (batch.steps & drawn)
        total = self._loss_of_looks(batch, deeper)
        if self.looped.settings.train_base:
            total = total + self._loss_at_depth_0(batch, batch.steps & ~deeper)
        return Loss(total)

    def _loss_of_looks(self, batch: StageBatch, deeper: Tensor) -> Tensor:
        def choose(depth: int, at: Tokens, totals: Tensor, states: Tensor | None) -> Tensor:
            return totals.argmax(-1) != batch.targets(at) if depth else torch.ones_like(at.texts).bool()

        total = torch.zeros((), device=batch.ids.device)
        if not bool(deeper.any()):
            # Every process and window needs a loss with a gradient.
            return total + sum(p.sum() * 0.0 for p in self.parameters() if p.requires_grad)
        for look in walk(self.looped, batch.ids, deeper, choose):
            stays = ~look.goes_on
            if look.depth and bool(stays.any()):
                at = look.at.take(stays)
                total = total + nn.functional.cross_entropy(
                    look.totals[stays], batch.targets(at), reduction="sum"
                )
        return total

    def _loss_at_depth_0(self, batch: StageBatch, steps: Tensor) -> Tensor:
        hidden, _, _ = self.looped.begin(batch.ids)
        at = Tokens.where(steps)
        states, targets = hidden[at.texts, at.positions], batch.targets(at)
        total = torch.zeros((), device=batch.ids.device)
        for part, wanted in zip(states.split(LOSS_CHUNK), targets.split(LOSS_CHUNK), strict=True):
            # Recomputed in the backward pass: logits of [positions, vocab] are never kept.
            total = total + checkpoint(self._cross_entropy, part, wanted, use_reentrant=False)
        return total

    def _cross_entropy(self, states: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.looped.logits(states), targets, reduction="sum")


class DeciderTraining(nn.Module):
    """Stage 2: everything frozen but the decider; cross-entropy with a weight for hard tokens.

    Args:
        looped: the looped student, which is not trained; it gives the outputs the decider reads.
        decider: what is trained.
        positive_weight: weight of a hard token (the paper: about 5).
    """

    def __init__(self, looped: LoopedModel, decider: Decider, positive_weight: float = 5.0) -> None:
        super().__init__()
        self.decider = decider
        self.positive_weight = positive_weight
        self._looped = [looped.eval()]  # in a list: no part of what is trained, saved or switched to training

    def item(self, text: Text) -> StageItem:
        """An item of a labelled text."""
        return make_item(text, len(text.hard))

    def forward(self, batch: StageBatch) -> Loss:
        """Cross-entropy summed over votes."""
        total = torch.zeros((), device=batch.ids.device)
        weight = torch.tensor(self.positive_weight, device=batch.ids.device)
        settings = self._looped[0].settings
        for look in oracle_looks(self._looped[0], batch):
            if look.depth + 1 < settings.max_depth:
                assert look.states is not None
                odds = vote(self.decider, look.states, look.totals, settings.top_n)
                total = total + nn.functional.binary_cross_entropy_with_logits(
                    odds, look.goes_on.float(), pos_weight=weight, reduction="sum"
                )
        return Loss(total)


@torch.no_grad()
def oracle_looks(looped: LoopedModel, batch: StageBatch) -> list[Look]:
    """The looks at every position that the labels (and, deeper, wrong first guesses) ask for."""

    def choose(depth: int, at: Tokens, totals: Tensor, states: Tensor | None) -> Tensor:
        return totals.argmax(-1) != batch.targets(at) if depth else batch.hard[at.texts, at.positions]

    return list(walk(looped, batch.ids, batch.steps, choose))
