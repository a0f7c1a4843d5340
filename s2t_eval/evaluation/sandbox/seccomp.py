"""A seccomp system-call filter for bubblewrap: one process with one thread, and no privileged calls.

`setrlimit`'s process limit does not apply to a process whose user is root outside the namespace, so the
filter denies new processes and threads instead. For a single process the limit of its address space covers
all its memory; calls that allocate memory outside it (memfd, System V shared memory) are denied.
"""

from __future__ import annotations

import errno
import platform
import socket
import struct
from dataclasses import dataclass

LD, JEQ, JGE, RET = 0x20, 0x15, 0x35, 0x06
CALL_NUMBER_OFFSET, ARCHITECTURE_OFFSET, FIRST_ARGUMENT_OFFSET = 0, 4, 16
"""Offsets in `struct seccomp_data`; the low half of the first argument on little-endian machines."""
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The kernel's architecture constants; a call in another architecture (32 bits) kills the process."""
MACHINES = tuple(AUDIT_ARCHITECTURE)
CallNumbers = tuple[int | None, int | None]
"""A system call's number on each of `MACHINES`; None if the machine does not have it."""

LAST_KNOWN_CALL = 450
"""The last call that the filter was reviewed for. Later calls, and those of x32, which start at 2**30, fail
with ENOSYS, upon which libc uses the older equivalent."""

NEW_PROCESS: dict[str, CallNumbers] = {"clone": (56, 220), "fork": (57, None), "vfork": (58, None)}
"""These calls fail as at a process limit: Python raises BlockingIOError or "can't start new thread"."""
CLONE3: CallNumbers = (435, 435)
"""This call fails with ENOSYS, so that libc uses `clone`."""
SOCKET_CALLS: dict[str, CallNumbers] = {"socket": (41, 198), "socketpair": (53, 199)}
CONFINED_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
"""Socket families that a network namespace confines. Other families bypass it (vsock reaches the host) or
expose the kernel (netlink, AF_ALG)."""

PRCTL: CallNumbers = (157, 167)
SET_PARENT_DEATH_SIGNAL = 1
"""The option of `prctl` with which a program could outlive a killed harness."""

OTHER_PROCESSES: dict[str, CallNumbers] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
}
NAMESPACES: dict[str, CallNumbers] = {
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
}
FILE_HANDLES_AND_EVENTS: dict[str, CallNumbers] = {
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "lookup_dcookie": (212, 18),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
}
UNLIMITED_MEMORY: dict[str, CallNumbers] = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
}
KERNEL_SURFACE: dict[str, CallNumbers] = {
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_setup": (206, 0),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "personality": (135, 92),
    "modify_ldt": (154, None),
}
SYSTEM_ADMINISTRATION: dict[str, CallNumbers] = {
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    "nfsservctl": (180, 42),
}
DENIED: dict[str, CallNumbers] = {
    **OTHER_PROCESSES,
    **NAMESPACES,
    **FILE_HANDLES_AND_EVENTS,
    **UNLIMITED_MEMORY,
    **KERNEL_SURFACE,
    **SYSTEM_ADMINISTRATION,
}
"""These calls fail with EPERM."""


@dataclass(frozen=True)
class Rule:
    """The error that the filter returns for one system call, independent of its arguments."""

    number: int
    error: int


def process_filter(machine: str = platform.machine()) -> bytes | None:
    """Return the compiled filter for `bwrap --seccomp`; None on an unknown machine architecture.

    Args:
        machine: machine architecture as in `platform.machine()`; default this machine's.
    """
    if machine not in MACHINES:
        return None
    code = [
        _load(ARCHITECTURE_OFFSET),
        _jump(JEQ, AUDIT_ARCHITECTURE[machine], 1, 0),
        _return(KILL_PROCESS),
        _load(CALL_NUMBER_OFFSET),
    ]
    code += [_jump(JGE, LAST_KNOWN_CALL + 1, 0, 1), _return_error(errno.ENOSYS)]
    for rule in denied_calls(machine):
        code += [_jump(JEQ, rule.number, 0, 1), _return_error(rule.error)]
    for number in _numbers(SOCKET_CALLS, machine).values():
        allowed = [
            _jump(JEQ, family, len(CONFINED_FAMILIES) - i, 0) for i, family in enumerate(CONFINED_FAMILIES)
        ]
        code += _filter_first_argument(number, [*allowed, _return_error(errno.EAFNOSUPPORT)])
    for number in _numbers({"prctl": PRCTL}, machine).values():
        code += _filter_first_argument(
            number, [_jump(JEQ, SET_PARENT_DEATH_SIGNAL, 0, 1), _return_error(errno.EPERM)]
        )
    return b"".join([*code, _return(ALLOW)])


def denied_calls(machine: str) -> list[Rule]:
    """The calls that are denied on a machine, independent of their arguments."""
    groups = [(DENIED, errno.EPERM), (NEW_PROCESS, errno.EAGAIN), ({"clone3": CLONE3}, errno.ENOSYS)]
    return [Rule(number, error) for calls, error in groups for number in _numbers(calls, machine).values()]


def _numbers(calls: dict[str, CallNumbers], machine: str) -> dict[str, int]:
    column = MACHINES.index(machine)
    return {
        name: number for name, per_machine in calls.items() if (number := per_machine[column]) is not None
    }


def _filter_first_argument(number: int, tests: list[bytes]) -> list[bytes]:
    """Instructions that test the first argument of a call; if none of them returns, the call is allowed."""
    return [_jump(JEQ, number, 0, len(tests) + 2), _load(FIRST_ARGUMENT_OFFSET), *tests, _return(ALLOW)]


def _load(offset: int) -> bytes:
    return _jump(LD, offset, 0, 0)


def _return(value: int) -> bytes:
    return _jump(RET, value, 0, 0)


def _return_error(error: int) -> bytes:
    return _return(ERRNO | error)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
