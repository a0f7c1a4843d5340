"""Rollouts of a student on training problems, with a teacher's labels of every step (`s2t-eval collect`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.artifacts.json_lines import read_json_lines
from s2t_eval.artifacts.manifest import UNKNOWN_WEIGHTS
from s2t_eval.engine import Request
from s2t_eval.engine.progress import GenerationProgress
from s2t_eval.model_wrappers.arguments import TeacherArguments
from s2t_eval.model_wrappers.local_arguments import LocalArguments
from s2t_eval.model_wrappers.s2t import SelectionLM, SelectToThink
from s2t_eval.model_wrappers.s2t_local import PPSLocal
from s2t_eval.model_wrappers.served import NOT_STATED, stated_dtype
from s2t_eval.model_wrappers.teacher import teacher_model_args
from s2t_eval.models.vocabulary import vocabulary_hash
from s2t_eval.pipelines.overlap import without_evaluation_problems
from s2t_eval.pipelines.prompts import (
    QUESTION_FIELDS,
    PromptSet,
    TrainingDataError,
    first_text,
    recorded_prompting,
    requests_with_instructions,
    require_training_problems,
    source_prompts,
)
from s2t_eval.pipelines.servers import greedy_texts, teacher_identity, teacher_scorer
from s2t_eval.pipelines.settings import CollectionSettings, Prompting, Source
from s2t_eval.pipelines.unfinished import unfinished_labels
from s2t_eval.selection.thresholds import trigger_key
from s2t_eval.selection.triggers import TopEntropyTrigger
from s2t_eval.training.contamination import question_hash
from s2t_eval.training.label_collection import (
    KINDS,
    Advance,
    CollectionFolder,
    LabelledProblem,
    generate_rollouts,
    label_rollouts,
    write_label_set,
)
from s2t_eval.training.label_reuse import ReusedLabels
from s2t_eval.training.labels import ENTROPY, LabelManifest
from s2t_eval.training.server_labels import generate_rollouts_on_servers, label_rollouts_on_servers

SOLUTION_FIELDS = ("solution", "rationale", "answer")
CONTEXT = "This is a correct solution, for you alone to see:\n{context}"


@dataclass(frozen=True)
class LabelledArguments(LocalArguments):
    """Arguments of `pps_local` with a teacher that labels the texts, whatever fires."""

    def _check_teacher(self) -> None:
        """The pipeline reads the teacher."""


@dataclass(frozen=True)
class LabelledPairArguments(TeacherArguments):
    """Arguments of a student and the teacher that labels its texts; neither writes with the other."""

    def require_own_concurrency(self) -> None:
        """The model on servers works alone, so no cache of a model of this process limits it."""


class LabelledPair(SelectToThink):
    """A student, which writes the texts alone, beside the teacher that labels them."""

    ARGUMENTS = LabelledPairArguments


class LabelledPPSLocal(PPSLocal):
    """`pps_local`, which writes the texts, beside the teacher that labels them."""

    ARGUMENTS = LabelledArguments


def collect_labels(
    lm: SelectionLM, source: Source, prompting: Prompting, settings: CollectionSettings, folder: Path
) -> LabelManifest:
    """Write the label set `folder`, or resume an interrupted collection there.

    Args:
        lm: student and teacher; a `PPSLocal` writes the texts with its selector.
        source: training problems.
        prompting: how the problems are prompted.
        settings: what is labelled.
        folder: folder of the label set.

    Of a student on servers the entropies are those of the trigger `entropy64`, as the set's manifest says.

    Raises:
        OverlapError: there are evaluation problems among the training problems.
        LabelError: the folder holds a finished label set, or an unfinished one of another run: of other
            models, code, prompts or settings; or a set that is to be reused does not fit.
        TrainingDataError: the problems or the teacher's context cannot be used.
        ServerError: a server refuses a request or answers it wrongly.
        ServersUnavailableError: no server answers.
        SelectorError: the selector that writes the texts was trained for other prompts.
    """
    _require_known_student(lm)
    all_prompts = source_prompts(lm, source, prompting)
    require_training_problems(all_prompts)
    extra_benchmarks = _extra_benchmarks(settings.evaluation)
    prompts = without_evaluation_problems(all_prompts, settings.drop_overlap, extra_benchmarks)
    contexts = _contexts(settings.teacher_context, prompts)
    problems = _problems(lm, prompting, prompts, contexts)
    manifest = _manifest(lm, source, prompting, settings, all_prompts, problems, contexts)
    if lm.selector is not None:
        lm.selector.info.require_prompt(manifest.prompt)
    reused = _reused(settings.reuse, manifest, problems)
    if reused.counts:
        manifest = replace(manifest, data={**manifest.data, "reused": dict(reused.counts)})
    work = unfinished_labels(folder, lm, problems, asdict(manifest), KINDS)
    missing = [problem for problem in problems if problem.problem_id not in reused.texts]
    if missing:
        with GenerationProgress(len(missing), "Generating rollouts") as progress:
            _generate(lm, missing, work, progress)
        with tqdm(total=len(missing), desc="Labelling") as bar:
            _label(lm, missing, work, bar.update)
    complete = write_label_set(work, problems, manifest, reused.texts)
    work.clear()
    return complete


def _reused(
    folders: Sequence[str], manifest: LabelManifest, problems: Sequence[LabelledProblem]
) -> ReusedLabels:
    prompts = {
        problem.problem_id: (problem.request.prompt_ids, problem.teacher_prompt_ids) for problem in problems
    }
    return ReusedLabels.load(folders, manifest, prompts)


def _generate(
    lm: SelectToThink | PPSLocal,
    problems: Sequence[LabelledProblem],
    work: CollectionFolder,
    progress: GenerationProgress,
) -> None:
    if lm.served is not None and lm.served.has_student:
        assert isinstance(lm, SelectToThink)
        texts = greedy_texts(lm)
        generate_rollouts_on_servers(texts, problems, work, progress.update, progress.on_round)
        return
    scorer = lm.scorer if isinstance(lm, PPSLocal) else None
    generate_rollouts(
        lm.student,
        problems,
        work,
        lm.rows,
        lm.tok_decode,
        lm.thoughts.answer_of,
        progress.update,
        progress.on_round,
        None if lm.selector is None else lm.policy(),
        scorer,
        lm.teacher,
    )
    lm.student.release()
    if scorer is not None:
        scorer.release()


def _label(
    lm: SelectToThink | PPSLocal,
    problems: Sequence[LabelledProblem],
    work: CollectionFolder,
    advance: Advance,
) -> None:
    if lm.teacher is not None:
        label_rollouts(lm.teacher, problems, work, advance)
    else:
        assert isinstance(lm, SelectToThink)
        label_rollouts_on_servers(teacher_scorer(lm), problems, work, advance)


def _require_known_student(lm: SelectionLM) -> None:
    """Raise `ValueError` for a student on servers whose weights are elsewhere: no training would find it."""
    if lm.student_fingerprint == UNKNOWN_WEIGHTS:
        raise ValueError(
            f"--pretrained {lm.student_name}: its weights are not on this machine, and a label set names its "
            "student by their fingerprint; download them (they are read once and not loaded), or collect on "
            "the machine of the servers"
        )


def _manifest(
    lm: SelectionLM,
    source: Source,
    prompting: Prompting,
    settings: CollectionSettings,
    all_prompts: PromptSet,
    problems: Sequence[LabelledProblem],
    contexts: Sequence[str] | None,
) -> LabelManifest:
    """The manifest without its counts and shards; it identifies the collection."""
    data = all_prompts.described(source.skip, len(problems))
    if contexts is not None:
        data["contexts"] = data_hash(contexts)
    if lm.served is not None and lm.served.has_student:
        data[ENTROPY] = trigger_key(TopEntropyTrigger())
    return LabelManifest(
        student=lm.student_fingerprint,
        teacher=teacher_identity(lm),
        student_name=Path(lm.student_name).name,
        teacher_name=_teacher_name(lm),
        vocabulary=vocabulary_hash(lm.tokenizer),
        data=data,
        prompt=recorded_prompting(prompting, problems[0].request),
        seed=lm.arguments.seed,
        teacher_context=settings.teacher_context and Path(settings.teacher_context).name,
        steps=settings.steps,
        tau=settings.tau,
        kl_threshold=0.0,
        num_steps=0,
        num_kept=0,
        num_top=0,
        hit_rate={},
        shards={},
        rollouts=_rollouts(lm),
        dtypes=_dtypes(lm),
    )


def _dtypes(lm: SelectionLM) -> dict[str, str]:
    """The data types of the models by their roles; that of a student on servers if the user states it."""
    is_served = lm.served is not None and lm.served.has_student
    models = {"student": None if is_served else lm.student, "teacher": lm.teacher}
    dtypes = {role: str(runner.base.dtype) for role, runner in models.items() if runner is not None}
    stated = stated_dtype(lm.model_args) if is_served else NOT_STATED
    return dtypes if stated == NOT_STATED else {"student": stated, **dtypes}


def _teacher_name(lm: SelectionLM) -> str:
    """The teacher's name for messages: the argument, or what its servers loaded."""
    if lm.selection.teacher is not None or lm.served is None:
        return Path(str(lm.selection.teacher)).name
    server = lm.served.fleet.teachers[0]
    return Path(server.root or server.model).name


