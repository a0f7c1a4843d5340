"""Packed trajectories give the scores, gradients and regularizer of separate sequences."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from s2t_eval.selection.readout import Readout
from s2t_eval.selection.scores import DirectScore, Evidence
from s2t_eval.training.labels import LabelError, Trajectory
from s2t_eval.training.selector.agreement import agreement_of, best_proposal_weight, gains, own_logits
from s2t_eval.training.selector.items import Anchors, Item, make_items, with_regret_weights
from s2t_eval.training.selector.losses import LOSSES, cross_entropy, listwise_kl, ranknet
from s2t_eval.training.selector.model import SelectorModel
from s2t_eval.training.selector.packing import Batch, pack
from s2t_eval.training.selector.settings import SelectorSettings
from s2t_eval.training.settings import LoopSettings
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
    readout = {} if settings.get("form", "direct") == "direct" else {"bins": 6}
    selector_settings = SelectorSettings(rank=4, alpha=8, **readout, **settings)  # type: ignore[arg-type]
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


def test_own_logits_need_no_candidates_appended(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every step of a text its candidates are nine tenths of the tokens of a pass, which took as long as
    the scores themselves and changed nothing."""
    model, examples = selector(family, form="lookahead", beta=0.0), items()
    lengths, hidden = [], model._hidden

    def counted(batch: Batch) -> Tensor:
        lengths.append(batch.input_ids.shape[1])
        return hidden(batch)

    monkeypatch.setattr(model, "_hidden", counted)
    direct = selector(family, form="direct", beta=0.0)
    for item, logits in zip(examples, own_logits(model, examples), strict=True):
        torch.testing.assert_close(logits, separate_scores(direct, item), atol=2e-4, rtol=2e-4)
    assert max(lengths) < max(len(item.text_ids) for item in examples)


