"""GRPO against its definition: advantages, the clipped loss, one optimizer step, and the group's samples."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from s2t_eval.engine import Decoder, ModelRunner, Request, Sampling, derive_seed
from s2t_eval.models.lora_settings import LoraSettings
from s2t_eval.selection.policy import greedy
from s2t_eval.training.loop import Loop, Loss
from s2t_eval.training.rlkd.alignment import RuleAligner
from s2t_eval.training.rlkd.cost import total_cost
from s2t_eval.training.rlkd.grpo import EPSILON, advantages, clipped_losses, kl_estimates
from s2t_eval.training.rlkd.model import Group, GroupBatch, RlkdModel, collate
from s2t_eval.training.rlkd.problems import RlkdProblem, Text
from s2t_eval.training.rlkd.rewarder import Rewarder
from s2t_eval.training.rlkd.sampling import Sampler, TextLimits
from s2t_eval.training.rlkd.settings import RlkdLoopSettings, RlkdSettings
from s2t_eval.training.rlkd.structure import RuleStructurer
from s2t_eval.training.rlkd.train import RlkdTraining
from s2t_eval.training.settings import Precision
from tests import twins
from tests.twins import VOCAB, tiny_model

TEMPERATURE, CLIP, KL = 0.7, 0.2, 0.04


# ---------------------------------------------------------------- functions


def test_advantages_are_standard_scores_of_their_group() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.5], [2.0, 2.0, 1.0, 0.0]])
    for row, scaled, centred in zip(
        rewards.tolist(), advantages(rewards, True), advantages(rewards, False), strict=True
    ):
        mean = sum(row) / 4
        deviation = math.sqrt(sum((value - mean) ** 2 for value in row) / 3)
        assert centred.tolist() == pytest.approx([value - mean for value in row])
        assert scaled.tolist() == pytest.approx([(v - mean) / (deviation + EPSILON) for v in row], rel=1e-5)


def test_equal_rewards_have_advantages_of_exactly_zero() -> None:
    """Rounding of the mean of three thirds left 3e-8, which Adam would have made a full step of."""
    rewards = torch.tensor([[1 / 3] * 3, [0.1] * 3, [0.7] * 3])
    for scale in (True, False):
        assert torch.equal(advantages(rewards, scale), torch.zeros(3, 3))


def test_ratio_beyond_the_clip_range_has_no_gradient_where_it_would_grow() -> None:
    ratios = torch.tensor([1.0, 1.5, 1.5, 0.5, 0.5, 1.1])
    advantage = torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0, -2.0])
    log_probs = ratios.log().requires_grad_()
    losses = clipped_losses(log_probs, torch.zeros(6), advantage, CLIP)
    assert losses.tolist() == pytest.approx([-1.0, -1.2, 1.5, -0.5, 0.8, 2.2])
    losses.sum().backward()
    assert log_probs.grad is not None
    assert log_probs.grad.tolist() == pytest.approx([-1.0, 0.0, 1.5, -0.5, 0.0, 2.2])


def test_kl_estimate_is_never_negative_and_its_mean_is_the_divergence() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    estimates = kl_estimates(p.log(), q.log())
    assert bool((estimates > 0).all())
    assert float((p * estimates).sum()) == pytest.approx(float((p * (p / q).log()).sum()))
    assert kl_estimates(p.log(), p.log()).tolist() == [0.0, 0.0, 0.0]


# ---------------------------------------------------------------- the model against a slow twin


def make_model(student: PreTrainedModel, kl_weight: float = KL) -> RlkdModel:
    """A model with a new adapter on a copy of the student."""
    torch.manual_seed(3)
    adapter = LoraSettings(rank=4, alpha=8)
    return RlkdModel(copy.deepcopy(student), adapter, VOCAB, TEMPERATURE, CLIP, kl_weight).eval()


def disturb(model: RlkdModel, seed: int = 5, scale: float = 0.05) -> None:
    """Change the adapter, whose matrices B are zero at first."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_B" in name:
                parameter += scale * torch.randn(parameter.shape, generator=generator)


def make_groups(count: int = 3, size: int = 3) -> list[Group]:
    generator = torch.Generator().manual_seed(9)
    groups = []
    for prompt in twins.prompts(count, longest=12):
        lengths = torch.randint(1, 9, (size,), generator=generator).tolist()
        outputs = [torch.randint(0, VOCAB, (n,), generator=generator) for n in lengths]
        advantage = torch.randn(size, generator=generator)
        groups.append(Group(torch.tensor(prompt), outputs, advantage))
    return groups


def plain_log_probs(model: RlkdModel, prompt: Tensor, output: Tensor) -> Tensor:
    """Log-probabilities of a text's tokens from one plain forward pass over it alone."""
    logits = model.student(torch.cat([prompt, output])[None]).logits[0, len(prompt) - 1 : -1]
    return (logits / TEMPERATURE).log_softmax(-1)[torch.arange(len(output)), output]


