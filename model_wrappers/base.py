"""The base of all backends: stock `hf` whose generation runs on our engine."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from lm_eval.api.instance import Instance
from lm_eval.utils import simple_parse_args_string

import s2t_eval
from s2t_eval.artifacts.files import TraceWriter, require_new_trace
from s2t_eval.artifacts.fingerprint import data_hash, model_fingerprint
from s2t_eval.engine import Decoder, ModelRunner, OnRound, Request, Result, derive_seed
from s2t_eval.engine.scheduler import Scheduler
from s2t_eval.model_wrappers.arguments import CommonArguments, split_arguments
from s2t_eval.model_wrappers.embedded_pair import with_embedded_pair
from s2t_eval.model_wrappers.generation_arguments import GenerationArguments, read_generation_arguments
from s2t_eval.model_wrappers.processes import SharedWork
from s2t_eval.model_wrappers.progress import GenerationProgress
from s2t_eval.model_wrappers.provenance import provenance
from s2t_eval.model_wrappers.response_cache import (
    TextCache,
    TimedResult,
    argument_values,
    keep_own_texts,
    loaded_as,
    require_same_run,
    software,
)
from s2t_eval.model_wrappers.seeds import harness_seed
from s2t_eval.model_wrappers.stock_arguments import one_of_each, require_context, require_stock
from s2t_eval.model_wrappers.stock_tasks import serve_stock_tasks
from s2t_eval.model_wrappers.telemetry import Telemetry, peak_memory, together
from s2t_eval.model_wrappers.thoughts import Thoughts
from s2t_eval.model_wrappers.trace_lines import trace_line
from s2t_eval.models.loading import (
    WholeCheckpoints,
    load_adapter,
    loading,
    require_finite,
    require_safetensors,
    resolve_model,
)
from s2t_eval.models.vocabulary import stop_ids, text_vocabulary
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.triggers import Trigger

logger = logging.getLogger(__name__)

serve_stock_tasks()


@dataclass(frozen=True)
class Job:
    """One text to generate for one of the harness's requests."""

    position: int
    repeat: int
    sample: int
    request: Request


Prompts = dict[str, dict[int, str]]
"""Task -> document -> prompt."""


class Part(NamedTuple):
    """What one process did."""

    telemetry: Telemetry
    prompts: Prompts


