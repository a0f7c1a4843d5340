"""Rollouts and labels of a label set from models on servers; the files are those of `label_collection.py`.

Texts are independent requests there instead of groups, so an interrupted collection repeats only the texts
that had not ended. A server returns the 64 most likely tokens of a step. Everything but `entropy` is
computed from them, as in this process: `entropy` is that of the trigger `entropy64`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from s2t_eval.engine import OnRound, Result
from s2t_eval.remote.labelling import RemoteScorer, ScoredText, TextScores
from s2t_eval.remote.scheduler import RemoteScheduler
from s2t_eval.selection.triggers import kl_divergence, margin, top_entropy
from s2t_eval.training.label_collection import (
    NUM_CANDIDATES,
    Advance,
    CollectionFolder,
    LabelledProblem,
    require_finite_outputs,
    rollout_columns,
)
from s2t_eval.training.labelling import StepLabels


def generate_rollouts_on_servers(
    texts: RemoteScheduler,
    problems: Sequence[LabelledProblem],
    work: CollectionFolder,
    advance: Advance,
    on_round: OnRound | None,
) -> None:
    """Generate the student's greedy texts of all problems that have no rollout yet, and save them.

    Args:
        texts: greedy texts with the most likely tokens of every step (`keep_top`).
        problems: all problems, in order.
        work: where rollouts are saved.
        advance: called as problems are finished.
        on_round: an observer, for a progress bar.
    """
    missing = work.missing("rollouts", len(problems))
    advance(len(problems) - len(missing))
    for result in texts.run([problems[i].request for i in missing], on_round):
        index, rollout = missing[result.index], _rollout(result)
        require_finite_outputs("student", texts.fleet.students[0].model, problems[index], rollout)
        work.save("rollouts", index, rollout)
        advance(1)


def _rollout(result: Result) -> dict[str, Tensor]:
    assert result.top_log_probs is not None
    entropy = top_entropy(result.top_log_probs)
    return rollout_columns(result, entropy, entropy.clone(), margin(result.top_log_probs))


def label_rollouts_on_servers(
    scorer: RemoteScorer, problems: Sequence[LabelledProblem], work: CollectionFolder, advance: Advance
) -> None:
    """Label every rollout that has no labels yet, with one teacher's prefill each.

    Args:
        scorer: the teacher.
        problems: all problems, in order.
        work: holds the rollouts; labels are saved there.
        advance: called as problems are finished.
    """
    missing = work.missing("labels", len(problems))
    advance(len(problems) - len(missing))
    texts = [partial(_text_to_score, problems[i], work, i) for i in missing]
    name = scorer.fleet.teachers[0].model
    for scores in scorer.run(texts, with_argmax=True):
        index = missing[scores.index]
        labels = step_labels(scores)._asdict()
        require_finite_outputs("teacher", name, problems[index], labels)
        work.save("labels", index, labels)
        advance(1)


def _text_to_score(problem: LabelledProblem, work: CollectionFolder, index: int) -> ScoredText:
    rollout = work.load("rollouts", index)
    output_ids: list[int] = rollout["output_ids"].tolist()
    return ScoredText(problem.teacher_prompt_ids, output_ids, rollout["top_ids"], rollout["top_log_probs"])


def step_labels(scores: TextScores) -> StepLabels:
    """The labels of a text.

    The teacher's log-probabilities are those over its whole output, which may have rows that are no text;
    the divergences are renormalised to the m tokens, so they do not depend on that.
    """
    assert scores.argmax is not None
    student = scores.text.top_log_probs
    return StepLabels(
        kl_divergence(student, scores.log_probs),
        kl_divergence(scores.log_probs, student),
        scores.argmax,
        scores.log_probs[:, :NUM_CANDIDATES],
    )
