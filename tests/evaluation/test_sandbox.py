"""The sandbox: correct and incorrect programs, attempts to cheat, attempts to escape, external failures."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from s2t_eval.evaluation.sandbox import Limits, Program, ProgramVerdict, Session, find_isolation, run_programs
from tests.processes import children, wait_until

pytestmark = pytest.mark.usefixtures("sandbox")

QUICK = Limits(wall_seconds=20, cpu_seconds=2, memory_bytes=256 << 20)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session(find_isolation(), QUICK) as opened:
        yield opened


def verdict(session: Session, source: str, checks: str = "assert f() == 1", **more: Any) -> ProgramVerdict:
    return session.run(Program(source, checks, **more))


def reported(session: Session, body: str) -> ProgramVerdict:
    """Run code that returns what it was able to do; 'contained' passes."""
    source = "def f():\n" + "".join(f"    {line}\n" for line in body.splitlines())
    return verdict(session, source, "result = f()\nassert result == 'contained', result")


# ---------------------------------------------------------------- what passes and what does not


@pytest.mark.parametrize(
    ("source", "checks"),
    [
        ("def f(): return 1", "assert f() == 1"),
        ("def f(a, b=2): return a + b", "assert f(1) == 3\nassert f(1, b=5) == 6"),
        ("def f(x): return x", "assert f([1, (2, 'x'), {3: None}]) == [1, (2, 'x'), {3: None}]"),
        ("def f(x): return x", "v = {frozenset({1}), ()}\nassert f(v) == v and type(f(v)) is set"),
        ("def f(x): return x", "assert f(10**5000) == 10**5000"),
        ("def f(x): return x", "assert f('\\ud800 ü\\n\\x00') == '\\ud800 ü\\n\\x00'"),
        ("def f(x): return x", "assert f(float('inf')) > 1 and f(float('nan')) != f(float('nan'))"),
        ("def f(x): return x", "assert f(1j) == 1j and f(b'\\n') == b'\\n' and f(()) == ()"),
        ("def f(): return range(3)", "assert f() == range(3)"),
        ("def f(): return (i for i in [1, 2])", "assert list(f()) == [1, 2]"),
        ("from fractions import Fraction\ndef f(): return Fraction(1, 2)", "assert f() == 0.5"),
        ("from decimal import Decimal\ndef f(): return Decimal('0.5')", "assert f() == 0.5"),
        ("from collections import Counter\nf = Counter", "assert f('aab') == {'a': 2, 'b': 1}"),
        ("calls = []\ndef f():\n  calls.append(0)\n  return len(calls)", "assert [f(), f()] == [1, 2]"),
        ("def f(): raise KeyError('no')", "try:\n  f()\nexcept KeyError:\n  pass\nelse:\n  assert False"),
        ("import math\nf = lambda: math.floor(1.5)", "def check(c):\n  assert c() == 1\ncheck(f)"),
        ("def f():\n  open('/tmp/note', 'w').write('x')\n  return len(open('/tmp/note').read())",
         "assert f() == 1"),
        ("print('hello')\ndef f():\n  print('x' * 10**6)\n  return 1", "assert f() == 1"),
    ],
)  # fmt: skip
def test_correct_program_passes(source: str, checks: str, session: Session) -> None:
    assert verdict(session, source, checks).passed, (source, checks)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def f(): return 2", r"a check failed: AssertionError"),
        ("def f(): return [1]", r"a check failed: AssertionError"),
        ("def f(): return '1'", r"a check failed: AssertionError"),
        ("def f(): return object()", r"a check failed: AssertionError"),
        ("def g(): return 1", r"a check failed: NameError: .* defines no 'f'"),
        ("f = 1", r"a check failed: TypeError: .* not callable"),
        ("def f(x): return 1", r"a check failed: TypeError: .*missing 1 required"),
        ("def f(): raise ValueError('no')", r"a check failed: ValueError: ValueError: no"),
        ("def f(:", r"it does not load: SyntaxError"),
        ("", r"a check failed: NameError"),
        ("1 / 0", r"it does not load: ZeroDivisionError"),
        ("def f():\n  while True: pass", r"ended by SIGKILL \(a limit\)"),
        ("while True: pass", r"it does not load: it was ended by SIGKILL \(a limit\)"),
        ("def f():\n  import time\n  time.sleep(60)", r"it ran longer than 2 s"),
        ("def f(): return f()", r"a check failed: RecursionError"),
        ("def f():\n  import threading\n  threading.Thread(target=int).start()\n  return 1",
         r"a check failed: RuntimeError: RuntimeError: can't start new thread"),
        ("def f():\n  x = []\n  x.append(x)\n  return x", r"a check failed: AssertionError"),
        ("def f(): return 'x' * 10**7", r"a result is longer than \d+ bytes"),
        ("def f():\n  import itertools\n  return itertools.count()", r"longer|Assertion|a limit"),
    ],
)  # fmt: skip
def test_incorrect_program_fails(source: str, reason: str) -> None:
    limits = Limits(wall_seconds=2 if "sleep" in source else 30, cpu_seconds=1)
    with Session(find_isolation(), limits) as session:
        result = verdict(session, source)
    assert result.passed is False
    assert re.search(reason, result.reason)


def test_program_cannot_replace_the_prelude(session: Session) -> None:
    """The checks call the trusted helper of the problem's text, not the program's version of it."""
    source = "def helper(x): return 0\ndef f(x): return x"
    checks = "assert helper(f(3)) == 6"
    prelude = "def helper(x): return 2 * x\ndef f(x): pass"
    assert verdict(session, source, checks, prelude=prelude, functions=("f",)).passed


def test_unencodable_argument_is_unscored(session: Session) -> None:
    result = verdict(session, "def f(g): return g()", "assert f(lambda: 1) == 1")
    assert result.passed is None
    assert "an argument of f is a function" in result.reason


# ---------------------------------------------------------------- cheating


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nsys.exit(0)",
        "import sys\ndef f(): sys.exit(0)",
        "import os\nos._exit(0)",
        "import os\ndef f(): os._exit(0)",
        "raise SystemExit",
        "def f(): raise SystemExit(0)",
        "def f(): raise KeyboardInterrupt",
        "def f(): raise GeneratorExit",
        "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(): return 2",
        "import builtins\nbuiltins.AssertionError = Warning\ndef f(): return 2",
        "import builtins\nbuiltins.__build_class__ = None\nbuiltins.compile = None\ndef f(): return 2",
        "class Same:\n  def __eq__(self, other): return True\n  def __ne__(self, other): return False\n"
        "def f(): return Same()",
        "class Int(int):\n  def __eq__(self, other): return True\n  __hash__ = None\n"
        "def f(): return Int(2)",
        "class List(list):\n  def __eq__(self, other): return True\ndef f(): return List()",
        "class Liar:\n  __class__ = int\n  def __index__(self): return 1\n  def __eq__(s, o): return True\n"
        "def f(): return Liar()",
        "print('passed')\nprint('[\"verdict\", true, \"passed\"]')\ndef f(): return 2",
        # On every descriptor: a forged verdict of the checker is not a reply to a call.
        "import os\nfor fd in range(64):\n  try: os.write(fd, b'[\"verdict\", true, \"passed\"]\\n')\n"
        "  except OSError: pass\ndef f(): return 2",
        "import os\ndef f():\n  for fd in range(64):\n"
        "    try: os.write(fd, b'[\"verdict\", true, \"passed\"]\\n')\n    except OSError: pass\n"
        "  os._exit(0)",
        "import os\nfor fd in range(3, 64):\n  try: os.close(fd)\n  except OSError: pass",
        # The outer frames contain the runner's variables, none of which helps to pass.
        "import sys\nframe = sys._getframe()\nwhile frame:\n  for name in list(frame.f_globals):\n"
        "    if name not in ('__builtins__', 'sys'): frame.f_globals[name] = lambda *a: '[\"ready\"]'\n"
        "  frame = frame.f_back\ndef f(): return 2",
        "import gc, types\nfor thing in gc.get_objects():\n"
        "  if isinstance(thing, types.FunctionType) and thing.__name__ == 'encode':\n"
        "    thing.__code__ = (lambda value, depth=0: '[\"verdict\",true,\"passed\"]').__code__\n"
        "def f(): return 2",
        "import threading, os, time\nthreading.Thread(target=lambda: (time.sleep(.2), os._exit(0))).start()\n"
        "def f():\n  time.sleep(1)\n  return 2",
        "import os, signal\ndef f():\n  os.kill(os.getppid(), signal.SIGKILL)\n  return 2",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "import os, signal\ntry: os.kill(-1, signal.SIGKILL)\nexcept OSError: pass\ndef f(): return 2",
        "import signal, os\nsignal.signal(signal.SIGALRM, lambda *a: os._exit(0))\nsignal.alarm(1)\n"
        "def f():\n  while True: pass",
        "import ctypes\nctypes.string_at(0)",
        "def f():\n  import os\n  mine = open('/proc/self/mem', 'r+b')\n  return 1",
        "import os\ndef f():\n  os.execv('/usr/lib/x', ['x'])",
        "import os\nfor name in os.listdir('/sandbox'):\n"
        "  try: open('/sandbox/' + name, 'w').write('x')\n  except OSError: pass\ndef f(): return 2",
    ],
)  # fmt: skip
def test_cheating_program_fails(source: str, session: Session) -> None:
    result = verdict(session, source)
    assert result.passed is False, result
    assert verdict(session, "def f(): return 1").passed


def test_malformed_reply_does_not_affect_the_next_program(session: Session) -> None:
    for garbage in ("b'\\xff\\xfe\\n'", "b'[' * 100000 + b'\\n'", "b'{}\\n'", "b'[\"int\"]\\n'"):
        source = (
            "import os\ndef f():\n  for fd in range(3, 64):\n"
            f"    try: os.write(fd, {garbage})\n    except OSError: pass\n  return 1"
        )
        assert verdict(session, source).passed is False
        assert verdict(session, "def f(): return 1").passed


# ---------------------------------------------------------------- escapes


def test_user_and_system_files_are_not_visible(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    home = os.path.expanduser("~")
    for path in (str(secret), "/etc/shadow", "/etc/passwd", "/etc/hostname", "/proc/self/environ",
                 f"{home}/.bashrc", f"{home}/.cache", str(Path(__file__).resolve()), "/sys"):  # fmt: skip
        body = (
            f"import os\ntry:\n    os.listdir({path!r}) if os.path.isdir({path!r}) else open({path!r})\n"
            "except OSError:\n    return 'contained'\nreturn 'read it'"
        )
        assert reported(session, body).passed, path


def test_home_contains_at_most_the_path_to_python(session: Session) -> None:
    home, base = os.path.expanduser("~"), sys.base_prefix
    seen = {Path(base).relative_to(home).parts[0]} if Path(base).is_relative_to(home) else set()
    body = (
        f"import os\nnames = set(os.listdir({home!r})) if os.path.isdir({home!r}) else set()\n"
        f"return 'contained' if names <= {seen or set()!r} else sorted(names)"
    )
    assert reported(session, body).passed


def test_only_tmp_is_writable(session: Session) -> None:
    body = """
