"""Labels of finished sets that a new set takes over, so that a set can grow or be collected in parts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s2t_eval.training.labels import KIND, LabelError, LabelManifest, LabelSet, Trajectory

logger = logging.getLogger(__name__)

COMPARED = ("student", "teacher", "vocabulary", "prompt", "seed", "teacher_context", "rollouts")
"""Fields of the manifest in which both sets must agree; the prompts themselves are compared too."""


@dataclass(frozen=True)
class ReusedLabels:
    """What a new label set takes over.

    Args:
        texts: id of a problem -> its labelled text.
        counts: hash of a finished set -> number of texts that are taken from it, in the given order.
    """

    texts: Mapping[str, Trajectory]
    counts: Mapping[str, int]

    @classmethod
    def load(
        cls, folders: Sequence[str], manifest: LabelManifest, prompts: Mapping[str, Sequence[Sequence[int]]]
    ) -> ReusedLabels:
        """Read the finished sets; of a problem that several of them hold, the first one's text is taken.

        Args:
            folders: finished label sets with candidates at every step, because the top steps are those of
                the new set.
            manifest: of the new set, without its counts.
            prompts: id of each wanted problem -> token ids of the student's and of the teacher's prompt.

        Raises:
            LabelError: a set is unfinished, of other models, prompts, dtypes or texts, has candidates at its
                top steps only, or holds none of the wanted problems.
        """
        texts: dict[str, Trajectory] = {}
        counts: dict[str, int] = {}
        for folder in folders:
            labels = LabelSet.load(Path(folder))
            _require_same_making(f"--reuse {folder}", labels.manifest, manifest)
            wanted = [row for row in labels if row.problem_id in prompts]
            if not wanted:
                raise LabelError(
                    f"--reuse {folder}: none of its {len(labels)} problems, from "
                    f"{labels.trajectories[0].problem_id} on, is to be collected; leave it out, or change "
                    "--task, --skip or --limit"
                )
            for row in wanted:
                _require_same_prompts(f"--reuse {folder}", row, prompts[row.problem_id])
            added = {row.problem_id: row for row in wanted if row.problem_id not in texts}
            texts |= added
            counts[labels.hash] = counts.get(labels.hash, 0) + len(added)
        return cls(texts, counts)


def _require_same_making(artifact: str, saved: LabelManifest, current: LabelManifest) -> None:
    fix = "collect these problems anew"
    for name in COMPARED:
        KIND.require_same(artifact, name, getattr(saved, name), getattr(current, name), fix)
    KIND.require_same(artifact, "kind of entropy", saved.has_exact_entropy, current.has_exact_entropy, fix)
    if saved.dtypes is None:
        logger.warning(
            "%s: it is of an earlier version, which does not record the dtypes of its models: whether they "
            "were those of this collection (%s) is not compared",
            artifact,
            ", ".join(f"{role} {dtype}" for role, dtype in (current.dtypes or {}).items()) or "not known",
        )
    else:
        KIND.require_same(artifact, "dtype", saved.dtypes, current.dtypes, fix)
    if saved.steps != "all":
        raise LabelError(
            f"{artifact}: expected labels with candidates at every step, got candidates at its own top steps "
            "only, which are others in a larger set; collect them with --steps all"
        )


def _require_same_prompts(artifact: str, row: Trajectory, expected: Sequence[Sequence[int]]) -> None:
    for role, saved, current in zip(
        ("student", "teacher"), (row.prompt_ids, row.teacher_prompt_ids), expected, strict=True
    ):
        if saved.tolist() != list(current):
            raise LabelError(
                f"{artifact}: problem {row.problem_id} has another prompt of the {role} now (its problems, "
                "chat template or contexts differ); collect these problems anew"
            )
