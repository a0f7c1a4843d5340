"""Held-out metrics of a looped student: accuracy by depth, and the decisions of its decider."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from s2t_eval.engine.packing import batches
from s2t_eval.methods.tah.decider import Decider, vote
from s2t_eval.training.tah.looped import LoopedModel, TokenIndices, iterate_depths
from s2t_eval.training.tah.objectives import StageItem, collate
from s2t_eval.training.trigger_recall import auroc

MAX_BATCH_LOGITS = 1 << 22
"""Entries of accumulated logits of a batch, unless a single text has more."""


@torch.no_grad()
def depth_metrics(
    looped: LoopedModel, items: Sequence[StageItem], easy_fraction: float = 0.0
) -> dict[str, float]:
    """Next-token accuracy after one and after two passes, measured at every token.

    At easy tokens the second pass is isolated: no other token attends to its slot. The accuracy after two
    passes is therefore that of letting this one token continue.

    Args:
        looped: the looped student.
        items: held-out texts.
        easy_fraction: share of the easy tokens that take part in the second pass in training.

    Returns:
        `hard@1`, `hard@2`, `easy@1`, `easy@2`: accuracy after one and two passes at hard and easy tokens;
        `corrected`: share of the tokens wrong after one pass that are right after two; `overthought`: share
        of those right after one pass that are wrong after two; `oracle`: accuracy if exactly the hard tokens
        continue; `nll`: mean cross-entropy in that case, nats; `loss`: the same if this share of the easy
        tokens continues too, which stage 1 minimises (absent at 0, where it is `nll`); `tokens`: number of
        tokens.
    """
    columns: list[tuple[Tensor, ...]] = []
    for part in _batches(looped, items):
        batch = collate(part, looped.device)
        hidden, _, cache = looped.first_pass(batch.ids)
        tokens = TokenIndices.where(batch.steps)
        first = looped.logits(hidden[tokens.texts, tokens.positions])
        hard = batch.hard[tokens.texts, tokens.positions]
        states, _ = looped.deeper_pass(cache, looped.mixed_embeddings(first), tokens, 1, isolated=~hard)
        second = first + looped.logits(states)
        target = batch.targets(tokens)
        nll_1, nll_2 = (nn.functional.cross_entropy(x, target, reduction="none") for x in (first, second))
        right_1, right_2 = (logits.argmax(-1) == target for logits in (first, second))
        columns.append((hard, right_1, right_2, nll_1, nll_2))
    hard, right_1, right_2, nll_1, nll_2 = (torch.cat(column).cpu() for column in zip(*columns, strict=True))
    nll = torch.where(hard, nll_2, nll_1)
    loss = torch.where(hard, nll_2, torch.lerp(nll_1, nll_2, easy_fraction))
    return {
        "hard@1": _share(right_1, hard),
        "hard@2": _share(right_2, hard),
        "easy@1": _share(right_1, ~hard),
        "easy@2": _share(right_2, ~hard),
        "corrected": _share(right_2, ~right_1),
        "overthought": _share(~right_2, right_1),
        "oracle": float(torch.where(hard, right_2, right_1).float().mean()),
        "nll": float(nll.mean()),
        **({"loss": float(loss.mean())} if easy_fraction else {}),
        "tokens": float(len(hard)),
    }


@torch.no_grad()
def decider_metrics(
    looped: LoopedModel, decider: Decider, items: Sequence[StageItem], threshold: float
) -> dict[str, float]:
    """The decider's agreement with the labels, and the accuracy with the depths that it decides.

    Args:
        looped: the looped student, whose layers are read.
        decider: the decider, in evaluation mode.
        items: held-out texts.
        threshold: a token continues where the decider's probability is above it.

    Returns:
        `auroc` of the first decision against the labels; `continue_rate`: share of the tokens that continue;
        `recall` and `precision` of hard tokens among them; `mean_depth`: mean number of passes;
        `accuracy`: next-token accuracy.
    """
    top_n = looped.settings.top_n

    def rule(depth: int, tokens: TokenIndices, logits: Tensor, layer_outputs: Tensor | None) -> Tensor:
        assert layer_outputs is not None
        return vote(decider, layer_outputs, logits, top_n).sigmoid() > threshold

    log_odds, hard, right, passes = [], [], [], []
    for part in _batches(looped, items):
        batch = collate(part, looped.device)
        is_right = torch.zeros_like(batch.steps)
        num_passes = torch.ones_like(batch.ids)
        for output in iterate_depths(looped, batch.ids, batch.steps, rule):
            index = (output.tokens.texts, output.tokens.positions)
            is_right[index] = output.logits.argmax(-1) == batch.targets(output.tokens)
            num_passes[index] = output.depth + 1
            if output.depth == 0 and looped.settings.max_depth > 1:
                assert output.layer_outputs is not None
                log_odds.append(vote(decider, output.layer_outputs, output.logits, top_n).cpu())
        hard.append(batch.hard[batch.steps].cpu())
        right.append(is_right[batch.steps].cpu())
        passes.append(num_passes[batch.steps].cpu())
    all_log_odds, is_hard, all_passes = torch.cat(log_odds), torch.cat(hard), torch.cat(passes)
    continues = all_passes > 1
    return {
        "auroc": auroc(all_log_odds.numpy(), is_hard.numpy()),
        "continue_rate": float(continues.float().mean()),
        "recall": _share(continues, is_hard),
        "precision": _share(is_hard, continues),
        "mean_depth": float(all_passes.float().mean()),
        "accuracy": float(torch.cat(right).float().mean()),
    }


def _batches(looped: LoopedModel, items: Sequence[StageItem]) -> Iterator[list[StageItem]]:
    """Items in order, as many in a batch as `MAX_BATCH_LOGITS` allows."""
    limit = MAX_BATCH_LOGITS // looped.text_vocab
    for part in batches(range(len(items)), [len(item.hard) for item in items], limit):
        yield [items[i] for i in part]


def _share(values: Tensor, selected: Tensor) -> float:
    """Share of true values among the selected ones, bool [n] each; NaN if none is selected."""
    return float(values[selected].float().mean())
