"""The harness's `--seed` reaches our random numbers."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from s2t_eval.model_wrappers import seeds
from s2t_eval.model_wrappers.seeds import harness_seed


@pytest.fixture(autouse=True)
def _same_generator() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize(
    ("command", "seed", "expected"),
    [
        ("lm_eval --tasks s2t_arith", 1234, {}),
        ("lm_eval --seed 1234", 1234, {"seed": 1234}),
        ("bin/lm-eval run --seed=0,1234,1234,7", 1234, {"seed": 1234}),
        ("lm_eval/__main__.py --se 1234", 1234, {"seed": 1234}),
        ("lm_eval --system_instruction --seeds", 1234, {}),
        ("mine.py --seed 1234", 1234, {}),  # a user's script, whose seed may be another
        ("lm_eval --seed 7", 7, {"seed": 7}),
        ("mine.py", 7, {"seed": 7}),
    ],
)
def test_a_seed_that_is_given_is_used(
    monkeypatch: pytest.MonkeyPatch, command: str, seed: int, expected: dict[str, int]
) -> None:
    """`--seed 1234` drew the texts of `--seed 0`: it was taken for the harness's default."""
    monkeypatch.setattr(sys, "argv", command.split())
    torch.manual_seed(seed)
    assert harness_seed() == expected


@pytest.mark.parametrize("option", ["--config FILE", "--config=FILE", "-C FILE", "-CFILE"])
@pytest.mark.parametrize("content", ["seed: 1234", "seed: [0, 1234, 1234, 1]", "limit: 5"])
def test_the_seed_of_a_config_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str, content: str
) -> None:
    """`seed: 1234` in the file of --config drew the texts of seed 0, where `--seed 1234` drew its own."""
    (tmp_path / "run.yaml").write_text(content)
    command = f"lm_eval run {option} --limit 3".replace("FILE", str(tmp_path / "run.yaml"))
    monkeypatch.setattr(sys, "argv", command.split())
    torch.manual_seed(1234)
    assert harness_seed() == ({"seed": 1234} if "seed" in content else {})


@pytest.mark.parametrize("seed", [7, 1234])
def test_a_seed_that_was_set_before_the_backend_is_imported_is_used(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The harness seeds torch and only then imports the backend, which took that seed for torch's default:
    every `--seed` drew the texts of `--seed 0`, and three seeds of maj8 had one result."""
    monkeypatch.setattr(sys, "argv", ["lm_eval", "--seed", str(seed)])
    torch.manual_seed(seed)
    assert runpy.run_path(seeds.__file__)["harness_seed"]() == {"seed": seed}


@pytest.mark.parametrize("own", [torch.Generator().initial_seed(), 5212668439951572077, 12677668439951572077])
def test_without_any_seed_there_is_none(monkeypatch: pytest.MonkeyPatch, own: int) -> None:
    """The harness's `--seed None`, and a model that is made without the harness.

    torch had seeded itself with random numbers: sampled texts could not be made again, and every second model
    was refused with "seed: expected a whole number from 0 to 9223372036854775807".
    """
    monkeypatch.setattr(sys, "argv", ["lm_eval", "--seed", "0,1234,None,1234"])
    torch.manual_seed(own)
    assert runpy.run_path(seeds.__file__)["harness_seed"]() == {}


def test_torch_seeds_itself_with_large_numbers() -> None:
    """What tells its own seeds from given ones, of which numpy takes 32 bits."""
    assert all(torch.seed() >= seeds.GIVEN_SEEDS for _ in range(20))


def test_a_large_seed_counts_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["lm_eval", "--seed", f"0,1,{2**40},2"])
    torch.manual_seed(2**40)
    assert harness_seed() == {"seed": 2**40}
