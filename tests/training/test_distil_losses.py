"""Each distillation loss against its definition, and the model that sums them against plain forwards."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from s2t_eval.method_table import DistilMethod
from s2t_eval.models.lora_settings import LoraSettings
from s2t_eval.training import chunks
from s2t_eval.training.distil.losses import Positions, entropy_of, jensen_shannon
from s2t_eval.training.distil.methods import METHODS, Method, make_method
from s2t_eval.training.distil.model import DistilModel
from s2t_eval.training.distil.settings import DistilSettings
from s2t_eval.training.distil.texts import Item, collate
from s2t_eval.training.distil.tsd_kd import plackett_luce, term_weights
from tests.twins import VOCAB, tiny_model

STEPS = 7


def random_positions(vocab: int = 23, seed: int = 0) -> Positions:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        (3 * torch.randn(STEPS, vocab, generator=generator)).log_softmax(-1) for _ in range(2)
    )
    next_ids = torch.randint(0, vocab, (STEPS,), generator=generator)
    return Positions(student, teacher, next_ids, torch.rand(STEPS, 2, generator=generator))


def slow_kl(p: Tensor, q: Tensor) -> float:
    """KL of probabilities, token by token."""
    return sum(float(a) * math.log(float(a) / float(b)) for a, b in zip(p, q, strict=True))


def slow_jsd(p: Tensor, q: Tensor, beta: float) -> float:
    m = beta * p + (1 - beta) * q
    return beta * slow_kl(p, m) + (1 - beta) * slow_kl(q, m)


def test_kd_is_forward_and_reverse_kl_the_other_way_round() -> None:
    at = random_positions()
    student, teacher = at.student_log_probs.double().exp(), at.teacher_log_probs.double().exp()
    forward = torch.tensor([slow_kl(t, s) for t, s in zip(teacher, student, strict=True)])
    reverse = torch.tensor([slow_kl(s, t) for t, s in zip(teacher, student, strict=True)])
    torch.testing.assert_close(make_method("kd").losses(at), forward)
    torch.testing.assert_close(make_method("reverse_kl").losses(at), reverse)
    assert (forward - reverse).abs().min() > 0.01


def test_seqkd_is_the_cross_entropy_of_the_text() -> None:
    at = random_positions()
    expected = torch.nn.functional.cross_entropy(at.student_log_probs, at.next_ids, reduction="none")
    torch.testing.assert_close(make_method("seqkd").losses(at), expected)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_jsd_is_its_definition(beta: float) -> None:
    at = random_positions()
    pairs = zip(at.teacher_log_probs.double().exp(), at.student_log_probs.double().exp(), strict=True)
    expected = torch.tensor([slow_jsd(t, s, beta) for t, s in pairs])
    torch.testing.assert_close(make_method("jsd", beta).losses(at), expected)


def test_jsd_at_one_half_is_symmetric_and_at_most_log_2() -> None:
    at = random_positions()
    forward, backward = (
        jensen_shannon(at.teacher_log_probs, at.student_log_probs, 0.5),
        jensen_shannon(at.student_log_probs, at.teacher_log_probs, 0.5),
    )
    torch.testing.assert_close(forward, backward)
    assert ((forward > 0) & (forward < math.log(2))).all()
    apart = torch.tensor([[100.0, 0.0]]).log_softmax(-1)  # as far as can be
    torch.testing.assert_close(
        jensen_shannon(apart, apart.flip(-1), 0.5), torch.tensor([math.log(2)]), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        jensen_shannon(at.student_log_probs, at.student_log_probs, 0.3), torch.zeros(STEPS), atol=1e-6, rtol=0
    )


def test_jsd_nears_forward_kl_for_small_beta_and_reverse_kl_for_large() -> None:
    at = random_positions()
    at = at._replace(
        student_log_probs=at.student_log_probs.double(), teacher_log_probs=at.teacher_log_probs.double()
    )
    small, forward = make_method("jsd", 1e-7).losses(at) / 1e-7, make_method("kd").losses(at)
    large, reverse = make_method("jsd", 1 - 1e-7).losses(at) / 1e-7, make_method("reverse_kl").losses(at)
    torch.testing.assert_close(small, forward, rtol=1e-3, atol=0)
    torch.testing.assert_close(large, reverse, rtol=1e-3, atol=0)


# ---------------------------------------------------------------- tsd_kd


def slow_plackett_luce(scores: Sequence[float]) -> float:
    """Probability of drawing 0, 1, 2, ... without replacement."""
    weights = [math.exp(score) for score in scores]
    return math.prod(weights[i] / sum(weights[i:]) for i in range(len(weights)))


def test_plackett_luce_is_a_distribution_over_orders() -> None:
    scores = torch.tensor([0.3, -1.2, 2.0, 0.1])
    total = 0.0
    for order in itertools.permutations(range(4)):
        probability = float((-plackett_luce(scores[list(order)])).exp())
        assert probability == pytest.approx(slow_plackett_luce(scores[list(order)].tolist()), rel=1e-5)
        total += probability
    assert total == pytest.approx(1, rel=1e-5)


def test_ranking_pushes_towards_the_teachers_order() -> None:
    """The published code of TSD-KD sums the denominators from the wrong end and favours the reverse order."""
    scores = torch.zeros(4, requires_grad=True)  # in the teacher's order, the student has no opinion
    plackett_luce(scores).backward()
    assert scores.grad is not None
    step = -scores.grad
    assert (step[:-1] > step[1:]).all()  # descent raises the teacher's first most, its last least
    assert step[0] > 0 > step[-1]
    ranked = torch.tensor([3.0, 2.0, 1.0, 0.0])
    assert plackett_luce(ranked) < plackett_luce(ranked.flip(-1))
    assert plackett_luce(ranked) == min(
        plackett_luce(ranked[list(p)]) for p in itertools.permutations(range(4))
    )


def test_training_on_the_ranking_alone_reaches_the_teachers_order() -> None:
    method, generator = make_method("tsd_kd"), torch.Generator().manual_seed(3)
    teacher = torch.randn(1, 10, generator=generator).log_softmax(-1)
    logits = torch.randn(1, 10, generator=generator, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=0.5)
    for _ in range(100):
        at = Positions(logits.log_softmax(-1), teacher, torch.zeros(1).long(), torch.tensor([[1.0, 0.0]]))
        direct = method.losses(at._replace(weights=torch.zeros(1, 2)))
        (method.losses(at) - direct).sum().backward()  # what remains is the ranking term
        optimizer.step()
        optimizer.zero_grad()
    assert logits.argsort(-1).tolist() == teacher.argsort(-1).tolist()


def test_position_weights_of_tsd_kd() -> None:
    """The opening ends at a tenth of the summed entropy; the tenth of lowest entropy is not sharpened."""
    entropy = torch.tensor([0.5, 0.4, 0.3, 2.0, 1.8, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0])  # 10 in all
    ranking, sharpening = term_weights(entropy).unbind(-1)
    assert ranking.nonzero().flatten().tolist() == [0, 1, 2]  # 0.9 before the third, 1.2 after it
    assert sharpening.nonzero().flatten().tolist() == list(range(10))
    assert float(ranking.mean()) == pytest.approx(0.1)
    assert float(sharpening.mean()) == pytest.approx(1)
    certain = term_weights(torch.zeros(4))
    assert torch.isfinite(certain).all()
    assert certain[:, 0].nonzero().flatten().tolist() == [0]


def test_tsd_kd_is_the_sum_of_its_three_terms() -> None:
    at = random_positions()
    losses = make_method("tsd_kd").losses(at)
    student, teacher = at.student_log_probs.double(), at.teacher_log_probs.double()
    for i in range(STEPS):
        s, t = student[i], teacher[i]
        h_s, h_t = float(entropy_of(s)), float(entropy_of(t))
        direct = slow_jsd(t.exp(), s.exp(), 0.9) / (1 + math.exp(h_t - h_s))
        proposed = sorted(range(len(s)), key=lambda v: -float(s[v]))[:10]
        ordered = sorted(proposed, key=lambda v: -float(t[v]))
        indirect = -math.log(slow_plackett_luce([float(s[v]) for v in ordered]))
        expected = direct + float(at.weights[i, 0]) * indirect + float(at.weights[i, 1]) * h_s
        assert float(losses[i]) == pytest.approx(expected, rel=1e-4)


def test_the_weight_of_a_position_has_no_gradient() -> None:
    """Lower entropy must not lower the loss through the weight sigmoid(H_S - H_T)."""
    at = random_positions()
    logits = at.student_log_probs.clone().requires_grad_()
    student = logits.log_softmax(-1)
    losses = make_method("tsd_kd").losses(
        at._replace(student_log_probs=student, weights=torch.zeros(STEPS, 2))
    )
    losses.sum().backward()
    doubt = torch.sigmoid(entropy_of(at.student_log_probs) - entropy_of(at.teacher_log_probs))
    other = at.student_log_probs.clone().requires_grad_()
    (doubt * jensen_shannon(at.teacher_log_probs, other.log_softmax(-1), 0.9)).sum().backward()
    torch.testing.assert_close(logits.grad, other.grad)


@pytest.mark.parametrize(
    ("method", "beta", "message"),
    [
        ("kdd", None, "method: expected one of kd, reverse_kl, jsd, seqkd, tsd_kd, got 'kdd'"),
        ("kd", 0.5, "beta: only jsd and tsd_kd have one, kd has not; leave it out"),
        ("jsd", 1.0, "beta: expected a number between 0 and 1"),
        ("tsd_kd", 0.0, "beta: expected a number between 0 and 1"),
    ],
)
def test_methods_and_betas_that_do_not_exist(method: Any, beta: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistilSettings(method=method, beta=beta)


# ---------------------------------------------------------------- the model


def items(count: int = 3, seed: int = 5) -> list[Item]:
    """Random texts with different prompts for student and teacher."""
    generator = torch.Generator().manual_seed(seed)

    def ids(low: int, high: int) -> Tensor:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(0, VOCAB - 20, (length,), generator=generator)

    return [Item(ids(1, 9), ids(1, 14), ids(2, 12), f"text {i}") for i in range(count)]


TEXT_VOCAB = VOCAB - 20
"""Both heads have rows above the text; the losses must not see them."""


def slow_loss(student: PreTrainedModel, teacher: PreTrainedModel, method: Method, item: Item) -> Tensor:
    """The summed loss of one text from one plain forward pass of each model, without chunks."""
    sides = []
    for model, prompt in ((student, item.prompt_ids), (teacher, item.teacher_prompt_ids)):
        logits = model(torch.cat([prompt, item.output_ids])[None]).logits[0]
        sides.append(logits[len(prompt) - 1 : -1, :TEXT_VOCAB].float().log_softmax(-1))
    student_log_probs, teacher_log_probs = sides
    weights = torch.zeros(len(item.output_ids), 0)
    if method.position_weights is not None:
        weights = method.position_weights(entropy_of(student_log_probs.detach()))
    return method.losses(
        Positions(student_log_probs, teacher_log_probs.detach(), item.output_ids, weights)
    ).sum()


def gradients(model: DistilModel) -> dict[str, Tensor]:
    copied = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return copied


@pytest.mark.parametrize("name", METHODS)
def test_chunked_batch_gives_the_loss_and_gradients_of_plain_forwards(
    name: DistilMethod, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 4)
    student, teacher = tiny_model(family, seed=0), tiny_model(family, seed=1, hidden_size=48)
    teacher.resize_token_embeddings(VOCAB + 3)  # heads of one family may differ in rows
    method = make_method(name)
    model = DistilModel(student, teacher, method, None, TEXT_VOCAB)
    loss = model(collate(items())).loss
    loss.backward()
    chunked = gradients(model)
    expected = sum((slow_loss(student, teacher, method, item) for item in items()), torch.zeros(()))
    expected.backward()
    plain = gradients(model)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)
    assert chunked.keys() == plain.keys()
    assert any(gradient.abs().max() > 0.01 for gradient in plain.values())
    for parameter, gradient in plain.items():
        torch.testing.assert_close(chunked[parameter], gradient, rtol=2e-3, atol=2e-3, msg=parameter)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_no_logits_are_kept_for_the_backward_pass() -> None:
    model = DistilModel(
        tiny_model("llama", 0), tiny_model("llama", 1), make_method("kd"), LoraSettings(4), VOCAB
    )
    batch = collate(items(4))
    kept: list[tuple[int, ...]] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(batch)
    assert kept
    assert not [shape for shape in kept if shape[-1:] == (VOCAB,)]


def test_padding_and_order_of_a_batch_change_nothing() -> None:
    model = DistilModel(
        tiny_model("gemma3", 0), tiny_model("gemma3", 1), make_method("kd"), LoraSettings(), VOCAB
    )
    one_by_one = [model.metrics(collate([item])) for item in items(4)]
    together = model.metrics(collate(items(4)[::-1]))
    for name in ("loss", "forward_kl", "num_agreeing"):
        torch.testing.assert_close(
            getattr(together, name), sum(getattr(single, name) for single in one_by_one), rtol=1e-4, atol=1e-4
        )


def test_metrics_are_their_definition() -> None:
    student, teacher = tiny_model("qwen2", 0), tiny_model("qwen2", 1)
    (item,) = items(1)
    model = DistilModel(student, teacher, make_method("reverse_kl"), None, TEXT_VOCAB, temperature=2.0)
    metrics = model.metrics(collate([item]))
    with torch.no_grad():
        forward = slow_loss(student, teacher, make_method("kd"), item)
        student_logits, teacher_logits = (
            m(torch.cat([p, item.output_ids])[None]).logits[0, len(p) - 1 : -1, :TEXT_VOCAB]
            for m, p in ((student, item.prompt_ids), (teacher, item.teacher_prompt_ids))
        )
    assert float(metrics.forward_kl) == pytest.approx(float(forward), rel=1e-4)  # at temperature 1
    assert int(metrics.num_agreeing) == int((student_logits.argmax(-1) == teacher_logits.argmax(-1)).sum())
    at_temperature_2 = [(logits / 2).log_softmax(-1).double() for logits in (student_logits, teacher_logits)]
    expected = sum(slow_kl(s.exp(), t.exp()) for s, t in zip(*at_temperature_2, strict=True))
    assert float(metrics.loss) == pytest.approx(expected, rel=1e-4)


def test_a_teacher_that_is_the_student_leaves_nothing_to_learn() -> None:
    model = DistilModel(
        tiny_model("llama", 0), tiny_model("llama", 0), make_method("kd"), LoraSettings(), VOCAB
    )
    same = [Item(i.prompt_ids, i.prompt_ids, i.output_ids, i.source) for i in items()]
    metrics = model.metrics(collate(same))
    assert float(metrics.forward_kl) == pytest.approx(0, abs=1e-4)
    assert int(metrics.num_agreeing) == sum(len(item.output_ids) for item in same)


def test_settings_of_the_model_that_do_not_fit() -> None:
    pair = tiny_model("llama", 0), tiny_model("llama", 1)
    with pytest.raises(ValueError, match="temperature: expected a number above 0, got 0"):
        DistilModel(*pair, make_method("kd"), None, VOCAB, temperature=0.0)
    with pytest.raises(ValueError, match=f"student: its head has {VOCAB} rows for {VOCAB + 1} text tokens"):
        DistilModel(*pair, make_method("kd"), None, VOCAB + 1)
    with pytest.raises(ValueError, match="rank: expected at least 1, got 0"):
        LoraSettings(rank=0)