@pytest.mark.parametrize("reverse", [False, True])
def test_regularizer_is_each_texts_mean_kl_over_its_tokens(
    monkeypatch: pytest.MonkeyPatch, reverse: bool
) -> None:
    monkeypatch.setattr("s2t_eval.training.chunks.CHUNK", 7)
    model = selector("qwen2", form="lookahead", beta=0.5, reverse=reverse)
    examples = items()
    losses = model(model.pack(examples))
    inner = model.peft.get_base_model()
    kl = []
    for item in examples:
        at = slice(item.prompt_length - 1, len(item.text_ids) - 1)
        tuned = inner(item.text_ids[None]).logits[0, at, : VOCAB - 20].log_softmax(-1)
        with torch.no_grad(), model.peft.disable_adapter():
            base = inner(item.text_ids[None]).logits[0, at, : VOCAB - 20].log_softmax(-1)
        p, q = (base, tuned) if reverse else (tuned, base)
        kl.append((p.exp() * (p - q)).sum(-1).mean())
    expected = torch.stack(kl).sum() * 4  # each text weighs as much as its four groups
    torch.testing.assert_close(losses.regularizer, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(losses.loss, losses.selection + 0.5 * losses.regularizer)
    packed, slow = gradients(model, losses.regularizer), gradients(model, expected)
    for name in slow:
        if "readout" not in name:
            torch.testing.assert_close(packed[name], slow[name], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("whole_text", "end"), [(True, 9), (False, 6)])
def test_text_positions_are_those_that_predict_a_generated_token(whole_text: bool, end: int) -> None:
    """A kept whole text had one more, the state behind its final token; its KL entered the anchor's mean."""
    steps = torch.tensor([0, 2])
    columns = (torch.zeros(2, K, dtype=torch.long), torch.zeros(2, K), torch.zeros(2, K))
    item = Item(torch.arange(10), 4, steps, *columns, "4 tokens of prompt, 6 generated")
    batch = pack([item, item], branches=True, whole_text=whole_text)
    seq = batch.input_ids.shape[1]
    assert batch.text_index.tolist() == [start + t for start in (0, seq) for t in range(3, end)]


def anchored(model: SelectorModel, width: int) -> list[Item]:
    """The items with two anchors each, and the plain student's first `width` tokens there."""
    inner = model.peft.get_base_model()
    made = []
    for item in items():
        steps = torch.tensor([2, len(item.text_ids) - item.prompt_length - 2])
        with torch.no_grad(), model.peft.disable_adapter():
            logits = inner(item.text_ids[None]).logits[0, item.prompt_length + steps - 1, : VOCAB - 20]
        top = logits.float().log_softmax(-1).topk(width)
        made.append(replace(item, anchors=Anchors(steps, top.indices, top.values)))
    return made


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("width", [4, VOCAB - 20])
def test_the_labels_anchor_is_the_kl_over_their_candidates_and_the_rest(width: int, reverse: bool) -> None:
    """Its twin: the same KL step by step. With all tokens as candidates it is the full KL, else less."""
    model = selector("qwen2", form="direct", beta=0.5, reverse=reverse, anchor="labels")
    examples = [
        replace(item, group_weights=torch.tensor([1.0, 0.5, 2.0, 1.5])) for item in anchored(model, width)
    ]
    inner = model.peft.get_base_model()
    losses, expected = model(model.pack(examples)), torch.zeros(())
    for item in examples:
        assert item.anchors is not None
        at = item.prompt_length + item.anchors.steps - 1
        tuned = inner(item.text_ids[None]).logits[0, at, : VOCAB - 20].float().log_softmax(-1)
        with torch.no_grad(), model.peft.disable_adapter():
            frozen = inner(item.text_ids[None]).logits[0, at, : VOCAB - 20].float().log_softmax(-1)
        for t, f, ids in zip(tuned, frozen, item.anchors.candidates, strict=True):
            p, q = (torch.cat([v[ids], (1 - v[ids].exp().sum()).clamp(min=1e-6).log()[None]]) for v in (t, f))
            p, q, t, f = (q, p, f, t) if reverse else (p, q, t, f)
            kl, full = (p.exp() * (p - q)).sum(), (t.exp() * (t - f)).sum()
            assert float(kl.detach()) <= float(full.detach()) + 1e-5
            if width == VOCAB - 20:
                torch.testing.assert_close(kl, full, atol=1e-4, rtol=1e-3)
            expected = expected + kl * 5.0 / 2  # each item weighs 5 and has two anchors
    torch.testing.assert_close(losses.regularizer, expected, atol=1e-4, rtol=1e-3)
    packed, slow = gradients(model, losses.regularizer), gradients(model, expected)
    for name in slow:
        torch.testing.assert_close(packed[name], slow[name], atol=1e-3, rtol=1e-3)


def test_the_labels_anchor_needs_no_second_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model = selector("qwen2", form="direct", beta=0.5, anchor="labels")
    batch, passes = model.pack(anchored(model, 4)), []
    hidden = model._hidden
    monkeypatch.setattr(model, "_hidden", lambda batch: passes.append(1) or hidden(batch))
    model(batch)
    assert len(passes) == 1
    model.settings = replace(model.settings, anchor="text")
    model(batch)
    assert len(passes) == 3


@pytest.mark.parametrize("form", ["lookahead", "direct"])
@pytest.mark.parametrize("anchor", ["text", "labels"])
def test_a_batch_of_weighted_items_is_the_sum_of_its_items(form: str, anchor: str) -> None:
    """The loss of a window does not depend on how its items are batched.

    With the anchor `text` it did: the mean over all positions of a pass was multiplied by all its weights,
    so that a text of one group held the adapter as strongly as one of many that was batched with it.
    """
    model = selector("qwen2", form=form, beta=0.5, anchor=anchor)
    item, *others = anchored(model, 4)
    shorter = first_group(item)
    weights = torch.tensor([0.5, 2.0, 0.0, 1.0])
    examples = [shorter, *(replace(item, group_weights=weights) for item in others)]
    whole = model(model.pack(examples))
    alone = [model(model.pack([item])) for item in examples]
    for name in ("selection", "regularizer", "loss"):
        parts = torch.stack([getattr(one, name) for one in alone])
        torch.testing.assert_close(getattr(whole, name), parts.sum(), atol=1e-4, rtol=1e-4)
    *_, item = examples
    scores = model.scores(model.pack([item]))
    per_group = listwise_kl(scores, item.teacher_log_probs, model.settings.effective_temperature)
    torch.testing.assert_close(alone[-1].selection, (per_group * weights).sum(), atol=1e-4, rtol=1e-4)
    assert (shorter.weight, item.weight) == (1.0, 3.5)


def first_group(item: Item) -> Item:
    names = ("steps", "candidates", "student_log_probs", "teacher_log_probs")
    return replace(item, **{name: getattr(item, name)[:1] for name in names})


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
def test_a_candidate_that_the_teacher_never_takes_has_a_loss_and_a_gradient(name: str) -> None:
    """Labels may have a log-probability of minus infinity: training ended at once, its loss was NaN."""
    scores = torch.tensor([[0.2, 1.4, -0.3]], requires_grad=True)
    never, hardly = (torch.tensor([[-2.0, -0.4, least]]) for least in (-torch.inf, -60.0))
    loss = LOSSES[name]  # type: ignore[index]
    torch.testing.assert_close(loss(scores, never, 0.5), loss(scores, hardly, 0.5))
    gradients = [torch.autograd.grad(loss(scores, teacher, 0.5).sum(), scores) for teacher in (never, hardly)]
    torch.testing.assert_close(*gradients)


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


# ---------------------------------------------------------------- held-out figures


def three_steps() -> tuple[Tensor, list[Item]]:
    """Scores and items of three steps in two texts, of two candidates each.

    Everywhere the student prefers the first candidate by 1 nat and the scores prefer the second one, at the
    first step by 0.8. There the teacher loses 5 nats by that; at the other two it gains 1 nat each.
    """
    scores = torch.tensor([[0.0, 0.8], [0.0, 0.7], [0.0, 0.7]])
    student = torch.tensor([[-0.5, -1.5]] * 3)
    teacher = torch.tensor([[-0.1, -5.1], [-1.5, -0.5], [-1.5, -0.5]])
    parts = (slice(0, 2), slice(2, 3))
    made = [
        Item(torch.zeros(9).long(), 2, torch.arange(9)[part], torch.zeros(3, 2)[part].long(), student[part],
             teacher[part], "a text")
        for part in parts
    ]  # fmt: skip
    return scores, made


def test_the_proposal_weight_is_the_smallest_of_those_that_gain_most_in_nats() -> None:
    """A weight of 0 agrees with the teacher at two of three steps, and loses more at the third."""
    scores, texts = three_steps()
    assert gains(scores, texts).tolist() == pytest.approx([-5, 1, 1])
    assert gains(scores, texts, 0.5).tolist() == pytest.approx([-5, 1, 1])
    assert gains(scores, texts, 1.0).tolist() == gains(scores, texts, 2.0).tolist() == [0, 0, 0]
    assert best_proposal_weight(scores, texts) == 1.0
    assert (
        best_proposal_weight(scores[1:], [texts[1], texts[1]]) == 0.0
    )  # all weights up to 0.5 gain the same


def test_agreement_is_that_of_the_scores_that_decode_and_the_loss_that_of_training() -> None:
    """By hand: the weight of the proposer turns every pick, and leaves the loss as it is."""
    scores, texts = three_steps()
    settings = SelectorSettings(form="direct", loss="ce")
    plain = agreement_of(scores.split([2, 1]), texts, settings)
    weighted = agreement_of(scores.split([2, 1]), texts, settings, proposal_weight=1.0)
    assert (plain["agree@1"], weighted["agree@1"]) == pytest.approx((2 / 3, 1 / 3))
    assert (plain["spearman"], weighted["spearman"]) == pytest.approx((1 / 3, -1 / 3))
    assert plain["greedy_agree@1"] == weighted["greedy_agree@1"] == pytest.approx(1 / 3)
    margins = [-0.8, 0.7, 0.7]  # of the teacher's best candidate
    expected = sum(np.log1p(np.exp(-margin / settings.effective_temperature)) for margin in margins) / 3
    assert plain["loss"] == pytest.approx(expected, rel=1e-5) and plain["loss"] == weighted["loss"]
    assert plain["groups"] == 3 and agreement_of([], [], settings) == {"groups": 0}


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
        shard="shard-00000.parquet",
        row=7,
    )


