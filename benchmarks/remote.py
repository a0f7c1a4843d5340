"""Methods on vLLM servers against the student alone on the same servers, and against the engine here.

    python -m benchmarks.speed remote --student-url http://a:8001 --teacher-url http://b:8002 --repeats 3
    python -m benchmarks.speed remote-labels --student-url http://a:8001 --teacher-url http://b:8002

The first figure has one ratio for each trigger, length of a chunk and number of texts at once, with the
requests and the discarded tokens of a text; the second one compares labelling with a bare prefill.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import aiohttp
import torch

from benchmarks.decoding import ClockedModel, decode, load_student, make_requests, warm_up
from benchmarks.ratios import Ratio, Stopwatch, Target, alternate, divide
from benchmarks.workload import Settings, load_model
from s2t_eval.engine import Decoder, Request, Result
from s2t_eval.engine.request import Usage
from s2t_eval.models.vocabulary import stop_ids
from s2t_eval.remote.build import Fleet
from s2t_eval.remote.client import Pool
from s2t_eval.remote.jobs import Work, run_jobs
from s2t_eval.remote.labelling import RemoteScorer, ScoredText, certain_argmax
from s2t_eval.remote.probe import connect
from s2t_eval.remote.protocol import draft_body, read_usage
from s2t_eval.remote.scheduler import RemoteScheduler
from s2t_eval.remote.settings import RemoteSettings, server_urls
from s2t_eval.selection.policy import Policy, greedy, s2t
from s2t_eval.selection.triggers import KlTrigger, TopEntropyTrigger, Trigger

CHUNKS = (1, 8, 16)
CHUNK = 8
"""Of a run of one round, and of the comparison with the engine here."""
AT_ONCE = (1, 8)
"""Texts at once, beside `--batch`."""
TO_STUDENT, TO_ENGINE = ", to the student alone", ", to the engine here"
"""Ends of the ratios' names: what a side is compared with."""
NEW_TOKENS = 64
TAU = 0.05
CLIENT_MS = Target(0.2)
"""Processor time of the client for a token, in milliseconds."""
LABELLING = Target(0.8, is_floor=True)


@dataclass(frozen=True)
class ServerRun:
    """Counts and times of one run on servers."""

    texts: int
    tokens: int
    triggers: int
    requests: int
    teacher_requests: int
    discarded: int
    seconds: float
    client_seconds: float
    """processor time of this process"""

    @classmethod
    def of(cls, usages: Sequence[Usage], watch: Stopwatch) -> ServerRun:
        """The run of some texts."""
        return cls(
            len(usages),
            sum(usage.tokens for usage in usages),
            sum(usage.triggers for usage in usages),
            sum(usage.server_requests for usage in usages),
            sum(usage.teacher_calls for usage in usages),
            sum(usage.discarded_tokens for usage in usages),
            watch.wall,
            watch.cpu,
        )

    @property
    def seconds_per_token(self) -> float:
        """Wall-clock seconds of a token."""
        return self.seconds / self.tokens

    @property
    def client_ms_per_token(self) -> float:
        """Milliseconds of this process's processor time for a token."""
        return 1000 * self.client_seconds / self.tokens


def run_on_servers(
    fleet: Fleet, policy: Policy, text_vocab: int, settings: RemoteSettings, requests: Sequence[Request]
) -> ServerRun:
    """One run, timed."""
    watch = Stopwatch()
    with watch.running():
        scheduler = RemoteScheduler(fleet, policy, text_vocab, settings)
        usages = [result.usage for result in scheduler.run(requests)]
    return ServerRun.of(usages, watch)


def fleet_of(settings: Settings) -> Fleet:
    """The servers of the command line.

    Raises:
        ValueError: one of the addresses is missing.
    """
    if settings.student_url is None or settings.teacher_url is None:
        raise ValueError("expected --student-url URL and --teacher-url URL of running vLLM servers")
    students = server_urls("--student-url", settings.student_url)
    teachers = server_urls("--teacher-url", settings.teacher_url)
    return connect(students, teachers, RemoteSettings(), needs_rows=True)


