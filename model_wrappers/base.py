"""The base of all backends: stock `hf` whose generation runs on our engine."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from lm_eval.api.instance import Instance
from lm_eval.utils import simple_parse_args_string

from s2t_eval.engine import Decoder, OnRound, Request, Result
from s2t_eval.engine.progress import GenerationProgress
from s2t_eval.engine.scheduler import Scheduler
from s2t_eval.method_table import BY_MODEL
from s2t_eval.model_wrappers.embedded_pair import with_embedded_pair
from s2t_eval.model_wrappers.harness_tasks import delimit_instructions, record_built_tasks
from s2t_eval.model_wrappers.recorded_pair import RecordedPair
from s2t_eval.model_wrappers.requests import origin_of
from s2t_eval.model_wrappers.response_cache import TimedResult, keep_own_texts
from s2t_eval.model_wrappers.seeds import harness_seed
from s2t_eval.model_wrappers.stock_arguments import flags_without_arguments
from s2t_eval.model_wrappers.stock_tasks import serve_stock_tasks
from s2t_eval.model_wrappers.telemetry import peak_memory
from s2t_eval.remote.build import LocalModels
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


class EngineLM(RecordedPair):
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
        self.begin_evaluation()
        self.records.add_prompts(requests)
        padded = self.padding(requests)
        distinct = {i: instance for i, instance in enumerate(requests) if i not in padded}
        # As in stock, the longest prompts come first; equal prompts are adjacent and share their prefill.
        pending = sorted(self._requests_of(distinct), key=lambda request: request.longest_first)
        texts = self._aggregated_texts(distinct, pending, disable_tqdm)
        self.records.finish(self)
        return [texts[padded.get(position, position)] for position in range(len(requests))]

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
            cached = self.finished_texts.get(request, index)
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
            timed = TimedResult(result, now - last, peak_memory(self.devices))
            last = now
            self.telemetry.add(timed)
            self.finished_texts.put(timed)
            yield result

    def generator(self) -> Generator:
        """What generates the texts: the engine's decoder, or the scheduler over the servers."""
        if self.served is None:
            return self.decoder()
        return self.served.scheduler(
            self.policy(),
            self.student.text_vocab,
            self.tok_decode,
            self.thoughts.answer_of,
            self.local_models,
        )

    @property
    def local_models(self) -> LocalModels:
        """The models of this process, beside those on servers."""
        return LocalModels(None if self.is_student_served else self.student, self.teacher, self.rows)

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

    def aggregate_samples(self, instance: Instance, samples: list[Result]) -> str:
        """The answer to one of the harness's requests, from all its texts in the order of their samples."""
        [result] = samples
        self.write_trace(instance, result)
        return self.text(instance, result)

    # ---------------------------------------------------------------- log-likelihoods

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
        self.begin_scoring(requests)
        self._is_scoring = True
        try:
            yield
        finally:
            self._is_scoring = False

    def begin_scoring(self, requests: list[Instance]) -> None:
        """Record the tasks of requests with log-likelihoods, those that a response cache answers included.

        Raises:
            ValueError: the student is on servers.
        """
        self.begin_evaluation()
        self._require_weights(requests)
        method = BY_MODEL.get(self.METHOD)
        if method is None or not method.is_plain:
            if not self.scored_tasks:
                logger.warning(
                    "log-likelihoods are scores of the %s student alone, whatever else --model %s does in "
                    "generated texts (logged once)",
                    self.scoring_student,
                    self.METHOD,
                )
            self.scored_tasks |= {str(instance.task_name) for instance in requests}

    def _require_weights(self, requests: list[Instance]) -> None:
        if self.is_student_served:
            raise ValueError(
                f"task {requests[0].task_name}: it needs log-likelihoods, which student_url does not serve; "
                "use --model vllm or --model local-completions of lm_eval for it"
            )

    # ---------------------------------------------------------------- context

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


keep_own_texts(EngineLM)