import os, sys
places = ['/x', '/usr/x', '/usr/lib/x', '/dev/x', '/dev/shm/x', '/sandbox/x', '/root/x', '/home/x',
          sys.base_prefix + '/x', os.path.dirname(os.__file__) + '/x']
written = []
for place in places:
    try:
        open(place, 'w').close()
        written.append(place)
    except OSError:
        pass
open('/tmp/x', 'w').close()
return str(written) if written else 'contained'
"""
    assert reported(session, body).passed


def test_tmp_is_private_and_empty_for_every_program(session: Session) -> None:
    look = "import os\nreturn 'contained' if os.listdir('/tmp') == [] else str(os.listdir('/tmp'))"
    with tempfile.NamedTemporaryFile(dir="/tmp") as outside:
        left = f"{outside.name}-left"
        assert reported(session, look).passed
        assert reported(session, f"open({left!r}, 'w').close()\nreturn 'contained'").passed
        assert reported(session, look).passed
    assert not Path(left).exists()


def test_no_connection_to_a_server_on_this_machine(session: Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        body = f"""
import socket
for address in ('127.0.0.1', '0.0.0.0', 'localhost', '10.0.0.1', '8.8.8.8'):
    try:
        socket.create_connection((address, {port}), timeout=1)
        return 'connected to ' + address
    except OSError:
        pass
