"""Measurement of one run of the engine, with prefill and decoding timed separately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedModel

from benchmarks.ratios import Ratio, Stopwatch, Target, divide
from benchmarks.workload import Settings, load_model, load_prompts, load_tokenizer
from s2t_eval.engine import ModelRunner, Request
from s2t_eval.engine.compiled_layers import Compile
from s2t_eval.engine.pass_results import Prefilled
from s2t_eval.engine.scheduler import Scheduler
from s2t_eval.models.vocabulary import text_vocabulary


class ClockedModel(ModelRunner):
    """A model runner that measures the time of its prefills."""

    def __init__(
        self, model: PreTrainedModel, name: str, text_vocab: int | None, compile: Compile = "never"
    ) -> None:
        super().__init__(model, name, text_vocab, compile=compile)
        self.prefill_watch = Stopwatch()

    def prefill(self, rows: Sequence[int], texts: Sequence[Sequence[int]]) -> Prefilled:
        """`ModelRunner.prefill`, timed."""
        with self.prefill_watch.running():
            return super().prefill(rows, texts)


@dataclass(frozen=True)
class Run:
    """Counts and times in seconds of one run; the decoding times exclude the prefill."""

    tokens: int
    forwards: int
    triggers: int
    prefill_tokens: int
    seconds: float
    cpu: float
    decode_seconds: float
    decode_cpu: float
    discarded: int = 0
    teacher_calls: int = 0
    teacher_tokens: int = 0


def load_student(settings: Settings) -> tuple[ClockedModel, Any]:
    """Load the student and its tokenizer."""
    tokenizer = load_tokenizer(settings)
    model = load_model(settings.student, settings)
    vocab = text_vocabulary(tokenizer)
    return ClockedModel(model, settings.student, vocab, settings.compile), tokenizer


def make_requests(
    settings: Settings, tokenizer: Any, num: int, new_tokens: int, shots: int = 0
) -> list[Request]:
    """Create requests without stop rules, so that every method generates equally many tokens."""
    prompts = load_prompts(settings, tokenizer, num, shots)
    encoded = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    return [Request(tuple(ids), new_tokens, seed=i) for i, ids in enumerate(encoded)]


def decode(decoder: Scheduler[Any], requests: Sequence[Request]) -> Run:
    """Run requests after emptying the prefix caches of all models, which would otherwise skip prefills."""
    for runner in decoder.stepper.runners:
        runner.forget()
    models = [m for m in decoder.stepper.runners if isinstance(m, ClockedModel)]
    for model in models:
        model.prefill_watch = Stopwatch()
    watch = Stopwatch()
    with watch.running():
        usages = [result.usage for result in decoder.run(requests)]
    return Run(
        tokens=sum(usage.tokens for usage in usages),
        forwards=sum(usage.forwards for usage in usages),
        triggers=sum(usage.triggers for usage in usages),
        prefill_tokens=sum(usage.prefill_tokens for usage in usages),
        seconds=watch.wall,
        cpu=watch.cpu,
        decode_seconds=watch.wall - sum(model.prefill_watch.wall for model in models),
        decode_cpu=watch.cpu - sum(model.prefill_watch.cpu for model in models),
        discarded=sum(usage.discarded_tokens for usage in usages),
        teacher_calls=sum(usage.teacher_calls for usage in usages),
        teacher_tokens=sum(usage.teacher_tokens for usage in usages),
    )


def warm_up(decoder: Scheduler[Any], requests: Sequence[Request]) -> None:
    """Run two tokens per request without measuring: first allocations and kernel selection."""
    decode(decoder, [replace(request, max_new_tokens=2) for request in requests])


def compare(
    name: str,
    over: Sequence[Run],
    under: Sequence[Run],
    target: Target | None,
    whole: bool = False,
    **details: Any,
) -> Ratio:
    """Return the ratio of seconds per token of `over` to `under`, in decoding or with `whole` in all."""
    tokens = divide([run.tokens for run in over], [run.tokens for run in under])
    decoding = divide([r.decode_seconds for r in over], [r.decode_seconds for r in under])
    with_prefill = divide([r.seconds for r in over], [r.seconds for r in under])
    cpu = divide([_cpu(r, whole) for r in over], [_cpu(r, whole) for r in under])
    measured = {
        "with_prefill": divide(with_prefill, tokens),
        "seconds": [run.decode_seconds for run in over],
        "seconds_of_base": [run.decode_seconds for run in under],
        "tokens": over[0].tokens,
        "forwards_per_token": over[0].forwards / over[0].tokens,
        "realised_rate": over[0].triggers / over[0].tokens,
    }
    return Ratio(
        name,
        divide(with_prefill if whole else decoding, tokens),
        target,
        {**measured, **details},
        cpu=divide(cpu, tokens),
    )


def _cpu(run: Run, whole: bool) -> float:
    return run.cpu if whole else run.decode_cpu
