"""Servers of the tests: real ones that all tests marked `vllm` share, and fakes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.remote.fake_server import FakeServer
from tests.remote.real_servers import serving_pair


@pytest.fixture(scope="session")
def vllm_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URLs of the embedded student and of the embedded teacher, which scores chunks.

    `S2T_VLLM_SERVERS=STUDENT_URL,TEACHER_URL` takes servers that are running already.
    """
    running = os.environ.get("S2T_VLLM_SERVERS")
    if running:
        student, teacher = running.split(",")
        yield student, teacher
        return
    with serving_pair(tmp_path_factory.mktemp("vllm")) as urls:
        yield urls


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks again at once."""
    monkeypatch.setattr("s2t_eval.remote.client.FIRST_WAIT_S", 0.001)
    monkeypatch.setattr("s2t_eval.remote.client.LONGEST_WAIT_S", 0.01)


@pytest.fixture
def student() -> FakeServer:
    return FakeServer(seed=0)


@pytest.fixture
def teacher() -> FakeServer:
    return FakeServer(seed=1)
