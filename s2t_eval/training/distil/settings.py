"""What to distil, and how; importing this module loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from s2t_eval.method_table import DISTIL_METHODS, DistilMethod
from s2t_eval.models.lora_settings import LoraSettings
from s2t_eval.ranges import AT_LEAST_1, PART, POSITIVE, Range, require_choice, require_ranges

WITH_BETA = ("jsd", "tsd_kd")
"""Methods whose loss contains a Jensen-Shannon divergence."""
WITH_TEACHER_TEXTS = ("seqkd",)
"""Methods that learn from texts of the teacher; the others learn from the student's own."""
BETA = Range("a number between 0 and 1", 0, 1, without=(0, 1))


@dataclass(frozen=True)
class DistilSettings(LoraSettings):
    """What to distil, and the size of the adapter that is trained.

    Args:
        method: what is minimised. `kd`: KL(teacher || student); `reverse_kl`: KL(student || teacher); `jsd`:
            their Jensen-Shannon divergence; `seqkd`: cross-entropy on texts of the teacher; `tsd_kd`: the
            divergence at selected tokens.
        beta: weight of the Jensen-Shannon divergence, from 0 to 1. None: 0.5 of `jsd`, 0.9 of `tsd_kd`.
        temperature: temperature that divides both models' logits in the loss.
        full: train all weights instead of an adapter.
        held_out: share of the questions that are never trained on.
        until: strings that end a text of the teacher (`seqkd`); stop tokens always do.
        rows: number of texts that the teacher writes at once (`seqkd`).
        limit: number of problems to learn from. None: all that are not held out.

    Raises:
        ValueError: a value outside its range, or one that the method does not read.
    """

    method: DistilMethod = "kd"
    beta: float | None = None
    temperature: float = 1.0
    full: bool = False
    held_out: float = 0.1
    until: tuple[str, ...] = ()
    rows: int = 32
    limit: int | None = None

    def __post_init__(self) -> None:
        require_ranges(self, temperature=POSITIVE, held_out=PART, rows=AT_LEAST_1, limit=AT_LEAST_1)
        super().__post_init__()
        self._require_method()
        if self.rows != DistilSettings.rows and not self.learns_teacher_texts:
            raise ValueError(
                f"rows: the teacher generates texts for seqkd only, got method {self.method}; leave it out"
            )
        if self.until and not self.learns_teacher_texts:
            raise ValueError(
                f"until: the teacher generates texts for seqkd only, got method {self.method}; leave it out"
            )
        if not all(self.until):
            raise ValueError("until: expected texts of at least one character, got an empty one")
        if self.full and self.lora != LoraSettings():
            raise ValueError("full: it trains all weights and has no rank, alpha or dropout; leave one out")

    def _require_method(self) -> None:
        """Raise `ValueError` for an unknown method, or a beta that it has not or that is out of range."""
        require_choice("method", self.method, DISTIL_METHODS)
        if self.beta is None:
            return
        if self.method not in WITH_BETA:
            raise ValueError(
                f"beta: only {' and '.join(WITH_BETA)} have one, {self.method} has not; leave it out"
            )
        BETA.require("beta", self.beta)

    @property
    def learns_teacher_texts(self) -> bool:
        """Whether the method learns from texts of the teacher."""
        return self.method in WITH_TEACHER_TEXTS

    @property
    def lora(self) -> LoraSettings:
        """The size of the adapter."""
        return LoraSettings(self.rank, self.alpha, self.dropout)

    @property
    def adapter(self) -> LoraSettings | None:
        """The adapter that is trained; None where all weights are."""
        return None if self.full else self.lora