# ---------------------------------------------------------------- methods


def measure(settings: Settings) -> list[Ratio]:
    """Seconds a token: of each policy to the student alone, and on servers to the engine in this process."""
    fleet = fleet_of(settings)
    student, tokenizer = load_student(settings)
    teacher = ClockedModel(load_model(settings.teacher, settings), settings.teacher, student.text_vocab)
    number, new_tokens = settings.requests or settings.batch, settings.new_tokens or NEW_TOKENS
    requests = make_requests(settings, tokenizer, number, new_tokens)
    policies = _policies(settings, student, teacher, requests)
    chunks = CHUNKS if settings.repeats > 1 else (CHUNK,)
    run = partial(run_on_servers, fleet, text_vocab=student.text_vocab, requests=requests)
    sides: dict[str, Callable[[], Any]] = {}
    for at_once in sorted({settings.batch, *AT_ONCE}, reverse=True):
        remote = RemoteSettings(concurrency=at_once)
        sides[_side("student", at_once)] = partial(run, policy=greedy(), settings=remote)
        for name, policy in policies.items():
            for chunk in chunks:
                with_chunk = replace(remote, chunk=chunk)
                sides[_side(name, at_once, chunk)] = partial(run, policy=policy, settings=with_chunk)
    for name, policy in {"student": greedy(), **policies}.items():
        decoder = Decoder(student, policy, teacher, settings.batch, verify="auto")
        warm_up(decoder, requests)
        sides[f"local {name}"] = partial(decode, decoder, requests)
    run(policy=policies["kl"], settings=RemoteSettings(), requests=requests[:2])
    runs = alternate(sides, settings.repeats)
    return [*_to_student(runs, policies, chunks), *_to_local(runs, policies, settings.batch)]


def _policies(
    settings: Settings, student: ClockedModel, teacher: ClockedModel, requests: Sequence[Request]
) -> dict[str, Policy]:
    """Both triggers at one rate: thresholds are quantiles over greedy's own texts."""
    triggers: list[Trigger] = [TopEntropyTrigger(), KlTrigger()]
    observing = Decoder(student, greedy(), teacher, settings.batch, observe=triggers)
    results = list(observing.run(requests))
    rate = 1 - (settings.taus[0] if settings.taus else TAU)
    values = [[value for r in results for value in r.observed[i]] for i in range(len(triggers))]
    thresholds = [float(torch.tensor(column).quantile(rate)) for column in values]
    return {
        trigger.name: s2t(trigger, threshold, settings.top_k)
        for trigger, threshold in zip(triggers, thresholds, strict=True)
    }


def _to_student(
    runs: dict[str, list[Any]], policies: dict[str, Policy], chunks: Sequence[int]
) -> list[Ratio]:
    """Each policy to the student alone at as many texts at once."""
    ratios = []
    for side, base in runs.items():
        if not side.startswith("student, "):
            continue
        at_once = int(side.split(", ")[1].split()[0])
        for name in policies:
            for chunk in chunks:
                key = _side(name, at_once, chunk)
                ratios.append(_ratio(f"{key}{TO_STUDENT}", runs[key], base))
    return ratios


def _to_local(runs: dict[str, list[Any]], policies: dict[str, Policy], batch: int) -> list[Ratio]:
    """Servers to the engine here, at as many texts at once."""
    keys = {"student": _side("student", batch), **{name: _side(name, batch, CHUNK) for name in policies}}
    return [
        _ratio(
            f"{key}{TO_ENGINE} at batch {batch}",
            runs[key],
            [as_server_run(local) for local in runs[f"local {name}"]],
        )
        for name, key in keys.items()
    ]


def as_server_run(local: Any) -> ServerRun:
    """A run of the engine, with its prefill, in the form of a run on servers."""
    return ServerRun(0, local.tokens, local.triggers, 0, 0, local.discarded, local.seconds, local.cpu)


