"""The parts of a recipe that collect, measure, train and choose.

A setting that a recipe leaves out (None) is left to the command that the stage runs, whose default then
holds. `tests/reproduce/test_build.py` compares the settings with the options of those commands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from s2t_eval.method_table import DELIMITERS, DISTIL_METHODS, SCORE_FORMS, STEP_SCORES
from s2t_eval.ranges import (
    AT_LEAST_0,
    AT_LEAST_1,
    AT_LEAST_2,
    NOT_NEGATIVE,
    PART,
    RATE,
    SHARE,
    Range,
    require_ranges,
)
from s2t_eval.training.r2r.settings import RULES
from s2t_eval.training.rlkd.settings import RANGES, Aggregate, Aligner, Structurer

FIRES = Range("a rate above 0, at most 1 (every step)", 0, 1, without=(0,))


def require_choice(name: str, value: str | None, known: tuple[str, ...]) -> None:
    """Raise `ValueError` unless a value is None or one of the known ones."""
    if value is not None and value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Problems:
    """Problems of a task's training split, or of a data set.

    Args:
        task: of lm_eval; the development problems of a task whose name ends in `_dev`.
        data: FILE.jsonl, NAME:SPLIT or NAME:CONFIG:SPLIT.
        limit: how many; None takes the command's default.
        skip: how many are left out at the beginning.
        drop_overlap: leave problems out that are also evaluation problems, instead of refusing them.
        system_instruction: with `data`, in the place of the recipe's own: a task's prompt contains its
            instruction already, a data set's does not.
    """

    task: str | None = None
    data: str | None = None
    limit: int | None = None
    skip: int | None = None
    drop_overlap: bool = False
    system_instruction: str | None = None

    def __post_init__(self) -> None:
        if (self.task is None) == (self.data is None):
            raise ValueError(f"expected one of task and data, got task={self.task!r} and data={self.data!r}")
        if self.task is not None and self.system_instruction is not None:
            raise ValueError(
                "system_instruction: it is of data; a task has its own, or the recipe's prompt's"
            )
        require_ranges(self, limit=AT_LEAST_1, skip=AT_LEAST_0)


@dataclass(frozen=True, kw_only=True)
class CalibrationPart:
    """`s2t-eval calibrate`: thresholds that fire at these rates, and scores that accept these shares.

    Args:
        problems: to calibrate on.
        tau, warmup_tokens: of triggers.
        step_score, delimiter, max_step, accept_rate: of SpecReason; without a score it is not calibrated.
    """

    problems: Problems
    tau: tuple[float, ...] = (0.01, 0.05, 0.1)
    warmup_tokens: int | None = None
    step_score: tuple[str, ...] = ()
    delimiter: str | None = None
    max_step: int | None = None
    accept_rate: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require_ranges(self, warmup_tokens=AT_LEAST_0, max_step=AT_LEAST_1)
        for tau in self.tau:
            RATE.require("tau", tau)
        for rate in self.accept_rate:
            RATE.require("accept_rate", rate)
        for score in self.step_score:
            require_choice("step_score", score, STEP_SCORES)
        require_choice("delimiter", self.delimiter, DELIMITERS)
        for name in ("delimiter", "max_step", "accept_rate"):
            if getattr(self, name) and not self.step_score:
                raise ValueError(f"{name}: it is of a step's score; name step_score, or leave it out")


@dataclass(frozen=True, kw_only=True)
class LabelsPart:
    """`s2t-eval collect`, or a label set that is there already.

    Args:
        folder: an existing label set; nothing is collected then.
        problems: to collect on.
        tau, steps, teacher_context, evaluation, selector, selector_trigger, selector_tau: see
            `s2t-eval collect`.
    """

    folder: str | None = None
    problems: Problems | None = None
    tau: float | None = None
    steps: Literal["top", "all"] | None = None
    teacher_context: str | None = None
    evaluation: tuple[str, ...] = ()
    selector: str | None = None
    selector_trigger: str | None = None
    selector_tau: float | None = None

    def __post_init__(self) -> None:
        if (self.folder is None) == (self.problems is None):
            raise ValueError("expected one of folder (an existing label set) and problems (to collect on)")
        require_ranges(self, tau=RATE, selector_tau=RATE)


@dataclass(frozen=True, kw_only=True)
class RoundPart:
    """`s2t-eval collect --selector`: the problems of the recipe's labels, on texts that a selector writes.

    Everything else is that of the recipe's labels, so the same problems are held out.

    Args:
        selector: name of a selector of the recipe.
        trigger, tau: of that selector, while it writes; None: its default.
    """

    selector: str
    trigger: str | None = None
    tau: float | None = None

    def __post_init__(self) -> None:
        require_ranges(self, tau=RATE)


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of the training loop (`training.loop.LoopSettings`) and of the adapter.

    Args:
        precision: None takes bf16 for a student in bfloat16, else no.
    """

    epochs: int | None = None
    lr: float | None = None
    schedule: str | None = None
    lr_warmup_fraction: float | None = None
    batch_size: int | None = None
    accumulate: int | None = None
    weight_decay: float | None = None
    clip: float | None = None
    evaluations: int | None = None
    patience: int | None = None
    average_last: float | None = None
    snapshots: int | None = None
    precision: Literal["no", "bf16", "fp16"] | None = None
    held_out: float | None = None

    def __post_init__(self) -> None:
        require_ranges(
            self,
            epochs=AT_LEAST_1,
            batch_size=AT_LEAST_1,
            accumulate=AT_LEAST_1,
            evaluations=AT_LEAST_1,
            lr_warmup_fraction=SHARE,
            weight_decay=NOT_NEGATIVE,
            patience=AT_LEAST_0,
            average_last=SHARE,
            snapshots=AT_LEAST_2,
            held_out=PART,
        )


