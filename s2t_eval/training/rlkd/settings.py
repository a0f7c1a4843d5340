"""Settings of RLKD; importing this module loads no torch.

Defaults are the published ones unless their description gives another value and the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from s2t_eval.models.lora_settings import LoraSettings
from s2t_eval.ranges import (
    AT_LEAST_1,
    AT_LEAST_2,
    NOT_NEGATIVE,
    PART,
    POSITIVE,
    require_choice,
    require_ranges,
)
from s2t_eval.training.settings import LoopSettings, Schedule

StructurerName = Literal["rule", "llm"]
AlignerName = Literal["rule", "llm"]
Aggregate = Literal["mean", "sum"]
Keep = Literal["reward", "last"]
RANGES = {
    "structure_weight": NOT_NEGATIVE,
    "correctness_weight": NOT_NEGATIVE,
    "group_size": AT_LEAST_2,
    "temperature": POSITIVE,
    "kl_weight": NOT_NEGATIVE,
    "clip_range": PART,
    "updates": AT_LEAST_1,
    "rows": AT_LEAST_1,
    "limit": AT_LEAST_1,
    "max_held_out": AT_LEAST_1,
}
"""Of the settings that only RLKD has."""
RLKD_LR = 5e-5
"""Peak learning rate, as published (there for all weights)."""


@dataclass(frozen=True)
class RlkdSettings(LoraSettings):
    """What is rewarded, how texts are sampled, and the size of the adapter that is trained.

    Args:
        structurer: what divides a text into steps of meta-reasoning, query and answer. `rule`: its equations;
            `llm`: the teacher, prompted (published: a 7B model that was tuned for it).
        aligner: what compares two steps. `rule`: numbers and operators; `llm`: the teacher, by the logits of
            yes and no (published: a 7B model, by words of its reply).
        aggregate: the structure reward of a text. `mean`: the sum over its steps divided by the number of
            the reference's steps; `sum`: the sum alone, which is published and favours problems with many
            steps.
        structure_weight: weight of the structure reward (published: 15). Rewards are scaled within their
            group, so only its ratio to `correctness_weight` matters.
        correctness_weight: weight of the reward for a right final answer (published: 15).
        group_size: texts sampled for each problem and update.
        temperature: temperature of the samples, and of the distribution that is optimised.
        kl_weight: weight of the KL divergence from the untrained student (GRPO's beta).
        clip_range: probability ratios count from 1 - this to 1 + this (GRPO's epsilon).
        updates: optimizer steps on the same samples; with 1 the clipping has no effect.
        unscaled: do not divide the rewards of a group by their standard deviation.
        unverified: keep problems for which the teacher's text has a wrong final answer.
        held_out: share of the questions that are never trained on.
        keep: the weights that are written. `reward`: those with the highest reward on held-out problems, the
            untrained ones included; `last`: those of the last step, or with `average_last` their average,
            whatever the held-out problems say (for comparisons).
        rows: number of texts that are generated at once.
        limit: number of problems to train on, of those with a right reference. None: all of them that are
            not held out.
        max_held_out: largest number of held-out problems that an evaluation decodes. None: all of them. With
            `limit` as well, the teacher writes no more texts than both need.

    Raises:
        ValueError: a value outside its range.
    """

    structurer: StructurerName = "rule"
    aligner: AlignerName = "rule"
    aggregate: Aggregate = "mean"
    structure_weight: float = 1.0
    correctness_weight: float = 1.0
    group_size: int = 4
    temperature: float = 0.7
    kl_weight: float = 0.04
    clip_range: float = 0.2
    updates: int = 1
    unscaled: bool = False
    unverified: bool = False
    held_out: float = 0.1
    keep: Keep = "reward"
    rows: int = 64
    limit: int | None = None
    max_held_out: int | None = None

    def __post_init__(self) -> None:
        require_ranges(self, held_out=PART, **RANGES)
        super().__post_init__()
        for name, known in (
            ("structurer", StructurerName),
            ("aligner", AlignerName),
            ("aggregate", Aggregate),
            ("keep", Keep),
        ):
            require_choice(name, getattr(self, name), get_args(known))
        if not self.structure_weight:
            self._require_no_structure()
        if not self.structure_weight + self.correctness_weight:
            raise ValueError(
                "structure_weight: expected a number above 0, since correctness_weight is 0 too; without a "
                "reward nothing is learnt"
            )
        if self.dropout:
            raise ValueError(
                f"dropout: expected 0, got {self.dropout}; the probabilities of a text before and after an "
                "update are compared, and dropout would differ between them"
            )

    def _require_no_structure(self) -> None:
        """Raise `ValueError` for a setting of the structure reward, whose weight is 0."""
        for name in ("structurer", "aligner", "aggregate"):
            default = getattr(type(self), name)
            if (value := getattr(self, name)) != default:
                raise ValueError(
                    f"{name}: expected {default} beside structure_weight=0, got {value}; no structure is "
                    "computed then, so leave it out, or give structure_weight a number above 0"
                )

    @property
    def lora(self) -> LoraSettings:
        """The size of the adapter."""
        return LoraSettings(self.rank, self.alpha, self.dropout)

    def require_no_patience(self, patience: int | None) -> None:
        """Raise `ValueError` where patience would end a training before the weights that are kept."""
        if self.keep == "last" and patience:
            raise ValueError(
                f"patience: expected 0 beside keep=last, which trains to the end, got {patience}"
            )

    def require_teacher(self, is_named: bool) -> None:
        """Raise `ValueError` where the settings need a teacher and none is named."""
        if self.unverified and not is_named:
            raise ValueError(
                "unverified: it keeps problems whose teacher's text has a wrong answer, and no teacher is "
                "named; name one, or leave it out"
            )
        if "llm" in (self.structurer, self.aligner) and not is_named:
            raise ValueError(
                "teacher: the structurer and the aligner llm prompt the teacher, and none is named; name "
                "one, or use rule"
            )


@dataclass(frozen=True)
class RlkdLoopSettings(LoopSettings):
    """The training loop with the published settings; an item is a problem with its group of texts."""

    epochs: int = 1
    schedule: Schedule = "constant_with_warmup"
    lr_warmup_fraction: float = 0.1
    batch_size: int = 8
    accumulate: int = 1
    weight_decay: float = 0.0
    clip: float = 0.2
    evaluations: int = 4
