"""Thresholds and label sets of real servers, against those that this process makes with the same models."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from s2t_eval import cli
from s2t_eval.remote.labelling import RemoteScorer, ScoredText
from s2t_eval.remote.probe import connect
from s2t_eval.remote.settings import RemoteSettings
from s2t_eval.selection.calibration import Calibration
from s2t_eval.training.labels import LabelSet
from tests.harness_helpers import STUDENT, TEACHER
from tests.remote.real_servers import vllm_environment

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(vllm_environment() is None, reason="no vLLM: `make vllm` builds its environment"),
]

MODELS = ("--pretrained", STUDENT, "--teacher", TEACHER, "--dtype", "float32")
PROBLEMS = ("--task", "s2t_arith", "--limit", "48")
TOLERANCE = 1e-4
"""Nats, and probabilities: what float32 rounds otherwise in another engine."""


def command(name: str, urls: tuple[str, str] | None, *more: str | Path) -> None:
    servers = [] if urls is None else ["--student_url", urls[0], "--teacher_url", urls[1]]
    cli.main([name, *MODELS, *PROBLEMS, *servers, *map(str, more)])


def test_thresholds_are_the_engines(vllm_urls: tuple[str, str], tmp_path: Path) -> None:
    """All thresholds that servers can measure; the entropy over the whole vocabulary is none of them."""
    for name, urls in (("here", None), ("servers", vllm_urls)):
        command("calibrate", urls, "--out", tmp_path / f"{name}.json", "--warmup_tokens", "2")
    here, servers = (Calibration.load(tmp_path / f"{name}.json") for name in ("here", "servers"))
    assert set(here.thresholds) - set(servers.thresholds) == {"entropy", "line_entropy"}
    for trigger, rates in servers.thresholds.items():
        assert rates == pytest.approx(here.thresholds[trigger], abs=TOLERANCE), trigger
    same = [asdict(calibration) | {"thresholds": None} for calibration in (here, servers)]
    assert same[0] == same[1]


@pytest.fixture(scope="module")
def label_sets(
    vllm_urls: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[LabelSet, LabelSet]:
    """Made here, and by servers."""
    folder = tmp_path_factory.mktemp("labels")
    for name, urls in (("here", None), ("servers", vllm_urls)):
        command("collect", urls, "--steps", "all", "--out", folder / name)
    return LabelSet.load(folder / "here"), LabelSet.load(folder / "servers")


def test_the_label_set_is_the_engines(label_sets: tuple[LabelSet, LabelSet]) -> None:
    here, servers = label_sets
    assert len(here) == len(servers)
    for one, other in zip(here, servers, strict=True):
        for name in ("problem_id", "question_hash"):
            assert getattr(one, name) == getattr(other, name)
        for name in ("prompt_ids", "teacher_prompt_ids", "output_ids", "teacher_argmax", "kept"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        for name in ("kl_student_teacher", "kl_teacher_student", "margin", "teacher_mass", "top_log_probs"):
            np.testing.assert_allclose(
                getattr(one, name), getattr(other, name), atol=TOLERANCE, rtol=0, err_msg=name
            )
        # Candidates whose log-probabilities round to one value may change places.
        for name in ("student_log_probs", "teacher_log_probs"):
            by_id = [np.take_along_axis(getattr(x, name), x.candidates.argsort(-1), -1) for x in (one, other)]
            np.testing.assert_array_equal(np.sort(one.candidates, -1), np.sort(other.candidates, -1))
            np.testing.assert_allclose(*by_id, atol=TOLERANCE, rtol=0, err_msg=name)
        assert (other.entropy <= one.entropy + TOLERANCE).all()  # of 64 tokens, and of all others as one
    assert servers.manifest.hit_rate == here.manifest.hit_rate
    assert servers.manifest.data == here.manifest.data | {"entropy": "entropy64"}


def test_labels_by_requests_of_one_token(
    vllm_urls: tuple[str, str], label_sets: tuple[LabelSet, LabelSet]
) -> None:
    """A teacher that does not score chunks gives the same scores, and its own token, step by step."""
    row = label_sets[1].trajectories[0]
    fleet = connect(vllm_urls[:1], vllm_urls[1:], RemoteSettings(), needs_rows=True)
    text = ScoredText(
        row.teacher_prompt_ids.tolist(),
        row.output_ids.tolist(),
        torch.from_numpy(row.candidates),
        torch.from_numpy(row.student_log_probs),
    )
    for has_rows in (True, False):
        scorer = RemoteScorer(replace(fleet, has_rows=has_rows), 443, RemoteSettings())
        [scores] = scorer.run([partial(lambda: text)], with_argmax=True)
        assert scores.argmax is not None
        assert scores.argmax.tolist() == row.teacher_argmax.tolist()
        np.testing.assert_allclose(scores.log_probs.numpy(), row.teacher_log_probs, atol=TOLERANCE, rtol=0)
