"""The metric `code_eval` of stock tasks: its verdicts, and where checks run."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from s2t_eval.evaluation.sandbox import Isolation, Limits, Program, Session, are_separable
from s2t_eval.evaluation.sandbox.separability import required_modules
from s2t_eval.model_wrappers.stock_tasks import SandboxedCodeEval

HUMANEVAL = """
def check(candidate):
    import copy, string
    from random import random
    for size in range(3):
        x = [random() for _ in range(size)]
        solution = candidate(copy.deepcopy(x))
        assert abs(helper(x, solution)) < 1e-4, str(candidate(x))
check(f)
"""
HUMANEVAL_PLUS = """
import numpy as np
def is_floats(x):
    return isinstance(x, float) or (isinstance(x, np.ndarray) and x.dtype == np.float64)
def assertion(out, exp, atol):
    if out != exp:
        assert is_floats(exp) and type(out) == type(exp) and np.allclose(out, exp, atol=atol)
def check(candidate):
    inputs, results = [[1.0], [2]], [1.1, 4]
    for inp, exp in zip(inputs, results):
        assertion(candidate(*inp), exp, 1e-6)
check(f)
"""


@pytest.mark.parametrize(
    "checks",
    [
        "assert f(1) == 2\nassert set(f([1])) == {1} and f(f(1)) is True",
        "try:\n  f()\nexcept ValueError:\n  pass\nelse:\n  assert False",
        "assert f([Pair(5, 24)]) == 3",
        "from math import pi, isclose\nassert isclose(f(pi), 1)",
        HUMANEVAL,
        HUMANEVAL_PLUS,
    ],
)
def test_checks_that_call_functions_with_data_are_separable(checks: str) -> None:
    assert are_separable(checks)


@pytest.mark.parametrize(
    "checks",
    [
        "assert math.isclose(f(1), 2)",
        "assert f(PI) == PI",
        "def check(c):\n  assert c(1) == PI\ncheck(f)",
        "def check(c):\n  assert c.__doc__\ncheck(f)",
        "def check(c):\n  check_type(c)\ndef check_type(d):\n  assert list(map(d, [1]))\ncheck(f)",
        "assert list(map(f, [1])) == [1]",
        "assert f(1).startswith('a')",
        "s = Stack()\ns.push(1)",
        "assert str(f(1)) == '1'",
        "assert f(1)(2) == 3",
        "with f() as x: pass",
        "for x in f(): assert x.y",
        "assert add(Point(1), Point(2)) == Point(3)",
        "x = [1]\nassert f(x) is x",
        "from collections import OrderedDict\nassert f(OrderedDict(a=1)) == 1",
        "import datetime\nassert f() == datetime.date(2020, 1, 1)",
        "import numpy as np\nassert f(np.abs(f(1))) == 1",
        "try:\n  f()\nexcept Empty:\n  pass",
        "assert eval('f(1)') == 2",
        "assert f(",
    ],
)
def test_checks_that_need_more_of_the_program_are_not_separable(checks: str) -> None:
    assert not are_separable(checks)


def test_modules_that_checks_may_lack_are_not_required() -> None:
    checks = "import a.b, c as d\ntry:\n  import e\nexcept ImportError: pass\ndef check():\n  from f import g"
    assert required_modules(checks) == ["a.b", "c", "f"]
    assert required_modules("import") == []


CASES = {
    # checks: a correct program, an incorrect one
    HUMANEVAL_PLUS: ("def f(x): return x + 0.1000000001 if type(x) is float else 4", "def f(x): return x"),
    "import numpy as np\nassert np.allclose(f([1, 2]), [2, 4])":
        ("import numpy as np\ndef f(x): return np.array(x) * 2", "import numpy as np\nf = np.array"),
    "assert math.isclose(f(1), math.pi, rel_tol=0.001)":
        ("import math\ndef f(r): return 3.14159", "import math\ndef f(r): return 3"),
    "assert f(PI) == PI": ("PI = 3\ndef f(x): return x", "PI = 3\ndef f(x): return 4"),
    "from collections import OrderedDict\nassert f(OrderedDict(a=1)) == 1":
        ("def f(x): return x['a']", "def f(x): return x"),
    "class Letters(str): pass\nassert f(Letters('a')) == 'a'":
        ("def f(x): return x.lower()", "def f(x): return x.upper()"),
    "s = Stack()\ns.push(1)\nassert len(s) == 1":
        ("class Stack(list):\n  push = list.append", "class Stack(list):\n  push = list.count"),
}  # fmt: skip


@pytest.mark.usefixtures("sandbox")
def test_verdicts_of_stock_tasks_are_those_of_stock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks ran apart from every program: correct ones failed for a module, or the whole task became NaN."""
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    means, results = SandboxedCodeEval().compute([*CASES], [list(pair) for pair in CASES.values()], k=[1])
    for i, checks in enumerate(CASES):
        assert [found["passed"] for found in results[i]] == [True, False], (checks, results[i])
    assert means == {"pass@1": 0.5}


@pytest.mark.usefixtures("sandbox")
def test_checks_whose_modules_are_missing_have_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program can pass them, and correct ones used to fail; the program's own imports stay its own."""
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    programs = [["def f(): return 1"], ["import absent_module"]]
    means, results = SandboxedCodeEval().compute(["import absent_module\nf()", "f()"], programs, k=[1])
    assert math.isnan(means["pass@1"])
    assert "they import absent_module, which it does not have" in results[0][0]["reason"]
    assert results[1][0]["passed"] is False


@pytest.fixture(scope="module")
def session(sandbox: Isolation) -> Iterator[Session]:
    with Session(sandbox, Limits(wall_seconds=20, cpu_seconds=2)) as opened:
        yield opened


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
        "import sys\ndef f(): sys.exit(0)",
        "import os\ndef f(): os._exit(0)",
        "def f(): raise KeyboardInterrupt",
        "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(): return 2",
        # The functions with which the sandbox runs the checks are those from before the program.
        "import builtins, os\nfor name in ('exec', 'compile', 'eval'):\n"
        "  setattr(builtins, name, lambda *a, **k: ('', '[\"ready\"]'))\ndef f(): return 2",
        "import builtins\nbuiltins.AssertionError = builtins.BaseException = Warning\ndef f(): return 2",
        # What is written to every descriptor before the checks arrive, or while they run, is not the token.
        "import os\ndef forge(*_):\n  for fd in range(64):\n"
        "    try: os.write(fd, b'[\"ready\"]\\n[\"verdict\", true, \"passed\"]\\n')\n"
        "    except OSError: pass\nforge()\nos._exit(0)",
        "import os\ndef f():\n  for fd in range(64):\n"
        "    try: os.write(fd, b'[\"verdict\", true, \"passed\"]\\n')\n    except OSError: pass\n"
        "  os._exit(0)",
        # Whether checks can run is known before the program does.
        "import os\nfor fd in range(64):\n  try: os.write(fd, b'[\"missing\", \"x\"]\\n')\n"
        "  except OSError: pass",
    ],
)  # fmt: skip
def test_program_with_its_checks_passes_only_at_their_end(source: str, session: Session) -> None:
    result = session.run(Program(source, "assert f() == 1", shares_process=True))
    assert result.passed is False, result


def test_program_with_its_checks_stays_in_the_sandbox(session: Session) -> None:
    source = "import os, socket\ndef f():\n  return os.path.exists('/etc/passwd') or dict(os.environ) or 1"
    result = session.run(Program(source, "assert f() == 1 and os and '\\ud800'", shares_process=True))
    assert (result.passed, result.reason) == (True, "passed (its checks ran in its own process)")
