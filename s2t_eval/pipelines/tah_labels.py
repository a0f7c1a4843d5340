"""Labels of the tokens of reference texts that are hard for a student (`s2t-eval tah label`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.methods.tah.settings import TahError
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.models.vocabulary import END_OF_TEXT, turn_ends, vocabulary_hash
from s2t_eval.pipelines.collect_labels import SOLUTION_FIELDS
from s2t_eval.pipelines.overlap import without_evaluation_problems
from s2t_eval.pipelines.prompts import PromptSet, TrainingDataError, first_text, require_training_problems
from s2t_eval.pipelines.settings import Prompting
from s2t_eval.pipelines.unfinished import saved_columns, unfinished_work
from s2t_eval.training.contamination import question_hash, require_no_evaluation_prompts
from s2t_eval.training.label_collection import CollectionFolder, unfinished
from s2t_eval.training.labels import KIND, LabelSet
from s2t_eval.training.tah.labels import BATCH_SIZE, LabelledText, TahLabels, TahManifest, label_hard_tokens

HARD = "hard"
"""Kind of the files that hold the labels of a text."""


def open_work(out: Path, lm: EngineLM, texts: Sequence[LabelledText]) -> CollectionFolder:
    """What an interrupted labelling of these texts has made.

    Args:
        out: the label folder.
        lm: the student.
        texts: texts without labels.

    Raises:
        LabelError: an interrupted labelling of other texts or another student.
    """
    return unfinished_work(out, lm, [asdict(text) for text in texts], {}, (HARD,))


def label_texts(
    lm: EngineLM,
    texts: Sequence[LabelledText],
    data: dict[str, Any],
    prompt: dict[str, Any],
    work: CollectionFolder,
) -> TahLabels:
    """Label texts under teacher forcing: a token is hard if it is not the student's argmax.

    Args:
        lm: the student.
        texts: texts without labels.
        data: source of the texts, for the manifest.
        prompt: how their prompts were made, for the manifest.
        work: labels of an interrupted run, which are not made again; see `open_work`.

    Raises:
        LabelError: a file of an interrupted run that cannot be read.
    """
    batches = [range(i, min(i + BATCH_SIZE, len(texts))) for i in range(0, len(texts), BATCH_SIZE)]
    with tqdm(total=len(texts), desc="Labelling") as bar:
        # Whole batches: the rounding of a text depends on the texts beside it.
        missing = [i for batch in unfinished(batches, HARD, work, bar.update) for i in batch]
        num_tokens = 0
        labels = label_hard_tokens(lm.student, [texts[i] for i in missing], BATCH_SIZE)
        for i, text in zip(missing, labels, strict=True):
            work.save(HARD, i, {"hard": torch.tensor(text.hard)})
            num_tokens += len(text.output_ids)
            rate = num_tokens / max(bar.format_dict["elapsed"], 1e-3)
            bar.set_postfix_str(f"{num_tokens:,} tokens ({rate:,.0f}/s)", refresh=False)
            bar.update()
    saved = saved_columns(work, HARD, len(texts))
    labelled = [
        replace(text, hard=columns["hard"].tolist()) for text, columns in zip(texts, saved, strict=True)
    ]
    manifest = TahManifest(
        labeller=lm.student_fingerprint,
        labeller_name=Path(lm.student_name).name,
        vocabulary=vocabulary_hash(lm.tokenizer),
        data={**data, "texts": len(labelled), "hash": data_hash(asdict(text) for text in labelled)},
        prompt=prompt,
        num_steps=sum(len(text.hard) for text in labelled),
        num_hard=sum(sum(text.hard) for text in labelled),
    )
    return TahLabels(manifest, labelled)


def reference_solutions(
    lm: EngineLM, prompts: PromptSet, prompting: Prompting, drop_overlap: bool
) -> list[LabelledText]:
    """The problems' reference solutions, each with the prompt that evaluation uses.

    Args:
        lm: the student.
        prompts: training problems.
        prompting: how their prompts were made.
        drop_overlap: leave evaluation problems out instead of refusing them.

    Raises:
        OverlapError: there are evaluation problems, and `drop_overlap` is false.
        TahError: the tokenizer has no token that ends an answer.
        TrainingDataError: a problem has no solution.
    """
    require_training_problems(prompts)
    prompts = without_evaluation_problems(prompts, drop_overlap)
    end = end_of_answer(lm.tokenizer, prompting.apply_chat_template)
    names, questions, texts = prompts.names, prompts.questions, []
    for i, (instance, request) in enumerate(zip(prompts.instances, prompts.requests, strict=True)):
        solution = first_text(instance.doc, SOLUTION_FIELDS)
        if solution is None:
            raise TrainingDataError(
                f"{prompts.source}: problem {prompts.indices[i]} has no text under "
                f"{', '.join(SOLUTION_FIELDS)}"
            )
        space = "" if prompting.apply_chat_template or instance.args[0][-1:].isspace() else " "
        answer = lm.tokenizer.encode(space + solution.strip(), add_special_tokens=False)
        hash_of_question = question_hash(questions[i])
        texts.append(LabelledText(names[i], hash_of_question, list(request.prompt_ids), [*answer, end]))
    return texts


class LabelSetTexts(NamedTuple):
    """The texts of a label set, where they come from, and how their prompts were made."""

    texts: list[LabelledText]
    data: dict[str, Any]
    prompt: dict[str, Any]


def label_set_texts(lm: EngineLM, folder: Path) -> LabelSetTexts:
    """The texts of a label set of `s2t-eval collect`, such as a teacher's own.

    Args:
        lm: the student.
        folder: folder of the label set.

    Raises:
        LabelError: there is no label set, or it has another tokenizer.
        OverlapError: the texts answer evaluation problems.
        TahError: the student generated the texts itself, so none of their tokens is hard for it.
    """
    labels = LabelSet.load(folder)
    manifest = labels.manifest
    fix = "collect texts of the student's family"
    current = vocabulary_hash(lm.tokenizer)
    KIND.require_same(
        f"--texts {folder}", "tokenizer", manifest.vocabulary, current, fix, manifest.student_name
    )
    if manifest.student == lm.student_fingerprint:
        raise TahError(
            f"--texts {folder}: {manifest.student_name} generated these texts itself, so none of their "
            "tokens is hard for it; run `s2t-eval collect` with the teacher as --pretrained"
        )
    require_no_evaluation_prompts([row.prompt_ids for row in labels], lm.tok_decode)
    texts = [
        LabelledText(row.problem_id, row.question_hash, row.prompt_ids.tolist(), row.output_ids.tolist())
        for row in labels
    ]
    return LabelSetTexts(texts, {**manifest.data, "written_by": manifest.student_name}, manifest.prompt)


def end_of_answer(tokenizer: Any, has_chat_template: bool) -> int:
    """The token that ends an answer.

    With a chat template it is the end-of-turn token of the template, because the tokenizer of a GGUF file may
    have another end-of-sequence token.

    Raises:
        TahError: the template has no such token, and the tokenizer no end-of-sequence token.
    """
    vocab: dict[str, int] = tokenizer.get_vocab()
    template = str(tokenizer.chat_template) if has_chat_template else ""
    names = (*turn_ends(vocab), *END_OF_TEXT)
    end_of_turn = [vocab[name] for name in names if name in vocab and name in template]
    if end_of_turn:
        return end_of_turn[0]
    if tokenizer.eos_token_id is None:
        raise TahError(
            "pretrained: expected a tokenizer with an end-of-sequence token, which is put behind each "
            "reference solution, got one without; name one as eos_token in its tokenizer_config.json"
        )
    return int(tokenizer.eos_token_id)
