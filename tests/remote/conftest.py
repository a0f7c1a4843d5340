"""Real servers that all tests marked `vllm` share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.remote.real_servers import serving_pair


@pytest.fixture(scope="session")
def vllm_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URLs of the embedded student and of the embedded teacher, which scores chunks."""
    with serving_pair(tmp_path_factory.mktemp("vllm")) as urls:
        yield urls