return 'contained'
"""
        assert reported(session, body).passed
        with pytest.raises(TimeoutError):
            server.accept()
        socket.create_connection(
            ("127.0.0.1", port)
        ).close()  # the server is reachable from outside the sandbox
        server.accept()[0].close()


def test_fork_bomb(session: Session) -> None:
    result = verdict(session, "import os\nwhile True: os.fork()")
    assert (result.passed, result.seconds < 10) == (False, True)
    assert "BlockingIOError" in result.reason
    ways = """
import os, subprocess, multiprocessing
ways = [os.fork, os.forkpty, lambda: os.posix_spawn('/bin/true', ['true'], {}),
        lambda: subprocess.run(['true']), lambda: os.system('true') == 0 and 1 / 1]
made = []
for way in ways:
    try:
        if way() not in (None, False, -1):
            made.append(str(way))
    except OSError:
        pass
return str(made) if made else 'contained'
"""
    assert reported(session, ways).passed


def test_thread_bomb(session: Session) -> None:
    source = (
        "import threading, time\nmade = 0\n"
        "def f():\n  global made\n  try:\n    while True:\n"
        "      threading.Thread(target=time.sleep, args=(5,), daemon=True).start()\n      made += 1\n"
        "  except RuntimeError:\n    return made"
    )
    result = verdict(session, source, "assert f() == 0, f()")
    assert result.passed, result.reason


def test_memory_bomb(session: Session) -> None:
    for body in ("x = bytearray(1 << 30)", "x = 'x' * (1 << 30)", "x = []\nwhile True: x.append('y' * 9999)"):
        result = reported(session, body)
        assert result.passed is False
        assert "MemoryError" in result.reason or "SIGKILL" in result.reason
        assert result.seconds < 15


def test_memory_outside_the_address_space_is_denied(session: Session) -> None:
    body = """
