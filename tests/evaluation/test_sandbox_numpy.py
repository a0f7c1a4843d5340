"""Numpy inside the sandbox: available if installed outside, without its neighbours, within all limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from s2t_eval.evaluation.humaneval import score_solutions
from s2t_eval.evaluation.sandbox import Isolation, Limits, Program, ProgramVerdict, Session, pool
from s2t_eval.evaluation.sandbox.isolation import PACKAGE_MOUNT

pytestmark = pytest.mark.usefixtures("sandbox")


@pytest.fixture(scope="module")
def session(sandbox: Isolation) -> Iterator[Session]:
    with Session(sandbox, Limits()) as opened:
        yield opened


def verdict(session: Session, source: str, checks: str) -> ProgramVerdict:
    return session.run(Program(source, checks))


@pytest.mark.parametrize(
    ("body", "checks"),
    [
        ("return int(np.array(x).sum())", "assert f([1, 2]) == 3"),
        ("return np.array(x).sum()", "assert f([1, 2]) == 3 and f([0.5]) == 0.5"),
        ("return np.array(x).max() > 1", "assert f([1, 2]) and f([1, 2]) == True and not f([0])"),
        ("return list(np.array(x) * 2)", "assert f([1, 2]) == [2, 4]"),
        ("return [np.float32(0.5), np.str_('a')]", "assert f([]) == [0.5, 'a']"),
        ("return np.array(x).tolist()", "assert f([1, 2]) == [1, 2]"),
        ("a = np.random.rand(200, 200)\n    np.linalg.svd(a @ a)\n    return 1", "assert f([]) == 1"),
        ("from numpy.fft import fft\n    return round(abs(fft([1, 1])[0]))", "assert f([]) == 2"),
    ],
)
def test_numpy_computes_and_its_numbers_equal_pythons(body: str, checks: str, session: Session) -> None:
    result = verdict(session, f"import numpy as np\ndef f(x):\n    {body}\n", checks)
    assert result.passed is True, result


@pytest.mark.parametrize(
    ("body", "want"),
    [
        ("import os\n    return set(os.listdir('PACKAGES')) - {'numpy', 'numpy.libs'}", "set()"),
        ("import os\n    return dict(os.environ)", "{}"),
        (
            "try:\n        open('PACKAGES/numpy/x', 'w')\n    except OSError as e:\n        return e.errno",
            "30",
        ),
        ("try:\n        np.ones(1 << 28)\n    except MemoryError:\n        return 'refused'", "'refused'"),
        ("try:\n        import torch\n    except ModuleNotFoundError:\n        return 'absent'", "'absent'"),
    ],
)
def test_limits_hold_with_numpy(body: str, want: str, session: Session) -> None:
    """Other packages are not visible, nothing is writable, memory is limited, the environment is empty."""
    source = f"import numpy as np\ndef f():\n    {body}\n".replace("PACKAGES", PACKAGE_MOUNT)
    result = verdict(session, source, f"result = f()\nassert result == {want}, result")
    assert result.passed is True, result


def test_reason_reports_missing_numpy(sandbox: Isolation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox without numpy, as on a machine whose Python does not have it."""
    kept, parts = [], iter(sandbox.command)
    for part in parts:
        if part == "--ro-bind-try" and "numpy" in (source := next(parts)):
            next(parts)
        elif part == "--ro-bind-try":
            kept += [part, source, next(parts)]
        else:
            kept.append(part)
    without = replace(sandbox, command=tuple(kept))
    monkeypatch.setattr(pool, "find_isolation", lambda: without)
    doc = {
        "prompt": "def f(x):\n    pass\n",
        "entry_point": "f",
        "test": "def check(c):\n    assert c([1]) == 1\n",
    }
    at_top = "import numpy as np\ndef f(x):\n    return np.sum(x)\n"
    inside = "def f(x):\n    import numpy.linalg\n    return 1\n"
    for verdict in score_solutions([at_top, inside], [doc, doc]):
        assert verdict is not None and verdict.passed is False
        assert verdict.reason.endswith(
            "(numpy is absent from this sandbox: it is taken from the Python that runs the evaluation)"
        )
