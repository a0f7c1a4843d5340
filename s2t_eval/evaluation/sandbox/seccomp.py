"""A system-call filter for bubblewrap: one process with one thread, and nothing that widens its reach.

A process limit by `setrlimit` does not bind a process whose user is root outside, so the kernel's
filter refuses new processes and threads instead. With a single process its address-space limit is the
program's whole memory; what would hold memory beside it (memfd, System V shared memory) is refused.
"""

from __future__ import annotations

import errno
import platform
import socket
import struct
from dataclasses import dataclass

LD, JEQ, JGE, RET = 0x20, 0x15, 0x35, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
"""Offsets in `struct seccomp_data`; the low half of the first argument on little-endian machines."""
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The kernel's name of each architecture; a call by another one (32 bits) ends the process."""
MACHINES = tuple(AUDIT)
Numbers = tuple[int | None, int | None]
"""A call's number on each of `MACHINES`; None where that machine has no such call."""

NEWEST = 450
"""The last call that was looked at. Later ones (and x32's, which are numbered from 2**30) do not exist
for a program: libc then takes the older call that did the same."""

NEW_PROCESS: dict[str, Numbers] = {"clone": (56, 220), "fork": (57, None), "vfork": (58, None)}
"""Answered as at a process limit, so that Python raises BlockingIOError or "can't start new thread"."""
CLONE3: Numbers = (435, 435)
"""Answered as if it were unknown, so that libc takes `clone`."""
SOCKETS: dict[str, Numbers] = {"socket": (41, 198), "socketpair": (53, 199)}
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
"""Socket families that a network namespace confines. Others reach past it (vsock is the machine's own)
or into the kernel (netlink, AF_ALG)."""

PRCTL: Numbers = (157, 167)
SET_PARENT_DEATH_SIGNAL = 1
"""The option of `prctl` by which a program would outlive a harness that is killed."""

OTHER_PROCESSES: dict[str, Numbers] = {
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
NAMESPACES: dict[str, Numbers] = {
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
FILES_BY_OTHER_WAYS: dict[str, Numbers] = {
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
MEMORY_BESIDE_THE_LIMIT: dict[str, Numbers] = {
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
KERNEL_SURFACE: dict[str, Numbers] = {
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
THE_MACHINE: dict[str, Numbers] = {
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
REFUSED: dict[str, Numbers] = {
    **OTHER_PROCESSES,
    **NAMESPACES,
    **FILES_BY_OTHER_WAYS,
    **MEMORY_BESIDE_THE_LIMIT,
    **KERNEL_SURFACE,
    **THE_MACHINE,
}
"""Answered with EPERM."""


@dataclass(frozen=True)
class Rule:
    """What the filter returns for one system call, whatever its arguments."""

    number: int
    error: int


def process_filter(machine: str = platform.machine()) -> bytes | None:
    """The compiled filter for `bwrap --seccomp`, None on a machine whose numbers are not known here."""
    if machine not in MACHINES:
        return None
    code = [_load(ARCHITECTURE), _jump(JEQ, AUDIT[machine], 1, 0), _return(KILL_PROCESS), _load(NUMBER)]
    code += [_jump(JGE, NEWEST + 1, 0, 1), _fail(errno.ENOSYS)]
    for rule in rules(machine):
        code += [_jump(JEQ, rule.number, 0, 1), _fail(rule.error)]
    for number in _numbers(SOCKETS, machine).values():
        allowed = [_jump(JEQ, family, len(FAMILIES) - i, 0) for i, family in enumerate(FAMILIES)]
        code += _by_first_argument(number, [*allowed, _fail(errno.EAFNOSUPPORT)])
    for number in _numbers({"prctl": PRCTL}, machine).values():
        code += _by_first_argument(number, [_jump(JEQ, SET_PARENT_DEATH_SIGNAL, 0, 1), _fail(errno.EPERM)])
    return b"".join([*code, _return(ALLOW)])


def rules(machine: str) -> list[Rule]:
    """The calls that are refused on a machine, whatever their arguments."""
    answers = [(REFUSED, errno.EPERM), (NEW_PROCESS, errno.EAGAIN), ({"clone3": CLONE3}, errno.ENOSYS)]
    return [Rule(number, error) for calls, error in answers for number in _numbers(calls, machine).values()]


def _numbers(calls: dict[str, Numbers], machine: str) -> dict[str, int]:
    column = MACHINES.index(machine)
    return {name: number for name, both in calls.items() if (number := both[column]) is not None}


def _by_first_argument(number: int, test: list[bytes]) -> list[bytes]:
    """Tests of one call's first argument; where none of them returns, the call is allowed."""
    return [_jump(JEQ, number, 0, len(test) + 2), _load(FIRST_ARGUMENT), *test, _return(ALLOW)]


def _load(offset: int) -> bytes:
    return _jump(LD, offset, 0, 0)


def _return(value: int) -> bytes:
    return _jump(RET, value, 0, 0)


def _fail(error: int) -> bytes:
    return _return(ERRNO | error)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
