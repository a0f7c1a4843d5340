"""Exchange of values: no value sent by a program can end, stall or evade its checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from s2t_eval.evaluation.humaneval.score import Outcome
from s2t_eval.evaluation.sandbox import Limits, Program, ProgramVerdict, Session, find_isolation
from s2t_eval.evaluation.sandbox.limits import MAX_REASON_LENGTH

pytestmark = pytest.mark.usefixtures("sandbox")

LIMITS = Limits(wall_seconds=20, cpu_seconds=5, memory_bytes=256 << 20)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session(find_isolation(), LIMITS) as opened:
        yield opened


def verdict(session: Session, source: str, checks: str = "assert f() == 1", **more: Any) -> ProgramVerdict:
    return session.run(Program(source, checks, **more))


def writing(reply: str, times: int = 1) -> str:
    """A program that writes a line to every descriptor in place of a reply."""
    return (
        f"import os\nline = {reply}\ndef f(*args):\n  for fd in range(3, 64):\n    left = line + b'\\n'\n"
        "    try:\n      while left: left = left[os.write(fd, left):]\n"
        f"    except OSError: pass\n  os._exit(0)"
    )


FED_BACK = [
    ("class A: pass\ndef f(x=None): return A()", "an object of its own"),
    ("class A(int): __slots__ = ()\nmade = A(3)\ndef f(x=None): return made", "a subclass of a number"),
    ("def f(x=None): return f", "a function"),
    ("def f(x=None): return [f, {1: f}]", "functions inside"),
    ("def f(x=None): return range(3)", "a range"),
    ("def f(x=None): return iter([1, 2])", "an iterator"),
    ("def f(x=None): return {1: 2}.items()", "a view"),
    ("def f(x=None):\n  while True: yield 1", "an endless iterator"),
    ("from decimal import Decimal\ndef f(x=None): return Decimal('sNaN')", "a decimal"),
    ("from fractions import Fraction\ndef f(x=None): return Fraction(1, 3)", "a fraction"),
    ("def f(x=None): return complex('nan+infj')", "a complex number"),
    ("def f(x=None): return float('-inf')", "an infinity"),
    ("def f(x=None): return ValueError()", "an exception, returned"),
    ("def f(x=None): raise ValueError('\\ud800')", "an exception, raised"),
    ("def f(x=None): return 'x' * 3_000_000", "a long text"),
    ("def f(x=None): return 1 << 20_000_000", "a long number"),
    ("x = []\nfor _ in range(150): x = [x]\ndef f(a=None): return x",
     "a deep list"),
    ("x = []\nfor _ in range(250): x = [x]\ndef f(a=None): return x", "a list that is too deep"),
    (writing("b'[\"opaque\",\"41\",-1]'"), "a place of its choosing"),
    (writing("b'[\"opaque\",\"41\",' + b'9' * 5000 + b']'"), "a place beyond any"),
    (writing("b'[\"opaque\",\"41\",\"0]+[1\"]'"), "a place that is code"),
]  # fmt: skip


@pytest.mark.parametrize("source", [source for source, _ in FED_BACK], ids=[name for _, name in FED_BACK])
@pytest.mark.parametrize(
    "checks",
    [
        "assert f([f(), (f(),)]) == 'never'",
        "try:\n  f()\nexcept Exception as e:\n  error = e\nelse:\n  error = f()\nassert f(error) == 'never'",
        "assert f(f() * 3) == 'never'",
    ],
    ids=["results", "an error or a result", "a multiple"],
)
def test_program_cannot_evade_its_verdict(source: str, checks: str, session: Session) -> None:
    """A result that was passed back as an argument used to be unencodable, which gave no verdict."""
    result = verdict(session, source, checks)
    assert result.passed is False, result
    assert len(result.reason) <= MAX_REASON_LENGTH


@pytest.mark.parametrize(
    ("source", "checks"),
    [
        ("class Pair:\n  def __init__(self, a, b): self.a, self.b = a, b\ndef total(ps): return "
         "sum(p.a + p.b for p in ps)", "assert total([Pair(1, 2), Pair(3, 4)]) == 10"),
        ("def f(x): return range(x) if type(x) is int else list(x)", "assert f(f(3)) == [0, 1, 2]"),
        ("def f(x): return iter(x) if type(x) is list else list(x)", "assert f(f([1, 2])) == [1, 2]"),
        ("from decimal import Decimal\ndef f(x): return x / 3 if type(x) is Decimal else Decimal(x)",
         "assert f(f(3)) == 1"),
        ("from fractions import Fraction\ndef f(x): return x / 3 if type(x) is Fraction else Fraction(x)",
         "assert f(f(1)) * 3 == 1"),
        ("def f(x): return x", "v = complex('nan+infj')\nassert repr(f(v)) == repr(v) == repr(f(f(v)))"),
        ("def f(x): return x", "v = -10**4000\nassert f(v) == v and f([v, -5, 2**60]) == [v, -5, 2**60]"),
        ("def g(x): return x + 1\ndef f(h, x): return h(h(x))", "assert f(g, 1) == 3"),
        ("def f(x): return x if type(x) is int else sum(x)", "assert f(i for i in range(4)) == 6"),
    ],
)  # fmt: skip
def test_results_can_be_passed_back_as_arguments(source: str, checks: str, session: Session) -> None:
    result = verdict(session, source, checks)
    assert result.passed, result.reason


def test_too_long_argument_of_the_checks_is_unscored() -> None:
    with Session(find_isolation(), Limits(message_bytes=10_000)) as session:
        result = session.run(Program("def f(x): return 1", "assert f('x' * 20_000) == 1"))
        assert result.passed is None
        assert result.reason.endswith("an argument of f is longer than 10000 bytes")
        result = session.run(Program("def f(x): return 'x' * 4000", "assert f(f(1) * 3) == 1"))
        assert result.passed is False


@pytest.mark.parametrize(
    "source",
    [
        "def f(): return 10 ** 1_000_000",
        "def f(): return [10 ** 1_000_000]",
        writing("b'[\"int\",\"' + b'f' * 8_000_000 + b'\"]'"),
        writing("b'[\"constant\",' + b'1' * 8_000_000 + b']'"),
        writing("b'1' * 8_000_000"),
        writing("b'[' + b'1' * 4_000_000 + b',\"\"]'"),
        writing("b'[\"decimal\",\"' + b'1E999999999'.hex().encode() + b'\"]'"),
        writing("b'[\"float\",\"0x1p' + b'9' * 5000 + b'\"]'"),
        writing("b'[' * 2_000_000"),
        writing("b'[\"list\",[' + b'[],' * 2_000_000 + b'[]]]'"),
    ],
)
def test_long_numbers_do_not_stall_the_checks(source: str, session: Session) -> None:
    """A million digits took 18 s, because conversion to decimal takes quadratic time."""
    verdict(session, "def f(): return 1")
    for checks in ("assert f() == 1", "x = f()\nassert x == 1, x", "assert f() == 1, f'{f()}'"):
        result = verdict(session, source, checks)
        assert result.passed is False
        assert result.seconds < 10
    assert verdict(session, "def f(): return 1").passed


LONG = "'\\ud800\\u2028\\x1b[2J\\u202e\\n' * 1_000_000"


@pytest.mark.parametrize(
    "source",
    [
        f"raise ValueError({LONG})",
        f"class {'A' * 100_000}(Exception): pass\nraise {'A' * 100_000}",
        f"def f(): raise ValueError({LONG})",
        f"def f(): return {LONG}",
        f"def f(): return {{1: {LONG}}}",
        "A = type('A' * 1_000_000, (), {})\ndef f(): return A()",
        "A = type('A\\ud800\\u2028', (), {})\ndef f(): return A()",
        writing("b'[\"dead\",\"' + b'x' * 8_000_000 + b'\"]'"),
        writing("b'![\"dead\",\"' + b'x' * 8_000_000 + b'\"]'"),
        writing("b'[\"raised\",\"' + b'A' * 2_000_000 + b'\",\"' + b'eda080' * 1000 + b'\"]'"),
        writing("b'[\"opaque\",\"' + b'eda080' * 1000000 + b'\",0]'"),
        writing("b'[\"raised\",\"\",\"' + b'eda080' * 9000 + b'\"]'") + "\nf()",
    ],
)  # fmt: skip
@pytest.mark.parametrize("checks", ["assert f() == 1, f()", "{}[f()]"])
def test_reason_is_one_printable_line(source: str, checks: str, session: Session) -> None:
    """A reason of 8 MiB used to fill the log, and a lone surrogate used to lose the whole samples file."""
    result = verdict(session, source, checks)
    assert result.passed is False
    assert len(result.reason) <= MAX_REASON_LENGTH
    assert result.reason.isprintable(), ascii(result.reason)
    assert len(result.reason.splitlines()) == 1
    logged = Outcome("text", source, result)
    assert json.loads(logged.encode("utf-8"))["reason"] == result.reason


@pytest.mark.parametrize("catch", ["except Exception: pass", "except BaseException: pass", "except: pass"])
def test_ended_program_does_not_count_as_expected_exception(catch: str, session: Session) -> None:
    checks = f"try:\n  f(-1)\n{catch}"
    assert verdict(session, "def f(x): raise ValueError(x)", checks).passed is True
    for source in ("import os\ndef f(x): os._exit(0)", writing("b'nonsense'")):
        assert verdict(session, source, checks).passed is False


def test_program_cannot_forge_messages_of_the_session(session: Session) -> None:
    for line in (b'!"killed"', b'["started"]', b'["ready"]', b'["verdict",true,"passed"]', b"=", b"", b"!"):
        result = verdict(session, writing(repr(line)))
        assert result.passed is False
        assert result.reason == "the program's reply is malformed"
        at_load = writing(repr(line)) + "\nf()"
        assert verdict(session, at_load).passed is False


def test_too_long_source_fails(session: Session) -> None:
    result = verdict(session, "x = 1\n" * 2_000_000)
    assert result.passed is False
    assert result.reason == f"it does not load: its source is longer than {LIMITS.message_bytes} bytes"
    assert verdict(session, "x = '\u2028\x85'\ndef f(): return x", "assert f() == '\u2028\x85'").passed
    assert verdict(session, "def f(): return '\ud800'").passed is False
    assert verdict(session, "def f(): return 1\n\0").passed is False
