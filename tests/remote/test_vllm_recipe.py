"""A recipe whose models are on vLLM servers, from calibration and labels to the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reproduce.test_servers import require_table_of_servers

pytestmark = pytest.mark.vllm


def test_a_recipe_runs_to_its_table(vllm_urls: tuple[str, str], tmp_path: Path) -> None:
    require_table_of_servers(tmp_path, *vllm_urls)
