"""The base of all backends: stock `hf` whose generation runs on our engine."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import simple_parse_args_string
from tqdm import tqdm

import s2t_eval
from s2t_eval.engine import (
    Decoder,
    Finish,
    FiredStep,
    Request,
    Result,
    Sampling,
    SlotModel,
    derive_seed,
)
from s2t_eval.files import TraceWriter
from s2t_eval.fingerprint import data_hash, model_fingerprint
from s2t_eval.generated import GeneratedText
from s2t_eval.loading import load_adapter, loading, require_safetensors, resolve_model
from s2t_eval.model_wrappers.arguments import CommonArguments, split_arguments
from s2t_eval.model_wrappers.stock_arguments import one_of_each, require_context, require_stock
from s2t_eval.model_wrappers.stock_tasks import serve_stock_tasks
from s2t_eval.model_wrappers.telemetry import Telemetry
from s2t_eval.policy import Policy
from s2t_eval.triggers import Trigger
from s2t_eval.vocabulary import stop_ids, text_vocabulary

logger = logging.getLogger(__name__)

CACHE_KEY = "s2t_eval fingerprint"
serve_stock_tasks()

HARMLESS = {"use_cache": None, "num_beams": 1, "repetition_penalty": 1.0, "num_return_sequences": 1}
"""Generation arguments that change nothing at these values (None: at any)."""


class CacheMismatchError(ValueError):
    """A response cache that holds another method's or model's texts."""


@dataclass(frozen=True)
class Job:
    """One text to generate for one of the harness's requests."""

    position: int
    repeat: int
    sample: int
    request: Request