def _ratio(name: str, runs: Sequence[ServerRun], base: Sequence[ServerRun]) -> Ratio:
    first = runs[0]
    details = {
        "requests_per_text": first.requests / first.texts,
        "teacher_requests_per_text": first.teacher_requests / first.texts,
        "discarded_per_text": first.discarded / first.texts,
        "realised_rate": first.triggers / first.tokens,
        "tokens": first.tokens,
        "seconds": [run.seconds for run in runs],
        "seconds_of_base": [run.seconds for run in base],
        "client_ms_per_token": [run.client_ms_per_token for run in runs],
    }
    values = divide([run.seconds_per_token for run in runs], [run.seconds_per_token for run in base])
    return Ratio(name, values, None, details)


def _side(name: str, at_once: int, chunk: int | None = None) -> str:
    return f"{name}, {at_once} at once" + ("" if chunk is None else f", chunk {chunk}")


# ---------------------------------------------------------------- labels


def measure_labels(settings: Settings) -> list[Ratio]:
    """Tokens a second of labelling, to a bare prefill of the same texts by the same servers."""
    fleet = fleet_of(settings)
    student, tokenizer = load_student(settings)
    number, new_tokens = settings.requests or settings.batch, settings.new_tokens or NEW_TOKENS
    stops = stop_ids(tokenizer, None)  # behind its end a text is no text, and the teacher is unsure
    requests = [
        replace(request, stop_ids=stops) for request in make_requests(settings, tokenizer, number, new_tokens)
    ]
    remote = RemoteSettings(concurrency=settings.batch)
    texts = RemoteScheduler(fleet, greedy(), student.text_vocab, remote, keep_top=True)
    results = list(texts.run(requests))
    scorer = RemoteScorer(fleet, student.text_vocab, remote)
    sides = {
        "labelled": partial(labelled, scorer, results),
        "bare": partial(bare, fleet, remote, results),
    }
    for side in sides.values():
        side()
    runs = alternate(sides, settings.repeats)
    scored = list(scorer.run([partial(_scored, result) for result in results], with_argmax=False))
    rows = [(one.text.top_ids.tolist(), one.log_probs.tolist()) for one in scored]
    asked = sum(certain_argmax(*step) is None for table in rows for step in zip(*table, strict=True))
    tokens = sum(len(result.request.prompt_ids) + len(result.output_ids) for result in results)
    rates = {name: [tokens / seconds for seconds in runs[name]] for name in sides}
    name = f"labelling on servers, {settings.batch} at once, tokens/s to a bare prefill's"
    details = {"tokens_per_second": rates, "requests_per_text": 1 + asked / len(results)}
    return [Ratio(name, divide(rates["labelled"], rates["bare"]), LABELLING, details)]


def labelled(scorer: RemoteScorer, results: Sequence[Result]) -> float:
    """Wall-clock seconds of labelling."""
    started = time.perf_counter()
    list(scorer.run([partial(_scored, result) for result in results], with_argmax=True))
    return time.perf_counter() - started


def _scored(result: Result) -> ScoredText:
    assert result.top_ids is not None and result.top_log_probs is not None
    return ScoredText(result.request.prompt_ids, result.output_ids, result.top_ids, result.top_log_probs)


def bare(fleet: Fleet, settings: RemoteSettings, results: Sequence[Result]) -> float:
    """Wall-clock seconds in which the teacher's servers read the same texts and generate one token each."""

    def start(session: aiohttp.ClientSession) -> Work[Result, Any]:
        pool = Pool("teacher", fleet.teachers, session, settings, secrets.token_hex(8))

        async def work(index: int, result: Result) -> Any:
            body = draft_body([*result.request.prompt_ids, *result.output_ids], 1, (), 1)
            del body["sampling_params"]["logprobs"]
            return await pool.generate(pool.pin(index), body, read_usage)

        return work

    started = time.perf_counter()
    list(run_jobs(results, start, settings))
    return time.perf_counter() - started
