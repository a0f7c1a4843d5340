"""The system-call filter, evaluated by a simple interpreter and by the kernel."""

from __future__ import annotations

import errno
import platform
import re
import socket
import struct
from pathlib import Path

import pytest

from s2t_eval.evaluation.sandbox import Limits, Program, Session, find_isolation, seccomp
from s2t_eval.evaluation.sandbox.seccomp import (
    AUDIT_ARCHITECTURE,
    DENIED,
    LAST_KNOWN_CALL,
    MACHINES,
    SOCKET_CALLS,
    process_filter,
)

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
NAMED = {**DENIED, **SOCKET_CALLS, **seccomp.NEW_PROCESS, "clone3": seccomp.CLONE3, "prctl": seccomp.PRCTL}


def number_of(name: str, machine: str) -> int | None:
    return NAMED[name][MACHINES.index(machine)]


def answer(machine: str, number: int, first: int = 0, audit: int | None = None) -> str:
    """Interpret the filter: "allow", "kill" or the name of an error."""
    code = process_filter(machine)
    assert code is not None
    data = struct.pack(
        "<IIQQ", number & 0xFFFFFFFF, AUDIT_ARCHITECTURE[machine] if audit is None else audit, 0, first
    )
    instructions = list(struct.iter_unpack("<HBBI", code))
    place, accumulator = 0, 0
    while True:
        operation, if_true, if_false, value = instructions[place]
        place += 1
        if operation == seccomp.LD:
            [accumulator] = struct.unpack_from("<I", data, value)
        elif operation == seccomp.RET:
            return {seccomp.ALLOW: "allow", seccomp.KILL_PROCESS: "kill"}.get(
                value, errno.errorcode.get(value ^ seccomp.ERRNO, "?")
            )
        else:
            holds = {seccomp.JEQ: accumulator == value, seccomp.JGE: accumulator >= value}[operation]
            place += if_true if holds else if_false


def test_filter_exists_for_common_machines() -> None:
    for machine in MACHINES:
        code = process_filter(machine)
        assert code is not None and len(code) % 8 == 0
        assert len(code) // 8 < 4096  # the kernel's limit
    assert process_filter("s390x") is None


@pytest.mark.parametrize("machine", MACHINES)
def test_call_numbers_match_the_kernel_headers(machine: str) -> None:
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    defined = re.findall(r"#define\s+__NR(?:3264)?_(\w+)\s+(\d+)\b", header.read_text())
    numbers = {name: int(number) for name, number in defined}
    newer = {name for name in NAMED if name not in numbers and number_of(name, machine) is not None}
    assert newer <= {"memfd_secret", "process_mrelease", "quotactl_fd", "lookup_dcookie", "nfsservctl"}
    assert {name: number_of(name, machine) for name in numbers.keys() & NAMED.keys()} == {
        name: numbers[name] for name in numbers.keys() & NAMED.keys()
    }
    missing = [name for name in NAMED if number_of(name, machine) is None]
    assert not numbers.keys() & set(missing)


@pytest.mark.parametrize("machine", MACHINES)
def test_exactly_the_listed_calls_are_denied(machine: str) -> None:
    expected = {}
    for name in DENIED:
        expected[number_of(name, machine)] = "EPERM"
    for name in seccomp.NEW_PROCESS:
        expected[number_of(name, machine)] = "EAGAIN"
    expected[435] = "ENOSYS"
    for name in SOCKET_CALLS:
        expected[number_of(name, machine)] = "EAFNOSUPPORT"
    for number in range(LAST_KNOWN_CALL + 1):
        assert answer(machine, number) == expected.get(number, "allow"), number


@pytest.mark.parametrize("machine", MACHINES)
def test_later_calls_and_other_architectures_are_rejected(machine: str) -> None:
    for number in (LAST_KNOWN_CALL + 1, 467, 512, 547, 1 << 30, (1 << 30) + 41, (1 << 31) + 5, -1):
        assert answer(machine, number) == "ENOSYS", number
    for other in (
        0x40000003,
        0x40000028,
        *(AUDIT_ARCHITECTURE[name] for name in MACHINES if name != machine),
    ):
        assert answer(machine, 0, audit=other) == "kill"


