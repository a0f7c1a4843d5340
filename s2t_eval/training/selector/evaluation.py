"""The evaluation of the training loop: the figures by which a checkpoint is chosen, as decoding ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from s2t_eval.training.loop import Metrics
from s2t_eval.training.selector.agreement import (
    agreement_of,
    best_proposal_weight,
    gains,
    score_items,
    tuned_agreement,
)
from s2t_eval.training.selector.items import Item
from s2t_eval.training.selector.model import SelectorModel
from s2t_eval.training.selector.trigger_scan import scan_scales


@dataclass(frozen=True)
class Evaluation:
    """Measures a selector on the texts by which its checkpoint is chosen.

    `agree@1` and Spearman's correlation are measured at the top steps with the proposal weight that gains
    most there (`proposal_weight`), `gain` at every step with the one that gains most at every step. With
    labels of every step, the weight of a finished selector is the one that gains most together with its
    trigger and rate, so that it may differ from both.

    Args:
        model: the selector that is trained.
        top_items: the top steps of the texts.
        all_items: all their steps, which also give `gain`; empty where it is not measured.
        num_texts: number of texts.
        with_tuned_gain: also measure `tuned_gain`, the gain of the adapted model's own tokens at the best
            scale of its adapter, which costs a pass over the texts for each scale.
        with_tuned_agreement: also measure `tuned_agree@1`, the agreement at the top steps by the rule of
            proposer `tuned`.
    """

    model: SelectorModel
    top_items: Sequence[Item]
    all_items: Sequence[Item]
    num_texts: int
    with_tuned_gain: bool = False
    with_tuned_agreement: bool = False

    def __call__(self) -> Metrics:
        """The metrics of the present parameters."""
        if not self.all_items:
            return self._at_top_steps(score_items(self.model, self.top_items))
        scores = score_items(self.model, self.all_items)
        top_steps = {item.source: item.steps for item in self.top_items}
        top_scores = [
            text_scores[torch.isin(item.steps, top_steps[item.source])]
            for item, text_scores in zip(self.all_items, scores, strict=True)
            if item.source in top_steps
        ]
        all_scores = torch.cat(scores)
        weight = best_proposal_weight(all_scores, self.all_items)
        gain = float(gains(all_scores, self.all_items, weight).sum()) / self.num_texts
        metrics = {**self._at_top_steps(top_scores), "gain": gain}
        if self.with_tuned_gain:
            metrics["tuned_gain"] = max(scan_scales(self.model, self.all_items, self.num_texts).values())
        return metrics

    def _at_top_steps(self, scores: Sequence[torch.Tensor]) -> Metrics:
        weight = best_proposal_weight(torch.cat(list(scores)), self.top_items)
        figures = agreement_of(scores, self.top_items, self.model.settings, weight)
        if self.with_tuned_agreement:
            figures["tuned_agree@1"] = tuned_agreement(self.model, self.top_items, scores)
        return {**figures, "proposal_weight": weight}
