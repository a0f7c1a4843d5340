"""Measure the thresholds of SpecReason's acceptance on drafts of training problems (`s2t-eval calibrate`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from s2t_eval.engine import Result
from s2t_eval.methods.questions import QuestionError
from s2t_eval.methods.reasoning_steps import StepEnds
from s2t_eval.methods.specreason.acceptance import MeasuredAcceptance, StepForm, measure_acceptance
from s2t_eval.methods.specreason.on_servers import ServedSpecReason
from s2t_eval.methods.specreason.scores import StepScore, make_score
from s2t_eval.methods.specreason.stepper import SpecReasonDecoder
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.pipelines.prompts import PromptSet, TrainingDataError
from s2t_eval.pipelines.settings import Prompting, StepCalibration
from s2t_eval.pipelines.unfinished import SCORES, run_missing, saved_columns
from s2t_eval.remote.many_texts import require_room
from s2t_eval.selection.calibration import Calibration
from s2t_eval.training.label_collection import CollectionFolder


def step_forms(settings: StepCalibration) -> list[StepForm]:
    """The forms of steps that are measured, one for each score."""
    return [StepForm(name, settings.delimiter, settings.max_step) for name in settings.step_score]


def measure_steps(
    lm: SelectToThink,
    prompts: PromptSet,
    prompting: Prompting,
    settings: StepCalibration,
    work: CollectionFolder,
) -> dict[str, MeasuredAcceptance]:
    """Key of each form of step -> its thresholds; the drafts are the lines of the student's greedy texts.

    Args:
        lm: the student with its teacher.
        prompts: training problems.
        prompting: how the problems were prompted.
        settings: what is measured.
        work: of an interrupted run, whose texts are not drafted again; see `unfinished_calibration`.

    Raises:
        LabelError: a file of an interrupted run that cannot be read.
        TrainingDataError: a score that the teacher's tokenizer or chat template cannot express.
    """
    forms = step_forms(settings)
    scores = [_score(lm, prompting, form) for form in forms]
    ends = StepEnds(lm.tok_decode, settings.delimiter, settings.max_step)
    if lm.served is None:
        values = _scores_at_once(lm, prompts, ends, scores, work)
    else:
        values = [
            _scores_on_servers(lm, prompts, ends, score, work, form.score)
            for form, score in zip(forms, scores, strict=True)
        ]
    return {
        form.key: measure_acceptance(own, settings.accept_rate)
        for form, own in zip(forms, values, strict=True)
    }


def require_measurable(
    lm: EngineLM, prompts: PromptSet, prompting: Prompting, settings: StepCalibration
) -> None:
    """Refuse before any text is written what `measure_steps` cannot measure.

    Raises:
        TrainingDataError: a score that the teacher's tokenizer or chat template cannot express.
        ValueError: a prompt that leaves no room for a score's question on the servers.
    """
    if not isinstance(lm, SelectToThink):
        return
    for form in step_forms(settings):
        score = _score(lm, prompting, form)
        if lm.served is not None:
            require_room(prompts.requests, lm.served.fleet.longest_before(len(score.question)))


def _score(lm: SelectToThink, prompting: Prompting, form: StepForm) -> StepScore:
    """The score of a form.

    Raises:
        TrainingDataError: the teacher's tokenizer or chat template cannot express it.
    """
    if lm.teacher_tokenizer is None and form.score != "logprob":
        raise TrainingDataError(
            f"step_score {form.score}: its question needs the teacher's tokenizer, which is not on this "
            "machine; give --teacher MODEL beside --teacher_url, or --step_score logprob"
        )
    try:
        how = prompting.apply_chat_template, lm.chat_template_args
        return make_score(form.score, lm.teacher_tokenizer, *how)
    except QuestionError as error:
        raise TrainingDataError(f"step_score {form.score}: {error} (logprob)") from error


def _scores_at_once(
    lm: SelectToThink,
    prompts: PromptSet,
    ends: StepEnds,
    scores: Sequence[StepScore],
    work: CollectionFolder,
) -> list[list[float]]:
    """Each score of all drafts; all are accepted, so the texts are greedy decoding's, written once."""
    if not scores:
        return []
    assert lm.teacher is not None
    # The one that decides has a question, if any has; all questions are the same.
    first, *others = order = sorted(scores, key=lambda score: len(score.question), reverse=True)
    how = lm.rows, lm.tok_decode, lm.thoughts.answer_of, others
    decoder = SpecReasonDecoder(lm.student, lm.teacher, ends, first, 0.0, *how)
    values = _observed(decoder, prompts, len(order), work, SCORES)
    return [values[order.index(score)] for score in scores]


def _scores_on_servers(
    lm: SelectToThink,
    prompts: PromptSet,
    ends: StepEnds,
    score: StepScore,
    work: CollectionFolder,
    kind: str,
) -> list[float]:
    """The same of one score, with the models on servers."""
    assert lm.served is not None
    where = lm.student.text_vocab, lm.served.settings, lm.tok_decode, lm.thoughts.answer_of
    [values] = _observed(ServedSpecReason(lm.served.fleet, ends, score, 0.0, *where), prompts, 1, work, kind)
    return values


def _observed(
    decoder: SpecReasonDecoder | ServedSpecReason,
    prompts: PromptSet,
    count: int,
    work: CollectionFolder,
    kind: str,
) -> list[list[float]]:
    """What a decoder observes on the problems, of each of so many scores."""
    requests = prompts.longest_first

    def columns_of(result: Result) -> dict[str, Tensor]:
        return {str(i): torch.tensor(own, dtype=torch.float64) for i, own in enumerate(result.observed)}

    run_missing(decoder, requests, work, kind, "Scoring steps", columns_of)
    values: list[list[float]] = [[] for _ in range(count)]
    for columns in saved_columns(work, kind, len(requests)):
        for i, all_values in enumerate(values):
            all_values += columns[str(i)].tolist()
    return values


def with_acceptance(calibration: Calibration, measured: Mapping[str, MeasuredAcceptance]) -> Calibration:
    """The calibration with these thresholds, and with what they were measured on under `data`."""
    if not measured:
        return calibration
    steps = {key: one.described() for key, one in measured.items()}
    return replace(
        calibration,
        thresholds={**calibration.thresholds, **{key: one.thresholds for key, one in measured.items()}},
        data={**calibration.data, "steps": steps},
    )