def test_top_steps_are_used_and_some_quiet_ones() -> None:
    (item,) = make_items([trajectory()], 3, kl_threshold=0.5)
    assert item.steps.tolist() == [3, 4, 5] and item.candidates.shape == (3, 3) and item.weight == 3
    (everything,) = make_items([trajectory()], 3, kl_threshold=0.5, low_kl_fraction=1.0)
    assert everything.steps.tolist() == [0, 1, 2, 3, 4, 5]
    assert make_items([trajectory()], 3, kl_threshold=2.0) == []


def labelled(teacher: list[list[float]], argmax: list[int]) -> Trajectory:
    """Six steps with the candidates 10 to 13 each, these probabilities and these tokens of the teacher."""
    base = trajectory()
    candidates = np.tile(np.arange(10, 14, dtype=np.int32), (6, 1))
    return replace(
        base,
        candidates=candidates,
        teacher_log_probs=np.log(np.array(teacher, dtype=np.float32)),
        teacher_argmax=np.array(argmax, dtype=np.int32),
    )


TEACHER = [[0.4, 0.3, 0.2, 0.05]] * 4 + [[0.1, 0.8, 0.05, 0.01], [0.2, 0.2, 0.1, 0.4]]


def test_steps_whose_teacher_token_is_no_candidate_are_dropped() -> None:
    row = labelled(TEACHER, [10, 10, 10, 99, 11, 13])
    (item,) = make_items([row], 4, kl_threshold=0.5, hit_within=4)
    assert item.steps.tolist() == [4, 5]
    (fewer,) = make_items([row], 4, kl_threshold=0.5, hit_within=3)
    assert fewer.steps.tolist() == [4]  # decoding does not reach the fourth candidate


