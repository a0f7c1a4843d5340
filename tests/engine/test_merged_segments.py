"""Rows with similarly many new tokens attend together where launching a kernel takes longer than running it.

On a CPU it is off by default; here it is on, beside a runner in which each run of rows attends on its own.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from s2t_eval.engine import Decoder, ModelRunner, Request
from s2t_eval.engine.attention import Segment
from s2t_eval.engine.packing import merged, pack_branches, pack_uncached
from s2t_eval.selection.policy import Policy, greedy, s2t, s2t_local
from s2t_eval.selection.scores import DirectScore
from s2t_eval.selection.triggers import EntropyTrigger, KlTrigger
from tests.engine.test_devices import DEVICES
from tests.twins import generate_greedy, outputs, requests, tiny_model

FAMILIES = ("llama", "qwen2", "gemma2", "gemma3")
SIZES = (1, 7, 2, 2, 16, 3, 1, 9, 5)


def runners(family: str, device: str, **options: Any) -> tuple[ModelRunner, ModelRunner]:
    """One that merges, and one that does not."""
    model: Any = tiny_model(family, 0, **options).to(device)  # type: ignore[arg-type]
    return tuple(  # type: ignore[return-value]
        ModelRunner(model, compile="never", merge_segments=is_merging) for is_merging in (True, False)
    )


def texts() -> list[list[int]]:
    return [[(row * 11 + i * 3) % 60 + 2 for i in range(size)] for row, size in enumerate(SIZES)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_pass_gives_the_states_of_separate_rows(device: str, family: str) -> None:
    """Prompts, chunks of different lengths, branches, and a scorer's candidates behind a catch-up."""
    states = []
    for runner in runners(family, device):
        with torch.inference_mode():
            runner.allocate(len(SIZES), 40, 4)
            found = [runner.prefill(range(len(SIZES)), texts()).hidden]
            found += runner.extend([0, 2, 3, 6, 8], [[3], [4, 5, 6], [7, 8], [], [9] * 6])
            found.append(runner.append([5] * len(SIZES)))
            candidates = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 2], [4, 3, 2, 1]])
            first = torch.full((len(SIZES),), 6)
            first[[1, 4, 5]] = candidates[:, 0]
            found.append(runner.branch(first.to(device), [1, 4, 5], candidates.to(device)))
            runner.commit([1, 4, 5], [2, 0, 3], [5, 7, 1])
            longer = [[*runner.tokens[row], 9, 8][: 30 - row] for row in (0, 5, 7)]
            scored = runner.score_candidates([0, 5, 7], longer, candidates[:3, :3])
            found += [scored.hidden, scored.lanes.flatten(0, 1)]
        states.append([part for part in found if len(part)])
    for ours, theirs in zip(*states, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


POLICIES: dict[str, Policy] = {
    "greedy": greedy(),
    "s2t": s2t(KlTrigger(), 0.3, top_k=6),
    "s2t_local": s2t_local(EntropyTrigger(), 2.0, DirectScore(), 6),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("verify", [1, 5])
@pytest.mark.parametrize("name", POLICIES)
def test_texts_are_those_of_separate_rows(device: str, verify: int, name: str) -> None:
    asked, policy = requests(9), POLICIES[name]
    students, teachers = runners("qwen2", device), runners("qwen2", device, hidden_size=48)
    found = []
    for student, teacher in zip(students, teachers, strict=True):
        decoder = Decoder(student, policy, teacher if policy.needs_teacher else None, rows=4, verify=verify)
        found.append(outputs(sorted(decoder.run(asked), key=lambda result: result.index)))
    assert found[0] == found[1]


def test_a_pass_has_one_segment_for_each_power_of_two() -> None:
    sizes = [i % 13 + 1 for i in range(64)]
    ragged = pack_uncached(range(64), [[1] * size for size in sizes], [0] * 64, 32)
    assert len(ragged.segments) == 64
    joined = merged(ragged.segments)
    assert sorted(part.positions.shape[1] for part in joined) == [1, 2, 4, 8, 13]
    assert sum(part.positions.shape[0] for part in joined) == 64
    branches = pack_branches([1, 4, 5], torch.tensor([3, 9, 2]), torch.ones(3, 4, dtype=torch.long), 32, 0, 1)
    (lanes,) = merged(branches.segments)
    assert lanes.own is not lanes.positions
    assert lanes.length == max(part.length for part in branches.segments)


def test_rows_that_turn_out_to_be_neighbours_are_not_copied() -> None:
    """Their keys and values are a view of the cache."""
    ragged = pack_uncached(range(3), [[1] * 5, [1] * 7, [1] * 6], [0] * 3, 32)
    (joined,) = merged(ragged.segments)
    assert joined.rows == slice(0, 3)
    (apart,) = merged(pack_uncached([0, 2], [[1] * 5, [1] * 7], [0, 0], 32).segments)
    assert isinstance(apart.rows, torch.Tensor) and apart.rows.tolist() == [0, 2]


def test_segments_of_other_kinds_are_left_as_they_are() -> None:
    class Special(Segment):
        """Such as one with further slots."""

    positions = torch.zeros(2, 1, dtype=torch.long)
    kept = [
        Special(slice(0, 2), slice(0, 2), positions, positions, 1),
        Segment(torch.tensor([2, 3]), torch.tensor([5, 7]), positions, positions, 1),
    ]
    assert merged(kept) == kept


def test_a_cpu_computes_separate_rows_and_a_gpu_merges_them() -> None:
    """Padding costs a CPU time, and rounding other than that of committed texts."""
    assert not ModelRunner(tiny_model("llama", 0))._merge_segments
    long = [Request(tuple(range(2, 20)), 3), Request((3,), 5)]
    student = ModelRunner(tiny_model("llama", 0), merge_segments=True)
    expected = [generate_greedy(tiny_model("llama", 0), request) for request in long]
    assert outputs(sorted(Decoder(student, greedy(), rows=2).run(long), key=lambda r: r.index)) == expected


def test_one_token_for_every_row_is_a_decode_step() -> None:
    """A teacher that writes or verifies one token a row is replayed on a GPU like a student."""
    extended, appended = (ModelRunner(tiny_model("llama", 0)) for _ in range(2))
    with torch.inference_mode():
        for runner in (extended, appended):
            runner.allocate(len(SIZES), 40, 4)
            runner.prefill(range(len(SIZES)), texts())
        steps: list[int] = []
        step = extended.append
        extended.append = lambda tokens, ids=None: steps.append(len(tokens)) or step(tokens, ids)  # type: ignore
        states = extended.extend(range(len(SIZES)), [[row + 3] for row in range(len(SIZES))])
        expected = appended.append([row + 3 for row in range(len(SIZES))])
    assert steps == [len(SIZES)]
    assert [part.shape for part in states] == [(1, expected.shape[1])] * len(SIZES)
    assert torch.equal(torch.cat(states), expected)
    assert extended.tokens == appended.tokens and extended.counters == appended.counters


def test_passes_leave_out_an_attention_kernel_that_plans_every_shape_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row that fired took an H100 half a second: its pass had lengths that cuDNN had not seen before."""
    allowed = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def watch(*args: Any, **kwargs: Any) -> torch.Tensor:
        allowed.append(torch.backends.cuda.cudnn_sdp_enabled())
        return attend(*args, **kwargs)

    runner = ModelRunner(tiny_model("llama", 0))
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)
    try:
        with torch.inference_mode():
            runner.allocate(len(SIZES), 40, 4)
            monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watch)
            runner.prefill(range(len(SIZES)), texts())
            runner.extend([0, 2], [[3], [4, 5, 6]])
            runner.append([5] * len(SIZES))
        assert torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
    assert len(allowed) > 4
    assert not any(allowed)
