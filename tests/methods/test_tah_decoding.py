"""Think-at-Hard in decoding: parallel = sequential, its limits, and rows at different depths together."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel

from s2t_eval.engine import Request, Result, Sampling
from s2t_eval.engine.prefix_cache import MIN_SHARED
from s2t_eval.methods.tah import runner as runner_module
from s2t_eval.methods.tah.decoder import LoopedDecoder, Votes
from s2t_eval.methods.tah.duo_causal import NOWHERE, Places, attention_mask
from s2t_eval.methods.tah.mixture import top_mixture
from s2t_eval.methods.tah.runner import LoopedRunner
from s2t_eval.methods.tah.settings import LoopedSettings, TahError
from s2t_eval.selection.policy import greedy
from s2t_eval.training.tah.looped import LoopedModel, TokenIndices, iterate_depths
from tests.twins import VOCAB, WINDOW, decode, outputs, requests, tiny_model

TOP_N = 20

# peft asks for it; to be removed once peft does not.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def adapted(family: str, seed: int = 0) -> PeftModel:
    """A tiny model with an adapter that changes what it says.

    In float64: random weights this large blow rounding up from pass to pass.
    """
    torch.manual_seed(seed)
    config = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.1, task_type="CAUSAL_LM")
    peft = get_peft_model(tiny_model(family, seed=seed), config)
    for name, parameter in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return peft.double().eval()


@pytest.fixture(scope="session")
def peft(family: str) -> PeftModel:
    return adapted(family)


class Script:
    """Votes by a fixed schedule and writes down every accumulated logit that it is shown."""

    def __init__(self, most: int = 3) -> None:
        self.most = most
        self.seen: dict[tuple[int, int, int], Tensor] = {}

    def passes(self, request: int, step: int) -> int:
        """Passes that this step takes, 1 to `most`."""
        return 1 + random.Random(f"{request}/{step}").choice([0, 0, 0, *range(self.most)])

    def __call__(self, votes: Votes) -> Tensor:
        goes_on = []
        for row, totals in zip(votes.rows, votes.totals, strict=True):
            step = len(row.output)
            self.seen[row.index, step, row.depth] = totals.clone()
            goes_on.append(row.depth + 1 < self.passes(row.index, step))
        return torch.tensor(goes_on)


@functools.cache
def slots_of(peft: PeftModel) -> LoopedRunner:
    """One for each model: it stays hooked into its layers."""
    return LoopedRunner(peft, read=(0, 1))


def run(
    peft: PeftModel, vote: object, asked: Sequence[Request], rows: int = 4, max_depth: int = 4
) -> list[Result]:
    decoder = LoopedDecoder(slots_of(peft), vote, max_depth, TOP_N, rows)  # type: ignore[arg-type]
    results = {result.index: result for result in decoder.run(asked)}
    return [results[i] for i in range(len(asked))]


def never(votes: Votes) -> Tensor:
    return torch.zeros(len(votes.rows), dtype=torch.bool)


def always(votes: Votes) -> Tensor:
    return torch.ones(len(votes.rows), dtype=torch.bool)


# ---------------------------------------------------------------- parallel = sequential


def test_parallel_logits_are_sequential_logits(peft: PeftModel) -> None:
    """Every accumulated logit of every depth and step, decoded with refilled rows at mixed depths."""
    asked = requests(12)
    script = Script()
    results = run(peft, script, asked)
    looped = LoopedModel(peft, LoopedSettings(max_depth=4, top_n=TOP_N), VOCAB).eval()
    checked = 0
    # Two texts in one right-padded batch.
    for pair in zip(range(0, len(asked), 2), range(1, len(asked), 2), strict=True):
        texts = [[*asked[i].prompt_ids, *results[i].output_ids] for i in pair]
        ids = torch.zeros(2, max(map(len, texts)), dtype=torch.long)
        steps = torch.zeros_like(ids, dtype=torch.bool)
        for row, (i, text) in enumerate(zip(pair, texts, strict=True)):
            ids[row, : len(text)] = torch.tensor(text)
            steps[row, len(asked[i].prompt_ids) - 1 : len(text) - 1] = True

        def choose(
            depth: int, at: TokenIndices, totals: Tensor, states: Tensor | None, pair: tuple[int, ...] = pair
        ) -> Tensor:
            passes = [
                script.passes(pair[row], position - len(asked[pair[row]].prompt_ids) + 1)
                for row, position in zip(at.texts.tolist(), at.positions.tolist(), strict=True)
            ]
            return torch.tensor(passes) > depth + 1

        with torch.no_grad():
            for look in iterate_depths(looped, ids, steps, choose):
                for row, position, totals in zip(
                    look.tokens.texts, look.tokens.positions, look.logits, strict=True
                ):
                    i = pair[int(row)]
                    step = int(position) - len(asked[i].prompt_ids) + 1
                    torch.testing.assert_close(totals, script.seen[i, step, look.depth], atol=5e-5, rtol=5e-5)
                    checked += 1
    assert checked == len(script.seen) > 250
    assert {depth for _, _, depth in script.seen} == {0, 1, 2}


def test_the_adapter_changes_what_is_said(peft: PeftModel) -> None:
    """Without this the twins could agree because nothing deeper ever matters."""
    asked = requests(4)
    thought = run(peft, always, asked, max_depth=2)
    assert outputs(thought) != outputs(run(peft, never, asked))


# ---------------------------------------------------------------- limits


def test_a_decider_that_never_continues_is_greedy(peft: PeftModel, family: str) -> None:
    asked = requests(6)
    expected = outputs(decode(tiny_model(family, seed=0).double(), greedy(), asked))
    for found in (run(peft, never, asked), run(peft, always, asked, max_depth=1)):
        assert outputs(found) == expected
        assert all(result.usage.deeper_passes == result.usage.continued == 0 for result in found)
        assert all(result.usage.forwards == result.usage.tokens for result in found)


def test_depth_one_everywhere_is_the_plain_model(peft: PeftModel, family: str) -> None:
    ids = torch.tensor([[5, 9, 2, 7, 7, 3, 80, 4, 61, 1, 0, 3]])
    looped = LoopedModel(peft, LoopedSettings(max_depth=1), VOCAB).eval()
    with torch.no_grad():
        [look] = iterate_depths(
            looped, ids, torch.ones_like(ids, dtype=torch.bool), lambda *_: torch.tensor([])
        )
        plain = tiny_model(family, seed=0).double()(ids).logits[0].float()
    torch.testing.assert_close(look.logits, plain, atol=1e-5, rtol=1e-5)


def test_always_at_depth_two_takes_two_passes_a_token(peft: PeftModel) -> None:
    for result in run(peft, always, requests(3), max_depth=2):
        usage = result.usage
        assert usage.continued == usage.deeper_passes == usage.tokens
        assert usage.forwards == 2 * usage.tokens


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_batch_size_and_refilling_change_no_text(family: str) -> None:
    peft = adapted(family)
    asked = requests(7)
    # `rows=1` serves one request after the other: the index, hence the schedule, stays the same.
    expected = run(peft, Script(), asked, rows=1)
    for rows in (3, 7):
        found = run(peft, Script(), asked, rows=rows)
        assert outputs(found) == outputs(expected)
        for a, b in zip(found, expected, strict=True):
            assert (a.usage.continued, a.usage.deeper_passes) == (b.usage.continued, b.usage.deeper_passes)


def test_rows_share_their_passes() -> None:
    """A row that thinks again makes nobody wait: as many passes as the longest row has looks."""
    peft = adapted("llama")
    student = LoopedRunner(peft)
    decoder = LoopedDecoder(student, Script(), 3, TOP_N, rows=8)
    asked = [Request((i, i + 1), 20) for i in range(8)]
    looks = [result.usage.forwards for result in decoder.run(asked)]
    assert student.counters.passes == max(looks)  # the first look of all is one ragged prefill


def test_shared_beginnings_hold_no_second_thoughts() -> None:
    """A prompt that another row has thought about in its text begins from the slots of depth 0 alone."""
    peft = adapted("qwen2")
    shared = tuple(i % VOCAB for i in range(3, 3 + 2 * MIN_SHARED))
    [first] = run(peft, always, [Request(shared, 9)], max_depth=2)
    longer = Request((*shared, *first.output_ids), 9)
    asked = [Request(shared, 9), longer]
    together = run(peft, always, asked, rows=1, max_depth=2)
    [alone] = run(peft, always, [longer], max_depth=2)
    assert together[1].output_ids == alone.output_ids
    assert together[1].usage.prefill_tokens < len(longer.prompt_ids)


def test_deeper_slots_grow_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    peft = adapted("gemma3")
    asked = requests(4)
    expected = outputs(run(peft, always, asked, max_depth=3))
    slots_of(peft).release()
    monkeypatch.setattr(runner_module, "FIRST_ROOM", 1)
    assert outputs(run(peft, always, asked, max_depth=3)) == expected


def test_prefixes_are_copied_from_where_they_lie_in_grown_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan of a copy once kept the rows' first size: behind grown rows a text began from other slots.

    The first text ends first, the second one moves into its row, and the third one copies from there.
    """
    monkeypatch.setattr(runner_module, "FIRST_ROOM", 1)
    peft = adapted("llama")
    shared = tuple(i % VOCAB for i in range(3, 3 + 2 * MIN_SHARED))
    asked = [Request((*shared, 7 + i), 6 + 5 * i) for i in range(5)]
    expected = []
    for request in asked:
        slots_of(peft).release()
        expected += run(peft, always, [request], rows=1, max_depth=2)
    slots_of(peft).release()
    together = run(peft, always, asked, rows=2, max_depth=2)
    assert outputs(together) == outputs(expected)
    copied = [result for result in together if result.usage.prefill_tokens < len(shared)]
    assert len(copied) == len(asked) - 1


