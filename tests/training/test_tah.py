"""Think-at-Hard in training: labels, both stages, the folder, resuming, held-out metrics."""

from __future__ import annotations

import copy
import functools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from s2t_eval.artifacts.figures import without_nan
from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.engine import ModelRunner
from s2t_eval.methods.tah.checkpoint import load_tah
from s2t_eval.methods.tah.decider import Decider, vote
from s2t_eval.methods.tah.settings import DeciderSettings, LoopedSettings, TahError
from s2t_eval.training import loop as loop_module
from s2t_eval.training.loop import Loop, TrainingError, TrainingResult
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.student import Student
from s2t_eval.training.tah.decider_training import train_decider
from s2t_eval.training.tah.depth_training import train_depths
from s2t_eval.training.tah.held_out_metrics import decider_metrics, depth_metrics
from s2t_eval.training.tah.labels import LabelledText, TahLabels, TahManifest, label_hard_tokens
from s2t_eval.training.tah.looped import LoopedModel, TokenIndices, iterate_depths
from s2t_eval.training.tah.objectives import (
    DeciderTraining,
    DepthTraining,
    StageItem,
    collate,
    make_item,
    oracle_depth_outputs,
)
from s2t_eval.training.tah.plain_tuning import PlainTraining, train_plain
from s2t_eval.training.tah.settings import DecisionSettings, DepthSettings
from s2t_eval.training.tah.stages import stage_record
from tests.methods.test_tah_decoding import adapted
from tests.twins import VOCAB, tiny_model

# peft asks for it; to be removed once peft does not.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

QUICK = LoopSettings(epochs=2, lr=5e-3, batch_size=4, accumulate=1, clip=1.0, evaluations=1)
TINY = DeciderSettings(width=16, blocks=1)


@functools.cache
def unlabelled(count: int = 24) -> tuple[LabelledText, ...]:
    """Greedy texts of the student, except that every fourth token is its predecessor plus one."""
    model = tiny_model("llama", seed=0)
    ids = torch.arange(4 * count).reshape(count, 4) * 5 % VOCAB
    for step in range(13):
        with torch.no_grad():
            argmax = model(ids).logits[:, -1].argmax(-1)
        token = (ids[:, -1] + 1) % VOCAB if step % 4 == 1 else argmax
        ids = torch.cat([ids, token[:, None]], 1)
    return tuple(LabelledText(f"made/{i}", f"q{i}", row[:4], row[4:]) for i, row in enumerate(ids.tolist()))


def student(seed: int = 0, hidden_size: int = 64) -> Student:
    model = tiny_model("llama", seed=seed, hidden_size=hidden_size)
    return Student(model, "tiny", model_fingerprint(model), "words", VOCAB)


def in_bfloat16() -> Student:
    """The student in another dtype, with the same fingerprint."""
    base = student()
    base.model.to(torch.bfloat16)
    return base


def labels_for(base: Student, texts: Sequence[LabelledText], vocabulary: str = "words") -> TahLabels:
    labelled = list(label_hard_tokens(ModelRunner(copy.deepcopy(base.model)), texts, batch_size=5))
    steps = sum(len(text.hard) for text in labelled)
    hard = sum(sum(text.hard) for text in labelled)
    data = {"source": "made", "texts": len(labelled)}
    return TahLabels(TahManifest(base.fingerprint, base.name, vocabulary, data, {}, steps, hard), labelled)


@pytest.fixture(scope="module")
def labels() -> TahLabels:
    return labels_for(student(), unlabelled())


