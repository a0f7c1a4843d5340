"""Roll out a student on training problems and have a teacher label every step (`s2t-eval collect`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from s2t_eval.artifacts.json_lines import read_json_lines
from s2t_eval.model_wrappers.progress import GenerationProgress
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.models.vocabulary import vocabulary_hash
from s2t_eval.pipelines.calibrate import load_lm
from s2t_eval.pipelines.overlap import without_evaluation_problems
from s2t_eval.pipelines.prompts import (
    QUESTION_FIELDS,
    Prompting,
    PromptSet,
    Source,
    TrainingDataError,
    first_text,
    require_training_problems,
)
from s2t_eval.ranges import RATE, require_ranges
from s2t_eval.training.collect import LabelFolder, Problem, finish, label, roll_out
from s2t_eval.training.contamination import question_hash
from s2t_eval.training.labels import Manifest

SOLUTION_FIELDS = ("solution", "rationale", "answer")
CONTEXT = "This is a correct solution, for you alone to see:\n{context}"


@dataclass(frozen=True)
class Collection:
    """Settings of one collection.

    Args:
        tau: rate of steps, by KL over the whole set, that count as top.
        steps: "top" keeps candidates there alone, "all" at every step.
        teacher_context: None, "solution", or a JSON-lines file of `question` and `context`.
        drop_overlap: leave evaluation problems out instead of refusing them.
        evaluation: further JSON-lines files of evaluation problems.
    """

    tau: float = 0.1
    steps: str = "top"
    teacher_context: str | None = None
    drop_overlap: bool = False
    evaluation: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_ranges(self, tau=RATE)
        if self.steps not in ("top", "all"):
            raise ValueError(f"steps: expected 'top' or 'all', got {self.steps!r}")


def collect(
    lm: SelectToThink, source: Source, prompting: Prompting, settings: Collection, folder: Path
) -> Manifest:
    """Make the label set `folder`, or go on with it where an earlier run was broken off.

    Raises:
        OverlapError: problems that are also evaluation problems.
        LabelError: the folder holds something else.
        TrainingDataError: unusable problems or teacher context.
    """
    posed = source.prompts(lm, prompting)
    require_training_problems(posed)
    further = {Path(path).stem: _file_questions(path) for path in settings.evaluation}
    prompts = without_evaluation_problems(posed, settings.drop_overlap, further)
    problems = _problems(lm, source, prompting, settings, prompts)
    assert lm.teacher is not None and lm.teacher_fingerprint is not None
    described = Manifest(
        student=lm.student_fingerprint,
        teacher=lm.teacher_fingerprint,
        student_name=Path(lm.student_name).name,
        teacher_name=Path(str(lm.selection.teacher)).name,
        vocabulary=vocabulary_hash(lm.tokenizer),
        data={
            "source": posed.source,
            "split": posed.split,
            "hash": posed.hash,
            "skip": source.skip,
            "problems": len(problems),
            "left_out_as_evaluation_problems": len(posed.instances) - len(problems),
        },
        prompt={**asdict(prompting), "max_gen_toks": problems[0].request.max_new_tokens},
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
    )
    work = LabelFolder(folder, asdict(described))
    with GenerationProgress(len(problems), "Rolling out") as progress:
        roll_out(lm.student, problems, work, lm.rows, lm.tok_decode, progress.update, progress.on_round)
    lm.student.release()
    with tqdm(total=len(problems), desc="Labelling") as bar:
        label(lm.teacher, problems, work, bar.update)
    manifest = finish(work, problems, described)
    work.clear()
    return manifest


def load_pair(pretrained: str, teacher: str, **stock: Any) -> SelectToThink:
    """Student and teacher, checked to share one vocabulary."""
    lm = load_lm(pretrained, teacher, **stock)
    assert isinstance(lm, SelectToThink)
    return lm


def _problems(
    lm: SelectToThink, source: Source, prompting: Prompting, settings: Collection, prompts: PromptSet
) -> list[Problem]:
    contexts = _contexts(settings.teacher_context, prompts)
    problems = []
    for i, (name, question) in enumerate(zip(prompts.names, prompts.questions, strict=True)):
        request = prompts.requests[i]
        teacher_prompt = request.prompt_ids
        if contexts is not None:
            teacher_prompt = _prompt_with(lm, source, prompting, prompts.indices[i], contexts[i])
        problems.append(Problem(name, question_hash(question), request, teacher_prompt))
    return problems


def _contexts(kind: str | None, prompts: PromptSet) -> list[str] | None:
    """What the teacher sees beside each problem, or None."""
    if kind is None:
        return None
    if kind == "solution":
        found = [first_text(doc, SOLUTION_FIELDS) for doc in prompts.docs]
    else:
        by_question = {question_hash(row["question"]): row["context"] for row in _context_rows(Path(kind))}
        found = [by_question.get(question_hash(question)) for question in prompts.questions]
    missing = [i for i, text in enumerate(found) if text is None]
    if missing:
        raise TrainingDataError(
            f"--teacher-context {kind}: {len(missing)} of {len(found)} problems have none (the first is "
            f"problem {prompts.indices[missing[0]]}); a solution is read from {', '.join(SOLUTION_FIELDS)}, "
            "a file holds one JSON object a line with `question` and `context`"
        )
    return [str(text) for text in found]


def _context_rows(path: Path) -> list[dict[str, str]]:
    rows = _json_lines(path, "--teacher-context")
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get("question"), str) or not isinstance(row.get("context"), str):
            raise TrainingDataError(
                f"--teacher-context {path}, line {number}: expected texts `question` and `context`"
            )
    return rows


def _prompt_with(
    lm: SelectToThink, source: Source, prompting: Prompting, index: int, context: str
) -> tuple[int, ...]:
    """The problem's prompt with the context in the system turn (or in front, without a template)."""
    instructions = [prompting.system_instruction, CONTEXT.format(context=context)]
    informed = replace(prompting, system_instruction="\n\n".join(text for text in instructions if text))
    one = replace(source, limit=1, skip=index).prompts(lm, informed)
    return one.requests[0].prompt_ids


def _file_questions(path: str) -> list[str]:
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
