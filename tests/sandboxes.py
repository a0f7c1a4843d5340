"""Whether the tests that run generated code can run on this machine."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from s2t_eval.evaluation.sandbox import (
    Isolation,
    SandboxUnavailableError,
    bubblewrap_candidates,
    find_isolation,
    seccomp,
)

BARE = ("--unshare-user", "--unshare-all", "--disable-userns", "--ro-bind", "/", "/", "--dev", "/dev")
TMPFS = ("--size", "1048576", "--tmpfs", "/tmp")


def bubblewrap_works(bwrap: Path) -> bool:
    """Whether a bubblewrap runs `true` in the namespaces and mounts that the sandbox is made of.

    The options stand here once more, so that a mistake in the sandbox's own does not pass for a machine
    without user namespaces.
    """
    try:
        done = subprocess.run([bwrap, *BARE, *TMPFS, "true"], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def require_sandbox() -> Isolation:
    """The sandbox of this machine; the calling test is skipped where bubblewrap itself does not work.

    Raises:
        SandboxUnavailableError: bubblewrap works and the sandbox does not, which is a fault of the sandbox.
    """
    try:
        isolation = find_isolation()
    except SandboxUnavailableError as error:
        if platform.machine() in seccomp.MACHINES and any(map(bubblewrap_works, bubblewrap_candidates())):
            raise
        pytest.skip(f"no sandbox works here: {error}")
    assert isolation.command, "the tests of generated code need a sandbox; unset S2T_SANDBOX"
    return isolation
