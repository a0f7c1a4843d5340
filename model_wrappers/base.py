"""The base of all backends: stock `hf` whose generation runs on our engine."""

from __future__ import annotations

import functools
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from lm_eval.api.instance import Instance
from lm_eval.utils import simple_parse_args_string

import s2t_eval
from s2t_eval.artifacts.manifest import UNKNOWN_WEIGHTS
from s2t_eval.engine import Decoder, ModelRunner, OnRound, Request, Result
from s2t_eval.engine.progress import GenerationProgress
from s2t_eval.engine.scheduler import Scheduler
from s2t_eval.method_table import BY_MODEL
from s2t_eval.model_wrappers.embedded_pair import with_embedded_pair
from s2t_eval.model_wrappers.harness_tasks import delimit_instructions, num_builds, record_built_tasks
from s2t_eval.model_wrappers.provenance import provenance, running_code, teacher_differences
from s2t_eval.model_wrappers.records import RunRecords
from s2t_eval.model_wrappers.requests import HarnessRequests, origin_of
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
from s2t_eval.model_wrappers.served import stated_dtype
from s2t_eval.model_wrappers.stock_arguments import flags_without_arguments
from s2t_eval.model_wrappers.stock_tasks import serve_stock_tasks
from s2t_eval.model_wrappers.teacher import load_teacher
from s2t_eval.model_wrappers.telemetry import Telemetry, peak_memory
from s2t_eval.remote.build import LocalModels
from s2t_eval.selection.calibration import Calibration
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.triggers import Trigger

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

logger = logging.getLogger(__name__)

record_built_tasks()
delimit_instructions()
serve_stock_tasks()


class Generator(Protocol):
    """Generates texts: the engine's scheduler, or the one over servers."""

    def run(self, requests: Sequence[Request], on_round: OnRound | None = None) -> Iterator[Result]:
        """The results, each as soon as its text has ended."""
        ...