import os, mmap, ctypes
try:
    os.memfd_create('x')
    return 'memfd'
except PermissionError:
    pass
libc = ctypes.CDLL(None, use_errno=True)
return 'contained' if libc.shmget(0, 1 << 28, 0o1600) == -1 else 'shared memory'
"""
    assert reported(session, body).passed


def test_large_files(session: Session) -> None:
    body = """
import os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def fill(path, size):
    try:
        with open(path, 'wb', buffering=0) as file:
            for _ in range(size >> 20):
                if file.write(bytes(1 << 20)) < 1 << 20:
                    return
    except OSError:
        return
fill('/tmp/one', 1 << 30)
if os.path.getsize('/tmp/one') > 17 << 20:
    return 'one file of ' + str(os.path.getsize('/tmp/one'))
for i in range(40):
    fill('/tmp/' + str(i), 8 << 20)
total = sum(os.path.getsize('/tmp/' + name) for name in os.listdir('/tmp'))
return 'contained' if total <= 64 << 20 else 'files of ' + str(total)
"""
    assert reported(session, body).passed


def test_endless_output(session: Session) -> None:
    source = "import os\ndef f():\n  while True: os.write(1, b'x' * 65536)"
    before = psutil.Process().memory_info().rss
    assert verdict(session, source).passed is False
    to_the_channel = (
        "import os\ndef f():\n  while True:\n    for fd in (3, 4, 5):\n"
        "      try: os.write(fd, b'x' * 65536)\n      except OSError: pass"
    )
    result = verdict(session, to_the_channel)
    assert result.passed is False
    assert psutil.Process().memory_info().rss - before < 100 << 20


def test_environment_is_empty(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2T_EVAL_TEST_SECRET", "mine")
    body = """
import os, ctypes
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')
names = set(os.environ)
i = 0
while environ and environ[i]:
    names.add(environ[i].decode())
    i += 1
return 'contained' if not names else str(names)
"""
    assert reported(session, body).passed


def test_only_tmp_can_be_deleted() -> None:
    body = """
import os, shutil
shutil.rmtree('/tmp', ignore_errors=True)
shutil.rmtree('/', ignore_errors=True)
return 'contained' if os.path.exists('/sandbox/program.py') and os.path.exists('/dev/null') else 'gone'
"""
    patient = Limits(wall_seconds=300, cpu_seconds=120)  # a large system has many files that stay
    with Session(find_isolation(), patient) as opened:
        assert reported(opened, body).passed
        assert verdict(opened, "def f(): return 1").passed


def test_privileged_calls_and_higher_limits_are_denied(session: Session) -> None:
    body = """
import ctypes, os, resource
libc = ctypes.CDLL(None, use_errno=True)
done = []
for name, args in {'unshare': (0x10000000,), 'ptrace': (0, 0, 0, 0), 'mount': (b'x', b'/tmp', b'tmpfs', 0, 0),
                   'chroot': (b'/tmp',), 'setuid': (0,), 'umount': (b'/tmp',)}.items():
    if getattr(libc, name)(*args) != -1:
        done.append(name)
try:
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    done.append('setrlimit')
except ValueError:
    pass
return str(done) if done else 'contained'
"""
    assert reported(session, body).passed


def test_no_other_descriptor_is_open(session: Session) -> None:
    """Open are /dev/null three times and the session's two pipes, but none of bubblewrap's descriptors."""
    body = """
import os, stat
found = []
for fd in range(64):
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        continue
    found.append((fd, 'pipe' if stat.S_ISFIFO(mode) else 'device' if stat.S_ISCHR(mode) else oct(mode)))
