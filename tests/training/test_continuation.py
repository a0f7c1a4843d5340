"""What a selector has learnt from: parts that a further training takes over, and labels to measure it on."""

from __future__ import annotations

from typing import Any

import pytest

from s2t_eval.training.selector.continuation import has_same_router
from s2t_eval.training.selector.trajectory_scores import has_same_problems

TRAINED: dict[str, Any] = {"reported_problems": 12, "settings": {"settings": {"held_out": 0.1, "limit": 200}}}


@pytest.mark.parametrize(
    ("trained", "limit", "is_same"),
    [
        (TRAINED, 200, True),
        (TRAINED, None, False),
        (TRAINED | {"settings": {"settings": {"held_out": 0.1}}}, None, True),
        ({"settings": TRAINED["settings"]}, 200, False),
    ],
)
def test_a_router_is_taken_over_where_it_was_trained_on_the_same_texts(
    trained: dict[str, Any], limit: int | None, is_same: bool
) -> None:
    """A router of 200 problems was kept in a training on all of them, as was one of a selector made before
    the held-out texts had two halves, whose checkpoint the texts of the figures had chosen."""
    assert has_same_router(trained, limit) is is_same


def test_other_labels_of_the_same_problems_hold_those_that_were_trained_on() -> None:
    """A second collection on the same problems counted as problems that the selector had never seen.

    Its figures in an analysis were then mostly those of its own training problems: one last digit of the KL
    threshold, or texts that the selector had written, made the manifests different.
    """
    data = {"source": "gsm8k", "split": "train", "hash": "ab", "skip": 0, "problems": 500}
    trained = {"data": data, "kl_threshold": 0.1}
    assert has_same_problems(trained, {"data": data, "kl_threshold": 0.1000001, "rollouts": {"tau": 0.1}})
    assert has_same_problems(trained, {"data": data | {"entropy": "entropy64"}})  # made by servers
    for name, value in {"hash": "cd", "problems": 499, "split": "test", "source": "math"}.items():
        assert not has_same_problems(trained, {"data": data | {name: value}})