class EngineLM(HFLM):
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
        trace = self.arguments.trace
        self._trace = TraceWriter(Path(str(trace))) if trace else None
        if not torch.cuda.is_available() and stock.get("device") is None:
            stock["device"] = "cpu"  # stock's default is "cuda" even where there is none
        path = resolve_model(pretrained) if isinstance(pretrained, str) else pretrained
        self.student_name = pretrained if isinstance(pretrained, str) else pretrained.name_or_path
        super().__init__(path, **stock)
        if self.backend != "causal":
            raise ValueError(
                f"pretrained={self.student_name}: expected a decoder-only model, got an encoder-decoder"
            )
        require_context("model", stock.get("max_length"), self.model.config)
        self.student = SlotModel(self.model, self.student_name, text_vocabulary(self.tokenizer))
        self.teacher: SlotModel | None = None
        self.student_fingerprint = model_fingerprint(self.model)
        self.stop_ids = stop_ids(self.tokenizer, getattr(self.model, "generation_config", None))
        self.telemetry = Telemetry()
        self._prompts: dict[str, dict[int, str]] = defaultdict(dict)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Any = None) -> EngineLM:
        """A backend from the text of `--model_args` and the harness's own flags."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: Any = None) -> EngineLM:
        """A backend from `--model_args` and the harness's own flags, which may repeat each other."""
        return cls(**arg_dict, **one_of_each(arg_dict, additional_config))

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
        with loading("pretrained", self.student_name):
            super()._create_model(pretrained, *args, **kwargs)
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
        jobs = self._jobs(requests)
        expected = Counter(job.position for job in jobs)
        arrived: dict[int, list[tuple[Job, Result]]] = defaultdict(list)
        texts: dict[int, str] = {}
        began = time.perf_counter()
        decoder = self.decoder()
        bar = tqdm(
            total=len(requests),
            disable=disable_tqdm or self.rank != 0,
            desc=f"Running {self.METHOD} generate_until requests",
        )
        with bar:
            for result in decoder.run([job.request for job in jobs]):
                job = jobs[result.index]
                self.telemetry.add(result)
                arrived[job.position].append((job, result))
                if len(arrived[job.position]) == expected[job.position]:
                    instance = requests[job.position]
                    samples = sorted(arrived.pop(job.position), key=lambda pair: pair[0].sample)
                    texts[job.position] = self.settle(instance, samples)
                    self.cache_hook.add_partial("generate_until", instance.args, texts[job.position])
                    bar.update()
        self.telemetry.seconds += time.perf_counter() - began
        if self._trace is not None:
            self._trace.finish()
        return [texts[position] for position in range(len(requests))]

    def decoder(self, observe: Sequence[Trigger] = ()) -> Decoder:
        """A decoder for this run's policy."""
        return Decoder(self.student, self.policy(), self.teacher, self.rows, self.tok_decode, observe)

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
        ids = result.text_ids
        if isinstance(self.think_end_token, int) and self.think_end_token in ids:
            ids = ids[len(ids) - ids[::-1].index(self.think_end_token) :]
        text = self.tok_decode(ids)
        if isinstance(self.think_end_token, int):
            text = text.lstrip()
        think_end = self.think_end_token if isinstance(self.think_end_token, str) else None
        until = normalize_gen_kwargs(instance.args[1], self.max_gen_toks)["until"]
        text = postprocess_generated_text(text, until, think_end)
        return GeneratedText(text, truncated=result.finish is Finish.LENGTH)

    def _jobs(self, requests: Sequence[Instance]) -> list[Job]:
        """Engine requests, longest prompts first as stock does it; equal prompts stand together."""
        jobs: list[Job] = []
        seen: Counter[tuple[object, ...]] = Counter()
        for position, instance in enumerate(requests):
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
        return sorted(jobs, key=lambda job: (-len(job.request.prompt_ids), job.request.prompt_ids))

    def _request(self, instance: Instance, *key: object) -> Request:
        context, gen_kwargs = instance.args
        options: dict[str, Any] = dict(normalize_gen_kwargs(gen_kwargs, self.max_gen_toks))
        until, limit = options.pop("until"), options.pop("max_gen_toks")
        sampling = _sampling(options)
        vocab = self.tokenizer.get_added_vocab()
        return Request(
            prompt_ids=self._encode(context, limit),
            max_new_tokens=limit,
            # Special tokens vanish from decoded text, so a stop string that names one is an id.
            stop_ids=self.stop_ids | {vocab[stop] for stop in until if stop in vocab},
            stop_strings=tuple(stop for stop in until if stop not in vocab),
            sampling=sampling,
            seed=derive_seed(self.arguments.seed, *key),
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
        policy = self.policy()
        self._trace.write(
            {
                "task": instance.task_name,
                "doc_id": instance.doc_id,
                "repeat": job.repeat,
                "sample": job.sample,
                "method": self.METHOD,
                "trigger": policy.trigger.name,
                "threshold": policy.threshold,
                "prompt_ids": list(job.request.prompt_ids),
                "output_ids": result.output_ids,
                "finish": result.finish.value,
                "seconds": result.usage.seconds,
                "usage": asdict(result.usage),
                "steps": [_record(step) for step in result.steps],
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
        ours = {
            "version": s2t_eval.__version__,
            "method": self.METHOD,
            "pretrained": self.student_name,
            **self.describe(),
            "batch_size": self.rows,
            "prompt_hashes": {
                task: data_hash(prompts[doc_id] for doc_id in sorted(prompts))
                for task, prompts in self._prompts.items()
            },
            "telemetry": self.telemetry.report(),
        }
        return {**super().get_model_info(), "s2t_eval": ours}

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Take the harness's response cache, unless another method or model filled it.

        The harness's keys hold the prompt and the generation arguments alone (#4063), so without
        this a greedy cache would answer for `s2t`.
        """
        super().set_cache_hook(cache_hook)
        cache = getattr(cache_hook, "dbdict", None)
        if cache is None:
            return
        ours = json.dumps({"backend": self.METHOD, **self.describe()}, sort_keys=True, default=str)
        theirs = cache.get(CACHE_KEY)
        if theirs is None and len(cache) == 0:
            cache[CACHE_KEY] = ours
        elif theirs != ours:
            raise CacheMismatchError(
                f"--use_cache: {getattr(cache, 'filename', 'this file')} was filled by "
                f"{_difference(theirs, ours)}; name another file for this run"
            )


def _record(step: FiredStep) -> dict[str, Any]:
    """A step in JSON values; the trigger `always` has no finite divergence, and JSON no infinity."""
    values = step._asdict()
    return values if math.isfinite(step.divergence) else {**values, "divergence": None}


def _difference(theirs: str | None, ours: str) -> str:
    if theirs is None:
        return "another backend, which left no note of its model and method"
    before, now = json.loads(theirs), json.loads(ours)
    differing = [key for key in now if before.get(key) != now[key]]
    return "another run: " + ", ".join(f"{k} {before.get(k)} (now {now[k]})" for k in differing)


def _sampling(options: dict[str, Any]) -> Sampling | None:
    """How a task's generation arguments ask to sample; refuses what the engine does not do."""
    do_sample = options.pop("do_sample", False)
    temperature = float(options.pop("temperature", 0.0))
    top_p, top_k = float(options.pop("top_p", 1.0)), int(options.pop("top_k", 0) or 0)
    for name, value in options.items():
        if name not in HARMLESS or HARMLESS[name] not in (None, value):
            raise ValueError(
                f"generation_kwargs: {name}={value} is not supported by the slot engine (it knows "
                "until, max_gen_toks, do_sample, temperature, top_p, top_k); leave it out, for the "
                "control too"
            )
    if not do_sample or temperature == 0.0:
        return None
    return Sampling(temperature, top_p, max(top_k, 0))
