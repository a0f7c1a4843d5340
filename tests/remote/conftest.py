"""Real servers that all tests marked `vllm` share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

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
