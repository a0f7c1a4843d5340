"""`--model specreason`: the student drafts steps of reasoning, the teacher accepts or rewrites each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from s2t_eval.methods.questions import QuestionError
from s2t_eval.methods.reasoning_steps import DELIMITERS, Delimiter, StepEnds
from s2t_eval.methods.specreason.scores import SCORES, ScoreName, make_score
from s2t_eval.methods.specreason.stepper import SPECREASON, SpecReasonDecoder
from s2t_eval.model_wrappers.arguments import (
    CommonArguments,
    require_choice,
    require_int,
)
from s2t_eval.model_wrappers.asking import AskingLM
from s2t_eval.model_wrappers.splitting import split_arguments
from s2t_eval.model_wrappers.teacher import load_teacher
from s2t_eval.ranges import NOT_NEGATIVE
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.triggers import Trigger


@dataclass(frozen=True)
class SpecReasonArguments(CommonArguments):
    """Arguments of `specreason`.

    Args:
        teacher: the larger model; a hub name, a folder or `embedded/teacher`; required.
        accept: a drafted step is accepted if its score, from 0 to 1, is at least this: 0 accepts every
            draft, above 1 the teacher writes the whole text. With marks from 0 to 9, 0.7 means 7 and above.
        score: `digit`, the teacher's mark of the step from 0 to 9; `expected`, its expectation over the
            marks; `logprob`, the geometric mean of the teacher's probabilities of the step's tokens.
        delimiter: a step ends with a `line`, a `paragraph` (a blank line) or a `sentence`.
        max_step: most tokens of a step.
    """

    teacher: str | None = None
    accept: float = 0.7
    score: str = "digit"
    delimiter: str = "line"
    max_step: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        NOT_NEGATIVE.require("accept", self.accept)
        require_choice("score", self.score, SCORES)
        require_choice("delimiter", self.delimiter, DELIMITERS)
        require_int("max_step", self.max_step, 1)


class SpecReason(AskingLM):
    """SpecReason with greedy drafts; a request that samples has both models sample.

    Raises:
        ValueError: no teacher, arguments outside their ranges, or a tokenizer without the score's digits.
        VocabularyMismatchError: teacher and student have different tokens.
    """

    METHOD = "specreason"
    ARGUMENTS = SpecReasonArguments

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        parsed = split_arguments(self.METHOD, self.ARGUMENTS, kwargs)  # misspelt names are reported first
        arguments = cast(SpecReasonArguments, parsed.own)
        if not arguments.teacher:
            raise ValueError(
                f"--model {self.METHOD}: it needs teacher=MODEL (a hub name or a folder), the larger model "
                "that scores the student's steps"
            )
        super().__init__(pretrained, **kwargs)
        loaded = load_teacher(
            arguments.teacher, self.tokenizer, self.teacher_options, kwargs.get("max_length")
        )
        self.teacher, self.teacher_fingerprint = loaded.runner, loaded.fingerprint
        self.teacher_tokenizer = loaded.tokenizer
        self._make_score(has_chat_template=False)  # unusable scores are reported before any text

    @property
    def steps(self) -> SpecReasonArguments:
        """The arguments of `specreason`."""
        return cast(SpecReasonArguments, self.arguments)

    @property
    def max_length(self) -> int:
        """Context in tokens: the student's, or the teacher's less the score's question if that is smaller."""
        student_length = super().max_length
        if self.teacher is None:
            return student_length
        question_length = len(self._make_score(self.has_chat_template).question)
        unlimited = student_length + question_length
        teacher_length = getattr(self.teacher.config, "max_position_embeddings", unlimited)
        return min(student_length, teacher_length - question_length)

    def policy(self) -> Policy:
        """A policy without trigger or selector: SpecReason selects no candidates."""
        return SPECREASON

    def decoder(self, observe: Sequence[Trigger] = ()) -> SpecReasonDecoder:
        """A decoder that drafts and scores steps."""
        assert not observe and self.teacher is not None
        return SpecReasonDecoder(
            self.student,
            self.teacher,
            StepEnds(self.tok_decode, cast(Delimiter, self.steps.delimiter), self.steps.max_step),
            self._make_score(self.has_chat_template),
            self.steps.accept,
            self.rows,
            self.tok_decode,
            self.thoughts.answer_of,
        )

    def _make_score(self, has_chat_template: bool) -> Any:
        try:
            name = cast(ScoreName, self.steps.score)
            return make_score(name, self.teacher_tokenizer, has_chat_template)
        except QuestionError as error:
            raise ValueError(f"score={self.steps.score}: {error} (score=logprob)") from error

    def describe(self) -> dict[str, Any]:
        """Models, score, acceptance and seed."""
        return {
            **super().describe(),
            "teacher_name": self.steps.teacher,
            "teacher": self.teacher_fingerprint,
            "accept": self.steps.accept,
            "step_score": self.steps.score,
            "delimiter": self.steps.delimiter,
            "max_step": self.steps.max_step,
        }
