"""Settings of the two stages of Think-at-Hard; importing this module loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from s2t_eval.methods.tah.settings import TahError
from s2t_eval.ranges import AT_LEAST_1, PART, POSITIVE, PROBABILITY, SHARE, require_ranges
from s2t_eval.training.settings import LoopSettings

BASE_LR, DECIDER_LR = 4e-5, 3e-4
"""Peak learning rates where the student's own weights are trained, and of the decider."""
EVAL_THRESHOLD = 0.8
DECODING_THRESHOLD = 0.9
"""The paper's: of held-out figures in training, and in evaluation."""


@dataclass(frozen=True)
class DepthSettings:
    """Stage 1 beside the loop and the looped student.

    Args:
        easy_fraction: share of easy tokens that take part in the second pass in training too, because a
            decider will choose some of them; 0 is the paper's.
        held_out: share of the questions that are never trained on, the same in both stages.
        max_eval_texts: largest number of held-out texts in an evaluation.
    """

    easy_fraction: float = 0.0
    held_out: float = 0.1
    max_eval_texts: int = 200

    def __post_init__(self) -> None:
        require_ranges(self, TahError, easy_fraction=SHARE, held_out=PART, max_eval_texts=AT_LEAST_1)


@dataclass(frozen=True)
class DecisionSettings:
    """Stage 2 beside the loop and the decider.

    Args:
        positive_weight: weight of a hard token in the loss of the decider.
        held_out: share of the questions that are never trained on, the same in both stages.
        max_eval_texts: largest number of held-out texts in an evaluation.
        eval_threshold: probability above which a token is iterated again in the held-out figures of training.
        decoding_threshold: probability above which a token is iterated again in decoding; it is saved as the
            folder's default.
    """

    positive_weight: float = 5.0
    held_out: float = 0.1
    max_eval_texts: int = 200
    eval_threshold: float = EVAL_THRESHOLD
    decoding_threshold: float = DECODING_THRESHOLD

    def __post_init__(self) -> None:
        require_ranges(
            self,
            TahError,
            positive_weight=POSITIVE,
            held_out=PART,
            max_eval_texts=AT_LEAST_1,
            eval_threshold=PROBABILITY,
            decoding_threshold=PROBABILITY,
        )


@dataclass(frozen=True)
class TahLoopSettings(LoopSettings):
    """The training loop with the paper's warm-up and gradient norm as defaults."""

    lr_warmup_fraction: float = 0.03
    clip: float = 0.2