def _rollouts(lm: SelectionLM) -> dict[str, Any] | None:
    """What wrote the texts, for the manifest; None for greedy decoding."""
    if not isinstance(lm, PPSLocal) or lm.selector is None:
        return None
    # through JSON, as the manifest is compared with its saved form
    policy: dict[str, Any] = json.loads(json.dumps(lm.policy().describe()))
    return {"selector": lm.selector.hash, "tau": lm.tau, "policy": policy}


def load_pair(pretrained: str, teacher: str | None, teacher_args: str = "", **stock: Any) -> SelectToThink:
    """Load student and teacher, and check that they share one vocabulary.

    Args:
        pretrained: the student.
        teacher: the teacher; None where `teacher_url` names its servers.
        teacher_args: how the teacher is loaded; see `model_wrappers.teacher.read_teacher_args`.
        stock: further arguments of lm_eval's `hf` model, such as `dtype`, and those of servers.

    Raises:
        ValueError: arguments of a teacher that are unusable.
    """
    options = teacher_model_args(teacher_args)
    return LabelledPair(pretrained, teacher=teacher, trigger="never", **options, **stock)


def load_writers(
    pretrained: str, teacher: str | None, teacher_args: str, settings: CollectionSettings, **stock: Any
) -> SelectToThink | PPSLocal:
    """The pair, with the selector of the settings where they name one.

    Raises:
        SelectorError: a selector of another student, or without the trigger or rate.
    """
    if settings.selector is None:
        return load_pair(pretrained, teacher, teacher_args, **stock)
    options = teacher_model_args(teacher_args)
    rule = {"trigger": settings.selector_trigger, "tau": settings.selector_tau}
    return LabelledPPSLocal(
        pretrained, teacher=teacher, selector=settings.selector, **rule, **options, **stock
    )


