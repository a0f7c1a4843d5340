"""Label a teacher's texts for R2R's router (`s2t-eval r2r label`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm

from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.engine.progress import GenerationProgress
from s2t_eval.methods.r2r_error import R2RError
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.model_wrappers.voting import NoVotableAnswerError, require_votable, votable_answers
from s2t_eval.models.vocabulary import vocabulary_hash
from s2t_eval.pipelines.overlap import without_evaluation_problems
from s2t_eval.pipelines.prompts import (
    PromptSet,
    recorded_prompting,
    require_training_problems,
    source_prompts,
)
from s2t_eval.pipelines.settings import Prompting, Source
from s2t_eval.pipelines.unfinished import unfinished_labels
from s2t_eval.ranges import AT_LEAST_1, require_ranges
from s2t_eval.training.contamination import question_hash
from s2t_eval.training.label_collection import LabelledProblem
from s2t_eval.training.r2r import collect
from s2t_eval.training.r2r.judge import digit_ids, turns
from s2t_eval.training.r2r.labels import R2RManifest
from s2t_eval.training.r2r.mismatches import Continuer
from s2t_eval.training.r2r.settings import LabelSettings
from s2t_eval.training.r2r.verdicts import AnswersOf, Judge
from s2t_eval.training.student import short_name


@dataclass(frozen=True)
class Labelling:
    """Settings of one labelling.

    Args:
        rule: how mismatches are labelled.
        num_logits: largest logits of the student that are kept for the router.
        drop_overlap: leave evaluation problems out instead of refusing them.
    """

    rule: LabelSettings = field(default_factory=LabelSettings)
    num_logits: int = 100
    drop_overlap: bool = False

    def __post_init__(self) -> None:
        require_ranges(self, num_logits=AT_LEAST_1)


def label(
    lm: SelectToThink, source: Source, prompting: Prompting, settings: Labelling, folder: Path
) -> R2RManifest:
    """Make the label folder, or resume an interrupted run of the same settings.

    Raises:
        OverlapError: problems that are also evaluation problems.
        LabelError: the folder contains something else, or unfinished labels of other models, code, prompts
            or settings.
        R2RError: a rule that does not fit the problems or the teacher.
    """
    all_prompts = source_prompts(lm, source, prompting)
    require_training_problems(all_prompts)
    prompts = without_evaluation_problems(all_prompts, settings.drop_overlap)
    labeller = _make_labeller(lm, prompts, settings.rule)
    problems = [
        LabelledProblem(name, question_hash(question), request, request.prompt_ids)
        for name, question, request in zip(prompts.names, prompts.questions, prompts.requests, strict=True)
    ]
    initial_manifest = _initial_manifest(lm, source, prompting, settings, all_prompts, problems)
    identity = {**asdict(initial_manifest), "judge": _judge_prompt(labeller)}
    work = unfinished_labels(folder, lm, problems, identity, collect.KINDS)
    assert lm.teacher is not None
    with GenerationProgress(len(problems), "Teacher's texts") as progress:
        collect.write_texts(
            lm.teacher,
            problems,
            work,
            lm.rows,
            lm.tok_decode,
            lm.thoughts.answer_of,
            progress.update,
            progress.on_round,
        )
    finished = collect.finished_texts(work, len(problems))
    with tqdm(total=len(finished), desc="Student's steps") as bar:
        collect.read_steps(lm.student, problems, finished, work, initial_manifest.num_logits, bar.update)
    with GenerationProgress(len(finished), f"Labelling by {settings.rule.rule}") as progress:
        continuer = Continuer(lm.teacher, lm.rows, lm.tok_decode, lm.thoughts.answer_of, progress.on_round)
        collect.label_mismatches(continuer, problems, finished, work, labeller, progress.update)
    manifest = collect.finish(work, problems, finished, initial_manifest)
    work.clear()
    return manifest


def _initial_manifest(
    lm: SelectToThink,
    source: Source,
    prompting: Prompting,
    settings: Labelling,
    all_prompts: PromptSet,
    problems: Sequence[LabelledProblem],
) -> R2RManifest:
    """The manifest without counts, with which a resumed run is compared."""
    assert lm.teacher_fingerprint is not None
    return R2RManifest(
        student=lm.student_fingerprint,
        teacher=lm.teacher_fingerprint,
        student_name=short_name(lm.student_name),
        teacher_name=short_name(str(lm.selection.teacher)),
        vocabulary=vocabulary_hash(lm.tokenizer),
        hidden_size=int(lm.student.config.hidden_size),
        num_logits=min(settings.num_logits, lm.student.text_vocab),
        data=all_prompts.described(source.skip, len(problems)),
        prompt=recorded_prompting(prompting, problems[0].request),
        settings=asdict(settings.rule),
    )


def _make_labeller(lm: SelectToThink, prompts: PromptSet, settings: LabelSettings) -> collect.Labeller:
    """The labeller of a rule, with the task's answers and the teacher's prompt format.

    Raises:
        R2RError: the rule `answer` without a task whose answers can be compared.
    """
    answers_of: AnswersOf | None = None
    try:
        answers_of = _answers_of(lm, prompts)
    except (R2RError, NoVotableAnswerError) as error:
        if settings.rule == "answer":
            raise R2RError(f"rule=answer: {error}; choose another rule") from error
        if settings.validate:
            tqdm.write(f"note: the labels are not validated by answers: {error}")
    return collect.Labeller(settings, answers_of, _chat_judge(lm) if settings.rule == "judge" else None)


def _answers_of(lm: SelectToThink, prompts: PromptSet) -> AnswersOf:
    if prompts.task is None:
        raise R2RError("only a task (--task NAME) has a rule by which two answers are equal")
    task, docs = require_votable(prompts.task), prompts.docs

    def answers_of(number: int, texts: Sequence[Sequence[int]]) -> list[str | None]:
        outputs = [lm.tok_decode(list(ids)) for ids in texts]
        for stop in prompts.requests[number].stop_strings:
            outputs = [text.split(stop)[0] for text in outputs]
        return votable_answers(task, docs[number], outputs)

    return answers_of


def _chat_judge(lm: SelectToThink) -> Judge:
    """The teacher as a judge; its prompts have the chat template if the tokenizer has one."""

    def encode_text(text: str) -> list[int]:
        ids: list[int] = lm.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def encode(turns: Sequence[dict[str, str]]) -> list[int]:
        if lm.tokenizer.chat_template:
            return encode_text(lm.apply_chat_template(list(turns)))
        return encode_text("\n\n".join(turn["content"] for turn in turns))

    return Judge(encode, digit_ids(encode_text, lm.tokenizer.unk_token_id))


def _judge_prompt(labeller: collect.Labeller) -> str | None:
    """Hash of the judge's prompt without its texts, which has the chat template; None without a judge."""
    return None if labeller.judge is None else data_hash(labeller.judge.encode(turns("", "", "")))
