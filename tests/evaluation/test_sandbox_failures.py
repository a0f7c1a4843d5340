"""Failures of the machine: shortages are waited for, and a broken sandbox fails no program."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from s2t_eval.evaluation.sandbox import (
    Limits,
    Program,
    SandboxFailedError,
    SandboxUnavailableError,
    Session,
    bubblewrap_candidates,
    find_isolation,
    run_programs,
)
from s2t_eval.evaluation.sandbox import isolation as isolation_module
from s2t_eval.evaluation.sandbox.isolation import _bubblewrap
from s2t_eval.model_wrappers.stock_tasks import SandboxedCodeEval

pytestmark = pytest.mark.usefixtures("sandbox")

RIGHT = Program("def f(): return 1", "assert f() == 1")
WRONG = Program("def f(): return 2", "assert f() == 1")
Install = Callable[[str], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Prepend shell lines to the real bubblewrap; returns a path that is $FLAG in them."""
    real, flag = bubblewrap_candidates()[0], tmp_path / "flag"

    def put(lines: str) -> Path:
        wrapper = tmp_path / "bwrap"
        wrapper.write_text(f'#!/bin/sh\nFLAG={flag}\n{lines}\nexec {real} "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setattr(isolation_module, "bubblewrap_candidates", lambda: [wrapper])
        _bubblewrap.cache_clear()
        return flag

    yield put
    _bubblewrap.cache_clear()


FAILS = 'if [ -e $FLAG ]; then echo "bwrap: setting up uid map: Permission denied" >&2; exit 1; fi'


def test_broken_sandbox_ends_the_run_without_failing_programs(install: Install) -> None:
    """Correct programs used to fail with `it does not load: it ended with status 1` from then on."""
    flag = install(FAILS)
    done = 0

    def progress() -> None:
        nonlocal done
        done += 1
        if done == 3:
            flag.touch()

    with pytest.raises(SandboxFailedError) as caught:
        run_programs([RIGHT] * 12, progress=progress)
    message = str(caught.value)
    assert "\n" not in message
    assert "fails now (it ends with status 1" in message and "uid map: Permission denied" in message
    assert "no score" in message and "--use_cache" in message
    assert done >= 3
    flag.unlink()
    assert [verdict.passed for verdict in run_programs([RIGHT, WRONG])] == [True, False]


def test_removed_bubblewrap_ends_the_run(install: Install, tmp_path: Path) -> None:
    install("")
    assert run_programs([RIGHT])[0].passed
    (tmp_path / "bwrap").unlink()
    with pytest.raises(SandboxFailedError, match="bwrap cannot be started: No such file or directory"):
        run_programs([RIGHT])


def test_failed_start_is_retried(install: Install) -> None:
    flag = install('if [ -e $FLAG ]; then rm $FLAG; echo "bwrap: no" >&2; exit 1; fi')
    with Session(find_isolation(), Limits()) as session:
        for _ in range(3):  # the first time it is the checker that does not start, then the program
            flag.touch()
            assert session.run(RIGHT).passed is True
            assert not flag.exists()


def test_program_that_cannot_be_started_is_unscored(install: Install) -> None:
    flag = install('case "$*" in *program.py) ' + FAILS + ";; esac")
    with Session(find_isolation(), Limits()) as session:
        flag.touch()
        result = session.run(WRONG)
        assert result.passed is None
        assert result.reason == (
            "the sandbox could not be started: bwrap: setting up uid map: Permission denied, exit status 1"
        )
        flag.unlink()
        assert session.run(WRONG).passed is False


def test_waiting_for_resources_is_bounded(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2t_eval.evaluation.sandbox.session.SHORTAGE_SECONDS", 2.0)
    short = 'echo "bwrap: Creating new namespace failed: Resource temporarily unavailable" >&2; exit 1'
    flag = install(f"if [ -e $FLAG ]; then {short}; fi")
    with Session(find_isolation(), Limits()) as session:
        flag.touch()
        remover = subprocess.Popen(["sh", "-c", f"sleep 0.7; rm {flag}"])
        assert session.run(RIGHT).passed is True
        remover.wait()
        flag.touch()
        result = session.run(RIGHT)
        assert result.passed is None
        assert "Resource temporarily unavailable" in result.reason
        assert 1.5 < result.seconds < 20
        flag.unlink()
        assert session.run(WRONG).passed is False


def test_stock_code_eval_excludes_unscored_programs(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They used to count as failed."""
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    monkeypatch.setattr("s2t_eval.evaluation.sandbox.pool.usable_cores", lambda: 1)
    flag = install('case "$*" in *program.py) [ -e $FLAG ] && kill -9 $$;; esac')
    flag.touch()
    means, results = SandboxedCodeEval().compute([RIGHT.checks], [[RIGHT.source]], k=[1])
    assert math.isnan(means["pass@1"])
    assert results[0][0]["passed"] is None
    flag.unlink()
    means, _ = SandboxedCodeEval().compute([RIGHT.checks], [[RIGHT.source, WRONG.source]], k=[1, 2])
    assert means == {"pass@1": 0.5, "pass@2": 1.0}


def test_probe_detects_a_missing_option() -> None:
    """Each sandbox lacks one of bubblewrap's options; the complete one passes."""
    whole = find_isolation()
    assert whole.confinement_problem() is None
    unfiltered = dataclasses.replace(whole, filter_path=None).confinement_problem()
    assert unfiltered is not None
    assert "opens netlink sockets" in unfiltered
    assert ("starts more than 64 threads" in unfiltered) == (os.geteuid() == 0)
    assert unfiltered.endswith(f"no system-call filter is known for {platform.machine()}")
    at = whole.command.index("--unshare-all")
    shared = (*whole.command[: at + 1], "--share-net", *whole.command[at + 1 :])
    if any(psutil.net_if_stats()[name].isup for name in psutil.net_if_stats() if name != "lo"):
        assert "has the network" in (dataclasses.replace(whole, command=shared).confinement_problem() or "")
    written = tuple("--bind" if part == "--ro-bind" else part for part in whole.command)
    assert dataclasses.replace(whole, command=written).confinement_problem() is not None


def run_apart(script: str, *before: str) -> str:
    """The output of a script in a separate process, after shell commands."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [*before, sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_waits_for_file_descriptors() -> None:
    assert (
        run_apart("""
import os, threading, time
from s2t_eval.evaluation.sandbox import Program, find_isolation, run_programs
import resource
programs = [Program('def f(): return 1', 'assert f() == 1')] * 4
assert run_programs(programs)[0].passed
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True: taken.append(os.open('/dev/null', os.O_RDONLY))
except OSError:
    pass
def release_files():
    time.sleep(1)
    for descriptor in taken: os.close(descriptor)
threading.Thread(target=release_files).start()
print([verdict.passed for verdict in run_programs(programs, workers=1)])
""")
        == "[True, True, True, True]\n"
    )


SHORT_OF_PROCESSES = """
import os, signal, sys, time
from s2t_eval.evaluation.sandbox import Program, run_programs, session
open('/proc/sys/kernel/pid_max', 'w').write('400')
session.SHORTAGE_SECONDS = 2.0
programs = [Program('def f(): return 1', 'assert f() == 1'), Program('def f(): return 2', 'assert f() == 1')]
print([verdict.passed for verdict in run_programs(programs)])
taken = []
try:
    while True:
        child = os.fork()
        if child == 0:
            signal.pause()
        taken.append(child)
except BlockingIOError:
    pass
print([verdict.passed for verdict in run_programs(programs)])
for child in taken:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print([verdict.passed for verdict in run_programs(programs)])
"""


def has_pid_max_of_its_own() -> bool:
    """Whether pid_max is per namespace (Linux 6.14); earlier it applies to the whole machine."""
    version = tuple(int(part) for part in platform.release().split(".")[:2] if part.isdigit())
    return version >= (6, 14) and os.geteuid() == 0 and shutil.which("unshare") is not None


@pytest.mark.skipif(not has_pid_max_of_its_own(), reason="needs root, unshare and Linux 6.14")
def test_out_of_process_ids_is_unscored() -> None:
    """The run used to end with BlockingIOError."""
    output = run_apart(SHORT_OF_PROCESSES, "unshare", "--pid", "--fork", "--mount", "--mount-proc")
    assert output == "[True, False]\n[None, None]\n[True, False]\n"


@pytest.mark.parametrize(
    ("limit", "value"),
    [("RLIMIT_NOFILE", 48), ("RLIMIT_AS", 900 << 20), ("RLIMIT_FSIZE", 1 << 20), ("RLIMIT_CPU", 60)],
)
def test_lower_inherited_limits_are_kept(limit: str, value: int) -> None:
    """Raising an inherited limit is impossible and used to end every program with status 1."""
    if limit == "RLIMIT_AS" and resource.getrlimit(resource.RLIMIT_AS)[1] != resource.RLIM_INFINITY:
        pytest.skip("the address space is limited already")
    assert (
        run_apart(f"""
import resource
from s2t_eval.evaluation.sandbox import Program, run_programs
resource.setrlimit(resource.{limit}, ({value}, {value}))
source = 'import resource\\ndef f(): return resource.getrlimit(resource.{limit})[1]'
[verdict] = run_programs([Program(source, 'assert f() <= {value}, f()')])
print(verdict.passed or verdict.reason)
""")
        == "True\n"
    )


ZOMBIES = r"""
import ctypes, os, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
harness = subprocess.Popen([sys.executable, '-c', '''
from s2t_eval.evaluation.sandbox import Limits, Program, run_programs
sources = [
    'def f(): return 1',
    'def f(): return 2',
    'def f(',
    'import os\\ndef f(): os._exit(3)',
    'import os, signal\\ndef f(): os.kill(os.getpid(), signal.SIGKILL)',
    'import time\\ndef f(): time.sleep(60)',
    'import signal\\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\\ndef f():\\n  while True: pass',
]
programs = [Program(source, 'assert f() == 1') for source in sources[:5] * 3 + sources[5:]]
verdicts = run_programs(programs, Limits(wall_seconds=3, cpu_seconds=10))
print(sum(verdict.passed for verdict in verdicts), len(verdicts))
'''])
assert harness.wait() == 0
import psutil
left = psutil.Process().children(recursive=True)
print(sum(child.status() == psutil.STATUS_ZOMBIE for child in left), len(left))
"""


def test_no_zombies_if_process_1_does_not_reap() -> None:
    """In a plain container 60 programs used to leave 63 zombies; the parent here adopts but never reaps."""
    assert run_apart(ZOMBIES).split() == ["3", "17", "0", "0"]


def test_start_without_memory_is_retried(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation_module, "SHORTAGE_WAITS", (0.05, 0.05))
    flag = install(
        '[ "$1" = --version ] && exec echo bubblewrap 0.11.0\necho tried >> $FLAG\n'
        'echo "bwrap: Creating new namespace failed: Cannot allocate memory" >&2\nexit 1'
    )
    with pytest.raises(SandboxUnavailableError, match="Cannot allocate memory"):
        find_isolation()
    assert flag.read_text() == "tried\ntried\n"
