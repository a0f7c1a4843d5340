"""S2T-Local and PPS in the batch engine against loops that encode every candidate afresh."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel

from s2t_eval.engine import Decoder, ModelRunner, NonFiniteLogitsError, Result
from s2t_eval.methods.selector_adapter import AdapterSwitch
from s2t_eval.selection import policy as presets
from s2t_eval.selection.policy import Policy, greedy
from s2t_eval.selection.readout import Readout
from s2t_eval.selection.scores import DirectScore, Evidence, LookaheadScore, ResidualScore, Score
from s2t_eval.selection.triggers import ConstantTrigger, EntropyTrigger, MarginTrigger, RandomTrigger
from tests.twins import (
    hidden_after,
    hidden_after_each,
    logits_after,
    outputs,
    prompts,
    requests,
    slow_decode,
    tiny_model,
)

ALWAYS = ConstantTrigger("always")


def adapted(model: PreTrainedModel, seed: int = 3) -> PeftModel:
    """A copy of the model with a random adapter that is large enough to change its choices."""
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    peft = get_peft_model(copy.deepcopy(model), config)
    return peft.eval()


def readout(model: PreTrainedModel) -> Readout:
    # Small rows: two saturated candidates in one bin have scores that rounding alone tells apart.
    generator = torch.Generator().manual_seed(5)
    return Readout(0.3 * torch.randn(16, model.config.hidden_size, generator=generator), "log_odds")


def forms(model: PreTrainedModel) -> list[Score]:
    return [LookaheadScore(readout(model)), ResidualScore(readout(model)), DirectScore()]


def pps(peft: PeftModel, policy: Policy, rows: int = 4, count: int = 3) -> list[Result]:
    """The plain model writes, the adapted one scores, over one set of weights."""
    inner = peft.get_base_model()
    scorer = ModelRunner(inner, "scorer", forward_context=AdapterSwitch(peft))
    peft.base_model.disable_adapter_layers()
    try:
        decoder = Decoder(ModelRunner(inner, "student"), policy, rows=rows, scorer=scorer)
        results = {result.index: result for result in decoder.run(requests(count))}
    finally:
        peft.base_model.enable_adapter_layers()
    return [results[i] for i in range(count)]


def slow_pick(
    proposer: PreTrainedModel, scorer: PeftModel, score: Score
) -> Callable[[list[int], list[int]], int]:
    """Every candidate a sequence of its own, through the adapted model."""

    def pick(ids: list[int], candidates: list[int]) -> int:
        log_probs = logits_after(proposer, ids).log_softmax(-1)[candidates]
        inner = scorer.get_base_model()
        if score.looks_ahead:
            evidence = Evidence(log_probs, hidden=hidden_after_each(inner, ids, candidates))
        else:
            evidence = Evidence(log_probs, own_logits=logits_after(inner, ids)[candidates])
        return candidates[int(score.score(evidence).argmax())]

    return pick


@pytest.mark.parametrize(
    ("trigger", "form"),
    [
        (MarginTrigger(), 0),
        pytest.param(ALWAYS, 0, marks=pytest.mark.slow),
        (MarginTrigger(), 1),
        (ALWAYS, 2),
    ],
    ids=["margin-lookahead", "always-lookahead", "margin-residual", "always-direct"],
)
def test_pps_is_its_slow_twin(student: PreTrainedModel, trigger: MarginTrigger, form: int) -> None:
    peft, score = adapted(student), forms(student)[form]
    policy = presets.s2t_local(trigger, 0.6, score, top_k=3, warmup_tokens=1)
    expected = slow_decode(student, policy, requests(3), slow_pick(student, peft, score))
    for rows in (1, 3):
        results = pps(peft, policy, rows)
        assert outputs(results) == expected
    assert sum(result.usage.flips for result in results) > 0
    # The scorer computes a text's tokens once, however often it is asked, and K lanes a fired step.
    lanes = 3 if score.looks_ahead else 0
    for result, request in zip(results, requests(3), strict=True):
        text = len(request.prompt_ids) + result.usage.tokens
        # Where it is asked again at once, the last token's state is computed once more.
        assert result.usage.scorer_tokens <= text + (lanes + 1) * result.usage.scorer_calls


@pytest.mark.parametrize("form", [0, 1, 2], ids=["lookahead", "residual", "direct"])
def test_tuned_proposer_is_its_slow_twin(student: PreTrainedModel, form: int) -> None:
    peft, score = adapted(student), forms(student)[form]
    inner = peft.get_base_model()
    policy = presets.s2t_local(EntropyTrigger(), 1.5, score, top_k=3)
    expected = slow_decode(inner, policy, requests(3), slow_pick(inner, peft, score))
    decoder = Decoder(ModelRunner(peft, "student"), policy, rows=3)
    found = {result.index: result for result in decoder.run(requests(3))}
    assert [found[i].output_ids for i in range(3)] == expected
    # Of the three candidates of a fired step one becomes text; the others were in no cost.
    others = 2 if score.looks_ahead else 0
    for result in found.values():
        assert result.usage.scorer_tokens == others * len(result.steps) and len(result.steps) > 0


def test_a_base_proposer_writes_the_plain_student_between_triggers(student: PreTrainedModel) -> None:
    """At random steps: by their margin all steps of a model with soft caps fire, and nothing was compared."""
    peft = adapted(student)
    policy = presets.s2t_local(RandomTrigger(), 0.5, LookaheadScore(readout(student)), top_k=3)
    num_fired = num_plain = 0
    for result, request in zip(pps(peft, policy), requests(3), strict=True):
        fired = {step.t for step in result.steps}
        ids = list(request.prompt_ids)
        for t, token in enumerate(result.output_ids):
            if t not in fired:
                assert token == int(logits_after(student, ids).argmax())
            ids.append(token)
        num_fired += len(fired)
        num_plain += len(result.output_ids) - len(fired)
    assert num_fired > 0 and num_plain > 0


class FirstWins:
    """A score that always prefers the student's first candidate."""

    form = "lookahead"
    looks_ahead = True

    def score(self, evidence: Evidence) -> Tensor:
        return -torch.arange(evidence.log_probs.shape[-1]).expand_as(evidence.log_probs).float()


