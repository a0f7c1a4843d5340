"""What a recipe may say: one frozen dataclass a section, each checked when it is built.

A setting that a recipe leaves out (None) is left to the command that the stage runs, whose default then
holds. `tests/reproduce/test_stages.py` compares the settings below with the options of those commands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from s2t_eval.method_table import BACKENDS, DISTIL_METHODS, SCORE_FORMS
from s2t_eval.ranges import (
    AT_LEAST_0,
    AT_LEAST_1,
    AT_LEAST_2,
    NOT_NEGATIVE,
    PART,
    RATE,
    SEED,
    SHARE,
    Range,
    require_ranges,
)

NAME = re.compile(r"[A-Za-z0-9][\w-]*")
RESERVED = ("student", "teacher", "labels", "calibration")
"""References that every recipe has; artifacts of a recipe's own have other names."""
FIRES = Range("a rate above 0, at most 1 (every step)", 0, 1, without=(0,))


def require_choice(name: str, value: str | None, known: tuple[str, ...]) -> None:
    """Raise `ValueError` unless a value is None or one of the known ones."""
    if value is not None and value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Models:
    """The pair.

    Args:
        student, teacher: names on the Hugging Face Hub, folders, or those of the embedded pair.
        student_revision, teacher_revision: of the hub; such a model is first downloaded into the output.
        dtype: of the student, `auto` or a torch dtype.
        teacher_dtype: None takes the student's.
        device: None takes a GPU where there is one.
        trust: whether code that comes with a checkpoint may be run.
    """

    student: str
    teacher: str | None = None
    student_revision: str | None = None
    teacher_revision: str | None = None
    dtype: str = "auto"
    teacher_dtype: str | None = None
    device: str | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        if self.teacher is None and self.teacher_revision is not None:
            raise ValueError("teacher_revision: there is no teacher it could be of; leave it out")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """How problems are put to the models, in training and in evaluation alike."""

    apply_chat_template: bool = False
    system_instruction: str | None = None
    num_fewshot: int | None = None

    def __post_init__(self) -> None:
        require_ranges(self, num_fewshot=AT_LEAST_0)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of all stages.

    Args:
        max_gen_toks: new tokens of a text; None takes each task's own.
        batch_size: texts that are decoded at once.
        problems: most training and development problems of any stage; None: as many as it names.
        documents: most evaluated documents of any task; None: as many as it names.
    """

    max_gen_toks: int | None = None
    batch_size: int = 32
    problems: int | None = None
    documents: int | None = None

    def __post_init__(self) -> None:
        one = dict.fromkeys(("max_gen_toks", "batch_size", "problems", "documents"), AT_LEAST_1)
        require_ranges(self, **one)


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
    """`s2t-eval calibrate`: thresholds that fire at these rates."""

    problems: Problems
    tau: tuple[float, ...] = (0.01, 0.05, 0.1)
    warmup: int | None = None

    def __post_init__(self) -> None:
        require_ranges(self, warmup=AT_LEAST_0)
        for tau in self.tau:
            RATE.require("tau", tau)


@dataclass(frozen=True, kw_only=True)
class LabelsPart:
    """`s2t-eval collect`, or a label set that is there already.

    Args:
        folder: an existing label set; nothing is collected then.
        problems: to collect on.
        tau, steps, teacher_context, evaluation: see `s2t-eval collect`.
    """

    folder: str | None = None
    problems: Problems | None = None
    tau: float | None = None
    steps: Literal["top", "all"] | None = None
    teacher_context: str | None = None
    evaluation: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.folder is None) == (self.problems is None):
            raise ValueError("expected one of folder (an existing label set) and problems (to collect on)")
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
    warmup: float | None = None
    batch_size: int | None = None
    accumulate: int | None = None
    weight_decay: float | None = None
    clip: float | None = None
    evaluations: int | None = None
    patience: int | None = None
    precision: Literal["no", "bf16", "fp16"] | None = None
    held_out: float | None = None

    def __post_init__(self) -> None:
        whole = dict.fromkeys(("epochs", "batch_size", "accumulate", "evaluations"), AT_LEAST_1)
        require_ranges(
            self, **whole, warmup=SHARE, weight_decay=NOT_NEGATIVE, patience=AT_LEAST_0, held_out=PART
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
        start: name of another selector of the recipe to go on from.
    """

    form: str | None = None
    score_as: Literal["expected", "log_odds"] | None = None
    bins: int | None = None
    loss: Literal["ce", "kl", "ranknet"] | None = None
    temperature: float | None = None
    beta: float | None = None
    reverse: bool = False
    num_candidates: int | None = None
    top_k: int | None = None
    quiet: float | None = None
    keep: Literal["agree@1", "gain"] | None = None
    start: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("form", self.form, SCORE_FORMS)
        require_ranges(self, bins=AT_LEAST_2, num_candidates=AT_LEAST_2, top_k=AT_LEAST_2, quiet=SHARE)


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
class DepthsPart(Adapter):
    """`s2t-eval tah train --stage 1`."""

    max_depth: int | None = None
    top_n: int | None = None
    train_base: bool = False
    easy: float | None = None


@dataclass(frozen=True, kw_only=True)
class DeciderPart(Training):
    """`s2t-eval tah train --stage 2`."""

    layers: tuple[int, ...] = ()
    width: int | None = None
    blocks: int | None = None
    positive_weight: float | None = None
    threshold: float | None = None
    decoding_threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class TahPart:
    """A Think-at-Hard student: labels on reference solutions, passes, decider."""

    problems: Problems
    depths: DepthsPart = field(default_factory=DepthsPart)
    decider: DeciderPart = field(default_factory=DeciderPart)


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


