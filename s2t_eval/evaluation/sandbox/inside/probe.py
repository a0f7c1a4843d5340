"""Script that tests the sandbox from inside: prints `confined`, or what it was able to do."""

from __future__ import annotations

import _thread
import fcntl
import json
import os
import resource
import socket
import struct
import sys

UNREACHABLE_ADDRESSES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses reserved for documentation. Connecting a datagram socket needs a route but sends no packet."""
MAX_INTERFACE_INDEX = 4096
GET_FLAGS, IS_UP = 0x8913, 1
"""SIOCGIFFLAGS and IFF_UP of linux/sockios.h and linux/if.h."""


def confinement_failures(processes: int) -> list[str]:
    """The actions that succeeded although a confined process cannot perform them."""
    return [*file_failures(), *network_failures(), *thread_failures(processes)]


def file_failures() -> list[str]:
    """Access to the machine's files and environment variables."""
    failures = []
    if os.path.exists("/etc/passwd") or os.path.exists("/proc/self"):
        failures.append("sees the system's files")
    script_folder = os.path.dirname(os.path.abspath(__file__))
    for folder in ("/", "/dev", "/dev/shm", script_folder):
        path = os.path.join(folder, f"s2t_eval_probe_{os.getpid()}")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except OSError:
            continue
        os.unlink(path)
        failures.append(f"writes {folder}")
    if os.environ.keys() - {"PWD", "LC_CTYPE"}:
        failures.append("has an environment")
    try:
        path = f"/tmp/s2t_eval_probe_{os.getpid()}"
        with open(path, "w") as file:
            file.write("x")
        os.unlink(path)
    except OSError as error:
        failures.append(f"cannot write /tmp ({error})")
    return failures


def network_failures() -> list[str]:
    """Routes to other machines, network interfaces, and socket families that no namespace confines."""
    failures = []
    for family, address in UNREACHABLE_ADDRESSES:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
                datagrams.connect((address, 9))
        except OSError:
            continue
        failures.append(f"has a route to {address}")
    names = active_interfaces()
    if names:
        failures.append(f"has the network {', '.join(names)}")
    for name, number, kind in (("vsock", 40, socket.SOCK_STREAM), ("netlink", 16, socket.SOCK_RAW)):
        try:
            socket.socket(number, kind).close()
        except OSError:
            continue
        failures.append(f"opens {name} sockets")
    return failures


def active_interfaces() -> list[str]:
    """Names of the network interfaces that are up, except loopback.

    Some kernels create tunnels in every new namespace; they are down and cannot be brought up without a
    capability that is dropped. `socket.if_nameindex` is not used: it needs netlink, which is denied.
    """
    names = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for index in range(1, MAX_INTERFACE_INDEX):
            try:
                name = socket.if_indextoname(index)
                request = fcntl.ioctl(any_socket, GET_FLAGS, struct.pack("16s24x", name.encode()))
            except OSError:
                continue
            if name != "lo" and struct.unpack_from("H", request, 16)[0] & IS_UP:
                names.append(name)
    return names


def thread_failures(processes: int) -> list[str]:
    """Starting more threads than allowed: the process limit set here does not apply to root."""
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    limit = processes if hard == resource.RLIM_INFINITY else min(processes, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
    lock = _thread.allocate_lock()
    lock.acquire()
    try:
        for _ in range(processes + 1):
            _thread.start_new_thread(lock.acquire, ())
    except RuntimeError:
        return []
    return [f"starts more than {processes} threads"]


if __name__ == "__main__":
    failures = confinement_failures(json.loads(sys.stdin.readline())["processes"])
    sys.stdout.write("; ".join(failures) or "confined")
    sys.stdout.flush()
    os._exit(0)  # do not wait for the blocked threads
