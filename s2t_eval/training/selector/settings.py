"""What a selector is and how it is trained; importing this module loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from s2t_eval.method_table import ScoreAs, ScoreForm
from s2t_eval.models.lora_settings import LoraSettings
from s2t_eval.ranges import (
    AT_LEAST_1,
    AT_LEAST_2,
    NOT_NEGATIVE,
    PART,
    POSITIVE,
    SHARE,
    require_choice,
    require_ranges,
    require_unused,
)

LossName = Literal["ce", "kl", "ranknet"]
Anchor = Literal["text", "labels"]
Keep = Literal["agree@1", "tuned_agree@1", "gain", "tuned_gain", "last"]
OF_THE_READOUT = ("score_as", "bins")
"""Settings without effect under the form `direct`, whose score is the tuned model's own logit."""


@dataclass(frozen=True)
class SelectorSettings(LoraSettings):
    """What a selector is, and the size of its adapter.

    Args:
        form: how a candidate is scored. `lookahead`: the readout after the candidate is appended, as in the
            paper; `residual`: the same added to the candidate's log-probability; `direct`: the tuned model's
            own logit, without appending the candidate.
        score_as: how the bins of the readout become a score S. `expected`: the paper's S in [0, 1];
            `log_odds`: log S - log(1 - S), which is unbounded.
        bins: number of rows (bins) of the readout.
        loss: loss over the candidates of a step: `ce` of the teacher's best candidate, `kl` of the teacher's
            distribution, or `ranknet` over pairs.
        temperature: temperature T of the loss. None: 0.1 for scores in [0, 1], else 1. Scores in [0, 1] at
            T = 1 cannot reach a small loss: with K = 16 the best softmax mass is 0.15.
        last_layers: number of the student's last layers that the adapter changes. None: all. Under proposer
            `base` (pps_local) only these are computed again where a step fires, so fewer are faster.
        beta: weight of the regularizer, the KL of tuned and frozen student, the mean over a text's
            positions; 0 for a selector that only scores (pps_local).
        reverse: regularize by KL(base || tuned) instead of KL(tuned || base).
        anchor: where the regularizer holds. `text`: at every position, by a second forward pass of the frozen
            student; `labels`: at the labelled steps outside the top tau that are not trained on, over the
            labels' own candidates and one bucket for all other tokens, without a second pass (needs labels
            of `--steps all`).

    Raises:
        ValueError: a value outside its range, or one that has no effect beside the others.
    """

    form: ScoreForm = "direct"
    score_as: ScoreAs = "log_odds"
    bins: int = 16
    loss: LossName = "kl"
    temperature: float | None = None
    last_layers: int | None = None
    beta: float = 0.1
    reverse: bool = False
    anchor: Anchor = "text"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ranges(self, bins=AT_LEAST_2, temperature=POSITIVE, beta=NOT_NEGATIVE, last_layers=AT_LEAST_1)
        require_choice("anchor", self.anchor, get_args(Anchor))
        if not self.beta and (self.reverse or self.anchor != "text"):
            name = "reverse" if self.reverse else "anchor"
            raise ValueError(f"{name}: with beta 0 there is no regularizer; give a beta, or leave {name} out")
        if not self.looks_ahead:
            require_unused(self, OF_THE_READOUT, f"form={self.form}, which has no trained readout,")

    @classmethod
    def of_folder(cls, saved: Mapping[str, Any]) -> SelectorSettings:
        """The settings in a selector folder, where earlier versions kept those of a readout beside any form.

        Args:
            saved: its `training.settings.selector`.
        """
        settings = dict(saved)
        if settings.get("form", cls.form) == "direct":
            settings = {name: value for name, value in saved.items() if name not in OF_THE_READOUT}
        return cls(**settings)

    @property
    def effective_temperature(self) -> float:
        """T, or its default for this form."""
        if self.temperature is not None:
            return self.temperature
        return 0.1 if self.form == "lookahead" and self.score_as == "expected" else 1.0

    @property
    def looks_ahead(self) -> bool:
        """Whether candidates are appended."""
        return self.form != "direct"


@dataclass(frozen=True)
class TrainSettings:
    """What to train on and what to keep, beside the selector's form and the loop.

    Args:
        num_candidates: number of candidates K for each step in training.
        top_k: number of candidates K in decoding; held-out figures are measured with it.
        low_kl_fraction: share of the steps outside the top tau that are trained on too; needs labels of
            `--steps all`.
        drop_misses: leave out the steps at which the teacher's token is not among the `top_k` candidates of
            decoding.
        regret: how far steps are weighted by their regret, what can be gained there: log p_L(best) -
            log p_L(greedy). 0 weights all steps alike; 1 weights them by their regret alone, which leaves out
            those where greedy is right.
        limit: number of problems to train on, in the order of the labels. None: all that are not held out.
        skip_routers: train no routers and measure proposer `base` alone, for a selector that is only compared
            with others: its default trigger is then one that needs none, unless it starts from a selector
            whose router is of the same texts and is taken over. `--complete` adds the rest.
        held_out: share of the questions that are never trained on. On one half of them the checkpoint, the
            trigger and the weights are chosen; the figures in the folder are measured on the other half.
        keep: the figure of the choosing half whose best evaluation is kept. `agree@1`: agreement at the top
            steps; `gain`: the teacher's log-probability that picks at every step gain for a text. Both
            are of proposer `base` (`pps_local`), with the best `proposal_weight`. `tuned_agree@1`: agreement
            at the same steps by the rule of proposer `tuned` (`s2t_local`), which adds no proposal: for the
            paper's form. `tuned_gain`: the gain of proposer `tuned`, which writes every token, with the best
            `adapter_scale` (form `direct`). `last`: the last step, or the average at the end, whatever its
            figures (for learning curves and comparisons).

    Raises:
        ValueError: a value outside its range, or more candidates in decoding than in training.
    """

    num_candidates: int = 16
    top_k: int = 8
    low_kl_fraction: float = 0.0
    drop_misses: bool = False
    regret: float = 0.0
    limit: int | None = None
    skip_routers: bool = False
    held_out: float = 0.1
    keep: Keep = "agree@1"

    def __post_init__(self) -> None:
        require_ranges(
            self,
            num_candidates=AT_LEAST_2,
            top_k=AT_LEAST_2,
            low_kl_fraction=SHARE,
            regret=SHARE,
            limit=AT_LEAST_1,
            held_out=PART,
        )
        if self.top_k > self.num_candidates:
            raise ValueError(
                f"top_k: expected at most the {self.num_candidates} candidates of training "
                f"(num_candidates), got {self.top_k}"
            )
