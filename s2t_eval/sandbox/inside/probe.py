"""Runs in a sandbox once a session: says `confined` where it is, else what it could do."""

from __future__ import annotations

import os
import socket


def possible() -> list[str]:
    """What a confined process cannot do, and this one can."""
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
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    if names:
        found.append(f"has the network {', '.join(names)}")
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


print("; ".join(possible()) or "confined")
