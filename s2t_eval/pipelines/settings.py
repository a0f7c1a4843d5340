"""How problems are chosen and prompted and what is collected; importing this module loads no lm_eval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from s2t_eval.method_table import Delimiter, StepScoreName
from s2t_eval.ranges import AT_LEAST_0, AT_LEAST_1, RATE, require_ranges, require_unused


@dataclass(frozen=True)
class Prompting:
    """How problems are put to the model; evaluation must put them the same way.

    Args:
        system_instruction: text of the system turn, as in lm_eval.
        apply_chat_template: put prompts through the model's chat template, as in lm_eval.
        num_fewshot: worked examples before each problem (`--task` only).
        max_gen_toks: largest number of generated tokens for each text. None: the limit of the task, or of the
            model where there is no task.
    """

    system_instruction: str | None = None
    apply_chat_template: bool = False
    num_fewshot: int = 0
    max_gen_toks: int | None = None

    def __post_init__(self) -> None:
        require_ranges(self, num_fewshot=AT_LEAST_0, max_gen_toks=AT_LEAST_1)


def has_no_examples(setting: str, num_fewshot: int, task: str) -> str:
    """The message for worked examples before the problems of a task that is defined to have none.

    Args:
        setting: that names their number.
        num_fewshot: its value, at least 1.
        task: the task.
    """
    return (
        f"{setting} {num_fewshot}: {task} is defined to have no examples, and lm_eval evaluates it so "
        "whatever --num_fewshot says; leave it out"
    )


@dataclass(frozen=True)
class CollectionSettings:
    """What a label set keeps and what its teacher reads.

    Args:
        tau: share of the steps, ranked by KL over the whole set, that count as top steps.
        steps: the steps that keep candidates: `top`, or `all`.
        teacher_context: text that only the teacher reads: `solution` (the problem's own), or a JSON-lines
            file of `question` and `context`. None: the teacher reads what the student reads.
        drop_overlap: leave problems of evaluation sets out instead of refusing them.
        evaluation: further JSON-lines files of evaluation problems that may not be collected from.
        selector: selector folder of `s2t-eval train` that writes the texts with `pps_local`, for a second
            round of training on the selector's own texts. None: the student's greedy texts.
        selector_trigger: trigger of that selector. None: its default.
        selector_tau: rate of that trigger. None: its default.
        reuse: finished label sets of the same models and prompts with `steps=all`. Problems that they hold
            are taken over, so that a set can grow or be collected in parts.
    """

    tau: float = 0.1
    steps: Literal["top", "all"] = "top"
    teacher_context: str | None = None
    drop_overlap: bool = False
    evaluation: tuple[str, ...] = ()
    selector: str | None = None
    selector_trigger: str | None = None
    selector_tau: float | None = None
    reuse: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_ranges(self, tau=RATE, selector_tau=RATE)
        for name in ("selector_trigger", "selector_tau"):
            if self.selector is None and getattr(self, name) is not None:
                raise ValueError(f"{name}: there is no selector that it could be of; name --selector too")
        if self.steps not in ("top", "all"):
            raise ValueError(f"steps: expected 'top' or 'all', got {self.steps!r}")


@dataclass(frozen=True)
class Source:
    """Which problems: a harness task or a data set, and which part of it.

    Args:
        task: name of an lm_eval task with a training split.
        data: FILE.jsonl, NAME:SPLIT or NAME:CONFIG:SPLIT with a question field, instead of a task.
        limit: number of problems to take.
        skip: number of problems to leave out at the beginning.
    """

    task: str | None = None
    data: str | None = None
    limit: int = 500
    skip: int = 0

    def __post_init__(self) -> None:
        require_ranges(self, limit=AT_LEAST_1, skip=AT_LEAST_0)


@dataclass(frozen=True)
class CalibrationSource(Source):
    """The problems of a calibration: fewer are enough for thresholds than for training."""

    limit: int = 32


@dataclass(frozen=True)
class StepCalibration:
    """What of SpecReason is calibrated.

    Args:
        step_score: the teacher's scores of drafted steps (`score` of `specreason`). Without one nothing is
            measured.
        delimiter: where a step ends.
        max_step: most tokens of a step.
        accept_rate: wanted shares of accepted drafts.

    Raises:
        ValueError: a value outside its range, or one without effect because nothing is measured.
    """

    step_score: tuple[StepScoreName, ...] = ()
    delimiter: Delimiter = "line"
    max_step: int = 512
    accept_rate: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)

    def __post_init__(self) -> None:
        require_ranges(self, max_step=AT_LEAST_1)
        for rate in self.accept_rate:
            RATE.require("accept_rate", rate)
        if not self.step_score:
            require_unused(
                self, ["delimiter", "max_step", "accept_rate"], "a calibration without --step_score"
            )