class EngineLM(SharedWork):
    """A backend: subclasses name their method, their arguments and their policy.

    Log-likelihoods are stock `hf`'s. Differences from stock in generation: a penalty in the
    checkpoint's generation config is not applied (no method gets one), requests keep their own stop
    strings and limits, and a row's place in a batch does not matter.

    Raises:
        ValueError: unknown or unusable arguments.
        ModelLoadError: a model that is missing or unreadable.
    """

    METHOD: ClassVar[str]
    ARGUMENTS: ClassVar[type[CommonArguments]] = CommonArguments

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        self.arguments, stock = split_arguments(self.METHOD, self.ARGUMENTS, kwargs)
        require_stock(stock)
        if self.arguments.trace:
            require_new_trace(Path(str(self.arguments.trace)))
        if not torch.cuda.is_available() and stock.get("device") is None:
            stock["device"] = "cpu"  # stock's default is "cuda" even where there is none
        path = resolve_model(pretrained) if isinstance(pretrained, str) else pretrained
        self.student_name = pretrained if isinstance(pretrained, str) else pretrained.name_or_path
        super().__init__(path, **stock)
        if self.backend != "causal":
            raise ValueError(
                f"pretrained={self.student_name}: expected a decoder-only model, got an encoder-decoder"
            )
        require_finite("pretrained", self.student_name, self.model)
        require_context("model", stock.get("max_length"), self.model.config)
        self._given = kwargs
        self.join_processes()
        self._trace = self._make_trace()
        self.student = ModelRunner(self.model, self.student_name, text_vocabulary(self.tokenizer))
        self.teacher: ModelRunner | None = None
        self.student_fingerprint = model_fingerprint(self.model)
        self.stop_ids = stop_ids(self.tokenizer, getattr(self.model, "generation_config", None))
        self.thoughts = Thoughts(self.tokenizer, self.tok_decode, self.think_end_token, self.enable_thinking)
        self.telemetry = Telemetry()
        self._texts = TextCache()
        self._prompts: Prompts = defaultdict(dict)
        self._parts: list[Part] = []

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Self:
        """How the harness makes a model of `--model_args` as text."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> Self:
        """How the harness makes a model, by default of the embedded pair.

        The harness's `--seed` holds where `seed=` is not given.
        """
        arguments = {**harness_seed(), **with_embedded_pair(cls.METHOD, arg_dict)}
        return cls(**arguments, **one_of_each(arguments, additional_config))

    def _make_trace(self) -> TraceWriter | None:
        if not self.arguments.trace or self.is_copy:
            return None
        return TraceWriter(Path(str(self.arguments.trace)), self.rank)

    def policy(self) -> Policy:
        """The policy of this run."""
        raise TypeError(f"{type(self).__name__} names no policy")

    # ---------------------------------------------------------------- loading

    def _get_config(self, *args: Any, **kwargs: Any) -> None:
        with loading("pretrained", self.student_name):
            super()._get_config(*args, **kwargs)

    def _create_tokenizer(self, *args: Any, **kwargs: Any) -> None:
        with loading("pretrained", self.student_name):
            super()._create_tokenizer(*args, **kwargs)

    def _create_model(self, pretrained: str, *args: Any, **kwargs: Any) -> None:
        """Stock loading, but for two traps: GGUF blocks are unpacked, and adapters shrink nothing.

        Stock `peft=` resizes the embeddings to the tokenizer's size, which would cut off the rows
        that pad the vocabulary of Qwen and others.
        """
        peft = kwargs.pop("peft", None)
        if kwargs.get("gguf_file"):
            from transformers import GgufConfig

            kwargs["quantization_config"] = GgufConfig(dequantize=True)
        elif not kwargs.get("autogptq") and not kwargs.get("gptqmodel"):
            require_safetensors("pretrained", pretrained)
            kwargs["use_safetensors"] = True
        auto: Any = self.AUTO_MODEL_CLASS  # type: ignore[has-type]
        try:
            self.AUTO_MODEL_CLASS = WholeCheckpoints(auto, "pretrained", self.student_name)
            with loading("pretrained", self.student_name):
                super()._create_model(pretrained, *args, **kwargs)
        finally:
            self.AUTO_MODEL_CLASS = auto
        if peft:
            self._attach_adapter(peft, kwargs.get("revision"))

    def _attach_adapter(self, peft: str, revision: str | None) -> None:
        """Put an adapter into the loaded model."""
        base: Any = self._model  # type: ignore[has-type]
        if len(self.tokenizer) > base.get_input_embeddings().weight.shape[0]:
            base.resize_token_embeddings(len(self.tokenizer))
        self._model = load_adapter("peft", peft, base, revision=revision)

    # ---------------------------------------------------------------- generation

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts for the harness's requests, in their order."""
        for instance in requests:
            self._prompts[str(instance.task_name)][int(instance.doc_id or 0)] = instance.args[0]
        padded = self.padding(requests)
        jobs = self._jobs([None if i in padded else instance for i, instance in enumerate(requests)])
        expected = Counter(job.position for job in jobs)
        arrived: dict[int, list[tuple[Job, Result]]] = defaultdict(list)
        texts: dict[int, str] = {}
        progress = GenerationProgress(
            len(expected),
            self.METHOD,
            disable_tqdm or self.rank != 0,
        )
        with progress:
            for job, result in self._results(jobs, progress.on_round):
                arrived[job.position].append((job, result))
                if len(arrived[job.position]) == expected[job.position]:
                    samples = sorted(arrived.pop(job.position), key=lambda pair: pair[0].sample)
                    texts[job.position] = self.settle(requests[job.position], samples)
                    progress.update()
        self._finish()
        return [texts[padded.get(position, position)] for position in range(len(requests))]

    def _results(self, jobs: Sequence[Job], on_round: OnRound | None = None) -> Iterator[tuple[Job, Result]]:
        """The texts of all jobs as they come, those first that an earlier run of this cache finished."""
        waiting = []
        for position, job in enumerate(jobs):
            known = self._texts.get(job.request, position)
            if known is None:
                waiting.append(job)
            else:
                self.telemetry.add(known)
                yield job, known.result
        if len(waiting) < len(jobs):
            logger.info("%d of %d texts come from the cache", len(jobs) - len(waiting), len(jobs))
        last = time.perf_counter()
        for result in self.decoder().run([job.request for job in waiting], on_round):
            job, now = waiting[result.index], time.perf_counter()
            timed = TimedResult(result, now - last, peak_memory())
            last = now
            self.telemetry.add(timed)
            self._texts.put(job.request, timed)
            yield job, result

    def _finish(self) -> None:
        """Complete the trace; the first of several processes takes what the others have."""
        lines = self._trace.hand_over() if self._trace is not None and self.rank else []
        parts = self.gather_object((Part(self.telemetry, self._prompts), lines))
        if parts is not None:
            self._parts = [part for part, _ in parts]
            if self._trace is not None:
                self._trace.finish(line for _, others in parts for line in others)
        self.wait()
        if self._trace is not None and self.rank:
            self._trace.discard()

    def decoder(self, observe: Sequence[Trigger] = ()) -> Scheduler[Any]:
        """A decoder for this run's policy."""
        return Decoder(
            self.student,
            self.policy(),
            self.teacher,
            self.rows,
            self.tok_decode,
            observe,
            answer_of=self.thoughts.answer_of,
        )

    @property
    def rows(self) -> int:
        """Texts at work at once. `auto` begins with max_batch_size; too many are halved as needed."""
        size = self.batch_size
        return int(self.max_batch_size) if isinstance(size, str) else int(size)

    def expand(self, request: Request, *key: object) -> list[Request]:
        """The texts that answer one of the harness's requests; one, but for methods that vote."""
        return [request]

    def settle(self, instance: Instance, samples: list[tuple[Job, Result]]) -> str:
        """The answer to one of the harness's requests, from all its texts."""
        job, result = samples[0]
        self.write_trace(instance, job, result)
        return self.text(instance, result)

    def text(self, instance: Instance, result: Result) -> str:
        """A result's text as stock hands it on: cut at the first stop string, thinking left out."""
        prompt, gen_kwargs = instance.args
        return self.thoughts.text(result, prompt, self._asked(gen_kwargs).until)

    def engine_requests(self, instances: Sequence[Instance]) -> list[Request]:
        """The engine's request for each of the harness's, in their order: as `generate_until` makes it.

        For pipelines that decode training problems as the evaluation puts them.
        """
        return [job.request for job in sorted(self._jobs(instances), key=lambda job: job.position)]

    def _jobs(self, requests: Sequence[Instance | None]) -> list[Job]:
        """Engine requests, longest prompts first as stock does it; equal prompts stand together.

        None stands for a request that needs no text of its own.
        """
        jobs: list[Job] = []
        seen: Counter[tuple[object, ...]] = Counter()
        for position, instance in enumerate(requests):
            if instance is None:
                continue
            key = (instance.task_name, instance.doc_id, instance.idx)
            repeat = seen[key]
            seen[key] += 1
            names = (instance.task_name, instance.doc_id, repeat)
            try:
                request = self._request(instance, *names)
            except ValueError as error:
                raise ValueError(f"task {names[0]}, document {names[1]}: {error}") from error
            for sample, expanded in enumerate(self.expand(request, *names)):
                jobs.append(Job(position, repeat, sample, expanded))
        return sorted(jobs, key=lambda job: job.request.longest_first)

    def _asked(self, gen_kwargs: dict[str, Any]) -> GenerationArguments:
        return read_generation_arguments(
            gen_kwargs, self.max_gen_toks, self.stop_ids, self.student.text_vocab
        )

    def _request(self, instance: Instance, *key: object) -> Request:
        prompt, gen_kwargs = instance.args
        asked = self._asked(gen_kwargs)
        # Special tokens vanish from decoded text, so a stop string that names one is an id.
        special = self.thoughts.special_ids
        named = {special[stop] for stop in asked.until if stop in special}
        return Request(
            prompt_ids=self._encode(prompt, asked.max_new_tokens),
            max_new_tokens=asked.max_new_tokens,
            stop_ids=self.stop_ids | asked.stop_ids | named,
            stop_strings=tuple(stop for stop in asked.until if stop not in special),
            sampling=asked.sampling,
            seed=derive_seed(self.arguments.seed, *key),
            in_thought=self.thoughts.begins_inside(prompt, asked.until),
        )

    def _encode(self, context: str, limit: int) -> tuple[int, ...]:
        """Token ids of a prompt, its beginning cut off where prompt and answer exceed the context."""
        if limit >= self.max_length:
            raise ValueError(
                f"max_gen_toks: expected less than the model's context of {self.max_length} tokens, "
                f"got {limit}"
            )
        ids = self.tok_batch_encode([context], truncation=self.truncation)[0][0].tolist()
        room = self.max_length - limit
        if len(ids) > room:
            if not self.telemetry.truncated_prompts:
                logger.warning(
                    "a prompt of %d tokens leaves no room for %d new ones in a context of %d: its "
                    "beginning is cut off (said once; the results count truncated_prompts)",
                    len(ids),
                    limit,
                    self.max_length,
                )
            self.telemetry.truncated_prompts += 1
        return tuple(int(i) for i in ids[-room:])

    # ---------------------------------------------------------------- records

    def write_trace(self, instance: Instance, job: Job, result: Result, **more: Any) -> None:
        """One line a text, enough to replay every choice."""
        if self._trace is None:
            return
        self._trace.write(
            {
                "task": instance.task_name,
                "doc_id": instance.doc_id,
                "repeat": job.repeat,
                "sample": job.sample,
                "method": self.METHOD,
                **trace_line(job.request, result, self.policy()),
                **more,
            }
        )

    def describe(self) -> dict[str, Any]:
        """What decides the texts: models, policy, sampling and seed."""
        return {
            "policy": self.policy().describe(),
            "student": self.student_fingerprint,
            "dtype": str(self.model.dtype),
            "add_bos_token": self.add_bos_token,
            "think_end_token": self.think_end_token,
            "seed": self.arguments.seed,
            "max_length": self.max_length,
        }

    def get_model_info(self) -> dict[str, Any]:
        """Stock's entry for the results file, with ours under `s2t_eval`."""
        parts = self._parts or [Part(self.telemetry, self._prompts)]
        prompts: Prompts = defaultdict(dict)
        for task, asked in (item for part in parts for item in part.prompts.items()):
            prompts[task].update(asked)
        ours = {
            "version": s2t_eval.__version__,
            **provenance(self.model, self.teacher),
            "method": self.METHOD,
            "pretrained": self.student_name,
            **self.describe(),
            "batch_size": self.rows,
            "prompt_hashes": {
                task: data_hash(asked[doc_id] for doc_id in sorted(asked)) for task, asked in prompts.items()
            },
            "telemetry": together([part.telemetry for part in parts]).report(),
        }
        return {**super().get_model_info(), "s2t_eval": ours}

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Take the harness's response cache, unless another run filled it.

        Raises:
            CacheMismatchError: another method, model or argument that may change a text.
        """
        super().set_cache_hook(cache_hook)
        store = getattr(cache_hook, "dbdict", None)
        if store is not None:
            require_same_run(store, getattr(store, "filename", "this file"), self.identity())
            self._texts = TextCache(store)

    def identity(self) -> dict[str, Any]:
        """Everything that may change a text: every argument but those known not to, and what they came to."""
        return {
            **argument_values(self.arguments, self._given),
            "backend": self.METHOD,  # stock's argument of this name is another thing
            **software(),
            **loaded_as("student", self.model),
            **(loaded_as("teacher", self.teacher.base) if self.teacher is not None else {}),
            **self.describe(),
        }


keep_own_texts(EngineLM)
