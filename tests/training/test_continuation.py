"""Training that starts from a selector: which of its parts are those of the new training."""

from __future__ import annotations

from typing import Any

import pytest

from s2t_eval.training.selector.continuation import has_same_router

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
