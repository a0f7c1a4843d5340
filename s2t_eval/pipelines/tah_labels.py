"""Label which tokens of reference texts are hard for a student (`s2t-eval tah label`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.methods.tah.settings import TahError
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.models.vocabulary import END_OF_TURN, vocabulary_hash
from s2t_eval.pipelines.collect import SOLUTION_FIELDS
from s2t_eval.pipelines.overlap import without_evaluation_problems
from s2t_eval.pipelines.prompts import (
    Prompting,
    PromptSet,
    TrainingDataError,
    first_text,
    require_training_problems,
)
from s2t_eval.training.contamination import question_hash, require_no_evaluation_prompts
from s2t_eval.training.labels import KIND, LabelSet
from s2t_eval.training.tah.labels import Manifest, TahLabels, Text, label_hard


def label(lm: EngineLM, texts: Sequence[Text], data: dict[str, Any], prompt: dict[str, Any]) -> TahLabels:
    """Teacher forcing of these texts: a token is hard where the student's first guess is another."""
    labelled = list(tqdm(label_hard(lm.student, texts), total=len(texts), desc="Labelling"))
    manifest = Manifest(
        labeller=lm.student_fingerprint,
        labeller_name=Path(lm.student_name).name,
        vocabulary=vocabulary_hash(lm.tokenizer),
        data={**data, "texts": len(labelled), "hash": data_hash(asdict(text) for text in labelled)},
        prompt=prompt,
        num_steps=sum(len(text.hard) for text in labelled),
        num_hard=sum(sum(text.hard) for text in labelled),
    )
    return TahLabels(manifest, labelled)


def solutions(lm: EngineLM, prompts: PromptSet, prompting: Prompting, drop_overlap: bool) -> list[Text]:
    """The problems' reference solutions behind the prompts that evaluation would put.

    Raises:
        OverlapError: problems that are also evaluation problems.
        TrainingDataError: problems without a solution.
    """
    require_training_problems(prompts)
    prompts = without_evaluation_problems(prompts, drop_overlap)
    end = _end_of_answer(lm, prompting)
    texts = []
    for i, (instance, request) in enumerate(zip(prompts.instances, prompts.requests, strict=True)):
        solution = first_text(instance.doc, SOLUTION_FIELDS)
        if solution is None:
            raise TrainingDataError(
                f"{prompts.source}: problem {prompts.indices[i]} has no text under "
                f"{', '.join(SOLUTION_FIELDS)}"
            )
        space = "" if prompting.apply_chat_template or instance.args[0][-1:].isspace() else " "
        answer = lm.tokenizer.encode(space + solution.strip(), add_special_tokens=False)
        hashed = question_hash(prompts.questions[i])
        texts.append(Text(prompts.names[i], hashed, list(request.prompt_ids), [*answer, end]))
    return texts


def collected(lm: EngineLM, folder: Path) -> tuple[list[Text], dict[str, Any]]:
    """The texts of a label set of `s2t-eval collect`, such as a teacher's own.

    Raises:
        LabelError: no label set, or one of another tokenizer.
        OverlapError: texts on problems that models are scored on.
        TahError: texts of this very student, which finds none of them hard.
    """
    labels = LabelSet.load(folder)
    manifest = labels.manifest
    fix = "collect texts of the student's family"
    found = vocabulary_hash(lm.tokenizer)
    KIND.require_same(
        f"--texts {folder}", "tokenizer", manifest.vocabulary, found, fix, manifest.student_name
    )
    if manifest.student == lm.student_fingerprint:
        raise TahError(
            f"--texts {folder}: {manifest.student_name} wrote these texts itself, so it finds no token hard; "
            "run `s2t-eval collect` with the teacher as --pretrained"
        )
    require_no_evaluation_prompts([row.prompt_ids for row in labels], lm.tok_decode)
    texts = [
        Text(row.problem_id, row.question_hash, row.prompt_ids.tolist(), row.output_ids.tolist())
        for row in labels
    ]
    return texts, {**manifest.data, "written_by": manifest.student_name}


def _end_of_answer(lm: EngineLM, prompting: Prompting) -> int:
    """The token that ends an answer: under a chat template the one it names, for GGUF files forget theirs."""
    vocab: dict[str, int] = lm.tokenizer.get_vocab()
    template = str(lm.tokenizer.chat_template) if prompting.apply_chat_template else ""
    named = [vocab[name] for name in END_OF_TURN if name in vocab and name in template]
    return named[0] if named else int(lm.tokenizer.eos_token_id)
