"""Kernels and synchronisations of a decode step: greedy decoding of the engine beside stock `generate`.

    python -m benchmarks.speed kernels --random-shape qwen2.5-0.5b

Counts depend on the number of layers, not on widths or the load of the machine, so they hold where times do
not. On a GPU its kernels are counted, and the synchronisations that torch reports. On a CPU stand-ins are
counted: operations that a GPU has one kernel for, and reads of tensors by Python.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile

from benchmarks.ratios import Ratio, Target
from benchmarks.workload import Settings, load_model
from s2t_eval.engine import Decoder, ModelRunner, Request
from s2t_eval.selection.policy import greedy

TARGET = Target(700 / 962)
"""Of the ratio of kernels, from the counts of a model of 24 layers."""
READS_A_STEP = 1
"""The synchronisations of a step that its target allows."""
SHORT, LONG = 3, 5
"""Tokens of the two runs whose difference is that of their decode steps."""
PROMPT = tuple(range(3, 19))

NO_KERNEL = frozenset(
    """view as_strided as_strided_ expand expand_as view_as slice select transpose permute t numpy_T unsqueeze
    unsqueeze_ squeeze squeeze_ reshape _reshape_alias _unsafe_view alias unflatten flatten narrow split
    split_with_sizes chunk unbind detach detach_ lift_fresh resolve_conj resolve_neg empty empty_like
    empty_strided new_empty resize_ set_ result_type scalar_tensor item _local_scalar_dense is_nonzero to
    contiguous""".split()
)
"""Operations that allocate, make views, or consist of others."""
ONE_KERNEL = frozenset("mean sum add add_ sub mul mul_ div div_ ne eq lt le addmm mm _fused_rms_norm".split())
"""Operations that a GPU computes in one kernel and a CPU from several operations."""
READS = frozenset(
    "tolist item cpu numpy nonzero masked_select unique __bool__ __int__ __float__ __index__".split()
)
"""Methods of tensors that wait until a GPU has computed them."""


@dataclass(frozen=True)
class StepCosts:
    """What one decode step launches.

    Args:
        kernels: launched kernels, or the operations that stand for them.
        reads: synchronisations of host and device.
        by_name: the kernels by name.
    """

    kernels: float
    reads: float
    by_name: dict[str, float]


class CountedReads(TorchFunctionMode):
    """Counts the reads of tensors by Python, which wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, and count it if it is a read."""
        self.count += getattr(func, "__name__", "") in READS
        return func(*args, **(kwargs or {}))


def measure(settings: Settings) -> list[Ratio]:
    """Kernels a step of the engine against stock `generate`, for a batch of equal requests."""
    model = load_model(settings.student, settings)
    runner = ModelRunner(model, fused_norms=True)
    ours = step_costs(lambda tokens: decode(runner, settings.batch, tokens))
    stock = step_costs(lambda tokens: generate(model, settings.batch, tokens))
    details = {
        "layers": int(model.config.num_hidden_layers),
        "kernels": {"greedy": ours.kernels, "generate": stock.kernels},
        "synchronisations": {"greedy": ours.reads, "generate": stock.reads},
        "by_name": {"greedy": ours.by_name, "generate": stock.by_name},
    }
    counts = (
        ("kernels", ours.kernels, stock.kernels, TARGET),
        ("synchronisations", ours.reads, stock.reads, Target(READS_A_STEP / stock.reads)),
    )
    return [
        Ratio(
            f"{what} a step, greedy {mine:g} / generate {others:g}",
            [mine / others] * settings.repeats,  # counts do not vary
            target,
            details if what == "kernels" else {},
        )
        for what, mine, others, target in counts
    ]


def decode(runner: ModelRunner, batch: int, tokens: int) -> None:
    """Greedy texts of the engine, whose cache is dropped afterwards: every run fills it alike."""
    list(Decoder(runner, greedy(), rows=batch).run([Request(PROMPT, tokens)] * batch))
    runner.release()


def generate(model: Any, batch: int, tokens: int) -> None:
    """The same with transformers."""
    ids = torch.tensor([PROMPT] * batch, device=model.device)
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
    )


def step_costs(run: Callable[[int], None]) -> StepCosts:
    """The costs of one decode step, from runs of two lengths.

    Args:
        run: generates texts of this many tokens.
    """
    steps = LONG - SHORT
    run(SHORT)  # what is made once, such as checks and caches of kernels
    kernels = {tokens: _kernels(run, tokens) for tokens in (SHORT, LONG)}
    reads = {tokens: _reads(run, tokens) for tokens in (SHORT, LONG)}
    names = kernels[LONG].keys() | kernels[SHORT].keys()
    by_name = {name: (kernels[LONG][name] - kernels[SHORT][name]) / steps for name in sorted(names)}
    by_name = {name: count for name, count in by_name.items() if count}
    return StepCosts(sum(by_name.values()), (reads[LONG] - reads[SHORT]) / steps, by_name)


def _kernels(run: Callable[[int], None], tokens: int) -> Counter[str]:
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's own advice on profiles of several cycles
        with profile(activities=activities) as record:
            run(tokens)
    events: Any = record.events()
    if torch.cuda.is_available():
        return Counter(event.name for event in events if str(event.device_type).endswith("CUDA"))
    return Counter(launches(event for event in events if event.cpu_parent is None))


def launches(events: Iterable[Any]) -> Iterable[str]:
    """Names of the operations that launch a kernel, among these of the profiler and those inside them."""
    for event in events:
        name = event.name.removeprefix("aten::")
        if name in ONE_KERNEL:
            yield name
            continue
        inside = list(launches(event.cpu_children))
        if inside or not event.name.startswith("aten::") or name in NO_KERNEL:
            yield from inside
        else:
            yield name


def _reads(run: Callable[[int], None], tokens: int) -> int:
    if not torch.cuda.is_available():
        with CountedReads() as reads:
            run(tokens)
        return reads.count
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")  # warns itself that it is a prototype
        try:
            run(tokens)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(warning.message) for warning in caught)
