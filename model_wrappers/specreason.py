"""`--model specreason`: the student drafts steps of reasoning, the teacher accepts or rewrites each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from lm_eval.api.instance import Instance

from s2t_eval.method_table import DELIMITERS, STEP_SCORES, Delimiter, StepScoreName
from s2t_eval.methods.questions import QuestionError
from s2t_eval.methods.reasoning_steps import StepEnds
from s2t_eval.methods.specreason.acceptance import StepForm, calibrated_accept
from s2t_eval.methods.specreason.on_servers import ServedSpecReason
from s2t_eval.methods.specreason.scores import StepScore, make_score
from s2t_eval.methods.specreason.stepper import SPECREASON, SpecReasonDecoder
from s2t_eval.model_wrappers.argument_checks import (
    require_bool,
    require_int,
)
from s2t_eval.model_wrappers.arguments import CommonArguments, PairArguments
from s2t_eval.model_wrappers.base import Generator
from s2t_eval.model_wrappers.harness_tasks import require_prompts
from s2t_eval.model_wrappers.step_evaluation import StepEvaluationLM
from s2t_eval.model_wrappers.stock_arguments import context_of
from s2t_eval.model_wrappers.teacher import require_teacher
from s2t_eval.ranges import NOT_NEGATIVE, RATE, require_choice, require_ranges
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.thresholds import ThresholdLookup
from s2t_eval.selection.triggers import Trigger

DEFAULT_ACCEPT = 0.7


@dataclass(frozen=True)
class SpecReasonArguments(PairArguments):
    """Arguments of `specreason`.

    Args:
        teacher: the larger model; a hub name, a folder or `embedded/teacher`. Required unless `teacher_url`
            names its servers; the scores by marks need it there too, for its tokenizer.
        accept: a drafted step is accepted if its score, from 0 to 1, is at least this: 0 accepts every
            draft, above 1 the teacher writes the whole text. With marks from 0 to 9, 0.7 means 7 and above.
            None: that of `accept_rate`, else 0.7.
        accept_rate: wanted share of accepted drafts; its threshold comes from `calibration`.
        calibration: JSON file of `s2t-eval calibrate --step_score`.
        other_prompt: allow prompts with other few-shot examples, chat template or system instruction than
            those that the calibration was made with.
        score: `digit`, the teacher's mark of the step from 0 to 9; `expected`, its expectation over the
            marks; `logprob`, the geometric mean of the teacher's probabilities of the step's tokens.
        delimiter: a step ends with a `line`, a `paragraph` (a blank line) or a `sentence`.
        max_step: most tokens of a step.
    """

    teacher: str | None = None
    accept: float | None = None
    accept_rate: float | None = None
    calibration: str | None = None
    other_prompt: bool = False
    score: str = "digit"
    delimiter: str = "line"
    max_step: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ranges(self, accept=NOT_NEGATIVE, accept_rate=RATE)
        require_bool("other_prompt", self.other_prompt)
        require_choice("score", self.score, STEP_SCORES)
        require_choice("delimiter", self.delimiter, DELIMITERS)
        require_int("max_step", self.max_step, 1)
        self._check_acceptance()

    def _check_acceptance(self) -> None:
        """Refuse two thresholds, and a rate or a calibration without the other."""
        if self.accept is not None and self.accept_rate is not None:
            raise ValueError(
                f"accept_rate={self.accept_rate}: it chooses the threshold that accept={self.accept} already "
                "is; leave one of them out"
            )
        if self.accept_rate is not None and self.calibration is None:
            raise ValueError(
                f"accept_rate={self.accept_rate} needs calibration=FILE: the score from which this share of "
                f"drafts is accepted is measured on training problems, with `s2t-eval calibrate --step_score "
                f"{self.score}`"
            )
        if self.calibration is not None and self.accept_rate is None:
            raise ValueError(
                f"calibration={self.calibration}: it is used with accept_rate=RATE alone; give a rate, or "
                "leave the calibration out"
            )

    @property
    def needs_rows(self) -> bool:
        """Whether it matters if the teacher's servers score a step's tokens in one request: always.

        Servers that cannot do so have to write and score in turn where texts are sampled, whatever the score.
        """
        return True

    @property
    def lookup(self) -> ThresholdLookup:
        """What is looked up of a calibration."""
        return self.form.lookup(self.calibration, self.accept_rate)

    @property
    def form(self) -> StepForm:
        """What a threshold of acceptance is measured for."""
        delimiter = cast(Delimiter, self.delimiter)
        return StepForm(cast(StepScoreName, self.score), delimiter, self.max_step)


class SpecReason(StepEvaluationLM):
    """SpecReason with greedy drafts; a request that samples has both models sample.

    Raises:
        ValueError: no teacher, arguments outside their ranges, or a tokenizer without the score's digits.
        CalibrationError: a calibration of other models or prompts, or without this rate.
        VocabularyMismatchError: teacher and student have different tokens.
    """

    METHOD = "specreason"
    ARGUMENTS = SpecReasonArguments

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        super().__init__(pretrained, **kwargs)
        self.find_teacher(self.steps.teacher, kwargs)
        self._make_score(has_chat_template=False)  # unusable scores are reported before any text
        # Tokens without a trigger have no effect here.
        self.calibration = self.load_calibration(
            self.steps.calibration, warmup_tokens=None, needs_teacher=True
        )
        self.accept = self._accept()

    @classmethod
    def require_arguments(cls, own: CommonArguments, model_args: Mapping[str, Any]) -> None:
        """See `LoadedStudent`: it needs a teacher."""
        require_teacher(cls.METHOD, model_args, "scores the student's steps")

    @property
    def steps(self) -> SpecReasonArguments:
        """The arguments of `specreason`."""
        return cast(SpecReasonArguments, self.arguments)

    def _other_contexts(self) -> list[int]:
        """As of every method, and the teacher's less the question of the score."""
        contexts = super()._other_contexts()
        teacher = None if self.teacher is None else context_of(self.teacher.config)
        if teacher is None:
            return contexts
        return [*contexts, teacher - len(self._make_score(self.has_chat_template).question)]

    def policy(self) -> Policy:
        """A policy without trigger or selector: SpecReason selects no candidates."""
        return SPECREASON

    def generator(self) -> Generator:
        """What generates the texts: the engine's decoder, or the one over the servers."""
        if self.served is None:
            return self.decoder()
        return ServedSpecReason(
            self.served.fleet,
            self._ends,
            self._make_score(self.has_chat_template),
            self.accept,
            self.student.text_vocab,
            self.served.settings,
            self.tok_decode,
            self.thoughts.answer_of,
            self.local_models,
        )

    def decoder(self, observe: Sequence[Trigger] = ()) -> SpecReasonDecoder:
        """A decoder that drafts and scores steps."""
        assert not observe and self.teacher is not None
        return SpecReasonDecoder(
            self.student,
            self.teacher,
            self._ends,
            self._make_score(self.has_chat_template),
            self.accept,
            self.rows,
            self.tok_decode,
            self.thoughts.answer_of,
        )

    @property
    def _ends(self) -> StepEnds:
        return StepEnds(self.tok_decode, cast(Delimiter, self.steps.delimiter), self.steps.max_step)

    def _make_score(self, has_chat_template: bool) -> StepScore:
        if self.teacher_tokenizer is None and self.steps.score != "logprob":
            raise ValueError(
                f"score={self.steps.score}: its question needs the teacher's tokenizer, which is not on this "
                "machine; give teacher=MODEL beside teacher_url, or score=logprob"
            )
        try:
            name = cast(StepScoreName, self.steps.score)
            return make_score(name, self.teacher_tokenizer, has_chat_template, self.chat_template_args)
        except QuestionError as error:
            raise ValueError(f"score={self.steps.score}: {error} (score=logprob)") from error

    def _accept(self) -> float:
        """The argument, else the calibrated threshold, else the default."""
        steps = self.steps
        if steps.accept_rate is None:
            return float(DEFAULT_ACCEPT if steps.accept is None else steps.accept)
        assert self.calibration is not None
        return calibrated_accept(self.calibration, steps.form, steps.accept_rate)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts for the harness's requests; refuses prompts that the calibration does not fit."""
        if self.calibration is not None and not self.steps.other_prompt:
            require_prompts(requests, self.calibration.require_prompt)
        return super().generate_until(requests, disable_tqdm)

    def _rate_of_acceptance(self) -> dict[str, Any]:
        if self.calibration is None:
            return {}
        return {"accept_rate": self.steps.accept_rate, "calibration": self.calibration.hash}

    def describe(self) -> dict[str, Any]:
        """Models, score, acceptance and seed."""
        return {
            **super().describe(),
            "teacher_name": self.steps.teacher,
            "teacher": self.teacher_fingerprint,
            "accept": self.accept,
            **self._rate_of_acceptance(),
            "step_score": self.steps.score,
            "delimiter": self.steps.delimiter,
            "max_step": self.steps.max_step,
        }
