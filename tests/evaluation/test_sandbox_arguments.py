"""Changes of arguments are visible to the checks, as to any caller; a program is a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from s2t_eval.evaluation.sandbox import Isolation, Limits, Program, Session

pytestmark = pytest.mark.usefixtures("sandbox")


@pytest.fixture(scope="module")
def session(sandbox: Isolation) -> Iterator[Session]:
    with Session(sandbox, Limits(cpu_seconds=2)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("source", "checks"),
    [
        ("def f(x):\n  x.sort()\n  return x", "a = [3, 1]\nassert f(a) == [1, 3] and a == [1, 3]"),
        ("def f(x): x.append(1)", "a = []\nf(a)\nf(a)\nassert a == [1, 1]"),
        ("def f(x): x.clear()", "a = {1: 2}\nb = {1}\nf(a)\nf(b)\nassert a == {} and b == set()"),
        ("def f(x): x['b'] = x.pop('a')", "a = {'a': 1}\nf(x=a)\nassert a == {'b': 1}"),
        ("def f(x): x.add(2)", "a = {1}\nf(a)\nassert a == {1, 2}"),
        ("def f(x, y): y.extend(x)", "a = []\nf([1], a)\nassert a == [1]"),
        ("def f(x): x[0].append(2)", "b = [1]\na = [b]\nf(a)\nassert b == [1, 2] and a[0] is b"),
        ("def f(x): x[1]['k'].add(3)", "b = set()\na = [0, {'k': b}]\nf(a)\nassert b == {3}"),
        ("def f(x):\n  del x[0]", "a = [[1], [2], [3]]\nf(a)\nassert a == [[2], [3]]"),
        ("def f(x): x[:] = [None]", "a = list(range(50))\nf(a)\nassert a == [None]"),
        ("def f(x): x = [2]\n", "a = [1]\nf(a)\nassert a == [1]"),
        ("def f(x): return sorted(x)", "a = [3, 1]\nassert f(a) == [1, 3] and a == [3, 1]"),
        ("def f(x): return next(x[0])", "a = [iter([5, 6])]\nassert f(a) == 5"),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n  v: int = 1\ndef f(): return P().v",
         "assert f() == 1"),
        ("from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n"
         "  v: int = 1\ndef f(): return P().v", "assert f() == 1"),
        ("import sys\ndef f(): return sys.modules[f.__module__].f is f", "assert f()"),
    ],
)  # fmt: skip
def test_correct_program_passes(source: str, checks: str, session: Session) -> None:
    result = session.run(Program(source, checks))
    assert result.passed is True, result


@pytest.mark.parametrize(
    ("source", "checks"),
    [
        ("def f(x): return sorted(x)", "a = [3, 1]\nf(a)\nassert a == [1, 3]"),
        ("def f(x): x.append(0)", "a = [1]\nf(a)\nassert a == [1]"),
        ("def f(x: Undefined): return 1", "assert f(1) == 1"),
    ],
)
def test_incorrect_program_fails(source: str, checks: str, session: Session) -> None:
    """One of them has an undefined name in an annotation, which Python rejects."""
    result = session.run(Program(source, checks))
    assert result.passed is False, result
