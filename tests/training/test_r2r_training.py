"""`s2t-eval r2r train`: thresholds against brute force, the loss, the folder, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from s2t_eval.artifacts.figures import without_nan
from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.embedded import embedded_path
from s2t_eval.methods.r2r_error import R2RError
from s2t_eval.methods.r2r_folder import RouterFolder, RouterInfo, load_router, router_card
from s2t_eval.models.vocabulary import vocabulary_hash
from s2t_eval.selection.divergence_router import DivergenceRouter
from s2t_eval.selection.router_size import RouterSize
from s2t_eval.training.r2r.figures import (
    choose_threshold,
    recall_and_rate,
    signals_at_rates,
    threshold_at_recall,
)
from s2t_eval.training.r2r.labels import R2RLabels, write_labels
from s2t_eval.training.r2r.rules import DIVERGENT, IDENTICAL, UNSCORED
from s2t_eval.training.r2r.settings import ThresholdSettings
from s2t_eval.training.r2r.train import RouterTraining, make_item
from s2t_eval.training.split import split_by_question
from tests.harness_helpers import model, tiny_folder, tokenizer
from tests.learning import main
from tests.r2r_learning import labels, refusal, router, train_arguments

STUDENT = "embedded/student"


def load(folder: Path) -> RouterFolder:
    return load_router(folder, model_fingerprint(model(STUDENT)), vocabulary_hash(tokenizer()), 64)


# ---------------------------------------------------------------- thresholds


def test_threshold_at_recall_has_the_lowest_rate_of_all_that_reach_it() -> None:
    """Its twin tries every threshold there is."""
    numbers = np.random.default_rng(0)
    for _ in range(30):
        values = numbers.choice(numbers.random(12), 40).astype(np.float32)  # with ties
        labels = numbers.random(40) < 0.3
        if not labels.any():
            continue
        for recall in (0.5, 0.9, 0.95, 1.0):
            rates = [
                float((values > t).mean())
                for t in [-1.0, *values.tolist()]
                if (values[labels] > np.float32(t)).mean() >= recall - 1e-9
            ]
            reached = recall_and_rate(values, labels, threshold_at_recall(values, labels, recall))
            assert reached["recall"] >= recall - 1e-9
            assert reached["positive_rate"] == pytest.approx(min(rates))


def test_a_threshold_by_rate_leaves_that_share_above_it() -> None:
    values = np.random.default_rng(1).random(1000).astype(np.float32)
    flags = values > 2
    threshold = choose_threshold(ThresholdSettings("rate", tau=0.07), values, flags)
    assert recall_and_rate(values, flags, threshold)["positive_rate"] == pytest.approx(0.07, abs=0.001)
    with pytest.raises(R2RError, match="no token of the validation problems is divergent"):
        choose_threshold(ThresholdSettings(), values, flags)


def test_recall_at_equal_rates_by_hand() -> None:
    values = np.array([0.9, 0.8, 0.7, 0.1, 0.0], dtype=np.float32)
    flags = np.array([True, False, True, False, False])
    report = signals_at_rates({"one": values}, flags, (0.2, 0.6))["one"]
    assert (report["recall@0.2"], report["recall@0.6"]) == (0.5, 1.0)
    assert report["auroc"] == pytest.approx(5 / 6)
    assert report["average_precision"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    nothing = signals_at_rates({"one": values}, np.zeros(5, dtype=bool), (0.2,))
    assert set(without_nan([nothing])[0]["one"].values()) == {None}  # the recall too was once 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"by": "taste"}, "by: expected 'recall' or 'rate', got 'taste'"),
        ({"recall": 1.2}, "recall: expected a rate between 0 and 1, got 1.2"),
        ({"tau": 0}, "tau: expected a rate between 0 and 1, got 0"),
        ({"tau": 0.1}, "tau: by=recall does not use it, got tau=0.1; leave it out"),
        ({"by": "rate", "recall": 0.9}, "recall: by=rate does not use it, got recall=0.9; leave it out"),
    ],
)
def test_threshold_settings_that_do_not_exist(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(R2RError, match=f"^{re.escape(message)}$"):
        ThresholdSettings(**wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------- training


def test_the_loss_is_its_definition_token_by_token() -> None:
    """Weighted cross-entropy over all tokens with a verdict; the embedding is the student's and frozen."""
    text = R2RLabels.load(labels()).texts[0]
    verdicts = text.verdicts.clone()
    verdicts[2], verdicts[3] = UNSCORED, DIVERGENT
    item = make_item(type(text)(**{**vars(text), "verdicts": verdicts}))
    assert item.weight == len(verdicts) - 1 and item.is_divergent.sum() >= 1
    unscored = verdicts * 0 + UNSCORED
    assert make_item(type(text)(**{**vars(text), "verdicts": unscored})).weight == 0  # the loop leaves it out
    network = DivergenceRouter(64, RouterSize(width=8, blocks=1)).eval()
    table = nn.Embedding.from_pretrained(model(STUDENT).get_input_embeddings().weight.detach())  # type: ignore[attr-defined]
    training = RouterTraining(network, table, positive_weight=7.0)
    assert dict(training.named_parameters()).keys() == {f"router.{k}" for k in network.state_dict()}
    expected = 0.0
    for t, verdict in enumerate(verdicts.tolist()):
        if verdict == UNSCORED:
            continue
        embedding = table.weight[int(text.student_ids[t])][None]
        odds = network(text.hidden[t][None].float(), embedding, text.top_logits[t][None].float())
        p = float(odds.detach().sigmoid())
        expected -= 7 * np.log(p) if verdict == DIVERGENT else np.log(1 - p)
    assert float(training([item]).loss.detach()) == pytest.approx(expected, rel=1e-4)