def _problems(
    lm: SelectionLM, prompting: Prompting, prompts: PromptSet, contexts: Sequence[str] | None
) -> list[LabelledProblem]:
    read_by_teacher = prompts.requests
    if contexts is not None:
        read_by_teacher = _requests_with_contexts(lm, prompting, prompts, contexts)
    return [
        LabelledProblem(name, question_hash(question), request, by_teacher.prompt_ids)
        for name, question, request, by_teacher in zip(
            prompts.names, prompts.questions, prompts.requests, read_by_teacher, strict=True
        )
    ]


def _contexts(kind: str | None, prompts: PromptSet) -> list[str] | None:
    """The teacher's context of each problem; None if there is none."""
    if kind is None:
        return None
    if kind == "solution":
        contexts = [first_text(doc, SOLUTION_FIELDS) for doc in prompts.docs]
    else:
        by_question = {question_hash(row["question"]): row["context"] for row in _context_rows(Path(kind))}
        contexts = [by_question.get(question_hash(question)) for question in prompts.questions]
    missing = [i for i, text in enumerate(contexts) if text is None]
    if missing:
        raise TrainingDataError(
            f"--teacher_context {kind}: {len(missing)} of {len(contexts)} problems have none (the first is "
            f"problem {prompts.indices[missing[0]]}); a solution is read from {', '.join(SOLUTION_FIELDS)}, "
            "a file holds one JSON object a line with `question` and `context`"
        )
    return [str(text) for text in contexts]


def _context_rows(path: Path) -> list[dict[str, str]]:
    rows = _json_lines(path, "--teacher_context")
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get("question"), str) or not isinstance(row.get("context"), str):
            raise TrainingDataError(
                f"--teacher_context {path}, line {number}: expected texts `question` and `context`"
            )
    return rows


def _requests_with_contexts(
    lm: SelectionLM, prompting: Prompting, prompts: PromptSet, contexts: Sequence[str]
) -> list[Request]:
    """The requests with each problem's context in the system turn, or before it without a chat template."""
    begin = f"{prompting.system_instruction}\n\n" if prompting.system_instruction else ""
    instructions = [begin + CONTEXT.format(context=context) for context in contexts]
    return requests_with_instructions(lm, prompts, prompting, instructions)


def _extra_benchmarks(paths: Sequence[str]) -> dict[str, list[str]]:
    """Name of a file, without its folder and suffix -> the questions of all files of this name."""
    questions: dict[str, list[str]] = {}
    for path in paths:
        questions.setdefault(Path(path).stem, []).extend(_read_questions(path))
    return questions


def _read_questions(path: str) -> list[str]:
    rows = _json_lines(Path(path), "--evaluation")
    questions = [first_text(row, QUESTION_FIELDS) for row in rows]
    if None in questions:
        raise TrainingDataError(
            f"--evaluation {path}, line {questions.index(None) + 1}: it has no text under "
            f"{', '.join(QUESTION_FIELDS)}"
        )
    return list(map(str, questions))


def _json_lines(path: Path, flag: str) -> list[dict[str, Any]]:
    if not path.is_file():
        raise TrainingDataError(f"{flag} {path}: there is no such file")
    return [line.record for line in read_json_lines(path, TrainingDataError, f"{flag} ")]
