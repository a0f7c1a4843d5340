"""The schema of a recipe: one frozen dataclass a section, each checked when it is built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from s2t_eval.method_table import BACKENDS, STOCK
from s2t_eval.pipelines.settings import Source, has_no_examples
from s2t_eval.ranges import AT_LEAST_0, AT_LEAST_1, SEED, require_choice, require_ranges
from s2t_eval.reproduce.names import own_tasks, require_task
from s2t_eval.reproduce.parts import (
    CalibrationPart,
    ChoicePart,
    DistilPart,
    LabelsPart,
    RlkdPart,
    RoundPart,
    RouterPart,
    SelectorPart,
    TahPart,
)
from s2t_eval.reproduce.servers import Servers

NAME = re.compile(r"[A-Za-z0-9][\w-]*")
RESERVED = ("student", "teacher", "labels", "calibration")
"""References that every recipe has; artifacts of a recipe's own have other names."""
SECTIONS = ("rounds", "selectors", "distilled", "rlkd", "tah", "routers", "choices")
"""Sections whose entries are collected, trained or chosen, each under a name of its own."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """The pair.

    Args:
        student, teacher: names on the Hugging Face Hub, folders, or those of the embedded pair.
        student_revision, teacher_revision: of the hub; such a model is first downloaded into the output.
        dtype: of the student, `auto` or a torch dtype.
        teacher_dtype: None takes the student's.
        teacher_args: stock `hf`'s arguments with which every step and row loads the teacher, such as
            `load_in_4bit` or `quantization_config`, without `teacher_` in front. A row's own arguments take
            precedence.
        device: None takes a GPU where there is one.
        trust: whether code that comes with a checkpoint may be run.
    """

    student: str
    teacher: str | None = None
    student_revision: str | None = None
    teacher_revision: str | None = None
    dtype: str = "auto"
    teacher_dtype: str | None = None
    teacher_args: dict[str, Any] = field(default_factory=dict)
    device: str | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        if self.teacher is None and self.teacher_revision is not None:
            raise ValueError("teacher_revision: there is no teacher it could be of; leave it out")
        if self.teacher is None and self.teacher_args:
            raise ValueError("teacher_args: there is no teacher that they could load; leave them out")
        for name in ("dtype", "revision"):
            if name in self.teacher_args:
                raise ValueError(f"teacher_args.{name}: models.teacher_{name} is the place for it")

    @property
    def teacher_loading(self) -> dict[str, Any]:
        """`teacher_dtype` and `teacher_args`: the arguments with which stock `hf` would load the teacher."""
        dtype = {} if self.teacher_dtype is None else {"dtype": self.teacher_dtype}
        return {**dtype, **self.teacher_args}


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
        require_ranges(
            self,
            max_gen_toks=AT_LEAST_1,
            batch_size=AT_LEAST_1,
            problems=AT_LEAST_1,
            documents=AT_LEAST_1,
        )


@dataclass(frozen=True, kw_only=True)
class MethodPart:
    """A row of the table.

    Args:
        model: lm_eval's `--model`.
        arguments: of the model; `${student}`, `${teacher}`, `${calibration}` and the names of trained
            artifacts stand for their places. `pretrained` is the student unless it is set.
        label: in the summary; None takes the method's name.
        trace: whether fired steps are stored, for the viewer of the page.
    """

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    trace: bool = False

    def __post_init__(self) -> None:
        require_choice("model", self.model, (*sorted(BACKENDS), STOCK))


@dataclass(frozen=True, kw_only=True)
class TaskPart:
    """A column of the table.

    Args:
        task: of lm_eval; a group of ours stands for its tasks, each with the options here.
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
        require_task(self.task)
        require_ranges(self, limit=AT_LEAST_1)
        named = [self.limit is not None, self.documents is not None, bool(self.limit_of_each)]
        if sum(named) > 1:
            raise ValueError("expected at most one of limit, documents and limit_of_each")
        for name, count in self.limit_of_each.items():
            AT_LEAST_1.require(f"limit_of_each.{name}", count)
        if self.documents is not None:
            list(document_ids(self.documents))