def slow_loss(model: RlkdModel, groups: Sequence[Group], old: Sequence[Sequence[Tensor]] | None) -> Tensor:
    """GRPO's objective token by token, as its equation is written."""
    total = torch.zeros(())
    for g, group in enumerate(groups):
        for i, output in enumerate(group.outputs):
            log_probs = plain_log_probs(model, group.prompt_ids, output)
            with torch.no_grad(), model.student.disable_adapter():
                reference = plain_log_probs(model, group.prompt_ids, output)
            before = log_probs.detach() if old is None else old[g][i]
            terms = []
            for t in range(len(output)):
                ratio = torch.exp(log_probs[t] - before[t])
                advantage = group.advantages[i]
                unclipped, clipped = ratio * advantage, torch.clamp(ratio, 1 - CLIP, 1 + CLIP) * advantage
                distance = torch.exp(reference[t] - log_probs[t]) - (reference[t] - log_probs[t]) - 1
                terms.append(-torch.min(unclipped, clipped) + model.kl_weight * distance)
            total = total + torch.stack(terms).mean() / len(group.outputs)
    return total


def gradients(model: RlkdModel) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("is_updated", [False, True], ids=["first update", "later update"])
def test_policy_gradient_is_that_of_the_slow_twin(student: PreTrainedModel, is_updated: bool) -> None:
    model, groups, old = make_model(student), make_groups(), None
    disturb(model)
    if is_updated:
        with torch.no_grad():
            old = [[plain_log_probs(model, g.prompt_ids, output) for output in g.outputs] for g in groups]
        groups = [g._replace(old_log_probs=torch.cat(values)) for g, values in zip(groups, old, strict=True)]
        disturb(model, seed=6, scale=0.02)
    expected = slow_loss(model, groups, old)
    expected.backward()
    slow = gradients(model)
    model.zero_grad()
    loss = model(collate(groups)).loss
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4, abs=1e-5)
    fast = gradients(model)
    assert fast.keys() == slow.keys() and any(bool(value.any()) for value in fast.values())
    assert all("lora" in name for name in fast)
    for name, value in slow.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_ratio_is_one_before_the_first_update() -> None:
    """So the first step is the same with and without the stored log-probabilities."""
    model, groups = make_model(tiny_model("qwen2", 0)), make_groups()
    disturb(model)
    stored = [group._replace(old_log_probs=model.log_probs(collate([group]))) for group in groups]
    batch = collate(stored)
    assert batch.old_log_probs is not None
    ratios = torch.exp(model.log_probs(batch) - batch.old_log_probs)
    torch.testing.assert_close(ratios, torch.ones_like(ratios), rtol=1e-5, atol=0)
    for name, value in _gradients_of(model, stored).items():
        torch.testing.assert_close(value, _gradients_of(model, groups)[name], rtol=1e-4, atol=1e-6)


def _gradients_of(model: RlkdModel, groups: Sequence[Group]) -> dict[str, Tensor]:
    model.zero_grad()
    model(collate(groups)).loss.backward()
    return gradients(model)


def test_new_adapter_with_equal_rewards_has_no_gradient_at_all() -> None:
    model = make_model(tiny_model("qwen2", 0))
    groups = [group._replace(advantages=torch.zeros(3)) for group in make_groups()]
    assert all(not bool(value.any()) for value in _gradients_of(model, groups).values())


def test_kl_pulls_a_changed_adapter_back_where_rewards_are_equal() -> None:
    model = make_model(tiny_model("qwen2", 0), kl_weight=1.0)
    disturb(model)
    groups = [group._replace(advantages=torch.zeros(3)) for group in make_groups()]
    batch = collate(groups)
    before = float(model(batch).loss.detach())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        model(batch).loss.backward()
        optimizer.step()
    assert 0 < float(model(batch).loss.detach()) < before


def test_problems_weigh_the_same_whatever_the_length_of_their_texts() -> None:
    batch = collate(make_groups())
    bounds = torch.cat([torch.tensor([0]), torch.tensor([sum(map(len, g.outputs)) for g in make_groups()])])
    for begin, end in zip(bounds.cumsum(0)[:-1], bounds.cumsum(0)[1:], strict=True):
        assert float(batch.weights[begin:end].sum()) == pytest.approx(1.0)


def test_student_has_no_dropout_of_its_own_in_training() -> None:
    """The loop sets the module to training mode; a student such as GPT-2 would then drop a tenth of its
    states, and the ratio of a text's probabilities before and after an update would be noise."""
    model = make_model(tiny_model("qwen2", 0)).train()
    assert not any(module.training for module in model.modules())


# ---------------------------------------------------------------- several updates on the same samples