def test_anchors_are_the_other_steps_outside_the_top() -> None:
    row = labelled(TEACHER, [10] * 6)
    (item,) = make_items([row], 2, kl_threshold=0.5, with_anchors=True)
    assert item.anchors is not None and item.anchors.steps.tolist() == [0, 1, 2]
    assert item.anchors.candidates.shape == (3, 4)  # all that are labelled, not the K of the groups
    (all_used,) = make_items([row], 2, kl_threshold=0.5, low_kl_fraction=1.0, with_anchors=True)
    assert all_used.anchors is not None and not len(all_used.anchors.steps)
    assert make_items([row], 2, kl_threshold=0.5)[0].anchors is None


def test_another_seed_draws_other_steps_of_low_kl() -> None:
    """All seeds drew the same ones, so that their spread lacked that of the draw."""
    drawn = [
        make_items([trajectory(steps=40)], 3, kl_threshold=0.5, low_kl_fraction=0.5, seed=seed)[
            0
        ].steps.tolist()
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_regret_weighs_what_the_decoder_can_gain() -> None:
    made = make_items([labelled(TEACHER, [10] * 6)], 4, kl_threshold=0.5)
    regrets = np.log([1.0, 0.8 / 0.1, 0.4 / 0.2])  # greedy's token is right at the first
    (half,) = with_regret_weights(made, 0.5)
    np.testing.assert_allclose(half.weights, 0.5 + 0.5 * regrets / regrets.mean(), rtol=1e-5)
    (alone,) = with_regret_weights(made, 1.0)
    assert alone.steps.tolist() == [4, 5] and alone.candidates.shape == (2, 4)
    np.testing.assert_allclose(alone.weights, regrets[1:] / regrets.mean(), rtol=1e-5)
    assert with_regret_weights(made, 0.0) == made and made[0].weights.tolist() == [1, 1, 1]
    with pytest.raises(LabelError, match="regret: the teacher prefers the student's own token at every step"):
        with_regret_weights(make_items([labelled([TEACHER[0]] * 6, [10] * 6)], 4, 0.5), 1.0)


def test_more_candidates_than_were_kept_are_refused() -> None:
    with pytest.raises(
        LabelError,
        match=r"shard-00000\.parquet, row 7 \(set/train/0\): expected at least 9 candidates",
    ):
        make_items([trajectory()], 9, kl_threshold=0.5)


def test_settings_outside_their_range_are_named() -> None:
    for wrong, message in (
        ({"bins": 1}, "bins"),
        ({"temperature": 0.0}, "temperature"),
        ({"beta": -1.0}, "beta"),
        ({"anchor": "all"}, "anchor: expected one of text, labels"),
        ({"anchor": "labels", "beta": 0.0}, "anchor: with beta 0 there is no regularizer"),
        ({"reverse": True, "beta": 0.0}, "reverse: with beta 0 there is no regularizer"),
        # The paper's readout was asked for without its form, and half of the request had no effect.
        ({"score_as": "expected"}, "score_as: form=direct, .* does not use it, got score_as=expected"),
        ({"bins": 32}, "bins: form=direct, .* does not use it, got bins=32"),
    ):
        with pytest.raises(ValueError, match=message):
            SelectorSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="snapshots: average_last=0 does not use it, got snapshots=9"):
        LoopSettings(snapshots=9)


def test_settings_of_an_earlier_folder_are_read() -> None:
    saved = {"form": "direct", "score_as": "expected", "bins": 32, "rank": 4}
    assert SelectorSettings.of_folder(saved) == SelectorSettings(rank=4)
    saved["form"] = "lookahead"
    assert asdict(SelectorSettings.of_folder(saved)).items() >= saved.items()


def test_readout_without_a_score_stays_untrained() -> None:
    model = SelectorModel(tiny_model("qwen2", seed=0), SelectorSettings(form="direct", beta=0.0), VOCAB)
    assert not model.readout.requires_grad
    assert isinstance(model.score, DirectScore) and not model.score.looks_ahead
    assert Readout(model.readout.detach()).weight.shape == (16, 64)
