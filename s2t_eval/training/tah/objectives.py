"""The losses of both training stages: stage 1 trains the deeper passes, stage 2 the decider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from s2t_eval.methods.tah.decider import Decider, vote
from s2t_eval.training.chunks import checkpointed_sum
from s2t_eval.training.loop import Loss
from s2t_eval.training.tah.labels import LabelledText
from s2t_eval.training.tah.looped import DepthOutput, LoopedModel, TokenIndices, iterate_depths


class StageItem(NamedTuple):
    """One training text."""

    ids: Tensor
    """prompt and text, [text]"""
    prompt_length: int
    hard: Tensor
    """whether each generated token is hard, bool [steps]"""
    weight: float
    """number of positions in the loss; the expected number where some are drawn at random"""
    source: str
    """id of the problem, for messages"""


class StageBatch(NamedTuple):
    """Right-padded texts, [batch, seq] each. A position predicts the token after it."""

    ids: Tensor
    next_ids: Tensor
    steps: Tensor
    """whether a position predicts a generated token, bool"""
    hard: Tensor
    """whether it predicts a hard token, bool"""

    def targets(self, tokens: TokenIndices) -> Tensor:
        """The next token at these positions, [n]."""
        return self.next_ids[tokens.texts, tokens.positions]


def make_item(text: LabelledText, weight: float) -> StageItem:
    """The item of a labelled text."""
    return StageItem(
        torch.tensor([*text.prompt_ids, *text.output_ids]),
        len(text.prompt_ids),
        torch.tensor(text.hard),
        weight,
        text.problem_id,
    )


def collate(items: Sequence[StageItem], device: torch.device) -> StageBatch:
    """Make a batch of items."""
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


class DepthTraining(nn.Module):
    """Stage 1: next-token cross-entropy on accumulated logits, at depths that the labels decide.

    A hard token takes part in the second pass, and in further ones as long as the argmax of its accumulated
    logits is wrong. If only the adapter is trained, nothing at depth 0 has a gradient, so only tokens with a
    second pass are in the loss.

    Args:
        looped: the looped student, which is trained.
        easy_fraction: share of the easy tokens that also take part in the second pass, drawn anew for every
            batch. 0 is the paper's. A decider will let some easy tokens continue, and passes that were
            trained on hard tokens only would make their predictions wrong.
    """

    def __init__(self, looped: LoopedModel, easy_fraction: float = 0.0) -> None:
        super().__init__()
        self.looped = looped
        self.easy_fraction = easy_fraction

    def item(self, text: LabelledText) -> StageItem:
        """The item of a labelled text; its weight is the number of positions in the loss."""
        if self.looped.settings.train_base:
            return make_item(text, len(text.hard))
        num_hard = sum(text.hard)
        return make_item(text, num_hard + self.easy_fraction * (len(text.hard) - num_hard))

    def forward(self, batch: StageBatch) -> Loss:
        """Cross-entropy, summed over the positions that have a gradient."""
        is_drawn = torch.rand(batch.ids.shape).to(batch.ids.device) < self.easy_fraction
        deeper = batch.hard | (batch.steps & is_drawn)
        total = self._deeper_loss(batch, deeper)
        if self.looped.settings.train_base:
            total = total + self._first_pass_loss(batch, batch.steps & ~deeper)
        return Loss(total)

    def _deeper_loss(self, batch: StageBatch, deeper: Tensor) -> Tensor:
        """The loss of the tokens with a second pass, each at its last depth."""

        def rule(depth: int, tokens: TokenIndices, logits: Tensor, layer_outputs: Tensor | None) -> Tensor:
            if depth == 0:
                return torch.ones_like(tokens.texts, dtype=torch.bool)
            return logits.argmax(-1) != batch.targets(tokens)

        total = torch.zeros((), device=batch.ids.device)
        if not bool(deeper.any()):
            # Distributed training needs a gradient of every parameter in every backward pass.
            return total + sum(p.sum() * 0.0 for p in self.parameters() if p.requires_grad)
        for output in iterate_depths(self.looped, batch.ids, deeper, rule):
            ends = ~output.continues
            if output.depth and bool(ends.any()):
                targets = batch.targets(output.tokens.select(ends))
                total = total + nn.functional.cross_entropy(output.logits[ends], targets, reduction="sum")
        return total

    def _first_pass_loss(self, batch: StageBatch, steps: Tensor) -> Tensor:
        """The loss of the tokens without a second pass."""
        hidden, _, _ = self.looped.first_pass(batch.ids)
        tokens = TokenIndices.where(steps)
        states, targets = hidden[tokens.texts, tokens.positions], batch.targets(tokens)
        return checkpointed_sum(self._cross_entropy, states, targets)

    def _cross_entropy(self, states: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.looped.logits(states), targets, reduction="sum")


class DeciderTraining(nn.Module):
    """Stage 2: binary cross-entropy of the decider, with a weight for hard tokens; all else is frozen.

    Args:
        looped: the looped student, whose layer outputs the decider reads; it is not trained.
        decider: the decider, which is trained.
        positive_weight: weight of a token that should continue (about 5 in the paper).
    """

    def __init__(self, looped: LoopedModel, decider: Decider, positive_weight: float = 5.0) -> None:
        super().__init__()
        self.decider = decider
        self.positive_weight = positive_weight
        # In a list, so that it is not registered as a module: it is neither trained nor saved.
        self._looped = [looped.eval()]

    def item(self, text: LabelledText) -> StageItem:
        """The item of a labelled text."""
        return make_item(text, len(text.hard))

    def forward(self, batch: StageBatch) -> Loss:
        """Cross-entropy, summed over the decider's decisions."""
        total = torch.zeros((), device=batch.ids.device)
        weight = torch.tensor(self.positive_weight, device=batch.ids.device)
        settings = self._looped[0].settings
        for output in oracle_depth_outputs(self._looped[0], batch):
            if output.depth + 1 < settings.max_depth:
                assert output.layer_outputs is not None
                log_odds = vote(self.decider, output.layer_outputs, output.logits, settings.top_n)
                total = total + nn.functional.binary_cross_entropy_with_logits(
                    log_odds, output.continues.float(), pos_weight=weight, reduction="sum"
                )
        return Loss(total)


@torch.no_grad()
def oracle_depth_outputs(looped: LoopedModel, batch: StageBatch) -> list[DepthOutput]:
    """All passes over a batch if hard tokens, and later those whose argmax is still wrong, continue."""

    def rule(depth: int, tokens: TokenIndices, logits: Tensor, layer_outputs: Tensor | None) -> Tensor:
        if depth == 0:
            return batch.hard[tokens.texts, tokens.positions]
        return logits.argmax(-1) != batch.targets(tokens)

    return list(iterate_depths(looped, batch.ids, batch.steps, rule))