@dataclass(frozen=True, kw_only=True)
class Adapter(Training):
    """A training loop over an adapter."""

    rank: int | None = None
    alpha: int | None = None
    dropout: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ranges(self, rank=AT_LEAST_1, alpha=AT_LEAST_1, dropout=SHARE)


@dataclass(frozen=True, kw_only=True)
class SelectorPart(Adapter):
    """`s2t-eval train`: a selector, its routers and thresholds.

    Args:
        labels: name of a round of the recipe; None takes its labels.
        start: name of another selector of the recipe to go on from.
    """

    form: str | None = None
    score_as: Literal["expected", "log_odds"] | None = None
    bins: int | None = None
    loss: Literal["ce", "kl", "ranknet"] | None = None
    temperature: float | None = None
    beta: float | None = None
    reverse: bool = False
    anchor: Literal["text", "labels"] | None = None
    num_candidates: int | None = None
    top_k: int | None = None
    low_kl_fraction: float | None = None
    drop_misses: bool = False
    regret: float | None = None
    limit: int | None = None
    skip_routers: bool = False
    keep: Literal["agree@1", "gain", "tuned_gain", "last"] | None = None
    labels: str | None = None
    start: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("form", self.form, SCORE_FORMS)
        require_ranges(self, bins=AT_LEAST_2, num_candidates=AT_LEAST_2, top_k=AT_LEAST_2)
        require_ranges(self, low_kl_fraction=SHARE, regret=SHARE, limit=AT_LEAST_1)


@dataclass(frozen=True, kw_only=True)
class DistilPart(Adapter):
    """`s2t-eval distil`, on the texts of the recipe's labels."""

    method: str | None = None
    full: bool = False
    beta: float | None = None
    temperature: float | None = None
    limit: int | None = None
    until: tuple[str, ...] = ()
    rows: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("method", self.method, DISTIL_METHODS)
        require_ranges(self, limit=AT_LEAST_1, rows=AT_LEAST_1)


