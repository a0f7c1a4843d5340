"""Equal and different answers kind by kind: for everything that is accepted, a neighbour that is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2t_eval.grading import Grader
from s2t_eval.grading.equality import same
from s2t_eval.grading.grader import GraderBrokenError
from tests.equality_pairs import EQUAL, QUANTITIES, QUANTITIES_APART, UNEQUAL
from tests.harness_helpers import shared_data


def _cases(table: dict[str, list[tuple[str, str]]]) -> list[object]:
    return [pytest.param(*pair, id=f"{kind}: {' | '.join(pair)}") for kind, pairs in table.items() for pair in pairs]


def test_every_kind_has_neighbours_of_both_verdicts() -> None:
    assert set(EQUAL) == set(UNEQUAL)
    assert all(len(EQUAL[kind]) + len(UNEQUAL[kind]) >= 8 for kind in EQUAL)


@pytest.mark.parametrize(("gold", "answer"), _cases(EQUAL))
def test_equal(gold: str, answer: str) -> None:
    assert same(gold, answer)


@pytest.mark.parametrize(("gold", "answer"), _cases(UNEQUAL))
def test_unequal(gold: str, answer: str) -> None:
    assert not same(gold, answer)


@pytest.mark.parametrize(("gold", "answer"), QUANTITIES)
def test_quantities_agree_within_a_percent(gold: str, answer: str) -> None:
    assert same(gold, answer, 0.01)


@pytest.mark.parametrize(("gold", "answer"), QUANTITIES_APART)
def test_quantities_apart(gold: str, answer: str) -> None:
    assert not same(gold, answer, 0.01)