@dataclass(frozen=True, kw_only=True)
class MethodPart:
    """A row of the table.

    Args:
        model: lm_eval's `--model`.
        arguments: of the model; `${student}`, `${teacher}`, `${calibration}` and the names of trained
            artifacts stand for their places. `pretrained` is the student unless it is given.
        label: in the summary; None takes the method's name.
        trace: whether fired steps are kept, for the viewer of the page.
    """

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    trace: bool = False

    def __post_init__(self) -> None:
        require_choice("model", self.model, (*sorted(BACKENDS), "hf"))


@dataclass(frozen=True, kw_only=True)
class TaskPart:
    """A column of the table.

    Args:
        task: of lm_eval.
        methods: names of the methods that are evaluated on it; empty: all.
        limit: the first so many documents.
        documents: which documents, such as `400-999` or `0-9,20`.
        limit_of_each: field of the documents -> the first so many documents of each of its values.
    """

    task: str
    methods: tuple[str, ...] = ()
    limit: int | None = None
    documents: str | None = None
    limit_of_each: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_ranges(self, limit=AT_LEAST_1)
        named = [self.limit is not None, self.documents is not None, bool(self.limit_of_each)]
        if sum(named) > 1:
            raise ValueError("expected at most one of limit, documents and limit_of_each")
        for name, count in self.limit_of_each.items():
            AT_LEAST_1.require(f"limit_of_each.{name}", count)
        if self.documents is not None:
            list(document_ids(self.documents))


def document_ids(text: str) -> Iterator[int]:
    """The numbers that `0-9,20` names, in order.

    Raises:
        ValueError: another form, or a range that ends before it begins.
    """
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if found is None or int(found[1]) > int(found[2] or found[1]):
            raise ValueError(f"documents: expected numbers and ranges such as 0-9,20, got {text!r}")
        yield from range(int(found[1]), int(found[2] or found[1]) + 1)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that one table is made from.

    Args:
        title: of the report.
        models: the pair.
        prompt, limits: of all stages.
        calibration: thresholds, known as `${calibration}`.
        labels: known as `${labels}`.
        selectors, distilled, tah, choices: name -> what is trained under it, known as `${NAME}`.
        methods: name -> a row.
        tasks: the columns.
        seeds: of training and of everything random; each seed beyond the first is one more training of
            all artifacts, and one more evaluation of what depends on them or is random.
        analysis: whether `s2t-eval analyze` is run too.
    """

    title: str
    models: Models
    methods: dict[str, MethodPart]
    tasks: tuple[TaskPart, ...]
    prompt: Prompt = field(default_factory=Prompt)
    limits: Limits = field(default_factory=Limits)
    calibration: CalibrationPart | None = None
    labels: LabelsPart | None = None
    selectors: dict[str, SelectorPart] = field(default_factory=dict)
    distilled: dict[str, DistilPart] = field(default_factory=dict)
    tah: dict[str, TahPart] = field(default_factory=dict)
    choices: dict[str, ChoicePart] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    analysis: bool = True

    def __post_init__(self) -> None:
        if not self.methods or not self.tasks or not self.seeds:
            raise ValueError("methods, tasks, seeds: expected at least one of each")
        for seed in self.seeds:
            SEED.require("seeds", seed)
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: expected different ones, got {list(self.seeds)}")
        self._require_names()
        self._require_parts()

    @property
    def artifacts(self) -> dict[str, object]:
        """Name -> the part that makes it, for everything trained or chosen."""
        return {**self.selectors, **self.distilled, **self.tah, **self.choices}

    def _require_names(self) -> None:
        sections = ("selectors", "distilled", "tah", "choices")
        seen: dict[str, str] = dict.fromkeys(RESERVED, "every recipe")
        for section in sections:
            for name in getattr(self, section):
                if name in seen:
                    raise ValueError(f"{section}.{name}: the name is taken by {seen[name]}; choose another")
                seen[name] = section
        for name in (*seen, *self.methods):
            if NAME.fullmatch(name) is None:
                raise ValueError(f"{name!r}: expected a name of letters, digits, - and _")

    def _require_parts(self) -> None:
        needs_labels = [*self.selectors, *self.distilled]
        if needs_labels and self.labels is None:
            raise ValueError(f"labels: {needs_labels[0]} is trained on them; name some")
        if self.models.teacher is None and (self.distilled or (self.labels and self.labels.problems)):
            raise ValueError("models.teacher: labels and distillation need one")
        for name, choice in self.choices.items():
            if choice.selector not in self.selectors:
                known = ", ".join(self.selectors) or "none"
                raise ValueError(f"choices.{name}.selector: {choice.selector!r} is none; there are {known}")
        for name, selector in self.selectors.items():
            if (
                selector.start is not None
                and selector.start not in list(self.selectors)[: list(self.selectors).index(name)]
            ):
                raise ValueError(
                    f"selectors.{name}.start: expected a selector above it, got {selector.start!r}"
                )
        for i, task in enumerate(self.tasks):
            unknown = [name for name in task.methods if name not in self.methods]
            if unknown:
                raise ValueError(
                    f"tasks.{i}.methods: {unknown[0]!r} is none; there are {', '.join(self.methods)}"
                )


def flags(part: object, *left_out: str) -> list[str]:
    """The options that say on a command line what a part says: `--name value`, bare where it is true."""
    words: list[str] = []
    for item in fields(part):  # type: ignore[arg-type]
        value = getattr(part, item.name)
        if item.name in left_out or value is None or value is False or value == ():
            continue
        words.append(f"--{item.name}")
        if value is not True:
            words += map(str, value) if isinstance(value, tuple) else [str(value)]
    return words