@pytest.fixture(scope="module")
def folder(labels: TahLabels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of both stages, trained briefly."""
    out = tmp_path_factory.mktemp("tah") / "tah"
    train_depths(
        student(), labels, LoopedSettings(rank=4, dropout=0.0), QUICK, DepthSettings(easy_fraction=0.2), out
    )
    train_decider(student(), labels, TINY, QUICK, DecisionSettings(decoding_threshold=0.7), out)
    return out


def some_items(labels: TahLabels, count: int = 6) -> list[StageItem]:
    return [make_item(text, 1.0) for text in labels.texts[:count]]


# ---------------------------------------------------------------- labels


def test_labels_are_their_definition(labels: TahLabels) -> None:
    model = tiny_model("llama", seed=0)
    for text in labels.texts[:5]:
        for t, (token, hard) in enumerate(zip(text.output_ids, text.hard, strict=True)):
            ids = torch.tensor([[*text.prompt_ids, *text.output_ids[:t]]])
            with torch.no_grad():
                assert hard == (int(model(ids).logits[0, -1].argmax()) != token)


def test_labels_are_read_as_written_and_split_by_question(labels: TahLabels, tmp_path: Path) -> None:
    labels.save(tmp_path / "labels")
    loaded = TahLabels.load(tmp_path / "labels")
    assert loaded.texts == labels.texts
    assert loaded.manifest == labels.manifest
    train, held_out = loaded.split(0.25)
    assert len(held_out) == 6
    assert not {text.question_hash for text in train} & {text.question_hash for text in held_out}


def test_a_text_of_the_student_itself_has_nothing_hard() -> None:
    model = tiny_model("llama", seed=0)
    ids = torch.tensor([[5, 6, 7]])
    generated = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=9, do_sample=False, pad_token_id=0
    )
    text = LabelledText("made/0", "q", [5, 6, 7], generated[0, 3:].tolist())
    [labelled] = label_hard_tokens(ModelRunner(model), [text])
    assert not any(labelled.hard)


# ---------------------------------------------------------------- stage 1


def test_stage_1_loss_is_its_definition(labels: TahLabels) -> None:
    """The slow twin runs one second pass for each hard token, in order, one text at a time."""
    peft = adapted("llama").float().eval()
    looped = LoopedModel(peft, LoopedSettings(top_n=20), VOCAB).eval()
    items = some_items(labels)
    loss = DepthTraining(looped)(collate(items, torch.device("cpu"))).loss
    expected = 0.0
    for item in items:
        batch = collate([item], torch.device("cpu"))
        with torch.no_grad():
            hidden, _, cache = looped.first_pass(batch.ids)
            for step, hard in enumerate(item.hard.tolist()):
                position = item.prompt_length - 1 + step
                first = looped.logits(hidden[0, position : position + 1])
                if hard:  # one at a time, in order: each attends to the deeper slots before it
                    at = TokenIndices(torch.tensor([0]), torch.tensor([position]))
                    states, _ = looped.deeper_pass(cache, looped.mixed_embeddings(first), at, 1)
                    total = first + looped.logits(states)
                    expected += float(torch.nn.functional.cross_entropy(total, item.ids[[position + 1]]))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-3)


def test_stage_1_trains_the_adapter_alone(labels: TahLabels) -> None:
    looped = LoopedModel(tiny_model("llama", seed=0), LoopedSettings(rank=4), VOCAB)
    stage = DepthTraining(looped, easy_fraction=0.5)
    stage(collate(some_items(labels), torch.device("cpu"))).loss.backward()
    touched = {name for name, p in stage.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert touched
    assert all("lora_B" in name for name in touched)  # A has no gradient while B is zero


def test_stage_1_with_the_base_is_also_plain_tuning(labels: TahLabels) -> None:
    """Where nothing is hard, the loss and its gradient are those of the plain student."""
    texts = [
        LabelledText(t.problem_id, t.question_hash, t.prompt_ids, t.output_ids, [False] * 13)
        for t in labels.texts
    ]
    items = [make_item(text, 13.0) for text in texts[:5]]
    batch = collate(items, torch.device("cpu"))
    looped = LoopedModel(tiny_model("llama", seed=0), LoopedSettings(rank=4, train_base=True), VOCAB)
    loss = DepthTraining(looped)(batch).loss
    loss.backward()
    plain = tiny_model("llama", seed=0)
    logits = plain(batch.ids).logits
    expected = torch.nn.functional.cross_entropy(
        logits[batch.steps], batch.next_ids[batch.steps], reduction="sum"
    )
    expected.backward()
    torch.testing.assert_close(loss, expected)
    gradient = looped.peft.get_base_model().get_input_embeddings().weight.grad
    torch.testing.assert_close(gradient, plain.get_input_embeddings().weight.grad)


def test_a_batch_without_a_hard_token_has_a_loss_of_zero(labels: TahLabels) -> None:
    looped = LoopedModel(tiny_model("llama", seed=0), LoopedSettings(rank=4), VOCAB)
    text = labels.texts[0]
    easy = LabelledText("a", "q", text.prompt_ids, text.output_ids, [False] * len(text.output_ids))
    loss = DepthTraining(looped)(collate([make_item(easy, 1.0)], torch.device("cpu"))).loss
    loss.backward()
    assert float(loss.detach()) == 0


def test_training_lowers_the_loss_and_corrects_hard_tokens(folder: Path) -> None:
    info = load_tah(folder, student().fingerprint, "words", 64).info
    history = info.training["stage-1"]["history"]
    assert info.training["stage-1"]["best_step"] > 0
    # Easy tokens that were trained on did not count, so that a step was kept at which they were still wrong.
    assert info.training["stage-1"]["held_out"]["loss"] == pytest.approx(
        min(entry["loss"] for entry in history), rel=1e-4
    )
    assert history[-1]["nll"] < history[0]["nll"] - 0.2
    assert info.training["stage-1"]["held_out"]["corrected"] > history[0]["corrected"]
    assert info.training["stage-1"]["held_out"]["hard@1"] == 0
    assert info.training["stage-1"]["held_out"]["easy@1"] == 1


# ---------------------------------------------------------------- stage 2


def test_a_stage_whose_average_was_kept_says_so(labels: TahLabels) -> None:
    """Its record named the last step as the best, whose weights were not those of the folder."""
    average = {"step": 4, "averaged": 2, "nll": 0.5}
    result = TrainingResult(4, 4, [{"step": 0, "nll": 2.0}, {"step": 4, "nll": 1.0}, average], False, 2)
    record = stage_record(result, {"stage": 1}, QUICK, labels.texts, {"nll": 0.5})
    assert (record["best_step"], record["averaged"]) == (4, 2) and result.best == average


def test_stage_2_trains_the_decider_alone(labels: TahLabels) -> None:
    looped = LoopedModel(adapted("llama").float(), LoopedSettings(top_n=20), VOCAB)
    looped.read_layers((0, 1))
    stage = DeciderTraining(looped, Decider(64, 2, 20, TINY))
    stage.train()
    assert not looped.training
    stage(collate(some_items(labels), torch.device("cpu"))).loss.backward()
    assert all(p.grad is not None for p in stage.parameters())
    assert all(p.grad is None for p in looped.parameters())


def test_stage_2_loss_is_its_definition(labels: TahLabels) -> None:
    looped = LoopedModel(adapted("llama").float(), LoopedSettings(top_n=20), VOCAB)
    looped.read_layers((0, 2))
    decider = Decider(64, 2, 20, TINY).eval()
    items = some_items(labels)
    loss = DeciderTraining(looped, decider, positive_weight=3.0)(collate(items, torch.device("cpu"))).loss
    plain = tiny_model("llama", seed=0)
    expected = 0.0
    for item in items:
        with torch.no_grad():
            output = plain(item.ids[None], output_hidden_states=True)
            for step, hard in enumerate(item.hard.tolist()):
                position = item.prompt_length - 1 + step
                # hidden_states[0] are the embeddings; the last one is normalised, so layer 2 is read apart.
                read = [output.hidden_states[1][0, position], _third_layer(plain, item.ids)[position]]
                odds = vote(decider, torch.cat(read)[None], output.logits[:, position], 20)
                p = odds.sigmoid().item()
                expected += -3 * torch.tensor(p).log().item() if hard else -torch.tensor(1 - p).log().item()
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-3)


def _third_layer(model: torch.nn.Module, ids: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = model.model.layers[2].register_forward_hook(lambda *arguments: seen.append(arguments[2]))  # type: ignore[union-attr]
    model(ids[None])
    handle.remove()
    return seen[0][0]


def test_deeper_tokens_continue_while_the_argmax_is_wrong(labels: TahLabels) -> None:
    looped = LoopedModel(adapted("llama").float(), LoopedSettings(max_depth=3, top_n=20), VOCAB)
    looped.read_layers((0,))
    batch = collate(some_items(labels), torch.device("cpu"))
    first, second, third = oracle_depth_outputs(looped, batch)
    assert torch.equal(first.continues, batch.hard[batch.steps])
    assert torch.equal(second.continues, second.logits.argmax(-1) != batch.targets(second.tokens))
    assert len(third.tokens.texts) == int(second.continues.sum()) > 0
    assert not third.continues.any()


# ---------------------------------------------------------------- held-out metrics


def test_depth_metrics_are_their_definition(labels: TahLabels) -> None:
    """A second pass of each token separately, with those of the hard tokens before it.

    Every fifth label is turned round: otherwise the hard tokens are those that are wrong after one pass.
    """
    looped = LoopedModel(adapted("llama").float(), LoopedSettings(top_n=20), VOCAB).eval()
    items = [item._replace(hard=item.hard ^ (torch.arange(13) % 5 == 0)) for item in some_items(labels, 3)]
    rows = []
    for item in items:
        batch = collate([item], torch.device("cpu"))
        for step, is_hard in enumerate(item.hard.tolist()):
            position = item.prompt_length - 1 + step
            context = [item.prompt_length - 1 + t for t in range(step) if item.hard[t]]
            steps = torch.zeros_like(batch.steps)
            steps[0, [*context, position]] = True
            with torch.no_grad():
                passes = list(
                    iterate_depths(looped, batch.ids, steps, lambda d, at, t, s: torch.ones(len(t)).bool())
                )
            assert [int(one.tokens.positions[-1]) for one in passes] == [position] * 2
            target = int(item.ids[position + 1])
            first, second = (one.logits[-1] for one in passes)
            nll_1, nll_2 = (-float(logits.log_softmax(-1)[target]) for logits in (first, second))
            nll, loss = (nll_2, nll_2) if is_hard else (nll_1, 0.7 * nll_1 + 0.3 * nll_2)
            rows.append((is_hard, int(first.argmax()) == target, int(second.argmax()) == target, loss, nll))
    hard, right_1, right_2 = (np.array(column) for column in list(zip(*rows, strict=True))[:3])
    assert (right_1 & hard).any() and (~right_1 & ~hard).any() and (right_1 != right_2).any()
    expected = pytest.approx(
        {
            "hard@1": right_1[hard].mean(),
            "hard@2": right_2[hard].mean(),
            "easy@1": right_1[~hard].mean(),
            "easy@2": right_2[~hard].mean(),
            "corrected": right_2[~right_1].mean(),
            "overthought": 1 - right_2[right_1].mean(),
            "oracle": np.where(hard, right_2, right_1).mean(),
            "nll": np.mean([row[-1] for row in rows]),
            "tokens": 39,
        },
        rel=1e-4,
    )
    assert depth_metrics(looped, items) == expected
    with_easy = depth_metrics(looped, items, 0.3)
    assert with_easy.pop("loss") == pytest.approx(np.mean([row[-2] for row in rows]), rel=1e-4)
    assert with_easy == expected


def test_decider_metrics_at_the_extremes(labels: TahLabels) -> None:
    looped = LoopedModel(adapted("llama").float(), LoopedSettings(top_n=20), VOCAB).eval()
    looped.read_layers((0,))
    decider = Decider(64, 1, 20, TINY).eval()
    items = some_items(labels)
    never, always = (decider_metrics(looped, decider, items, threshold) for threshold in (1.0, 0.0))
    assert (never["continue_rate"], never["mean_depth"]) == (0, 1)
    assert (always["continue_rate"], always["mean_depth"], always["recall"]) == (1, 2, 1)
    hard = torch.cat([item.hard for item in items]).float().mean()
    assert never["accuracy"] == pytest.approx(1 - float(hard))
    assert always["precision"] == pytest.approx(float(hard))
    assert never["auroc"] == always["auroc"]


def test_decider_metrics_between_the_extremes_are_their_definition(labels: TahLabels) -> None:
    """Of half of the tokens that continue, by hand; AUROC over all pairs of a hard and an easy token."""
    looped = LoopedModel(adapted("llama").float(), LoopedSettings(top_n=20), VOCAB).eval()
    looped.read_layers((0,))
    decider = Decider(64, 1, 20, TINY).eval()
    items = some_items(labels)
    odds = []
    for item in items:
        first, *_ = oracle_depth_outputs(looped, collate([item], torch.device("cpu")))
        assert first.layer_outputs is not None
        odds += vote(decider, first.layer_outputs, first.logits, 20).sigmoid().tolist()
    hard = torch.cat([item.hard for item in items]).numpy()
    lower, upper = sorted(odds)[len(odds) // 2 - 1 : len(odds) // 2 + 1]
    continues = np.array(odds) > (lower + upper) / 2
    metrics = decider_metrics(looped, decider, items, (lower + upper) / 2)
    assert metrics["recall"] == pytest.approx(continues[hard].mean()) and 0 < metrics["recall"] < 1
    assert metrics["precision"] == pytest.approx(hard[continues].mean())
    assert metrics["precision"] != pytest.approx(metrics["recall"], abs=0.01)
    assert (metrics["continue_rate"], metrics["mean_depth"]) == pytest.approx((0.5, 1.5))
    pairs = [(a > b) + (a == b) / 2 for a in np.array(odds)[hard] for b in np.array(odds)[~hard]]
    assert metrics["auroc"] == pytest.approx(np.mean(pairs), abs=1e-3)


# ---------------------------------------------------------------- the folder


def test_both_stages_record_the_dtype_that_a_resumed_run_must_have(folder: Path) -> None:
    training = load_tah(folder, student().fingerprint, "words", 64).info.training
    settings = [training[stage]["settings"] for stage in ("stage-1", "stage-2")]
    assert [entry["student_dtype"] for entry in settings] == ["torch.float32"] * 2


def test_folder_gives_back_what_was_trained(folder: Path) -> None:
    base = student()
    loaded = load_tah(folder, base.fingerprint, "words", 64)
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "decider.safetensors", "tah.json",
    }  # fmt: skip
    num_texts = len(unlabelled())
    trained = f"| trained on | {loaded.info.training['stage-1']['texts']} of them |"
    card = (folder / "README.md").read_text()  # said once that all of them were trained on
    assert f"| labelled | {num_texts} texts of made, " in card and trained in card
    assert loaded.info.training["stage-1"]["texts"] < num_texts
    assert loaded.info.threshold == 0.7
    assert loaded.info.decider is not None and loaded.info.decider.layers == (0, 1)
    peft = loaded.attach(base.model)
    assert isinstance(peft, PeftModel)
    stored = loaded.info.training["stage-2"]["held_out"]
    looped = LoopedModel(peft, loaded.info.looped, VOCAB)
    looped.read_layers(loaded.info.decider.layers)
    _, held_out = labels_for(student(), unlabelled()).split(0.1)
    assert loaded.decider is not None
    metrics = decider_metrics(looped, loaded.decider, [make_item(text, 1.0) for text in held_out], 0.8)
    assert without_nan(metrics) == pytest.approx(stored)
    with torch.no_grad(), peft.disable_adapter():
        ids = torch.tensor([[1, 2, 3]])
        torch.testing.assert_close(peft(ids).logits, tiny_model("llama", seed=0)(ids).logits)


def test_a_trained_base_travels_with_the_folder(labels: TahLabels, tmp_path: Path) -> None:
    base = student()
    settings = LoopedSettings(rank=4, dropout=0.0, train_base=True)
    train_depths(base, labels, settings, QUICK, DepthSettings(), tmp_path / "tah")
    fresh = student()
    peft = load_tah(tmp_path / "tah", fresh.fingerprint, "words", 64).attach(fresh.model)
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad(), peft.disable_adapter():
        now = peft(ids).logits
        before = tiny_model("llama", seed=0)(ids).logits
        trained = next(p for n, p in base.model.named_parameters() if n == "model.embed_tokens.weight")
    assert not torch.allclose(now, before)
    torch.testing.assert_close(peft.get_base_model().model.embed_tokens.weight, trained)


def test_stage_2_leaves_the_weights_of_stage_1_as_they_are(labels: TahLabels, tmp_path: Path) -> None:
    """A base that stage 1 had trained in float32 was written back in the dtype of stage 2, bfloat16, over
    the only copy."""
    settings = LoopedSettings(rank=4, dropout=0.0, train_base=True)
    loop = replace(QUICK, epochs=1, lr=1e-3)
    train_depths(student(), labels, settings, loop, DepthSettings(), tmp_path / "tah")
    names = ("base.safetensors", "adapter_model.safetensors", "adapter_config.json")
    before = {name: (tmp_path / "tah" / name).read_bytes() for name in names}
    train_decider(in_bfloat16(), labels, TINY, loop, DecisionSettings(), tmp_path / "tah")
    assert {name: (tmp_path / "tah" / name).read_bytes() for name in names} == before
    fresh = student()
    loaded = load_tah(tmp_path / "tah", fresh.fingerprint, "words", 64)
    loaded.attach(fresh.model)
    assert loaded.decider is not None


def test_a_base_of_low_precision_is_trained_in_float32(labels: TahLabels, tmp_path: Path) -> None:
    """In bfloat16, updates below half of the last digit were rounded away and the base hardly learnt."""
    base = in_bfloat16()
    before = {name: p.detach().clone() for name, p in base.model.named_parameters()}
    settings = LoopedSettings(rank=4, dropout=0.0, train_base=True)
    loop = LoopSettings(
        epochs=8,
        lr=2e-5,
        schedule="constant",
        lr_warmup_fraction=0.0,
        batch_size=4,
        accumulate=1,
        evaluations=1,
    )
    train_depths(base, labels, settings, loop, DepthSettings(easy_fraction=1.0), tmp_path / "tah")
    saved = load_file(tmp_path / "tah" / "base.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.bfloat16}
    name = next(name for name in saved if name.endswith("mlp.down_proj.weight"))
    is_large = before[name].abs() > 0.02  # 2e-5 is less than half of their last digit
    assert (saved[name] != before[name])[is_large].float().mean() > 0.3


def test_an_interrupted_run_is_resumed_to_the_same_end(
    labels: TahLabels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, depths = LoopedSettings(rank=4), DepthSettings(easy_fraction=0.3)
    loop = LoopSettings(epochs=2, lr=5e-3, batch_size=4, accumulate=1, evaluations=2)
    train_depths(student(), labels, settings, loop, depths, tmp_path / "whole")
    optimize, calls = loop_module.Loop._optimize, iter(range(99))

    def interrupt(self: Loop) -> float:  # type: ignore[type-arg]
        if next(calls) == 4:
            raise KeyboardInterrupt
        return optimize(self)

    with monkeypatch.context() as broken:
        broken.setattr(loop_module.Loop, "_optimize", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_depths(student(), labels, settings, loop, depths, tmp_path / "resumed")
    assert not (tmp_path / "resumed").exists()
    with pytest.raises(TrainingError, match=r"checkpoints of another run \(its settings differ\)"):
        train_depths(
            student(), labels, settings, loop, DepthSettings(easy_fraction=0.1), tmp_path / "resumed"
        )
    with pytest.raises(TrainingError, match=r"another run \(its student_dtype differ\)"):
        train_depths(in_bfloat16(), labels, settings, loop, depths, tmp_path / "resumed")
    train_depths(student(), labels, settings, loop, depths, tmp_path / "resumed")
    whole, resumed = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "resumed")
    )
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value)


def test_stage_2_takes_the_held_out_texts_of_stage_1(folder: Path, labels: TahLabels, tmp_path: Path) -> None:
    """Other texts may have been trained on in stage 1, and were shown and chosen by as held out."""
    shutil.copytree(folder, tmp_path / "tah")
    decisions = DecisionSettings(held_out=0.4)
    with pytest.raises(
        TahError, match=r"with --held_out 0\.1, got labels \w+ with 0\.4, so texts that are held"
    ):
        train_decider(student(), labels, TINY, QUICK, decisions, tmp_path / "tah")
    fewer = labels_for(student(), unlabelled(20))
    with pytest.raises(TahError, match=r"give the same labels and --held_out$"):
        train_decider(student(), fewer, TINY, QUICK, DecisionSettings(), tmp_path / "tah")


def test_plain_tuning_resumes_with_its_own_held_out_texts_alone(
    labels: TahLabels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went on with another share held out, and chose by texts that it had been trained on."""

    def interrupt(self: Loop) -> float:  # type: ignore[type-arg]
        raise KeyboardInterrupt

    settings = LoopedSettings(rank=4)
    with monkeypatch.context() as broken:
        broken.setattr(loop_module.Loop, "_optimize", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_plain(student(), labels, settings, QUICK, DepthSettings(held_out=0.1), tmp_path / "plain")
    with pytest.raises(TrainingError, match=r"checkpoints of another run \(its settings differ\)"):
        train_plain(student(), labels, settings, QUICK, DepthSettings(held_out=0.4), tmp_path / "plain")
    with pytest.raises(TrainingError, match=r"another run \(its student_dtype differ\)"):
        train_plain(in_bfloat16(), labels, settings, QUICK, DepthSettings(held_out=0.1), tmp_path / "plain")


def test_plain_tuning_is_cross_entropy(labels: TahLabels) -> None:
    looped = LoopedModel(adapted("llama").float(), LoopedSettings(), VOCAB).eval()
    batch = collate(some_items(labels), torch.device("cpu"))
    loss = PlainTraining(looped)(batch).loss
    logits = looped.peft(input_ids=batch.ids).logits
    expected = torch.nn.functional.cross_entropy(
        logits[batch.steps], batch.next_ids[batch.steps], reduction="sum"
    )
    torch.testing.assert_close(loss, expected)


# ---------------------------------------------------------------- bad input


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to be damaged."""
    copied = tmp_path / "tah"
    shutil.copytree(folder, copied)
    return copied


def test_a_decider_of_another_width(damaged: Path) -> None:
    weights = load_file(damaged / "decider.safetensors")
    weights["odds.weight"] = torch.zeros(1, 17)
    save_file(weights, damaged / "decider.safetensors")
    message = (
        r"^tah=.*: its decider has another width than tah\.json says \(odds\.weight is \(1, 17\), expected"
    )
    with pytest.raises(TahError, match=message):
        load_tah(damaged, student().fingerprint, "words", 64)


def test_a_folder_of_another_student(folder: Path) -> None:
    with pytest.raises(TahError, match=r"made for another base model \(expected \w+, of tiny, got \w+\)"):
        load_tah(folder, student(seed=3).fingerprint, "words", 64)
    with pytest.raises(TahError, match=r"made for another hidden size \(expected 64, of tiny, got 48\)"):
        load_tah(folder, student().fingerprint, "words", 48)
    with pytest.raises(
        TahError, match=r"made for another tokenizer \(expected words, of tiny, got letters\)"
    ):
        load_tah(folder, student().fingerprint, "letters", 64)


def test_an_adapter_of_another_base(damaged: Path) -> None:
    """The manifest names this student, but the adapter has other shapes. The message named no reason: it was
    the first line of torch's alone, which says that there are errors."""
    weights = {k: torch.zeros(*v.shape, 2)[..., 0][..., :-1].contiguous() if "lora_A" in k else v
               for k, v in load_file(damaged / "adapter_model.safetensors").items()}  # fmt: skip
    save_file(weights, damaged / "adapter_model.safetensors", {"format": "pt"})
    base = student()
    with pytest.raises(TahError, match=r"its adapter cannot be loaded \(Error.* size mismatch for .*lora_A"):
        load_tah(damaged, base.fingerprint, "words", 64).attach(base.model)


def test_folders_that_are_none(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(TahError, match=r"expected a folder of `s2t-eval tah train` with tah\.json"):
        load_tah(tmp_path, "x", "words", 64)
    (damaged / "decider.safetensors").write_bytes(b"broken")
    with pytest.raises(TahError, match=r"is damaged \(.*\); train it anew"):
        load_tah(damaged, student().fingerprint, "words", 64)
    content = json.loads((damaged / "tah.json").read_text())
    (damaged / "tah.json").write_text(json.dumps({**content, "format": 9}))
    with pytest.raises(TahError, match=r"its tah\.json has format 9, expected 1"):
        load_tah(damaged, student().fingerprint, "words", 64)


def test_labels_of_another_tokenizer(folder: Path, tmp_path: Path) -> None:
    foreign = labels_for(student(), unlabelled(6), vocabulary="letters")
    message = (
        r"^labels: it was made for another tokenizer \(expected letters, of tiny, got words\); run `s2t-eval"
    )
    with pytest.raises(TahError, match=message):
        train_depths(student(), foreign, LoopedSettings(), QUICK, DepthSettings(), tmp_path / "x")
    with pytest.raises(TahError, match=message):
        train_decider(student(), foreign, TINY, QUICK, DecisionSettings(), folder)


def test_labels_that_are_damaged(labels: TahLabels, tmp_path: Path) -> None:
    with pytest.raises(TahError, match=r"expected a folder of `s2t-eval tah label` with manifest\.json"):
        TahLabels.load(tmp_path)
    text = labels.texts[0]
    wrong = LabelledText(text.problem_id, text.question_hash, text.prompt_ids, text.output_ids, [True])
    TahLabels(labels.manifest, [labels.texts[1], wrong]).save(tmp_path / "labels")
    with pytest.raises(TahError, match=r"labels\.parquet, row 1 \(made/0\): expected a prompt, a text"):
        TahLabels.load(tmp_path / "labels")


def test_labels_with_nothing_to_learn(labels: TahLabels, tmp_path: Path) -> None:
    easy = [
        LabelledText(t.problem_id, t.question_hash, t.prompt_ids, t.output_ids, [False] * 13)
        for t in labels.texts
    ]
    with pytest.raises(
        TahError, match=r"^labels: no token is hard on one side of the split; label more texts"
    ):
        train_depths(
            student(),
            TahLabels(labels.manifest, easy),
            LoopedSettings(),
            QUICK,
            DepthSettings(),
            tmp_path / "x",
        )
    with pytest.raises(TahError, match=r"^labels: 1 different questions cannot be split"):
        TahLabels(labels.manifest, labels.texts[:1]).split(0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LoopedSettings(max_depth=0), r"^max_depth: expected a whole number of at least 1, got 0$"),
        (lambda: LoopedSettings(max_depth=True), r"^max_depth: .* at least 1, got True$"),
        (lambda: LoopedSettings(rank=0), r"^rank: expected at least 1, got 0$"),
        (lambda: DeciderSettings(width=0), r"^width: expected at least 1, got 0$"),
        (lambda: DeciderSettings(layers=(0, 4)).layers_of(4), r"^layers: .* from 0 to 3, got 4$"),
        (lambda: DepthSettings(easy_fraction=1.5), r"^easy_fraction: .* from 0 to 1, got 1\.5$"),
        (lambda: DecisionSettings(eval_threshold=1.2), r"^eval_threshold: expected a probab.*, got 1\.2$"),
        (lambda: DecisionSettings(positive_weight=0), r"^positive_weight: expected a number above 0, got 0$"),
    ],
)  # fmt: skip
def test_settings_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TahError, match=message):
        make()


def test_depth_one_cannot_be_trained(labels: TahLabels, tmp_path: Path) -> None:
    with pytest.raises(
        TahError, match=r"^max_depth: expected at least 2, because stage 1 trains the second pass, got 1$"
    ):
        train_depths(student(), labels, LoopedSettings(max_depth=1), QUICK, DepthSettings(), tmp_path / "x")


def test_more_tokens_mixed_than_the_vocabulary_has(labels: TahLabels, tmp_path: Path) -> None:
    """`--top_n 5000` was once reduced to the vocabulary without a message."""
    message = rf"^top_n: expected at most the vocabulary of {VOCAB} tokens, got 5000$"
    with pytest.raises(TahError, match=message):
        train_depths(student(), labels, LoopedSettings(top_n=5000), QUICK, DepthSettings(), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_the_papers_layers_are_the_default() -> None:
    assert DeciderSettings().layers_of(28) == (0, 7, 13, 20, 26)
    assert DeciderSettings().layers_of(1) == (0,)