@dataclass(frozen=True, kw_only=True)
class RlkdPart(Training):
    """`s2t-eval rlkd`, on the problems of the recipe's labels, which are those of a task.

    Args:
        references: `teacher`: its greedy texts; `solutions`: the problems' own solutions.
        structurer, aligner, aggregate, structure_weight, correctness_weight, group_size, temperature,
            kl_weight, clip_range, updates, unscaled, unverified, rows, limit, max_held_out, rank, alpha: see
            `s2t-eval rlkd`.
    """

    references: Literal["teacher", "solutions"] = "teacher"
    structurer: Structurer | None = None
    aligner: Aligner | None = None
    aggregate: Aggregate | None = None
    structure_weight: float | None = None
    correctness_weight: float | None = None
    group_size: int | None = None
    temperature: float | None = None
    kl_weight: float | None = None
    clip_range: float | None = None
    updates: int | None = None
    unscaled: bool = False
    unverified: bool = False
    rows: int | None = None
    limit: int | None = None
    max_held_out: int | None = None
    rank: int | None = None
    alpha: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ranges(self, rank=AT_LEAST_1, alpha=AT_LEAST_1, **RANGES)
        for name in ("structurer", "aligner"):
            if self.references == "solutions" and getattr(self, name) == "llm":
                raise ValueError(f"{name}: llm prompts the teacher, which references=solutions leaves out")


@dataclass(frozen=True, kw_only=True)
class DepthsPart(Adapter):
    """`s2t-eval tah train --stage 1`."""

    max_depth: int | None = None
    top_n: int | None = None
    train_base: bool = False
    easy_fraction: float | None = None


@dataclass(frozen=True, kw_only=True)
class DeciderPart(Training):
    """`s2t-eval tah train --stage 2`."""

    layers: tuple[int, ...] = ()
    width: int | None = None
    blocks: int | None = None
    positive_weight: float | None = None
    eval_threshold: float | None = None
    decoding_threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class TahPart:
    """A Think-at-Hard student: labels on reference solutions, passes, decider."""

    problems: Problems
    depths: DepthsPart = field(default_factory=DepthsPart)
    decider: DeciderPart = field(default_factory=DeciderPart)


@dataclass(frozen=True, kw_only=True)
class RouterLabelsPart:
    """`s2t-eval r2r label`: the rule of the labels, and what is kept for the router."""

    rule: str | None = None
    max_sentence: int | None = None
    max_edit: float | None = None
    min_regret: float | None = None
    validate: float | None = None
    num_logits: int | None = None

    def __post_init__(self) -> None:
        require_choice("rule", self.rule, RULES)
        require_ranges(self, max_sentence=AT_LEAST_1, num_logits=AT_LEAST_1, max_edit=SHARE, validate=SHARE)


@dataclass(frozen=True, kw_only=True)
class RouterTrainingPart(Training):
    """`s2t-eval r2r train`: the size of the router, its training and its own threshold."""

    width: int | None = None
    blocks: int | None = None
    num_logits: int | None = None
    dropout: float | None = None
    recall_factor: float | None = None
    by: Literal["recall", "rate"] | None = None
    recall: float | None = None
    tau: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ranges(self, width=AT_LEAST_1, blocks=AT_LEAST_1, num_logits=AT_LEAST_1)
        require_ranges(self, dropout=SHARE, recall=RATE, tau=RATE)


@dataclass(frozen=True, kw_only=True)
class RouterPart:
    """R2R's router: labels of the teacher's texts of some training problems, and a training on them."""

    problems: Problems
    labels: RouterLabelsPart = field(default_factory=RouterLabelsPart)
    training: RouterTrainingPart = field(default_factory=RouterTrainingPart)


@dataclass(frozen=True, kw_only=True)
class ChoicePart:
    """`s2t-eval scan` on development problems, then `s2t-eval choose`: a selector with the best default.

    Args:
        selector: name of a selector of the recipe; the choice is a copy of it.
        task: of development problems.
        tau: rates to compare; 1 is every step.
        limit: problems; None takes all.
        model: the backend; `s2t_local` chooses for the proposer `tuned`.
        arguments: more model arguments, such as trigger: router.
    """

    selector: str
    task: str
    tau: tuple[float, ...]
    limit: int | None = None
    model: Literal["pps_local", "s2t_local"] = "pps_local"
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_ranges(self, limit=AT_LEAST_1)
        if len(self.tau) < 2:
            raise ValueError(f"tau: expected at least two rates to choose from, got {list(self.tau)}")
        for tau in self.tau:
            FIRES.require("tau", tau)
