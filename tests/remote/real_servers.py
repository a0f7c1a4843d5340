"""Real vLLM servers of the embedded pair, from the environment that `make vllm` builds."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from s2t_eval.embedded import embedded_path

REPOSITORY = Path(__file__).resolve().parents[2]
FLAGS = """--dtype float32 --max-model-len 512 --max-num-seqs 64 --enforce-eager --generation-config vllm
--enable-prefix-caching --block-size 32 --max-logprobs 128 --enable-scale-out
--enable-prompt-tokens-details"""
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "0",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
SECOND_RUNNER = {"VLLM_USE_V2_MODEL_RUNNER": "1", "TRITON_INTERPRET": "1"}
"""The model runner that scores chunks; on a CPU its kernels are interpreted, which is slow."""
START_S = 600
"""Most seconds until a server answers; a busy machine needs a few minutes."""


class Running(NamedTuple):
    """A server that was started, and where it will answer."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path


def vllm_environment() -> Path | None:
    """The folder of the environment with vLLM, if it was built."""
    folder = Path(os.environ.get("VLLM_VENV", REPOSITORY / ".venv-vllm"))
    return folder if (folder / "bin" / "vllm").exists() else None


class Served(NamedTuple):
    """A server to start.

    Args:
        name: under which it serves its model.
        model: folder.
        flags: of `vllm serve`, beside `FLAGS`.
        environment: variables beside `ENVIRONMENT`.
    """

    name: str
    model: Path
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = MappingProxyType({})


STUDENT = Served("student", embedded_path("embedded/student"))
TEACHER = Served("teacher", embedded_path("embedded/teacher"), environment=SECOND_RUNNER)


@contextmanager
def serving_pair(logs: Path) -> Iterator[tuple[str, str]]:
    """The URLs of the student and of the teacher, which has the second model runner; stopped at the end."""
    with serving_models(logs, STUDENT, TEACHER) as [student, teacher]:
        yield student, teacher


@contextmanager
def serving_models(logs: Path, *served: Served) -> Iterator[list[str]]:
    """The URLs of these servers; stopped at the end."""
    running: list[Running] = []
    try:
        for server in served:
            running.append(_start(server, logs))
        for started in running:
            _wait(started)
        yield [started.url for started in running]
    finally:
        for server in running:
            server.process.terminate()
        for server in running:
            server.process.wait(60)


@contextmanager
def serving_another(name: str, logs: Path) -> Iterator[Running]:
    """One more server of the embedded student or teacher, which the block may kill."""
    server = _start(Served(name, embedded_path(f"embedded/{name}")), logs)
    try:
        _wait(server)
        yield server
    finally:
        server.process.terminate()
        server.process.wait(60)


def _start(served: Served, logs: Path) -> Running:
    folder = vllm_environment()
    assert folder is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(folder / "bin" / "vllm"), "serve", str(served.model)]
    command += ["--served-model-name", served.name, "--host", "127.0.0.1", "--port", str(port)]
    command += [*FLAGS.split(), *served.flags]
    log = logs / f"{served.name}.log"
    # PYTHONPATH may name packages of the project's own environment.
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env={**inherited, **ENVIRONMENT, **served.environment},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    return Running(process, f"http://127.0.0.1:{port}", log)


def _wait(server: Running) -> None:
    """Wait until a server answers; an error shows the end of its log."""
    deadline = time.monotonic() + START_S
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(server.url + "/health", timeout=10).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise RuntimeError(f"vllm serve did not start:\n{server.log.read_text()[-3000:]}")