def document_ids(text: str) -> Iterator[int]:
    """The numbers that `0-9,20` names, ascending: the order in which lm_eval evaluates and numbers them.

    Raises:
        ValueError: another form, or a range that ends before it begins.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if match is None or int(match[1]) > int(match[2] or match[1]):
            raise ValueError(f"documents: expected numbers and ranges such as 0-9,20, got {text!r}")
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    yield from sorted(numbers)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that one table is made from.

    Args:
        title: of the report.
        models: the pair.
        servers: where the pair's models are served; None: every step loads its models.
        prompt, limits: of all stages.
        calibration: thresholds, known as `${calibration}`.
        labels: known as `${labels}`.
        rounds: name -> further labels of the same problems, on texts that a trained selector writes; known as
            `${NAME}`, and trained on by the selectors whose `labels` names them.
        selectors, distilled, rlkd, tah, routers, choices: name -> what is trained under it, known as
            `${NAME}`.
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
    servers: Servers | None = None
    prompt: Prompt = field(default_factory=Prompt)
    limits: Limits = field(default_factory=Limits)
    calibration: CalibrationPart | None = None
    labels: LabelsPart | None = None
    rounds: dict[str, RoundPart] = field(default_factory=dict)
    selectors: dict[str, SelectorPart] = field(default_factory=dict)
    distilled: dict[str, DistilPart] = field(default_factory=dict)
    rlkd: dict[str, RlkdPart] = field(default_factory=dict)
    tah: dict[str, TahPart] = field(default_factory=dict)
    routers: dict[str, RouterPart] = field(default_factory=dict)
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
        return {name: part for section in SECTIONS for name, part in getattr(self, section).items()}

    @property
    def collects_labels(self) -> bool:
        """Whether labels are collected, instead of taken from an existing folder."""
        return self.labels is not None and self.labels.problems is not None

    def _require_names(self) -> None:
        section_of_name: dict[str, str] = dict.fromkeys(RESERVED, "every recipe")
        for section in SECTIONS:
            for name in getattr(self, section):
                if name in section_of_name:
                    raise ValueError(
                        f"{section}.{name}: the name is taken by {section_of_name[name]}; choose another"
                    )
                section_of_name[name] = section
        for name in (*section_of_name, *self.methods):
            if NAME.fullmatch(name) is None:
                raise ValueError(f"{name!r}: expected a name of letters, digits, - and _")

    def _require_parts(self) -> None:
        needs_labels = [*self.selectors, *self.distilled, *self.rlkd]
        if needs_labels and self.labels is None:
            raise ValueError(f"labels: {needs_labels[0]} is trained on them; name some")
        if self.models.teacher is None:
            self._require_no_teacher()
        if self.servers is not None:
            self._require_served(self.servers)
        for name, choice in self.choices.items():
            if choice.selector not in self.selectors:
                known = ", ".join(self.selectors) or "none"
                raise ValueError(f"choices.{name}.selector: {choice.selector!r} is none; there are {known}")
        self._require_rounds()
        names = [task.task for task in self.tasks]
        for i, task in enumerate(self.tasks):
            if task.task in names[:i]:
                raise ValueError(
                    f"tasks.{i}.task: {task.task} is tasks.{names.index(task.task)} already, and a column "
                    "has one choice of documents; join the two parts, with the methods of both"
                )
            unknown = [name for name in task.methods if name not in self.methods]
            if unknown:
                raise ValueError(
                    f"tasks.{i}.methods: {unknown[0]!r} is none; there are {', '.join(self.methods)}"
                )
        if self.prompt.num_fewshot:
            for name in _task_names([self.tasks, self.calibration, self.labels, self.artifacts]):
                if name in own_tasks():
                    raise ValueError(has_no_examples("prompt.num_fewshot", self.prompt.num_fewshot, name))

    def _require_no_teacher(self) -> None:
        """Raise `ValueError` where something needs a teacher: its stage would fail after others have run."""
        if self.distilled or self.routers or self.collects_labels:
            raise ValueError("models.teacher: labels, distillation and routers need one")
        if self.calibration is not None and self.calibration.step_score:
            raise ValueError(
                f"models.teacher: calibration.step_score ({', '.join(self.calibration.step_score)}) is the "
                "teacher's score and needs one; name it, or leave step_score out"
            )
        for name, part in self.rlkd.items():
            if part.references == "teacher":
                raise ValueError(
                    f"models.teacher: rlkd.{name} has its texts as references and needs one; name it, or "
                    "give references: solutions"
                )

    def _require_served(self, servers: Servers) -> None:
        """Raise `ValueError` for what the models of these servers cannot do."""
        if self.models.teacher is None:
            raise ValueError(
                "servers: models.teacher is the model that they serve, and there is none; name it"
            )
        if self.models.dtype == "auto":
            raise ValueError(
                "models.dtype: servers do not report their dtype; name the one that they were started with, "
                "in which the rows of the student are decoded too"
            )
        for name in ("peft", "delta"):
            if name in self.models.teacher_args:
                raise ValueError(
                    f"models.teacher_args.{name}: the served teacher has its own weights; merge the adapter "
                    "into a checkpoint, serve that and name it"
                )
        if servers.student_url is not None and self.calibration is None and not self.collects_labels:
            raise ValueError(
                "servers.student_url: labels and calibration alone use it, and there are none; leave it out"
            )
        if self.calibration is not None and servers.student_url is None:
            raise ValueError(
                "servers.student_url: the calibration measures models that are both on servers; name the "
                "student's too"
            )
        if self.rounds or (self.labels is not None and self.labels.selector is not None):
            raise ValueError(
                "servers: the texts of a selector (rounds, labels.selector) are written by models of one "
                "process; leave one of both out"
            )

    def _require_rounds(self) -> None:
        """Selectors that start from another, or learn from texts of another, come after it."""
        if self.rounds and not self.collects_labels:
            raise ValueError("rounds: they label the problems of `labels` again; name labels.problems")
        above: list[str] = []
        for name, selector in self.selectors.items():
            if selector.start is not None and selector.start not in above:
                raise ValueError(f"selectors.{name}.start: expected one above it, got {selector.start!r}")
            if selector.labels is not None:
                self._require_round(f"selectors.{name}.labels", selector.labels, above)
                self._require_start(f"selectors.{name}.start", selector.labels, selector.start)
            above.append(name)
        for name in self.rounds:
            if all(selector.labels != name for selector in self.selectors.values()):
                raise ValueError(f"rounds.{name}: no selector is trained on it; name it in one's `labels`")

    def _require_start(self, place: str, name: str, start: str | None) -> None:
        """Raise `ValueError` where a round of some problems names too many, or there is no split to keep."""
        limit = self.rounds[name].limit
        if limit is None:
            return
        if start is None:
            raise ValueError(
                f"{place}: rounds.{name} has the first {limit} problems alone, and a split of its own would "
                "hold problems out that the writer of its texts was trained on; name one to start from"
            )
        assert self.labels is not None and self.labels.problems is not None
        if limit > (most := self.labels.problems.limit or Source.limit):
            raise ValueError(
                f"rounds.{name}.limit: expected at most the labels' {most} problems, got {limit}"
            )

    def _require_round(self, place: str, name: str, above: Sequence[str]) -> None:
        """Raise `ValueError` unless this is a round whose texts one of the selectors above writes."""
        if name not in self.rounds:
            known = ", ".join(self.rounds) or "none"
            raise ValueError(f"{place}: {name!r} is none of the rounds; there are {known}")
        if (writer := self.rounds[name].selector) not in above:
            raise ValueError(
                f"{place}: expected a round of a selector above it, got {name!r}, whose texts "
                f"{writer!r} writes"
            )


def _task_names(value: object) -> Iterator[str]:
    """The tasks that a part of a recipe, or any part in it, names as its `task`."""
    inner: list[object] = []
    if is_dataclass(value):
        values = {item.name: getattr(value, item.name) for item in fields(value)}
        if isinstance(task := values.get("task"), str):
            yield task
        inner = list(values.values())
    elif isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list | tuple):
        inner = list(value)
    for part in inner:
        yield from _task_names(part)