class EngineLM(HarnessRequests):
    """A backend: subclasses define their method, their arguments and their policy.

    Log-likelihoods are stock `hf`'s of the plain student, whatever the method, unless an adapter is part
    of the weights that write (`scoring_student`). Differences from stock in generation: a penalty in
    the checkpoint's generation config is not applied (no method gets one), requests keep their own stop
    strings and limits, answers also end at tokens that end a turn by their name (`stop_ids`), a request
    that samples takes neither top_p nor top_k from the generation config, and the text of a request does
    not depend on its place in a batch.

    Raises:
        ValueError: unknown or unusable arguments.
        ModelLoadError: a model that is missing or unreadable.
    """

    _is_scoring = False
    """Whether given texts are scored, not generated."""

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        running_code()  # before any text: the results name the code that the run began with
        super().__init__(pretrained, **kwargs)
        self.teacher: ModelRunner | None = None
        self.teacher_tokenizer: Any = None
        self.teacher_fingerprint: str | None = None
        trace = None if self.is_copy else self.arguments.trace
        self.records = RunRecords(self.METHOD, self.telemetry, trace, self.rank)
        self._texts = TextCache()
        self._num_builds = num_builds()
        self._scored_tasks: set[str] = set()

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Self:
        """The harness's constructor from `--model_args` as text."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> Self:
        """The harness's constructor from arguments; without `pretrained` it uses the embedded pair.

        The harness's `--seed` applies unless `seed=` is given.
        """
        arguments = {**harness_seed(), **with_embedded_pair(cls.METHOD, arg_dict)}
        return cls(**arguments, **flags_without_arguments(arguments, additional_config))

    def policy(self) -> Policy:
        """The policy of this run."""
        raise TypeError(f"{type(self).__name__} defines no policy")

    # ---------------------------------------------------------------- teacher, thresholds

    def find_teacher(self, name: str | None, kwargs: Mapping[str, Any]) -> None:
        """Load the teacher, or only what is here of one on servers; without either nothing happens.

        Args:
            name: the argument `teacher`.
            kwargs: the backend's arguments.
        """
        if self.is_teacher_served:
            assert self.served is not None
            trust = bool(kwargs.get("trust_remote_code", False))
            served = self.served.teacher(self.tokenizer, name, trust)
            self.teacher_tokenizer, self.teacher_fingerprint = served
        elif name is not None:
            limit = kwargs.get("max_length")
            loaded = load_teacher(
                name, self.tokenizer, self.teacher_options, limit, compile=self.arguments.compile
            )
            self.teacher, self.teacher_fingerprint = loaded.runner, loaded.fingerprint
            self.teacher_tokenizer = loaded.tokenizer

    @property
    def is_teacher_served(self) -> bool:
        """Whether the teacher is on servers."""
        return self.served is not None and bool(self.served.fleet.teachers)

    def load_calibration(
        self, file: str | None, warmup_tokens: int | None, needs_teacher: bool
    ) -> Calibration | None:
        """A calibration of this run's models; a warning where the weights of one are not on this machine.

        Args:
            file: the argument `calibration`.
            warmup_tokens: those of the run; None: they do not matter.
            needs_teacher: whether the thresholds that are read depend on the teacher.

        Raises:
            CalibrationError: it was made for another model, or for other warm-up tokens.
        """
        if file is None:
            return None
        calibration = Calibration.load(Path(file))
        student = None if self.student_fingerprint == UNKNOWN_WEIGHTS else self.student_fingerprint
        teacher = self.teacher_fingerprint if needs_teacher else None
        calibration.require(student, teacher, calibration.warmup if warmup_tokens is None else warmup_tokens)
        is_unknown = calibration.student == UNKNOWN_WEIGHTS or student is None
        if needs_teacher:
            is_unknown |= calibration.teacher == UNKNOWN_WEIGHTS or teacher is None
        if is_unknown:
            logger.warning(
                "calibration=%s: not compared with a model on servers whose weights are not here",
                file,
            )
        return calibration

    # ---------------------------------------------------------------- generation

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts for the harness's requests, in their order.

        Raises:
            ValueError: `mixed_precision_dtype`, which log-likelihoods alone follow.
        """
        if self.mixed_precision_dtype is not None:
            raise ValueError(
                f"mixed_precision_dtype={self.mixed_precision_dtype}: texts are generated in the model's own "
                "dtype; leave it out, or give dtype="
            )
        self._begin_evaluation()
        self.records.add_prompts(requests)
        padded = self.padding(requests)
        distinct = {i: instance for i, instance in enumerate(requests) if i not in padded}
        # As in stock, the longest prompts come first; equal prompts are adjacent and share their prefill.
        pending = sorted(self._requests_of(distinct), key=lambda request: request.longest_first)
        texts = self._aggregated_texts(distinct, pending, disable_tqdm)
        self.records.finish(self)
        return [texts[padded.get(position, position)] for position in range(len(requests))]

    def _begin_evaluation(self) -> None:
        """Begin the records anew where tasks have built requests since the last ones of this model.

        The harness runs several evaluations on one model object and does not announce them. In each all tasks
        build their requests before the first of them is run, whatever their kind.
        """
        if self._num_builds != num_builds():
            self._num_builds = num_builds()
            self.telemetry = Telemetry()
            self.records.begin(self.telemetry)
            self._scored_tasks = set()

    def _aggregated_texts(
        self, instances: dict[int, Instance], pending: Sequence[Request], disable_tqdm: bool
    ) -> dict[int, str]:
        """The harness's answers by position, each as soon as its last sample is generated."""
        expected = Counter(origin_of(request).position for request in pending)
        samples: dict[int, list[Result]] = defaultdict(list)
        texts: dict[int, str] = {}
        with GenerationProgress(len(expected), self.METHOD, disable_tqdm or self.rank != 0) as progress:
            for result in self._results(pending, progress.on_round):
                position = origin_of(result.request).position
                samples[position].append(result)
                if len(samples[position]) == expected[position]:
                    in_order = sorted(samples.pop(position), key=lambda item: origin_of(item.request).sample)
                    texts[position] = self.aggregate_samples(instances[position], in_order)
                    progress.update()
        return texts

    def _results(self, pending: Sequence[Request], on_round: OnRound | None = None) -> Iterator[Result]:
        """The texts as they are finished, preceded by those that an earlier run with this cache finished."""
        uncached = []
        for index, request in enumerate(pending):
            cached = self._texts.get(request, index)
            if cached is None:
                uncached.append(request)
            else:
                self.telemetry.add(cached)
                yield cached.result
        if len(uncached) < len(pending):
            logger.info("%d of %d texts come from the cache", len(pending) - len(uncached), len(pending))
        last = time.perf_counter()
        for result in self.generator().run(uncached, on_round):
            now = time.perf_counter()
            timed = TimedResult(result, now - last, peak_memory(self._devices))
            last = now
            self.telemetry.add(timed)
            self._texts.put(timed)
            yield result

    def generator(self) -> Generator:
        """What generates the texts: the engine's decoder, or the scheduler over the servers."""
        if self.served is None:
            return self.decoder()
        local = LocalModels(None if self.is_student_served else self.student, self.teacher, self.rows)
        return self.served.scheduler(
            self.policy(), self.student.text_vocab, self.tok_decode, self.thoughts.answer_of, local
        )

    def decoder(self, observe: Sequence[Trigger] = ()) -> Scheduler[Any]:
        """A decoder of the engine for this run's policy."""
        return Decoder(
            self.student,
            self.policy(),
            self.teacher,
            self.rows,
            self.tok_decode,
            observe,
            answer_of=self.thoughts.answer_of,
            **self._decoder_options(),
        )

    def _decoder_options(self) -> dict[str, Any]:
        """Further arguments of the decoder, for methods that have some."""
        return {}

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Stock `hf`'s log-likelihoods of the student; refused where it is on servers."""
        with self._scoring(requests):
            return super().loglikelihood(requests, disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Stock `hf`'s log-likelihoods of the student; refused where it is on servers."""
        with self._scoring(requests):
            return super().loglikelihood_rolling(requests, disable_tqdm)

    @contextmanager
    def _scoring(self, requests: list[Instance]) -> Iterator[None]:
        """Meanwhile the context is the student's own: nothing else reads texts that are given."""
        self._begin_evaluation()
        self._require_weights(requests)
        method = BY_MODEL.get(self.METHOD)
        if method is None or not method.is_plain:
            if not self._scored_tasks:
                logger.warning(
                    "log-likelihoods are scores of the %s student alone, whatever else --model %s does in "
                    "generated texts (logged once)",
                    self.scoring_student,
                    self.METHOD,
                )
            self._scored_tasks |= {str(instance.task_name) for instance in requests}
        self._is_scoring = True
        try:
            yield
        finally:
            self._is_scoring = False

    @property
    def scoring_student(self) -> str:
        """Whose log-likelihoods are computed: the "plain" student's, or one "adapted" by the method."""
        return "plain"

    def _require_weights(self, requests: list[Instance]) -> None:
        if self.is_student_served:
            raise ValueError(
                f"task {requests[0].task_name}: it needs log-likelihoods, which student_url does not serve; "
                "use --model vllm or --model local-completions of lm_eval for it"
            )

    @property
    def max_length(self) -> int:
        """Context in tokens: the student's; while texts are generated at most what all others have.

        The length that servers were started with is no part of it: what exceeds that is refused, not cut.
        """
        own = int(super().max_length)
        return own if self._is_scoring else min([own, *self._other_contexts()])

    def _other_contexts(self) -> list[int]:
        """Contexts in tokens of the models that read the generated texts besides the student."""
        return []

    @functools.cached_property
    def _devices(self) -> frozenset[torch.device]:
        """The devices that the models of this process are on; "meta" of one on servers."""
        models = [self.model] if self.teacher is None else [self.model, self.teacher.base]
        return frozenset(parameter.device for model in models for parameter in model.parameters())

    @property
    def rows(self) -> int:
        """Texts decoded at once. `auto` starts with max_batch_size, which is halved when memory runs out."""
        size = self.batch_size
        return int(self.max_batch_size) if isinstance(size, str) else int(size)

    def aggregate_samples(self, instance: Instance, samples: list[Result]) -> str:
        """The answer to one of the harness's requests, from all its texts in the order of their samples."""
        [result] = samples
        self.write_trace(instance, result)
        return self.text(instance, result)

    # ---------------------------------------------------------------- records

    def write_trace(self, instance: Instance, result: Result, **more: Any) -> None:
        """Write the trace's line of one text; `more` are further entries."""
        self.records.write_trace(instance, result, self.policy(), **more)

    def describe(self) -> dict[str, Any]:
        """What determines the texts: models, policy, sampling and seed."""
        return {
            "policy": self.policy().describe(),
            "student": self.student_fingerprint,
            "dtype": str(self.model.dtype) if not self.is_student_served else stated_dtype(self.model_args),
            **({"servers": self.served.describe()} if self.served is not None else {}),
            "add_bos_token": self.add_bos_token,
            "think_end_token": self.think_end_token,
            "seed": self.arguments.seed,
            "max_length": self.max_length,
        }

    def get_model_info(self) -> dict[str, Any]:
        """Stock's entry for the results file, with ours under `s2t_eval`."""
        scored = {f"{self.scoring_student}_likelihoods": sorted(self._scored_tasks)}
        described = self.describe()
        entry = {
            "version": s2t_eval.__version__,
            **provenance(self.model, self.teacher),
            **({"device": "a server"} if self.is_student_served else {}),
            "method": self.METHOD,
            "pretrained": self.student_name,
            **described,
            **teacher_differences(self.teacher, described["dtype"], torch.device(self.model.device)),
            **({"system_turn": "in the first user turn"} if self.is_system_turn_moved else {}),
            **(scored if self._scored_tasks else {}),
            "batch_size": self.rows,
            **self.records.report(self._devices),
        }
        return {**super().get_model_info(), "s2t_eval": entry}

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Use the harness's response cache, unless another run filled it.

        Raises:
            CacheMismatchError: another method, model or argument that may change a text.
        """
        super().set_cache_hook(cache_hook)
        store = getattr(cache_hook, "dbdict", None)
        if store is not None:
            require_same_run(store, getattr(store, "filename", "this file"), self.identity())
            self._texts = TextCache(store)

    def identity(self) -> dict[str, Any]:
        """Everything that may change a text: all arguments except those known not to, and what they load."""
        # Of weights that are not here the name is all that is known.
        named = {"pretrained": self.student_name} if self.student_fingerprint == UNKNOWN_WEIGHTS else {}
        return {
            **argument_values(self.arguments, self.model_args),
            "backend": self.METHOD,  # stock has an argument of this name with another meaning
            **software(),
            **loaded_as("student", self.model),
            **(loaded_as("teacher", self.teacher.base) if self.teacher is not None else {}),
            **named,
            **self.describe(),
        }


keep_own_texts(EngineLM)
