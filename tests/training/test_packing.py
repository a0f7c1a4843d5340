"""Packed trajectories give the scores, gradients and regularizer of separate sequences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from s2t_eval.selection.readout import Readout
from s2t_eval.selection.scores import Evidence
from s2t_eval.training.labels import LabelError, Trajectory
from s2t_eval.training.selector.losses import LOSSES, cross_entropy, listwise_kl, ranknet
from s2t_eval.training.selector.model import SelectorModel, SelectorSettings
from s2t_eval.training.selector.packing import Item, make_items
from tests.twins import VOCAB, tiny_model

K = 5


def items(count: int = 3) -> list[Item]:
    """Texts longer than the tiny models' window, with groups at their first and last steps too."""
    generator = torch.Generator().manual_seed(2)
    made = []
    for i in range(count):
        prompt, steps = 3 + i, 14 + 3 * i
        at = torch.tensor([0, 4, 9, steps - 1])
        shape = (len(at), K)
        log_probs = torch.randn(2, *shape, generator=generator).log_softmax(-1)
        candidates = torch.stack([torch.randperm(VOCAB, generator=generator)[:K] for _ in at])
        ids = torch.randint(0, VOCAB, (prompt + steps,), generator=generator)
        made.append(Item(ids, prompt, at, candidates, log_probs[0], log_probs[1], f"item {i}"))
    return made


def selector(family: str, **settings: object) -> SelectorModel:
    torch.manual_seed(0)
    base = tiny_model(family, seed=0)
    selector_settings = SelectorSettings(rank=4, alpha=8, bins=6, **settings)  # type: ignore[arg-type]
    rows = torch.randn(6, base.config.hidden_size)
    model = SelectorModel(base, selector_settings, VOCAB - 20, readout=rows)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def separate_scores(model: SelectorModel, item: Item) -> Tensor:
    """Every candidate with its whole prefix as a sequence of its own, [groups, K]."""
    inner = model.peft.get_base_model()
    rows = []
    for step, candidates, log_probs in zip(item.steps, item.candidates, item.student_log_probs, strict=True):
        prefix = item.text_ids[: item.prompt_length + int(step)]
        if model.settings.looks_ahead:
            sequences = [torch.cat([prefix, candidate[None]]) for candidate in candidates]
            states = torch.stack(
                [inner.get_decoder()(ids[None]).last_hidden_state[0, -1] for ids in sequences]
            )
            evidence = Evidence(log_probs, hidden=states)
        else:
            evidence = Evidence(log_probs, own_logits=inner(prefix[None]).logits[0, -1, candidates].float())
        rows.append(model.score.score(evidence))
    return torch.stack(rows)