def test_scores_that_are_no_numbers_end_the_run(student: PreTrainedModel) -> None:
    """An adapter that overflows in a narrow dtype gives states that are no numbers. NaN counts as the largest
    score, so that candidate was picked at every fired step, without an error: the plain student, which
    writes, has numbers. In branches of its own the student's last token could be such a one."""
    peft = adapted(student)
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if "lora_B" in name:
                weight.fill_(math.nan)
    policy = presets.s2t_local(ALWAYS, 0.0, LookaheadScore(readout(student)), top_k=3)
    with pytest.raises(NonFiniteLogitsError, match=r"^scorer: logits are not finite at step 0 of request"):
        pps(peft, policy)
    overflowing = LookaheadScore(Readout(torch.full((4, student.config.hidden_size), math.inf)))
    policy = presets.s2t_local(ALWAYS, 0.0, overflowing, top_k=3)
    with pytest.raises(NonFiniteLogitsError, match=r"^student: logits are not finite at step 0 of request"):
        list(Decoder(ModelRunner(student, "student"), policy).run(requests(1)))


def test_preferring_the_first_candidate_is_greedy(student: PreTrainedModel) -> None:
    policy = presets.s2t_local(ALWAYS, 0.0, FirstWins(), top_k=3)  # type: ignore[arg-type]
    expected = outputs([*Decoder(ModelRunner(student), greedy(), rows=4).run(requests(3))])
    assert sorted(outputs(pps(adapted(student), policy))) == sorted(expected)
    assert sorted(outputs([*Decoder(ModelRunner(student), policy, rows=4).run(requests(3))])) == sorted(
        expected
    )


def test_merging_the_adapter_changes_no_text(student: PreTrainedModel) -> None:
    policy = presets.s2t_local(MarginTrigger(), 0.6, ResidualScore(readout(student)), top_k=3)
    peft = adapted(student)
    unmerged = outputs([*Decoder(ModelRunner(peft), policy, rows=1).run(requests(3))])
    peft.base_model.merge_adapter()
    assert outputs([*Decoder(ModelRunner(peft), policy, rows=1).run(requests(3))]) == unmerged


def test_peeking_leaves_no_trace(student: PreTrainedModel) -> None:
    slots = ModelRunner(student)
    slots.allocate(3, 90)
    texts = [list(prompt) for prompt in prompts(4)[1:]]
    with torch.inference_mode():
        first, _, computed = slots.score_candidates([0, 1, 2], texts, torch.arange(15).view(3, 5))
        assert computed == [len(text) + 5 for text in texts]
        longer = [[*text, 7, 8] for text in texts]
        again, lanes, computed = slots.score_candidates(
            [0, 2], [longer[0], longer[2]], torch.arange(4).view(2, 2)
        )
    assert computed == [4, 4]
    for row in range(3):
        torch.testing.assert_close(first[row], hidden_after(student, texts[row]), atol=2e-4, rtol=2e-4)
    for i, row in enumerate((0, 2)):
        torch.testing.assert_close(again[i], hidden_after(student, longer[row]), atol=2e-4, rtol=2e-4)
        for lane in range(2):
            expected = hidden_after(student, [*longer[row], 2 * i + lane])
            torch.testing.assert_close(lanes[i, lane], expected, atol=2e-4, rtol=2e-4)


def test_encoding_texts_is_a_plain_forward(student: PreTrainedModel) -> None:
    texts = [list(prompt) for prompt in prompts(5)]
    for states, text in zip(ModelRunner(student).encode(texts), texts, strict=True):
        with torch.no_grad():
            expected = student.get_decoder()(torch.tensor([text])).last_hidden_state[0]
        torch.testing.assert_close(states, expected, atol=2e-4, rtol=2e-4)


def test_top_tokens_are_kept_at_every_step(student: PreTrainedModel) -> None:
    for result in Decoder(ModelRunner(student), greedy(), rows=3, keep_top=6).run(requests(3)):
        assert result.top_ids is not None and result.top_log_probs is not None
        ids = list(requests(3)[result.index].prompt_ids)
        for token, top, log_probs in zip(
            result.output_ids, result.top_ids, result.top_log_probs, strict=True
        ):
            expected = logits_after(student, ids).log_softmax(-1)
            torch.testing.assert_close(log_probs, expected.topk(6).values, atol=1e-3, rtol=1e-3)
            torch.testing.assert_close(expected[top.long()], log_probs, atol=1e-3, rtol=1e-3)
            assert int(top[0]) == token
            ids.append(token)


def test_a_model_without_an_adapter_context_is_left_as_it_was() -> None:
    peft = adapted(tiny_model("qwen2", seed=0))
    peft.base_model.disable_adapter_layers()
    plain = logits_after(peft.get_base_model(), [1, 2, 3])
    with AdapterSwitch(peft)():
        assert not torch.equal(logits_after(peft.get_base_model(), [1, 2, 3]), plain)
    assert torch.equal(logits_after(peft.get_base_model(), [1, 2, 3]), plain)