def test_a_new_cache_begins_small_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of an earlier, larger run kept their deeper slots: where memory had run out, it did again."""
    monkeypatch.setattr(runner_module, "FIRST_ROOM", 1)
    peft = adapted("llama")
    student = slots_of(peft)
    run(peft, always, [Request((4, 5), 30), Request((6, 7), 30)], rows=2, max_depth=2)
    assert student.cache.capacity >= 60
    student.release()
    run(peft, always, [Request((4, 5), 3)], rows=1, max_depth=2)
    assert student.cache.capacity < 12


def test_sampling_draws_from_accumulated_logits() -> None:
    peft = adapted("llama")
    asked = [Request((4, 5), 12, sampling=Sampling(), seed=seed) for seed in range(4)]
    assert outputs(run(peft, always, asked, rows=4)) == outputs(run(peft, always, asked, rows=1))
    assert outputs(run(peft, always, asked)) != outputs(run(peft, never, asked))


def test_memory_running_out_changes_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    peft = adapted("llama")
    asked = requests(8)
    expected = outputs(run(peft, Script(), asked, rows=8))
    advance = LoopedRunner.advance

    def advance_if_it_fits(self: LoopedRunner, ids: Tensor, deeper: Sequence[object]) -> Tensor:
        if len(ids) > 3 and deeper:
            raise torch.OutOfMemoryError("out of memory")
        return advance(self, ids, deeper)  # type: ignore[arg-type]

    monkeypatch.setattr(LoopedRunner, "advance", advance_if_it_fits)
    assert outputs(run(peft, Script(), asked, rows=8)) == expected


def test_the_student_itself_is_untouched(peft: PeftModel, family: str) -> None:
    run(peft, always, requests(2))
    plain: PreTrainedModel = tiny_model(family, seed=0).double()
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    with torch.no_grad(), peft.disable_adapter():
        torch.testing.assert_close(peft(ids).logits, plain(ids).logits)


# ---------------------------------------------------------------- parts


def test_duo_causal_rule() -> None:
    slots = Places(torch.tensor([[0, 1, 2, 0, 2, NOWHERE]]), torch.tensor([[0, 0, 0, 1, 2, 1]]))
    queries = Places(torch.tensor([[1, 2, 2]]), torch.tensor([[0, 1, 2]]))
    expected = [[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]
    assert attention_mask(queries, slots)[0].int().tolist() == expected
    assert attention_mask(queries, slots, window=1)[0].int().tolist() == [
        [0, 1, 0] + [0] * 3,
        [0, 0, 1] + [0] * 3,
        [0, 0, 1, 0, 1, 0],
    ]


def test_mixture_is_its_definition() -> None:
    embedding = torch.nn.Embedding(30, 8)
    totals = torch.randn(3, 30)
    expected = []
    for row in totals:
        probs = row.softmax(-1)
        best = sorted(range(30), key=lambda i: -float(probs[i]))[:5]
        expected.append(sum(probs[i] * embedding.weight[i] for i in best))
    torch.testing.assert_close(top_mixture(embedding, totals, 5), torch.stack(expected))
    # With every token it is the expected embedding.
    torch.testing.assert_close(top_mixture(embedding, totals, 99), totals.softmax(-1) @ embedding.weight)


def test_depth_below_one_is_refused() -> None:
    with pytest.raises(TahError, match=r"^max_depth: expected a whole number of at least 1, got 0$"):
        LoopedDecoder(LoopedRunner(adapted("llama")), never, max_depth=0)


def test_windows_are_counted_in_positions() -> None:
    """A text longer than its window, thought about at every step: deeper slots do not shorten the window."""
    peft = adapted("gemma3")
    request = Request(tuple(range(3 * WINDOW)), 3 * WINDOW)
    script = Script(most=2)
    [result] = run(peft, script, [request])
    looped = LoopedModel(peft, LoopedSettings(max_depth=3, top_n=TOP_N), VOCAB).eval()
    ids = torch.tensor([[*request.prompt_ids, *result.output_ids]])
    steps = torch.zeros_like(ids, dtype=torch.bool)
    steps[0, len(request.prompt_ids) - 1 : -1] = True

    def choose(depth: int, at: TokenIndices, totals: Tensor, states: Tensor | None) -> Tensor:
        first = len(request.prompt_ids) - 1
        return torch.tensor([script.passes(0, int(p) - first) > depth + 1 for p in at.positions])

    with torch.no_grad():
        looks = list(iterate_depths(looped, ids, steps, choose))
    for position, totals in zip(looks[1].tokens.positions, looks[1].logits, strict=True):
        step = int(position) - len(request.prompt_ids) + 1
        torch.testing.assert_close(totals, script.seen[0, step, 1], atol=1e-5, rtol=1e-5)