def test_a_trained_folder_is_read_as_written_and_learnt_something() -> None:
    found = load(router())
    info: RouterInfo = found.info
    training = info.training
    assert training["settings"]["student_dtype"] == "torch.float32"  # without it, any dtype could resume
    assert training["problems"] + training["validation_problems"] + info.held_out["problems"] == 16
    assert info.size == RouterSize(width=16, blocks=1)
    losses = [entry["loss"] for entry in training["history"]]
    assert min(losses) < losses[0]
    assert info.chosen_by == "rate 0.1" and 0 < info.threshold < 1
    assert training["validation"]["positive_rate"] == pytest.approx(0.1, abs=0.02)
    assert set(info.thresholds) == {"0.01", "0.05", "0.1", "0.2"}
    assert set(info.held_out["signals"]) == {"router", "entropy", "margin"}
    assert set(info.held_out) >= {"recall", "positive_rate", "steps", "divergent", "by_rate"}
    assert not found.router.training
    everything = R2RLabels.load(labels())
    assert info.labels == everything.manifest.described()


def test_a_test_part_without_divergent_tokens_has_undefined_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The card once multiplied the missing recall by 100: a traceback after all of the training."""
    everything = R2RLabels.load(labels())
    _, held_out = everything.split(0.4)
    tested = {text.problem_id for text in split_by_question(held_out, 0.5, R2RError)[1]}
    texts = [
        replace(text, verdicts=torch.full_like(text.verdicts, IDENTICAL))
        if text.problem_id in tested
        else text
        for text in everything
    ]
    folder, out = tmp_path / "labels", tmp_path / "router"
    folder.mkdir()
    write_labels(folder, everything.manifest, texts)
    main(train_arguments(folder, out, "--epochs", "1"))
    printed = capsys.readouterr().out
    assert f"on {len(tested)} further problems: recall undefined at a positive rate of " in printed
    assert "recall at positive rate | undefined at " in (out / "README.md").read_text()
    signals = load(out).info.held_out["signals"]
    assert {value for signal in signals.values() for value in signal.values()} == {None}


def test_the_shipped_router_is_small_and_of_the_shipped_pair() -> None:
    folder = embedded_path("embedded/r2r")
    found = load(folder)
    assert found.info.teacher == model_fingerprint(model("embedded/teacher"))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    assert found.info.labels["validation"]["kappa"] > 0.5
    signals = found.info.held_out["signals"]
    assert signals["router"]["recall@0.1"] > signals["entropy"]["recall@0.1"]
    assert (folder / "README.md").read_text() == router_card(found.info)


def test_the_card_has_the_published_shares_and_the_check_by_answers() -> None:
    """Both were in the terminal alone, so a published router came without them."""
    info = load(embedded_path("embedded/r2r")).info
    card = router_card(info)
    assert "| identical / neutral / divergent | 93.6 / 3.8 / 2.6 % |" in card
    assert "| the same in R2R's paper (32B and 1.5B) | 89.0 / 6.0 / 5.0 % |" in card
    assert "| rule against the final answers | agreement 0.992, kappa 0.984 (n = 1288 mismatches) |" in card
    for validation in (None, {"mismatches": 0.0, "agreement": float("nan"), "kappa": float("nan")}):
        unchecked = replace(info, labels={**info.labels, "validation": validation})
        assert "| rule against the final answers | not compared |" in router_card(unchecked)


# ---------------------------------------------------------------- what is refused


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(router(), tmp_path / "router"))


def test_a_router_of_another_student_tokenizer_or_width_is_refused(copied: Path) -> None:
    base, vocabulary = model_fingerprint(model(STUDENT)), vocabulary_hash(tokenizer())
    for given, what in (
        (("x", vocabulary, 64), "student"),
        ((base, "x", 64), "tokenizer"),
        ((base, vocabulary, 65), "hidden size"),
    ):
        with pytest.raises(R2RError, match=rf"^router={copied}: it was made for another {what} \(expected"):
            load_router(copied, *given)
    with pytest.raises(R2RError, match=r"it was made for another teacher \(expected .*, of embedded/teacher"):
        load(copied).require_teacher("x")
    load(copied).require_teacher(None)


def test_a_damaged_router_is_refused(copied: Path, tmp_path: Path) -> None:
    weights = load_file(copied / "router.safetensors")
    save_file({**weights, "mix.0.weight": weights["mix.0.weight"][:3].clone()}, copied / "router.safetensors")
    with pytest.raises(R2RError, match=r"its network has another size than r2r.json names \(mix.0.wei"):
        load(copied)
    (copied / "router.safetensors").write_bytes(b"cut off")
    with pytest.raises(R2RError, match=r"is damaged .* train it anew"):
        load(copied)
    settings = json.loads((copied / "r2r.json").read_text())
    (copied / "r2r.json").write_text(json.dumps({**settings, "threshold": "high"}))
    with pytest.raises(R2RError, match=r"r2r.json cannot be read \(threshold: expected a finite number"):
        load(copied)
    with pytest.raises(R2RError, match=r"expected a folder of `s2t-eval r2r train` with r2r.json"):
        load(tmp_path)


def test_labels_of_another_student_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tiny_folder(tmp_path / "other")
    given = train_arguments(labels(), tmp_path / "out")
    given[given.index(STUDENT)] = str(other)
    line = refusal(capsys, given)
    assert line.startswith("s2t-eval r2r train: --labels: it was made for another student (expected ")
    assert "run `s2t-eval r2r label` with this student" in line


def test_a_folder_that_is_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--out" in refusal(capsys, train_arguments(labels(), router()))
