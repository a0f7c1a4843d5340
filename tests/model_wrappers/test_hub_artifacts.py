"""Artifacts named as repositories on the Hub: `selector=`, `router=` and `tah=` find them there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.artifacts.fingerprint import folder_hash
from s2t_eval.embedded import embedded_path
from s2t_eval.model_wrappers.r2r import RoadsToRome
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.model_wrappers.s2t_local import PPSLocal
from s2t_eval.model_wrappers.tah import ThinkAtHard
from tests.harness_helpers import STUDENT, TEACHER

COMMIT = "a" * 40
ROUTED = {"teacher": TEACHER, "trigger": "router", "device": "cpu"}


def loaded(artifact: Any) -> tuple[Path, str]:
    return artifact.folder, artifact.hash


def tah(name: str) -> tuple[Path, str]:
    return loaded(ThinkAtHard(STUDENT, tah=name, device="cpu").folder)


def r2r(name: str) -> tuple[Path, str]:
    return loaded(RoadsToRome(STUDENT, teacher=TEACHER, router=name, device="cpu").router)


def router_of_selector(name: str) -> tuple[Path, str]:
    return loaded(SelectToThink(STUDENT, router=name, tau=0.05, **ROUTED).router)


def selector(name: str) -> tuple[Path, str]:
    return loaded(PPSLocal(STUDENT, selector=name, device="cpu").selector)


@pytest.mark.parametrize(
    ("load", "shipped"),
    [(tah, "tah"), (r2r, "r2r"), (router_of_selector, "selector"), (selector, "selector")],
)
def test_a_name_without_a_folder_is_a_repository_on_the_hub(
    load: Callable[[str], tuple[Path, str]], shipped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`selector=` loaded a published folder by its name, but `tah=` and `router=` found only local ones."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--artifact"
    snapshot = shutil.copytree(embedded_path(f"embedded/{shipped}"), repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    assert load("org/artifact") == (snapshot, folder_hash(snapshot))


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (tah, r"^tah=org/none: expected a folder of `s2t-eval tah train` with tah\.json, or a hub reposit"),
        (r2r, r"^router=org/none: expected a folder of `s2t-eval r2r train` with r2r\.json, or a hub repo"),
        (
            selector,
            r"^selector=org/none: expected a folder of `s2t-eval train` or a hub repository with o",
        ),
    ],
)
def test_a_name_that_the_hub_does_not_have_either(
    load: Callable[[str], object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=message):
        load("org/none")