class RatiosOfUpdates(RlkdModel):
    """Notes the largest distance of a ratio from 1 in each batch."""

    distances: list[float]

    def forward(self, batch: GroupBatch) -> Loss:
        """The loss."""
        assert batch.old_log_probs is not None
        ratios = torch.exp(self.log_probs(batch) - batch.old_log_probs)
        self.distances.append(float((ratios - 1).abs().max()))
        return super().forward(batch)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_ratios_of_the_first_of_several_updates_are_one(precision: Precision, tmp_path: Path) -> None:
    """In bf16 they were not: the log-probabilities before the update were computed in float32, and in batches
    of one group, so the clipping cut tokens whose probability had not changed at all."""
    lora = LoraSettings(rank=4, alpha=8)
    model = RatiosOfUpdates(tiny_model("qwen2", 0), lora, VOCAB, TEMPERATURE, CLIP, KL)
    model.distances = []
    disturb(model)
    items = problems(6)
    settings = RlkdSettings(structure_weight=0.0, group_size=3, updates=2, temperature=TEMPERATURE)
    loop = RlkdLoopSettings(batch_size=4, precision=precision, lr=1e-2)
    rewarder = Rewarder(RuleStructurer(), RuleAligner(), _first_token_parity, settings)
    sampler = make_sampler(model.student, rows=4)  # type: ignore[arg-type]
    training = RlkdTraining(model, sampler, rewarder, items, settings, loop)
    Loop[RlkdProblem](
        model, items, training.collate, training.evaluate, "reward", loop, tmp_path, {},
        prepare=training.prepare, repeats=settings.updates,
    ).run()  # fmt: skip
    first, second = model.distances[0::2], model.distances[1::2]
    assert len(first) == len(second) == 2
    assert max(first) == 0.0 < min(second)


def _first_token_parity(problem: RlkdProblem, texts: Sequence[Text]) -> list[float]:
    """A reward that differs within a group."""
    return [float(text.output_ids[0] % 2) for text in texts]


# ---------------------------------------------------------------- samples


def problems(count: int = 4) -> list[RlkdProblem]:
    return [
        RlkdProblem(f"p/{i}", "", prompt, "", {}, "") for i, prompt in enumerate(twins.prompts(count, 12))
    ]


def make_sampler(student: PreTrainedModel, rows: int) -> Sampler:
    limits = TextLimits(10, frozenset({7}), ())
    return Sampler(ModelRunner(student), limits, lambda ids: " ".join(map(str, ids)), rows)


def test_group_is_the_engines_own_samples_with_those_seeds(student: PreTrainedModel) -> None:
    sampling = Sampling(TEMPERATURE)
    groups = make_sampler(student, rows=5).groups(problems(), 3, sampling, (11, 4))
    for problem, group in zip(problems(), groups, strict=True):
        for place, text in enumerate(group):
            seed = derive_seed((11, 4), problem.problem_id, place)
            request = Request(problem.prompt_ids, 10, frozenset({7}), (), sampling, seed)
            [result] = Decoder(ModelRunner(student), greedy(), rows=1).run([request])
            assert text.output_ids == result.output_ids
            assert text.content == " ".join(map(str, result.text_ids))
            assert text.is_truncated == (len(result.output_ids) == 10 and result.output_ids[-1] != 7)
    assert len({tuple(text.output_ids) for text in groups[1]}) > 1


def test_samples_are_those_of_the_present_weights() -> None:
    """Cached keys and values of earlier weights must not be used after an update."""
    model = make_model(tiny_model("qwen2", 0))
    sampler = make_sampler(model.student, rows=4)  # type: ignore[arg-type]
    first = sampler.greedy(problems())
    disturb(model, scale=0.5)
    second = sampler.greedy(problems())
    assert second == make_sampler(model.student, rows=4).greedy(problems()) != first  # type: ignore[arg-type]


def test_text_ends_at_its_first_stop_string() -> None:
    limits = TextLimits(4, frozenset(), ("\n\n", "Question:"))
    assert limits.cut(" 4. Question: a\n\nb") == " 4. "
    assert limits.request((1, 2)).stop_strings == ("\n\n", "Question:")


def test_costs_of_a_window_are_those_of_its_samples() -> None:
    """By another sampler with the same seeds; what was taken is not counted again."""
    model, items = make_model(tiny_model("qwen2", 0)), problems(8)
    settings = RlkdSettings(structure_weight=0.0, group_size=2, temperature=TEMPERATURE)
    rewarder = Rewarder(RuleStructurer(), RuleAligner(), _first_token_parity, settings)
    sampler, again = (make_sampler(model.student, rows=4) for _ in range(2))  # type: ignore[arg-type]
    training = RlkdTraining(model, sampler, rewarder, items, settings, RlkdLoopSettings(seed=3))
    training.prepare(items, step=5)
    cost, nothing = training.meter.take(), training.meter.take()
    groups = again.groups(items, 2, Sampling(TEMPERATURE), (3, 5))
    rewards = [_first_token_parity(items[0], group) for group in groups]
    num_generated = sum(len(text.output_ids) for group in groups for text in group)
    assert (cost["generated_tokens"], cost["prompt_tokens"]) == (num_generated, again.prompt_tokens)
    assert (cost["groups"], cost["reward_sum"]) == (8, sum(map(sum, rewards)))
    assert 0 < cost["equal_groups"] == sum(first == second for first, second in rewards) < 8
    assert 0 < cost["seconds_sampling"] < cost["seconds"]
    assert {name for name, value in nothing.items() if value} == {"seconds"}
    total = total_cost([cost, nothing, cost])
    assert total["generated_tokens"] == 2 * num_generated and total["groups"] == 16
