"""`--model maj8` (also `maj_at_k`): eight samples, and a text whose answer is the most frequent one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, cast

from lm_eval.api.instance import Instance

from s2t_eval.engine import OnRound, Request, Result, Sampling, derive_seed
from s2t_eval.engine.scheduler import Scheduler
from s2t_eval.model_wrappers.arguments import CommonArguments, SamplingArguments
from s2t_eval.model_wrappers.base import EngineLM, Generator
from s2t_eval.model_wrappers.requests import origin_of
from s2t_eval.model_wrappers.voting import votable_answers, votable_task, vote
from s2t_eval.remote.protocol import SUPPORT
from s2t_eval.remote.scheduler import RemoteScheduler
from s2t_eval.selection import policy
from s2t_eval.selection.confidence import TOP, ConfidenceSignal, text_confidence
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.triggers import Trigger


class ConfidentTexts:
    """Texts from servers with the confidence of every token, as `ConfidenceSignal` records it in the engine.

    Args:
        scheduler: keeps the most likely tokens of every step.
    """

    def __init__(self, scheduler: RemoteScheduler) -> None:
        self._scheduler = scheduler

    def run(self, requests: Sequence[Request], on_round: OnRound | None = None) -> Iterator[Result]:
        """See `RemoteScheduler.run`."""
        for result in self._scheduler.run(requests, on_round):
            assert result.top_log_probs is not None
            signals = result.top_log_probs[:, :TOP].mean(-1).tolist()
            yield replace(result, observed=[signals], top_ids=None, top_log_probs=None)


class MajorityVote(EngineLM):
    """Self-consistency (Maj@8): plurality over answers, read and compared by the task's own rule.

    The samples of a prompt share its prefill. The returned text is the first sample with the winning
    answer, so every filter of the task extracts the outcome of the vote. With `weight=confidence` a text's
    vote has the weight of the text's confidence (DeepConf).

    Raises:
        NoVotableAnswerError: the task's outputs have no answer to vote on (code).
    """

    METHOD = "maj8"
    ARGUMENTS = SamplingArguments
    DRAWS = True

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        super().__init__(pretrained, **kwargs)
        arguments = self.sampling_arguments
        self.sampling = Sampling(arguments.temperature, arguments.top_p, arguments.sample_top_k)

    @classmethod
    def require_arguments(cls, own: CommonArguments, model_args: Mapping[str, Any]) -> None:
        """See `LoadedStudent`: no sampling that reads more tokens than servers return of a step."""
        sampling = cast(SamplingArguments, own)
        if sampling.uses_servers and not 0 < sampling.sample_top_k <= SUPPORT:
            raise ValueError(
                f"sample_top_k: servers return the {SUPPORT} most likely tokens, so expected 1 to {SUPPORT}, "
                f"got {sampling.sample_top_k}"
            )

    @property
    def sampling_arguments(self) -> SamplingArguments:
        """The arguments of `maj8`."""
        return cast(SamplingArguments, self.arguments)

    def policy(self) -> Policy:
        """No step fires; the tokens are sampled."""
        return replace(policy.greedy(), name=self.METHOD)

    @property
    def is_weighted(self) -> bool:
        """Whether votes are weighted by the texts' confidence."""
        return self.sampling_arguments.weight == "confidence"

    def decoder(self, observe: Sequence[Trigger] = ()) -> Scheduler[Any]:
        """A decoder that records the confidence of every token where votes are weighted by it."""
        return super().decoder([ConfidenceSignal(), *observe] if self.is_weighted else observe)

    def generator(self) -> Generator:
        """What generates the samples, with the same confidences where the model is on servers."""
        generator = super().generator()
        if not isinstance(generator, RemoteScheduler) or not self.is_weighted:
            return generator
        generator.keep_top = True
        return ConfidentTexts(generator)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Refuses tasks without a votable answer before any token is generated."""
        for name in {instance.task_name for instance in requests}:
            votable_task(str(name))
        return super().generate_until(requests, disable_tqdm)

    def _samples(self, request: Request, instance: Instance) -> list[Request]:
        """`num_samples` draws, each with a seed of its own."""
        origin = origin_of(request)
        key = (self.arguments.seed, instance.task_name, instance.doc_id, origin.repeat)
        return [
            replace(
                request,
                sampling=self.sampling,
                seed=derive_seed(*key, sample),
                origin=origin._replace(sample=sample),
            )
            for sample in range(self.sampling_arguments.num_samples)
        ]

    def aggregate_samples(self, instance: Instance, samples: list[Result]) -> str:
        """The first text with the winning answer."""
        task = votable_task(str(instance.task_name))
        texts = [self.text(instance, result) for result in samples]
        answers = votable_answers(task, instance.doc, texts)
        plain = vote(answers)
        if not self.is_weighted:
            for result, answer in zip(samples, answers, strict=True):
                self.write_trace(instance, result, answer=answer, vote=asdict(plain))
            return texts[plain.winner]
        weights = [text_confidence(result.observed[0]) for result in samples]
        outcome = vote(answers, weights)
        for result, answer, weight in zip(samples, answers, weights, strict=True):
            more = {"vote": asdict(outcome), "plain_vote": asdict(plain), "confidence": weight}
            self.write_trace(instance, result, answer=answer, **more)
        return texts[outcome.winner]

    def describe(self) -> dict[str, Any]:
        """Model, sampling and seed."""
        sampling: dict[str, Any] = {
            **asdict(self.sampling),
            "num_samples": self.sampling_arguments.num_samples,
        }
        if self.is_weighted:
            sampling["weight"] = "confidence"
        return {**super().describe(), "sampling": sampling}