expected = [(0, 'device'), (1, 'device'), (2, 'device')]
pipes = [kind for fd, kind in found[3:]]
return 'contained' if found[:3] == expected and pipes == ['pipe', 'pipe'] else str(found)
"""
    assert reported(session, body).passed


def test_no_process_outlives_its_program() -> None:
    before = children()
    source = (
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\ndef f():\n  while True: pass"
    )
    with Session(find_isolation(), Limits(wall_seconds=1, cpu_seconds=30)) as session:
        assert session.run(Program(source, "f()")).reason == "it ran longer than 1 s"
    assert wait_until(lambda: children() <= before)


def test_no_process_outlives_the_harness(tmp_path: Path) -> None:
    """If the harness is killed while a program runs, bubblewrap and all processes inside end with it."""
    source = """
import ctypes, signal, time
SET_PARENT_DEATH_SIGNAL = 1
ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, 0)
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
def f():
    while True: time.sleep(1)
"""
    script = "from s2t_eval.evaluation.sandbox import *\n"
    script += f"run_programs([Program({source!r}, 'f()')], Limits(60, 60))"
    harness = subprocess.Popen([sys.executable, "-c", script])
    inside: list[psutil.Process] = []

    def is_up() -> bool:
        inside[:] = psutil.Process(harness.pid).children(recursive=True)
        return any("program.py" in " ".join(p.cmdline()) for p in inside if p.is_running())

    assert wait_until(is_up)
    harness.kill()
    harness.wait()
    assert wait_until(lambda: not any(p.is_running() and p.status() != "zombie" for p in inside))


# ---------------------------------------------------------------- external failures


def kill_from_outside(session: Session, times: int) -> threading.Thread:
    """Kill the program's bubblewrap in a thread, as an operator or the kernel might."""

    def kill() -> None:
        for _ in range(times):
            found: list[psutil.Process] = []

            def is_up(found: list[psutil.Process] = found) -> bool:
                found[:] = [
                    child
                    for child in psutil.Process().children()
                    if "program.py" in " ".join(child.cmdline()) and child.pid not in killed
                ]
                return bool(found)

            wait_until(is_up)
            for child in found:
                killed.add(child.pid)
                time.sleep(0.5)
                child.kill()

    killed: set[int] = set()
    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_killed_sandbox_is_retried_then_unscored() -> None:
    slow = Program("import time\ndef f():\n  time.sleep(2)\n  return 1", "assert f() == 1")
    with Session(find_isolation(), Limits(wall_seconds=60)) as session:
        killer = kill_from_outside(session, 1)
        assert session.run(slow).passed is True
        killer.join()
        killer = kill_from_outside(session, 2)
        result = session.run(slow)
        killer.join()
        assert result.passed is None
        assert result.reason == "the sandbox was killed from outside (signal 9)"
        assert session.run(Program("def f(): return 1", "assert f() == 1")).passed


def test_killed_checker_is_restarted() -> None:
    with Session(find_isolation(), Limits(wall_seconds=60)) as session:
        assert session.run(Program("f = lambda: 1", "assert f() == 1")).passed
        assert session._checker is not None
        os.kill(session._checker.pid, signal.SIGKILL)
        assert session.run(Program("f = lambda: 1", "assert f() == 1")).passed


# ---------------------------------------------------------------- the pool


def test_pool_keeps_the_order_and_names_the_sandbox() -> None:
    ticks: list[int] = []
    programs = [Program(f"def f(): return {i}", f"assert f() == {i}\nassert {i} % 3") for i in range(12)]
    found = run_programs(programs, progress=lambda: ticks.append(1))
    assert [v.passed for v in found] == [i % 3 != 0 for i in range(12)]
    assert {v.sandbox for v in found} == {find_isolation().name}
    assert find_isolation().name.startswith("bubblewrap 0.")
    assert len(ticks) == 12
    assert run_programs([]) == []


def test_benchmark_measures_a_rate_and_a_ratio(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import sandbox as benchmark

    monkeypatch.setattr("sys.argv", ["sandbox", "--count", "4", "--repeats", "1"])
    benchmark.main()
    rate, ratio = capsys.readouterr().out.splitlines()
    assert re.search(r"\d at once: [\d.]+ trivial programs/s \(.*n = 1 rounds of 4\), target >= 20/s", rate)
    assert "sandbox over bare interpreter start" in ratio
    monkeypatch.setattr(benchmark, "TRIVIAL", Program("def add(a, b): return 0", "assert add(2, 3) == 5"))
    with pytest.raises(RuntimeError, match="4 of 4 programs did not pass"):
        benchmark.main()