@pytest.mark.parametrize("machine", MACHINES)
def test_parent_death_signal_cannot_be_changed(machine: str) -> None:
    number = number_of("prctl", machine)
    assert number is not None
    assert [answer(machine, number, option) for option in (0, 1, 2, 15, 38, 1 | 1 << 32)] == [
        "allow", "EPERM", "allow", "allow", "allow", "EPERM",
    ]  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
def test_only_three_socket_families_are_allowed(machine: str) -> None:
    """The kernel uses the low half of the argument; its high half must not change the result."""
    allowed = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6}
    for name in SOCKET_CALLS:
        number = number_of(name, machine)
        assert number is not None
        for family in range(64):
            expected = "allow" if family in allowed else "EAFNOSUPPORT"
            assert answer(machine, number, family) == expected
            assert answer(machine, number, family | 7 << 32) == expected


def reported(body: str) -> None:
    """Fail with the value that a program's function returns, unless it is 'contained'."""
    source = "def f():\n" + "".join(f"    {line}\n" for line in body.splitlines())
    with Session(find_isolation(), Limits()) as session:
        verdict = session.run(Program(source, "result = f()\nassert result == 'contained', result"))
    assert verdict.passed, verdict.reason


@pytest.mark.usefixtures("sandbox")
def test_kernel_denies_every_listed_call() -> None:
    machine = platform.machine()
    if machine not in MACHINES:
        pytest.skip(f"no filter for {machine}")
    numbers = {name: number_of(name, machine) for name in [*DENIED, *seccomp.NEW_PROCESS, "clone3"]}
    reported(f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
done = []
for name, number in {numbers!r}.items():
    if number is None:
        continue
    ctypes.set_errno(0)
    # With -1 for pointers and flags an allowed call would fail with EFAULT, EINVAL or EBADF, or return 0.
    result = libc.syscall(number, -1, -1, -1, -1, -1, -1)
    if result != -1 or ctypes.get_errno() not in ({errno.EPERM}, {errno.EAGAIN}, {errno.ENOSYS}):
        done.append((name, result, ctypes.get_errno()))
return str(done) if done else 'contained'
""")


@pytest.mark.usefixtures("sandbox")
def test_unconfined_socket_families_are_denied() -> None:
    """Network namespaces do not confine vsock: a server on it is reachable from a virtual machine's host."""
    reported("""
import errno, socket
done = []
for family in [n for n in range(64) if n not in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
        for make in (socket.socket, socket.socketpair):
            try:
                make(family, kind)
                done.append((family, kind))
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:
                    done.append((family, kind, error.errno))
for one in socket.socketpair():
    one.close()
socket.socket(socket.AF_INET).close()
import asyncio
async def add(): return 1 + 1
if asyncio.run(add()) != 2:
    done.append('asyncio')
return str(done) if done else 'contained'
""")


@pytest.mark.usefixtures("sandbox")
def test_threads_cannot_be_started() -> None:
    """For root 735 threads with Python and 3,000 with `clone` could be started despite the process limit."""
    reported("""
import _thread, ctypes, threading
from concurrent.futures import ThreadPoolExecutor
done = []
ways = {'threading': lambda: threading.Thread(target=int).start(),
        '_thread': lambda: _thread.start_new_thread(int, ()),
        'futures': lambda: ThreadPoolExecutor(2).submit(int).result(),
        'timer': lambda: threading.Timer(0, int).start()}
for name, way in ways.items():
    try:
        way()
        done.append(name)
    except RuntimeError as error:
        if str(error) != "can't start new thread":
            done.append((name, str(error)))
libc = ctypes.CDLL(None, use_errno=True)
handle = ctypes.c_ulong()
nothing = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: None)
if libc.pthread_create(ctypes.byref(handle), None, nothing, None) == 0:
    done.append('pthread_create')
return str(done) if done else 'contained'
""")
