"""Measure the thresholds of SpecReason's acceptance on drafts of training problems (`s2t-eval calibrate`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from s2t_eval.engine.progress import GenerationProgress
from s2t_eval.methods.questions import QuestionError
from s2t_eval.methods.reasoning_steps import StepEnds
from s2t_eval.methods.specreason.acceptance import MeasuredAcceptance, StepForm, measure_acceptance
from s2t_eval.methods.specreason.on_servers import ServedSpecReason
from s2t_eval.methods.specreason.scores import StepScore, make_score
from s2t_eval.methods.specreason.stepper import SpecReasonDecoder
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.pipelines.prompts import Prompting, PromptSet, TrainingDataError
from s2t_eval.pipelines.settings import StepCalibration
from s2t_eval.selection.calibration import Calibration


def measure_steps(
    lm: SelectToThink, prompts: PromptSet, prompting: Prompting, settings: StepCalibration
) -> dict[str, MeasuredAcceptance]:
    """Key of each form of step -> its thresholds; the drafts are the lines of the student's greedy texts.

    Raises:
        TrainingDataError: a score that the teacher's tokenizer or chat template cannot express.
    """
    forms = [StepForm(score, settings.delimiter, settings.max_step) for score in settings.step_score]
    return {
        form.key: measure_acceptance(_scores(lm, prompts, prompting, form), settings.accept_rate)
        for form in forms
    }


def _scores(lm: SelectToThink, prompts: PromptSet, prompting: Prompting, form: StepForm) -> Sequence[float]:
    """The teacher's scores of all drafts; all are accepted, so the texts are the student's greedy ones."""
    if lm.teacher_tokenizer is None and form.score != "logprob":
        raise TrainingDataError(
            f"step_score {form.score}: its question needs the teacher's tokenizer, which is not on this "
            "machine; give --teacher MODEL beside --teacher_url, or --step_score logprob"
        )
    try:
        score = make_score(form.score, lm.teacher_tokenizer, prompting.apply_chat_template)
    except QuestionError as error:
        raise TrainingDataError(f"step_score {form.score}: {error} (logprob)") from error
    decoder = _decoder(lm, StepEnds(lm.tok_decode, form.delimiter, form.max_step), score)
    requests = sorted(prompts.requests, key=lambda request: request.longest_first)
    scores: list[float] = []
    with GenerationProgress(len(requests), f"Scoring steps by {form.score}") as progress:
        for result in decoder.run(requests, progress.on_round):
            scores += result.observed[0]
            progress.update()
    return scores


def _decoder(lm: SelectToThink, ends: StepEnds, score: StepScore) -> SpecReasonDecoder | ServedSpecReason:
    """SpecReason that accepts every draft, with the models in this process or on servers."""
    if lm.served is not None:
        where = lm.student.text_vocab, lm.served.settings, lm.tok_decode, lm.thoughts.answer_of
        return ServedSpecReason(lm.served.fleet, ends, score, 0.0, *where)
    assert lm.teacher is not None
    how = lm.rows, lm.tok_decode, lm.thoughts.answer_of
    return SpecReasonDecoder(lm.student, lm.teacher, ends, score, 0.0, *how)


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
