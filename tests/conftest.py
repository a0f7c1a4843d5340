"""Shared fixtures: the sandbox, and tiny random models of several families."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from transformers import PreTrainedModel

from s2t_eval.evaluation.sandbox import Isolation
from tests.environment import isolate
from tests.sandboxes import require_sandbox
from tests.shared_artifacts import VARIABLE
from tests.twins import tiny_model

SESSION: list[str] = []
"""The folder that this process made."""

torch.set_num_threads(1)


@pytest.hookimpl(trylast=True)  # pytest's own output keeps the colours that the user wants
def pytest_configure() -> None:
    """Isolate the session from the user's shell, and make the folder of `made_once` if none is inherited."""
    isolate(os.environ)
    if VARIABLE not in os.environ:
        SESSION.append(os.environ.setdefault(VARIABLE, tempfile.mkdtemp(prefix="s2t-eval-tests-")))


def pytest_unconfigure() -> None:
    """Remove it where it was made."""
    while SESSION:
        shutil.rmtree(SESSION.pop(), ignore_errors=True)
        del os.environ[VARIABLE]


@pytest.fixture(scope="session")
def sandbox() -> Isolation:
    """The sandbox of this machine; tests that use it are skipped where bubblewrap does not work."""
    return require_sandbox()


@pytest.fixture(scope="module")
def small_task_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """lm_eval has one task of its own in the tests of a file; reading its thousands takes seconds."""
    from tests.harness_helpers import only_built_in_task

    with only_built_in_task(tmp_path_factory.mktemp("stock") / "tasks"):
        yield


def slow(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.fixture(scope="session", params=["qwen2", slow("llama"), slow("gemma3"), "gemma2"])
def family(request: pytest.FixtureRequest) -> str:
    """Model families: grouped queries with and without biases, sliding windows, logit soft caps.

    Tests that name no family of their own run with the two that differ most; `make slow` runs the others.
    A test that names families does so with `indirect=True`: otherwise pytest may hand it the models of the
    family before, because it sees no change of this fixture.
    """
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def student(family: str) -> PreTrainedModel:
    return tiny_model(family, seed=0)


@pytest.fixture(scope="session")
def teacher(family: str) -> PreTrainedModel:
    return tiny_model(family, seed=1, hidden_size=48)
