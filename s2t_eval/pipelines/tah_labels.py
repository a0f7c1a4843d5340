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
from s2t_eval.pipelines.problems import Problems, Prompting, TrainingDataError, first_text, question_of
from s2t_eval.training.contamination import (
    LEAVE_OUT,
    find_overlap,
    question_hash,
    require_no_evaluation_prompts,
    require_no_overlap,
)
from s2t_eval.training.labels import LabelSet
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


def solutions(lm: EngineLM, posed: Problems, prompting: Prompting, drop_overlap: bool) -> list[Text]:
    """The problems' reference solutions behind the prompts that evaluation would put.

    Raises:
        OverlapError: problems that are also evaluation problems.
        TrainingDataError: problems without a solution.
    """
    docs: list[dict[str, Any]] = [instance.doc for instance in posed.instances]
    contexts = [instance.args[0] for instance in posed.instances]
    questions = [question_of(instance) for instance in posed.instances]
    hashes = [question_hash(question) for question in questions]
    overlap = find_overlap(questions)
    if not drop_overlap:
        require_no_overlap(overlap, len(hashes), LEAVE_OUT)
    prompts = {job.position: job.request.prompt_ids for job in lm._jobs(posed.instances)}
    end = _end_of_answer(lm, prompting)
    texts = []
    for i, (doc, context) in enumerate(zip(docs, contexts, strict=True)):
        if i in overlap:
            continue
        solution = first_text(doc, SOLUTION_FIELDS)
        if solution is None:
            raise TrainingDataError(
                f"{posed.source}: problem {posed.skip + i} has no text under {', '.join(SOLUTION_FIELDS)}"
            )
        space = "" if prompting.apply_chat_template or context[-1:].isspace() else " "
        answer = lm.tokenizer.encode(space + solution.strip(), add_special_tokens=False)
        name = f"{posed.source}/{posed.split}/{posed.skip + i}"
        texts.append(Text(name, hashes[i], list(prompts[i]), [*answer, end]))
    if not texts:
        raise TrainingDataError(f"all {len(hashes)} problems are evaluation problems; choose other data")
    return texts


def collected(lm: EngineLM, folder: Path) -> tuple[list[Text], dict[str, Any]]:
    """The texts of a label set of `s2t-eval collect`, such as a teacher's own.

    Raises:
        LabelError: no label set.
        OverlapError: texts on problems that models are scored on.
        TahError: another tokenizer, or texts of this very student, which finds none of them hard.
    """
    labels = LabelSet.load(folder)
    manifest = labels.manifest
    found = vocabulary_hash(lm.tokenizer)
    if manifest.vocabulary != found:
        raise TahError(
            f"--texts {folder}: its texts are of another tokenizer ({manifest.vocabulary}, of "
            f"{manifest.student_name}; this student has {found}); collect texts of the student's family"
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
