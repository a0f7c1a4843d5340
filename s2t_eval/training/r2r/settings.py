"""Settings of R2R's labels and of its router's training; importing this module loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from s2t_eval.methods.r2r_error import R2RError
from s2t_eval.ranges import (
    AT_LEAST_1,
    NOT_NEGATIVE,
    PART,
    POSITIVE,
    RATE,
    SHARE,
    require_choice,
    require_ranges,
    require_unused,
)
from s2t_eval.training.settings import LoopSettings, Schedule

Rule = Literal["reconverge", "answer", "judge", "regret"]
RULES: tuple[Rule, ...] = get_args(Rule)
By = Literal["recall", "rate"]
ROUTER_LR = 3e-4
"""Peak learning rate of the router. The paper's is 5e-5, for a larger router."""
UNUSED: Mapping[Rule, tuple[str, ...]] = {
    "reconverge": ("min_regret",),
    "answer": ("max_sentence", "max_edit", "min_regret", "validate"),
    "judge": ("max_edit", "min_regret"),
    "regret": ("max_sentence", "max_edit"),
}
"""Rule -> the settings of labels without effect under it."""


@dataclass(frozen=True)
class LabelSettings:
    """How mismatches are labelled.

    Args:
        rule: when a mismatch is divergent. `reconverge`: the continuations of both tokens say different
            things. `answer`: both continuations run to the end of the text, and their final
            answers differ by the task's own equality. `judge`: the teacher reads both sentences and gives 1
            (divergent) more probability than 0. `regret`: the teacher's log-probability of its own token
            exceeds that of the student's by more than `min_regret`; nothing is continued.
        max_sentence: largest number of tokens of a continuation to the end of the sentence.
        max_edit: under `reconverge`, the largest edit distance of two sentences that count as the same, as a
            share of the longer one's words.
        min_regret: under `regret`, the difference of log-probabilities in nats above which a mismatch is
            divergent.
        validate: share of the problems at which `answer` checks the rule; 0 checks nothing.

    Raises:
        R2RError: a value outside its range, or one without effect beside the others.
    """

    rule: Rule = "reconverge"
    max_sentence: int = 48
    max_edit: float = 0.3
    min_regret: float = 1.0
    validate: float = 0.05

    def __post_init__(self) -> None:
        require_choice("rule", self.rule, RULES, R2RError)
        require_ranges(
            self,
            R2RError,
            max_sentence=AT_LEAST_1,
            max_edit=SHARE,
            min_regret=NOT_NEGATIVE,
            validate=SHARE,
        )
        require_unused(self, UNUSED[self.rule], f"rule={self.rule}", R2RError)


@dataclass(frozen=True)
class RouterTrainSettings:
    """The weight of divergent tokens, and what is held out.

    Args:
        held_out: share of the problems that are not trained on: half of them stop the training and choose
            the threshold, on the other half figures are reported.
        recall_factor: the weight of a divergent token is this times the ratio of other to divergent tokens.

    Raises:
        R2RError: a value outside its range.
    """

    held_out: float = 0.2
    recall_factor: float = 1.0

    def __post_init__(self) -> None:
        require_ranges(self, R2RError, held_out=PART, recall_factor=POSITIVE)


@dataclass(frozen=True)
class ThresholdSettings:
    """What chooses the threshold that a router's folder names, on validation problems.

    Args:
        by: `recall`: the lowest positive rate at which this recall is reached, as in the paper. `rate`: this
            share of the tokens is the teacher's.
        recall: share of the divergent tokens that are above the threshold, with `by` = `recall`.
        tau: share of all tokens that are above the threshold, with `by` = `rate`.

    Raises:
        R2RError: a value outside its range, or one without effect beside the others.
    """

    by: By = "recall"
    recall: float = 0.95
    tau: float = 0.05

    def __post_init__(self) -> None:
        if self.by not in ("recall", "rate"):
            raise R2RError(f"by: expected 'recall' or 'rate', got {self.by!r}")
        require_ranges(self, R2RError, recall=RATE, tau=RATE)
        require_unused(self, ["tau" if self.by == "recall" else "recall"], f"by={self.by}", R2RError)

    @property
    def described(self) -> str:
        """In words, for folders and cards."""
        return f"recall {self.recall}" if self.by == "recall" else f"rate {self.tau}"


@dataclass(frozen=True)
class RouterLoopSettings(LoopSettings):
    """The training loop with defaults for a router: four texts are about the paper's 1,024 tokens a step."""

    epochs: int = 30
    schedule: Schedule = "constant_with_warmup"
    batch_size: int = 4
    accumulate: int = 1
    weight_decay: float = 5e-4
    evaluations: int = 1
    patience: int = 5
