"""A system-call filter for bubblewrap: one process, threads allowed, nothing that widens its reach.

A process limit by `setrlimit` does not bind a process whose user is root outside, so forking is
refused by the kernel's filter instead. With a single process its address-space limit is the
program's whole memory; what would hold memory beside it (memfd, System V shared memory) is refused.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass

LD, JEQ, JGE, JSET, RET = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
"""Offsets in `struct seccomp_data`; the low half of the first argument on little-endian machines."""
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
CLONE_THREAD = 0x00010000
X32 = 0x40000000

REFUSED = (
    "ptrace process_vm_readv process_vm_writev unshare setns mount umount2 pivot_root chroot bpf "
    "perf_event_open userfaultfd io_uring_setup keyctl add_key request_key memfd_create memfd_secret "
    "shmget msgget semget mq_open"
).split()


@dataclass(frozen=True)
class Architecture:
    """Numbers of one kind of machine, from the kernel's tables."""

    audit: int
    clone: int
    forks: tuple[int, ...]
    refused: tuple[int, ...]
    has_x32: bool


CLONE3 = 435
X86_64 = Architecture(
    audit=0xC000003E,
    clone=56,
    forks=(57, 58),
    refused=(
        101, 310, 311, 272, 308, 165, 166, 155, 161, 321, 298, 323, 425, 250, 248, 249, 319, 447,
        29, 68, 64, 240,
    ),
    has_x32=True,
)  # fmt: skip
AARCH64 = Architecture(
    audit=0xC00000B7,
    clone=220,
    forks=(),
    refused=(
        117, 270, 271, 97, 268, 40, 39, 41, 51, 280, 241, 282, 425, 219, 217, 218, 279, 447,
        194, 186, 190, 180,
    ),
    has_x32=False,
)  # fmt: skip
ARCHITECTURES = {"x86_64": X86_64, "aarch64": AARCH64}


def process_filter(machine: str = platform.machine()) -> bytes | None:
    """The compiled filter for `bwrap --seccomp`, None on a machine whose numbers are not known here.

    `fork` fails with EAGAIN, as at a process limit; `clone3` with ENOSYS, so that libc makes its
    threads by `clone`, whose flags a filter can read; the rest with EPERM.
    """
    arch = ARCHITECTURES.get(machine)
    if arch is None:
        return None
    answers: list[tuple[int, int]] = [(number, errno.EPERM) for number in arch.refused]
    answers += [(number, errno.EAGAIN) for number in arch.forks] + [(CLONE3, errno.ENOSYS)]
    code = [_load(ARCHITECTURE), _jump(JEQ, arch.audit, 1, 0), _return(KILL_PROCESS), _load(NUMBER)]
    if arch.has_x32:
        code += [_jump(JGE, X32, 0, 1), _return(ERRNO | errno.EPERM)]
    for number, answer in answers:
        code += [_jump(JEQ, number, 0, 1), _return(ERRNO | answer)]
    code += [
        _jump(JEQ, arch.clone, 1, 0),
        _return(ALLOW),
        _load(FIRST_ARGUMENT),
        _jump(JSET, CLONE_THREAD, 0, 1),
        _return(ALLOW),
        _return(ERRNO | errno.EAGAIN),
    ]
    return b"".join(code)


def _load(offset: int) -> bytes:
    return _jump(LD, offset, 0, 0)


def _return(value: int) -> bytes:
    return _jump(RET, value, 0, 0)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
