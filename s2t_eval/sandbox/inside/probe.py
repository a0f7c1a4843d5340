"""Runs in a sandbox once a session: says `confined` where it is, else what it could do."""

from __future__ import annotations

import os
import socket


def possible() -> list[str]:
    """What a confined process cannot do, and this one can."""
    found = []
    if os.path.exists("/etc/passwd") or os.path.exists("/proc/self"):
        found.append("sees the system's files")
    for path in ("/probe", "/dev/probe", "/dev/shm/probe", os.path.join(os.path.dirname(__file__), "x")):
        try:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            found.append(f"writes {path}")
        except OSError:
            pass
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    if names:
        found.append(f"has the network {', '.join(names)}")
    if os.environ.keys() - {"PWD", "LC_CTYPE"}:
        found.append("has an environment")
    try:
        with open("/tmp/probe", "w") as file:
            file.write("x")
    except OSError as error:
        found.append(f"cannot write /tmp ({error})")
    return found


print("; ".join(possible()) or "confined")
