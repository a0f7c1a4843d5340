"""The parts of a recipe that collect, measure, train and choose.

A setting that a recipe leaves out (None) is left to the command that the stage runs, whose default then
holds. What a training command has as options, its part of a recipe takes from the same settings classes.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_origin, get_type_hints

from s2t_eval.method_table import Delimiter, StepScoreName
from s2t_eval.methods.tah.settings import DeciderSettings, LoopedSettings
from s2t_eval.pipelines.settings import CollectionSettings, StepCalibration
from s2t_eval.ranges import AT_LEAST_0, AT_LEAST_1, FIRING_RATE, RATE, require_ranges
from s2t_eval.report.benchmarks import DEV
from s2t_eval.reproduce.names import require_task
from s2t_eval.selection.router_size import RouterSize
from s2t_eval.training.distil.settings import DistilSettings
from s2t_eval.training.r2r.settings import (
    LabelSettings,
    RouterLoopSettings,
    RouterTrainSettings,
    ThresholdSettings,
)
from s2t_eval.training.rlkd.settings import AlignerName, RlkdLoopSettings, RlkdSettings, StructurerName
from s2t_eval.training.selector.settings import SelectorSettings, TrainSettings
from s2t_eval.training.settings import LoopSettings, Precision
from s2t_eval.training.tah.settings import DecisionSettings, DepthSettings, TahLoopSettings

Part = TypeVar("Part")
OF_A_SCAN = {
    "tau": "give the rates as the choice's own `tau`",
    "threshold": "leave it out: a default has a rate",
    "top_k": "give it to the selector (selectors.NAME.top_k)",
}
"""Arguments that a scan gives to its points -> what to do instead."""
OF_THE_RECIPE = ("seed", "log_with")
"""Settings that a recipe has once for all its parts, or not at all."""


def with_settings(*settings: type, without: tuple[str, ...] = ()) -> Callable[[type[Part]], type[Part]]:
    """Decorator that gives a part of a recipe the fields of settings classes, the options of its command.

    A field that is left out is None (False, or an empty tuple), which leaves it to the command. What a recipe
    gives is checked when it is read: the settings classes are built from it.

    Args:
        settings: dataclasses whose fields all have defaults.
        without: names of fields that are no option of the command.
    """

    def add(part: type[Part]) -> type[Part]:
        own = {item.name for item in fields(part)}  # type: ignore[arg-type]
        own_check: Callable[[Part], None] = getattr(part, "__post_init__", lambda self: None)
        added = {
            item.name: get_type_hints(source)[item.name]
            for source in settings
            for item in fields(source)
            if item.name not in {*own, *without, *OF_THE_RECIPE}
        }

        def check(self: Part) -> None:
            own_check(self)
            for source in settings:
                source(**_named_settings(self, {item.name for item in fields(source)}))

        return make_dataclass(
            part.__name__,
            [(name, *_optional(hint)) for name, hint in added.items()],
            bases=(part,),
            namespace={"__post_init__": check, "__doc__": part.__doc__, "__module__": part.__module__},
            frozen=True,
            kw_only=True,
        )

    return add


def _optional(hint: Any) -> tuple[Any, Any]:
    """Type and default of a setting that may be left out."""
    if hint is bool:
        return bool, field(default=False)
    if get_origin(hint) is tuple:
        return hint, field(default=())
    return hint | None, field(default=None)


def _named_settings(part: object, names: Container[str]) -> dict[str, Any]:
    """The settings among these names that a recipe names."""
    values = {item.name: getattr(part, item.name) for item in fields(part)}  # type: ignore[arg-type]
    return {
        name: value
        for name, value in values.items()
        if name in names and value is not None and value is not False and value != ()
    }


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
        require_task(self.task)
        require_ranges(self, limit=AT_LEAST_1, skip=AT_LEAST_0)


@with_settings(StepCalibration)
@dataclass(frozen=True, kw_only=True)
class CalibrationPart:
    """`s2t-eval calibrate`: thresholds that fire at these rates, and scores that accept these shares.

    Args:
        problems: to calibrate on.
        tau, warmup_tokens: of triggers.
        step_score: of SpecReason; without a score it is not calibrated.
    """

    problems: Problems
    tau: tuple[float, ...] = (0.01, 0.05, 0.1)
    warmup_tokens: int | None = None
    step_score: tuple[StepScoreName, ...] = ()
    if TYPE_CHECKING:  # of the settings; declared where a method's thresholds are looked up
        delimiter: Delimiter | None = None
        max_step: int | None = None
        accept_rate: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require_ranges(self, warmup_tokens=AT_LEAST_0)
        for tau in self.tau:
            RATE.require("tau", tau)


@with_settings(CollectionSettings, without=("drop_overlap",))
@dataclass(frozen=True, kw_only=True)
class LabelsPart:
    """`s2t-eval collect`, or a label set that is there already.

    Args:
        folder: an existing label set; nothing is collected then.
        problems: to collect on; whether overlapping ones are left out is a setting of theirs.
    """

    folder: str | None = None
    problems: Problems | None = None
    if TYPE_CHECKING:  # of the settings; declared where stages read them
        tau: float | None = None
        teacher_context: str | None = None
        evaluation: tuple[str, ...] = ()
        selector: str | None = None
        selector_trigger: str | None = None
        selector_tau: float | None = None
        reuse: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.folder is None) == (self.problems is None):
            raise ValueError("expected one of folder (an existing label set) and problems (to collect on)")


@dataclass(frozen=True, kw_only=True)
class RoundPart:
    """`s2t-eval collect --selector`: the problems of the recipe's labels, on texts that a selector writes.

    Everything else is that of the recipe's labels, so the same problems are held out.

    Args:
        selector: name of a selector of the recipe.
        trigger, tau: of that selector, while it writes; None: its default.
        limit: the first so many of the problems; None: all. Selectors trained on fewer start from another,
            whose held-out problems then stay held out.
    """

    selector: str
    trigger: str | None = None
    tau: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        require_ranges(self, tau=RATE, limit=AT_LEAST_1)


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings that are options of a training command: those of its settings classes, see `with_settings`.

    Args:
        epochs: None takes the command's default.
        precision: None takes bf16 for a student in bfloat16, else no.
    """

    epochs: int | None = None
    precision: Precision | None = None


