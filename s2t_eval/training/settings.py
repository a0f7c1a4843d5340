"""How long and how fast the training loop trains; importing this module loads no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from s2t_eval.ranges import (
    AT_LEAST_0,
    AT_LEAST_1,
    AT_LEAST_2,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    Range,
    require_choice,
    require_ranges,
    require_unused,
)

LEARNING_RATE = Range("a rate above 0", 0, without=(0,))
ADAPTER_LR = 2e-4
"""Peak learning rate of an adapter where neither the settings nor the trainer name one."""
Precision = Literal["no", "bf16", "fp16"]
Schedule = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
]
"""Those of transformers' `get_scheduler` that need a number of steps and nothing else."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast to train.

    Args:
        epochs: number of passes over the training items.
        lr: peak learning rate of AdamW. None: 2e-4, or the trainer's own (2e-5 where `distil` trains all
            weights; 4e-5 where `tah train` trains them; 3e-4 for its decider and the router of `r2r train`;
            5e-5 for `rlkd`).
        schedule: how the learning rate changes after its warm-up.
        lr_warmup_fraction: share of all optimizer steps in which the learning rate rises to its peak.
        batch_size: items of one forward pass on each process.
        accumulate: forward passes for one optimizer step; the last, partial window makes a step too.
        weight_decay: weight decay of AdamW; the readout of a selector is exempt.
        clip: largest norm of the gradient; a larger gradient is scaled down to it.
        evaluations: held-out evaluations (and checkpoints) for each epoch.
        patience: training stops after this many evaluations that are all worse than the best one before them;
            0: it never stops early.
        average_last: the last share of all optimizer steps, from which parameters are averaged; the average
            is kept where its held-out figure is at least the best one. The products of LoRA's matrices are
            averaged, not the matrices. 0 averages nothing.
        snapshots: number of evenly spaced steps of that share whose parameters are averaged.
        precision: mixed precision of the forward pass, as in accelerate.
        seed: seed of the order of items, of the first weights of what is trained, of dropout and of every
            other draw.
        log_with: trackers of accelerate that receive the metrics, such as `tensorboard` or `wandb`. Files of
            `tensorboard` and `aim` are in `OUT.logs`.

    Raises:
        ValueError: a value outside its range, or one that has no effect beside the others.
    """

    epochs: int = 2
    lr: float | None = None
    schedule: Schedule = "cosine"
    lr_warmup_fraction: float = 0.05
    batch_size: int = 1
    accumulate: int = 8
    weight_decay: float = 0.01
    clip: float = 1.0
    evaluations: int = 2
    patience: int = 0
    average_last: float = 0.0
    snapshots: int = 4
    precision: Precision = "no"
    seed: int = 0
    log_with: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_ranges(
            self,
            epochs=AT_LEAST_1,
            lr=LEARNING_RATE,
            lr_warmup_fraction=SHARE,
            batch_size=AT_LEAST_1,
            accumulate=AT_LEAST_1,
            weight_decay=NOT_NEGATIVE,
            clip=POSITIVE,
            evaluations=AT_LEAST_1,
            patience=AT_LEAST_0,
            average_last=SHARE,
            snapshots=AT_LEAST_2,
            seed=SEED,
        )
        require_choice("schedule", self.schedule, SCHEDULES)
        require_choice("precision", self.precision, PRECISIONS)
        if not self.average_last:
            require_unused(self, ["snapshots"], "average_last=0")
        _require_trackers(self.log_with)

    def snapshot_steps(self, total: int) -> list[int]:
        """The steps of a run of `total` steps whose parameters are averaged, in ascending order."""
        if not self.average_last:
            return []
        spacing = self.average_last * total / self.snapshots
        # rounded first, because 100 - 3 * (0.1 * 100) must not become 70.00000000000001
        return sorted({math.ceil(round(total - spacing * i, 6)) for i in range(self.snapshots)})

    @property
    def peak_lr(self) -> float:
        """The peak learning rate that is in force."""
        return ADAPTER_LR if self.lr is None else self.lr

    def with_default_lr(self, lr: float = ADAPTER_LR) -> LoopSettings:
        """These settings with the trainer's learning rate where they name none."""
        return replace(self, lr=lr) if self.lr is None else self


def _require_trackers(names: Sequence[str]) -> None:
    """Raise `ValueError` for a tracker that accelerate does not have or that is not installed."""
    if not names:
        return
    from accelerate.tracking import get_available_trackers  # it loads torch

    available = [str(getattr(name, "value", name)) for name in get_available_trackers()]
    for name in names:
        if name not in available:
            raise ValueError(
                f"log_with: expected trackers of accelerate that are installed here "
                f"({', '.join(available) or 'there are none'}), got {name!r}"
            )
