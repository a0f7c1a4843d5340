"""What a command has made of each text so far, kept until its output is written.

`calibrate`, `tah label`, `collect` and `r2r label` write their output at their end. Interrupted before it,
they resume from here: what was made of a text is a file of its own. Of `calibrate` and `tah label` a resumed
text may differ by rounding, because other texts are beside it, as in a resumed evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from s2t_eval.artifacts.content import content_hash
from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.engine import Request, Result
from s2t_eval.engine.progress import GenerationProgress
from s2t_eval.model_wrappers.base import EngineLM, Generator
from s2t_eval.model_wrappers.response_cache import plain, request_key
from s2t_eval.pipelines.prompts import PromptSet
from s2t_eval.pipelines.settings import StepCalibration
from s2t_eval.training.label_collection import CollectionFolder, LabelledProblem
from s2t_eval.training.work_folder import unfinished_folder

DIVERGENCES = "divergences"
"""Kind of the files that hold the divergences of a text at every step."""
SERVED_TEXTS = "texts"
"""Kind of the files that hold a text from servers, with its most likely tokens at every step."""
SCORES = "scores"
"""Kind of the files that hold the scores of a text's drafts; on servers each score has a kind of its own."""


def unfinished_work(
    out: Path, lm: EngineLM, texts: Sequence[object], settings: Mapping[str, Any], kinds: Sequence[str]
) -> CollectionFolder:
    """The unfinished work of an output, empty where there is none.

    Args:
        out: the output.
        lm: the models; see `_identity`.
        texts: JSON values that identify the texts, in their order.
        settings: what else the work depends on.
        kinds: kinds of files; there is one file of each kind for each text.

    Raises:
        LabelError: there is unfinished work of other settings.
    """
    return CollectionFolder(unfinished_folder(out), _identity(lm, texts, settings), kinds)


def unfinished_labels(
    folder: Path,
    lm: EngineLM,
    problems: Sequence[LabelledProblem],
    settings: Mapping[str, Any],
    kinds: Sequence[str],
) -> CollectionFolder:
    """The unfinished work of a label set, in its own folder; empty where there is none.

    Args:
        folder: folder of the label set.
        lm: the models; see `_identity`.
        problems: all problems, in order; the prompts of student and teacher are part of the identity.
        settings: what else the labels depend on, such as the manifest of the set without its counts.
        kinds: kinds of files; there is one file of each kind for each problem.

    Raises:
        LabelError: the folder holds a finished label set, or unfinished work of other prompts, models, code
            or settings.
    """
    texts = [(request_key(problem.request), problem.teacher_prompt_ids) for problem in problems]
    return CollectionFolder(folder, _identity(lm, texts, settings), kinds)


def _identity(lm: EngineLM, texts: Sequence[object], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What unfinished work belongs to, as it is read from its file.

    Whatever may change a text of the models is part of it, this package's code included.
    """
    identity = {**lm.identity(), **settings, "texts": data_hash(texts)}
    as_read: dict[str, Any] = json.loads(json.dumps(identity, default=plain))
    return as_read


def unfinished_calibration(
    out: Path, lm: EngineLM, prompts: PromptSet, steps: StepCalibration, router: str | None
) -> CollectionFolder:
    """What an interrupted calibration has measured; rates and warm-up tokens are applied afterwards.

    Args:
        out: the calibration file.
        lm: the models.
        prompts: training problems.
        steps: what of SpecReason is calibrated.
        router: folder of an R2R router that is calibrated too.

    Raises:
        LabelError: an interrupted calibration of other problems, models or settings.
    """
    settings = {
        "step_score": steps.step_score,
        "delimiter": steps.delimiter,
        "max_step": steps.max_step,
        "router": [router, content_hash(Path(router)) if router is not None else None],
    }
    texts = [request_key(request) for request in prompts.longest_first]
    kinds = (DIVERGENCES, SERVED_TEXTS, SCORES, *steps.step_score)
    return unfinished_work(out, lm, texts, settings, kinds)


def run_missing(
    generator: Generator,
    requests: Sequence[Request],
    work: CollectionFolder,
    kind: str,
    title: str,
    columns_of: Callable[[Result], dict[str, Tensor]],
) -> None:
    """Generate the texts that have no file of a kind yet, and save each as soon as it has ended.

    Args:
        generator: generates the texts.
        requests: all texts, in order.
        work: where the files are saved.
        kind: kind of the files.
        title: before the progress bar.
        columns_of: the tensors of a text's file.
    """
    missing = work.missing(kind, len(requests))
    with GenerationProgress(len(requests), title) as progress:
        progress.update(len(requests) - len(missing))
        for result in generator.run([requests[i] for i in missing], progress.on_round):
            work.save(kind, missing[result.index], columns_of(result))
            progress.update()


def saved_columns(work: CollectionFolder, kind: str, count: int) -> Iterator[dict[str, Tensor]]:
    """The tensors of each text's file of a kind, in order."""
    return (work.load(kind, i) for i in range(count))