def gradients(model: SelectorModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("form", ["lookahead", "residual", "direct"])
def test_packed_scores_and_gradients_are_those_of_separate_sequences(family: str, form: str) -> None:
    model = selector(family, form=form, beta=0.0, loss="kl", temperature=0.7)
    examples = items()
    batch = model.pack(examples)
    expected = torch.cat([separate_scores(model, item) for item in examples])
    torch.testing.assert_close(model.scores(batch), expected, atol=2e-4, rtol=2e-4)
    packed = gradients(model, model(batch).loss)
    teacher = torch.cat([item.teacher_log_probs for item in examples])
    slow = gradients(model, listwise_kl(expected, teacher, 0.7).sum())
    assert packed.keys() == slow.keys() and any("lora_A" in name for name in packed)
    for name in packed:
        torch.testing.assert_close(packed[name], slow[name], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("reverse", [False, True])
def test_regularizer_is_the_mean_kl_over_text_tokens(monkeypatch: pytest.MonkeyPatch, reverse: bool) -> None:
    monkeypatch.setattr("s2t_eval.training.chunks.CHUNK", 7)
    model = selector("qwen2", form="lookahead", beta=0.5, reverse=reverse)
    examples = items()
    losses = model(model.pack(examples))
    inner = model.peft.get_base_model()
    kl = []
    for item in examples:
        at = slice(item.prompt_length - 1, len(item.text_ids))
        tuned = inner(item.text_ids[None]).logits[0, at, : VOCAB - 20].log_softmax(-1)
        with torch.no_grad(), model.peft.disable_adapter():
            base = inner(item.text_ids[None]).logits[0, at, : VOCAB - 20].log_softmax(-1)
        p, q = (base, tuned) if reverse else (tuned, base)
        kl.append((p.exp() * (p - q)).sum(-1))
    expected = torch.cat(kl).mean() * 12  # weighted like the batch's twelve groups
    torch.testing.assert_close(losses.regularizer, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(losses.loss, losses.selection + 0.5 * losses.regularizer)
    packed, slow = gradients(model, losses.regularizer), gradients(model, expected)
    for name in slow:
        if "readout" not in name:
            torch.testing.assert_close(packed[name], slow[name], atol=1e-3, rtol=1e-3)


def test_base_weights_and_untrained_scores_are_the_student_s() -> None:
    base = tiny_model("llama", seed=0)
    before = {name: p.clone() for name, p in base.named_parameters()}
    model = SelectorModel(base, SelectorSettings(form="residual", beta=0.0), VOCAB)
    examples = items()
    expected = torch.cat([item.student_log_probs for item in examples])
    torch.testing.assert_close(model.scores(model.pack(examples)), expected)
    model(model.pack(examples)).loss.backward()
    for name, parameter in base.named_parameters():
        if "lora" not in name:
            plain = name.replace(".base_layer", "")
            assert torch.equal(parameter, before[plain]) and parameter.grad is None


def test_the_paper_s_form_begins_with_unused_rows() -> None:
    base = tiny_model("qwen2", seed=0)
    settings = SelectorSettings(form="lookahead", score_as="expected", bins=6)
    unused = base.get_output_embeddings().weight[100:106]
    assert torch.equal(SelectorModel(base, settings, text_vocab=100).readout, unused)
    base = tiny_model("qwen2", seed=0)  # no unused rows: begin with zeros
    assert not SelectorModel(base, settings, text_vocab=VOCAB).readout.any()


# ---------------------------------------------------------------- losses


def test_losses_are_their_definitions() -> None:
    scores = torch.tensor([[0.2, 1.4, -0.3]])
    teacher = torch.tensor([[-2.0, -0.4, -1.2]])
    p, q = teacher.softmax(-1)[0], (scores / 0.5).softmax(-1)[0]
    assert float(cross_entropy(scores, teacher, 0.5)) == pytest.approx(-float(q[1].log()), rel=1e-5)
    expected = float(sum(p[i] * (p[i] / q[i]).log() for i in range(3)))
    assert float(listwise_kl(scores, teacher, 0.5)) == pytest.approx(expected, rel=1e-4)
    total = weight = 0.0
    for i in range(3):
        for j in range(3):
            if p[i] > p[j]:
                w = float(p[i] - p[j])
                total += w * -float(torch.sigmoid((scores[0, i] - scores[0, j]) / 0.5).log())
                weight += w
    assert float(ranknet(scores, teacher, 0.5)) == pytest.approx(total / weight, rel=1e-4)


@pytest.mark.parametrize("name", ["ce", "kl", "ranknet"])
def test_losses_prefer_the_teacher_s_order(name: str) -> None:
    teacher = torch.tensor([[0.0, -1.0, -2.0, -5.0]])
    loss = LOSSES[name]  # type: ignore[index]
    right, wrong = loss(teacher, teacher, 1.0), loss(-teacher, teacher, 1.0)
    assert float(right) < float(wrong)


def test_scores_between_0_and_1_cannot_reach_a_small_loss_at_temperature_1() -> None:
    """The trap of METHODS.md: with K = 16 the softmax mass of the best is at most e / (e + 15)."""
    best = torch.zeros(1, 16)
    best[0, 3] = 1.0
    teacher = torch.full((1, 16), -9.0)
    teacher[0, 3] = 0.0
    assert float(cross_entropy(best, teacher, 1.0)) == pytest.approx(1.874, abs=1e-3)
    assert float(cross_entropy(best, teacher, 0.1)) < 1e-3
    assert SelectorSettings(form="lookahead", score_as="expected").effective_temperature == 0.1


# ---------------------------------------------------------------- which steps are used


def trajectory(steps: int = 6, width: int = 4) -> Trajectory:
    kl = np.linspace(0, 1, steps, dtype=np.float32)
    table = np.zeros((steps, width), dtype=np.float32)
    ids = np.arange(steps, dtype=np.int32)
    return Trajectory(
        "set/train/0",
        "0" * 16,
        np.array([1, 2], dtype=np.int32),
        np.array([1, 2], dtype=np.int32),
        ids,
        kl,
        kl,
        kl,
        kl,
        np.zeros((steps, 8), dtype=np.float32),
        ids,
        ids,
        np.zeros((steps, width), dtype=np.int32),
        table,
        table,
        np.ones(steps, dtype=np.float32),
        "shard-00000.parquet",
        7,
    )


def test_top_steps_are_used_and_some_quiet_ones() -> None:
    (item,) = make_items([trajectory()], 3, kl_threshold=0.5)
    assert item.steps.tolist() == [3, 4, 5] and item.candidates.shape == (3, 3) and item.weight == 3
    (everything,) = make_items([trajectory()], 3, kl_threshold=0.5, low_kl_fraction=1.0)
    assert everything.steps.tolist() == [0, 1, 2, 3, 4, 5]
    assert make_items([trajectory()], 3, kl_threshold=2.0) == []


def test_more_candidates_than_were_kept_are_refused() -> None:
    with pytest.raises(
        LabelError, match=r"shard-00000\.parquet, row 7: expected at least 9 candidates a step, got 4"
    ):
        make_items([trajectory()], 9, kl_threshold=0.5)


def test_settings_outside_their_range_are_named() -> None:
    for wrong, message in (
        ({"bins": 1}, "bins"),
        ({"temperature": 0.0}, "temperature"),
        ({"beta": -1.0}, "beta"),
    ):
        with pytest.raises(ValueError, match=message):
            SelectorSettings(**wrong)  # type: ignore[arg-type]


def test_readout_without_a_score_stays_untrained() -> None:
    model = SelectorModel(tiny_model("qwen2", seed=0), SelectorSettings(form="direct", beta=0.0), VOCAB)
    assert not model.readout.requires_grad
    assert isinstance(model.score, type(model.score)) and not model.score.looks_ahead
    assert Readout(model.readout.detach()).weight.shape == (16, 64)
