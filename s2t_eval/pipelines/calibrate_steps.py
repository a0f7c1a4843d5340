"""Measure the thresholds of SpecReason's acceptance on drafts of training problems (`s2t-eval calibrate`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from s2t_eval.engine.progress import GenerationProgress
from s2t_eval.methods.questions import QuestionError
from s2t_eval.methods.reasoning_steps import StepEnds
from s2t_eval.methods.specreason.acceptance import MeasuredAcceptance, StepForm, measure_acceptance
from s2t_eval.methods.specreason.scores import make_score
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
    assert lm.teacher is not None
    try:
        score = make_score(form.score, lm.teacher_tokenizer, prompting.apply_chat_template)
    except QuestionError as error:
        raise TrainingDataError(f"step_score {form.score}: {error} (logprob)") from error
    ends = StepEnds(lm.tok_decode, form.delimiter, form.max_step)
    models = lm.student, lm.teacher
    decoder = SpecReasonDecoder(*models, ends, score, 0.0, lm.rows, lm.tok_decode, lm.thoughts.answer_of)
    requests = sorted(prompts.requests, key=lambda request: request.longest_first)
    scores: list[float] = []
    with GenerationProgress(len(requests), f"Scoring steps by {form.score}") as progress:
        for result in decoder.run(requests, progress.on_round):
            scores += result.observed[0]
            progress.update()
    return scores


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
