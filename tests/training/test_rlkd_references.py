"""How many of a teacher's texts RLKD needs, against all texts first."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from s2t_eval.training.rlkd.references import NeededOfSides, NeededReferences


@pytest.mark.parametrize("seed", range(20))
def test_it_ends_where_the_first_right_references_are_known(seed: int) -> None:
    """In whatever order texts end: the references that all texts would give are there, and never sooner."""
    chance = random.Random(seed)
    names = [str(i) for i in range(30)]
    right = {name: chance.random() < 0.5 for name in names}
    sides = (names[::3], [name for name in names if int(name) % 3])
    limits = [chance.choice([None, 1, 4, 9, 40]) for _ in sides]
    used = [
        [name for name in side if right[name] or limit is None][:limit]
        for side, limit in zip(sides, limits, strict=True)
    ]
    read: list[str] = []

    def is_usable(name: str, ids: Sequence[int]) -> bool:
        assert ids == [int(name)]
        read.append(name)
        return right[name]

    needed = NeededOfSides(
        [NeededReferences(side, limit, is_usable) for side, limit in zip(sides, limits, strict=True)]
    )
    # about in order, as rows of a decoder finish
    order = sorted(names, key=lambda name: int(name) + 8 * chance.random())
    there: set[str] = set()
    count = 0
    for name in order:
        assert count < needed.total
        is_complete = all(_is_complete(*side, there) for side in zip(sides, limits, used, strict=True))
        assert not is_complete
        there.add(name)
        count += needed.add(name, [int(name)])
        if count == needed.total:
            break
    assert all(_is_complete(*side, there) for side in zip(sides, limits, used, strict=True))
    assert len(read) == len(set(read))


def _is_complete(side: Sequence[str], limit: int | None, used: Sequence[str], there: set[str]) -> bool:
    """Whether the used problems of a side are certain: all before the last of them are known."""
    enough = limit is not None and len(used) == limit
    return there.issuperset(side[: side.index(used[-1]) + 1] if enough else side)
