"""Runs in a sandbox once a session: says `confined` where it is, else what it could do."""

from __future__ import annotations

import _thread
import fcntl
import json
import os
import resource
import socket
import struct
import sys

FAR_AWAY = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses that nobody has. Connecting a datagram socket sends nothing, and needs a route only."""
INTERFACES = 4096
GET_FLAGS, IS_UP = 0x8913, 1
"""SIOCGIFFLAGS and IFF_UP of linux/sockios.h and linux/if.h."""


def possible(processes: int) -> list[str]:
    """What a confined process cannot do, and this one can."""
    return [*files(), *network(), *threads(processes)]


def files() -> list[str]:
    """Files and settings of the machine."""
    found = []
    if os.path.exists("/etc/passwd") or os.path.exists("/proc/self"):
        found.append("sees the system's files")
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in ("/", "/dev", "/dev/shm", here):
        path = os.path.join(folder, f"s2t_eval_probe_{os.getpid()}")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except OSError:
            continue
        os.unlink(path)
        found.append(f"writes {folder}")
    if os.environ.keys() - {"PWD", "LC_CTYPE"}:
        found.append("has an environment")
    try:
        path = f"/tmp/s2t_eval_probe_{os.getpid()}"
        with open(path, "w") as file:
            file.write("x")
        os.unlink(path)
    except OSError as error:
        found.append(f"cannot write /tmp ({error})")
    return found


def network() -> list[str]:
    """Routes to other machines, interfaces that could have one, sockets that no namespace confines."""
    found = []
    for family, address in FAR_AWAY:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
                datagrams.connect((address, 9))
        except OSError:
            continue
        found.append(f"has a route to {address}")
    names = interfaces()
    if names:
        found.append(f"has the network {', '.join(names)}")
    for name, number, kind in (("vsock", 40, socket.SOCK_STREAM), ("netlink", 16, socket.SOCK_RAW)):
        try:
            socket.socket(number, kind).close()
        except OSError:
            continue
        found.append(f"opens {name} sockets")
    return found


def interfaces() -> list[str]:
    """Network interfaces that are up, the loopback one aside.

    Some kernels put tunnels into every new namespace; they are down, and only a capability that is
    dropped could change that. `socket.if_nameindex` would need netlink, which is refused.
    """
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for index in range(1, INTERFACES):
            try:
                name = socket.if_indextoname(index)
                about = fcntl.ioctl(any_socket, GET_FLAGS, struct.pack("16s24x", name.encode()))
            except OSError:
                continue
            if name != "lo" and struct.unpack_from("H", about, 16)[0] & IS_UP:
                found.append(name)
    return found


def threads(processes: int) -> list[str]:
    """More threads than allowed: root's are not counted by the process limit that is set first."""
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    wanted = processes if hard == resource.RLIM_INFINITY else min(processes, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (wanted, wanted))
    gate = _thread.allocate_lock()
    gate.acquire()
    try:
        for _ in range(processes + 1):
            _thread.start_new_thread(gate.acquire, ())
    except RuntimeError:
        return []
    return [f"starts more than {processes} threads"]


if __name__ == "__main__":
    able = possible(json.loads(sys.stdin.readline())["processes"])
    sys.stdout.write("; ".join(able) or "confined")
    sys.stdout.flush()
    os._exit(0)  # threads that wait for ever are not waited for