@with_settings(SelectorSettings, TrainSettings, LoopSettings)
@dataclass(frozen=True, kw_only=True)
class SelectorPart(Training):
    """`s2t-eval train`: a selector, its routers and thresholds.

    Args:
        limit: number of problems to train on.
        labels: name of a round of the recipe; None takes its labels.
        start: name of another selector of the recipe to go on from.
    """

    limit: int | None = None
    labels: str | None = None
    start: str | None = None
    if TYPE_CHECKING:  # of the settings; declared where the scan of a choice reads it
        top_k: int | None = None


@with_settings(DistilSettings, LoopSettings)
@dataclass(frozen=True, kw_only=True)
class DistilPart(Training):
    """`s2t-eval distil`, on the texts of the recipe's labels.

    Args:
        limit: number of problems to learn from.
    """

    limit: int | None = None


@with_settings(RlkdSettings, RlkdLoopSettings)
@dataclass(frozen=True, kw_only=True)
class RlkdPart(Training):
    """`s2t-eval rlkd`, on the problems of the recipe's labels, which are those of a task.

    Args:
        references: `teacher`: its greedy texts; `solutions`: the problems' own solutions.
        structurer, aligner: who divides and compares texts.
        group_size: texts sampled for each problem and update.
        limit: number of problems to train on.
    """

    references: Literal["teacher", "solutions"] = "teacher"
    structurer: StructurerName | None = None
    aligner: AlignerName | None = None
    group_size: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        given = _named_settings(self, {"keep", "patience"})
        if "keep" in given:
            RlkdSettings(keep=given["keep"]).require_no_patience(given.get("patience"))
        for name in ("structurer", "aligner"):
            if self.references == "solutions" and getattr(self, name) == "llm":
                raise ValueError(f"{name}: llm prompts the teacher, which references=solutions leaves out")


@with_settings(LoopedSettings, DepthSettings, TahLoopSettings)
@dataclass(frozen=True, kw_only=True)
class DepthsPart(Training):
    """`s2t-eval tah train --stage 1`."""


@with_settings(DeciderSettings, DecisionSettings, TahLoopSettings, without=("dropout",))
@dataclass(frozen=True, kw_only=True)
class DeciderPart(Training):
    """`s2t-eval tah train --stage 2`."""


@dataclass(frozen=True, kw_only=True)
class TahPart:
    """A Think-at-Hard student: labels on reference solutions, passes, decider."""

    problems: Problems
    depths: DepthsPart = field(default_factory=DepthsPart)
    decider: DeciderPart = field(default_factory=DeciderPart)


@with_settings(LabelSettings)
@dataclass(frozen=True, kw_only=True)
class RouterLabelsPart:
    """`s2t-eval r2r label`: the rule of the labels, and what is kept for the router.

    Args:
        num_logits: number of the student's largest logits that are kept.
    """

    num_logits: int | None = None

    def __post_init__(self) -> None:
        require_ranges(self, num_logits=AT_LEAST_1)


@with_settings(RouterSize, RouterTrainSettings, ThresholdSettings, RouterLoopSettings)
@dataclass(frozen=True, kw_only=True)
class RouterTrainingPart(Training):
    """`s2t-eval r2r train`: the size of the router, its training and its own threshold."""


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
        task: of development problems; its name ends in `_dev`.
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
        require_task(self.task)
        if not self.task.endswith(DEV):
            raise ValueError(
                "task: settings are chosen on development problems alone, of a task whose name ends in "
                f"{DEV} (s2t_gsm8k{DEV}, s2t_arith{DEV}, or one of your own), got {self.task!r}"
            )
        for name, instead in OF_A_SCAN.items():
            if name in self.arguments:
                raise ValueError(f"arguments.{name}: the scan has it from elsewhere; {instead}")
        if len(self.tau) < 2:
            raise ValueError(f"tau: expected at least two rates to choose from, got {list(self.tau)}")
        for tau in self.tau:
            FIRING_RATE.require("tau", tau)
