"""What servers are and can do: found by requests, before a run or by `s2t-eval servers check`."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Collection, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import aiohttp

from s2t_eval.remote.build import Fleet
from s2t_eval.remote.client import Server, error_message, new_session
from s2t_eval.remote.protocol import (
    GENERATE,
    SUPPORT,
    AnswerError,
    draft_body,
    read_draft,
    read_rows,
    read_usage,
    rows_body,
)
from s2t_eval.remote.settings import NO_KEY, RemoteSettings, ServerError, ServersUnavailableError

PROMPT_TOKENS = 130
"""Length of the probe's prompt: more than one block of the prefix cache, whose largest have 128 tokens."""
TESTED_VERSION = "0.32"
"""Versions of vLLM that the protocol was tested with begin with this."""
NEVER_TEXT = 2**31
"""A size of the text vocabulary that excludes nothing."""
NUM_COMPARED = 8
"""Most likely tokens whose log-probabilities are examined; servers with too few for a run have these too."""
ROUNDING = 1e-3
"""How far a log-probability may be above 0, and a sum of probabilities above 1."""
MOST_ROWS = 2**20
"""No model has as many rows of its output, so its n most likely tokens are more likely than n / MOST_ROWS."""


T = TypeVar("T")


class Finding(NamedTuple):
    """One property of a server."""

    name: str
    is_present: bool
    is_needed: bool
    """whether a run is refused without it"""
    message: str
    """what was found; where it is absent, the flag that adds it"""


@dataclass(frozen=True)
class ServerReport:
    """The findings about one server."""

    role: str
    server: Server
    findings: tuple[Finding, ...]

    @property
    def has_rows(self) -> bool:
        """Whether it scores a chunk in one request."""
        return any(finding.name == "rows" and finding.is_present for finding in self.findings)

    @property
    def faults(self) -> list[str]:
        """A line for each absent property that a run needs."""
        return [
            f"{self.role} server {self.server.url}: {finding.message}"
            for finding in self.findings
            if finding.is_needed and not finding.is_present
        ]


class _Reply(NamedTuple):
    status: int
    answer: Any
    message: str


def connect(
    student_urls: Sequence[str],
    teacher_urls: Sequence[str],
    settings: RemoteSettings,
    needs_rows: bool = False,
    needs_shared_batches: bool = False,
) -> Fleet:
    """The servers of a run. The probe's requests also warm them up.

    Args:
        student_urls: may be empty where the student is in this process.
        teacher_urls: may be empty.
        settings: timeouts.
        needs_rows: whether to find out if the teachers score chunks in one request.
        needs_shared_batches: whether to find out if the students draft and score in one batch; where a
            server has both roles, it is always found out.

    Raises:
        ServerError: servers that lack what a run needs, one line each, or that serve different models.
        ServersUnavailableError: a server that does not answer.
    """
    has_both_roles = not set(student_urls).isdisjoint(teacher_urls)
    tried = {"student": needs_shared_batches or has_both_roles, "teacher": needs_rows}
    with_rows = [role for role, is_tried in tried.items() if is_tried]
    reports = examine(student_urls, teacher_urls, settings, with_rows)
    faults = [fault for report in reports for fault in report.faults]
    if faults:
        raise ServerError("\n".join(faults))
    students = [report for report in reports if report.role == "student"]
    teachers = [report for report in reports if report.role == "teacher"]
    for same_role in (students, teachers):
        _require_one_model(same_role)
    return Fleet(
        tuple(report.server for report in students),
        tuple(report.server for report in teachers),
        has_rows=bool(teachers) and all(report.has_rows for report in teachers),
        # Those with the second model runner can, and rows are what only this runner serves.
        has_shared_batches=bool(students) and all(report.has_rows for report in students),
    )


def _require_one_model(reports: Sequence[ServerReport]) -> None:
    names = {report.server.model: report.server.url for report in reports}
    if len(names) > 1:
        listed = ", ".join(f"{name} at {url}" for name, url in names.items())
        raise ServerError(
            f"{reports[0].role} servers: expected one model under one name, got {listed}; give all the same "
            "--served-model-name"
        )


def examine(
    student_urls: Sequence[str],
    teacher_urls: Sequence[str],
    settings: RemoteSettings,
    with_rows: Collection[str] = ("teacher",),
) -> list[ServerReport]:
    """The reports on all servers, students first.

    Args:
        student_urls: may be empty.
        teacher_urls: may be empty.
        settings: timeouts.
        with_rows: roles at whose servers a request for the scores of a whole chunk is tried.

    Raises:
        ServersUnavailableError: a server that does not answer.
        ServerError: one that is no vLLM server.
    """

    async def all_reports() -> list[ServerReport]:
        async with new_session(settings) as session:
            pairs = [("student", url) for url in student_urls] + [("teacher", url) for url in teacher_urls]
            probes = [_Probe(session, role, url).report(role in with_rows) for role, url in pairs]
            return list(await asyncio.gather(*probes))

    return run_in_thread(all_reports())


def run_in_thread(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, also where the calling thread has a running loop, as a notebook has.

    Ctrl-C cancels the coroutine. Without that the caller would wait until a server that hangs has timed out.
    """
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = Future()

    async def cancellable() -> T:
        task = asyncio.ensure_future(work)
        begun.set_result((asyncio.get_running_loop(), task))
        return await task

    with ThreadPoolExecutor(1) as executor:
        result = executor.submit(asyncio.run, cancellable())
        try:
            return result.result()
        except KeyboardInterrupt:
            loop, task = begun.result()
            with suppress(RuntimeError):  # the loop may have ended by itself
                loop.call_soon_threadsafe(task.cancel)
            raise


class _Probe:
    """The requests to one server."""

    def __init__(self, session: aiohttp.ClientSession, role: str, url: str) -> None:
        self.session = session
        self.role = role
        self.url = url

    async def report(self, tries_rows: bool) -> ServerReport:
        """All findings; the later ones are left out where the endpoint itself is missing."""
        server = await self._server()
        findings = [_version(server)]
        endpoint = await self._endpoint(server)
        findings.append(endpoint)
        if endpoint.is_present:
            findings += [await self._top(server), await self._raw(server), await self._cache(server)]
            if tries_rows:
                findings.append(await self._rows(server))
        return ServerReport(self.role, server, tuple(findings))

    async def _server(self) -> Server:
        models = await self._send("GET", "/v1/models")
        if models.status in (401, 403):
            raise ServerError(
                f"{self.role} server {self.url}: it requires a key (HTTP {models.status}); {NO_KEY}"
            )
        try:
            model, *others = models.answer["data"]
            name, max_length = str(model["id"]), int(model["max_model_len"])
        except (TypeError, KeyError, ValueError) as error:
            raise ServerError(
                f"{self.role} server {self.url}: /v1/models names no model with its max_model_len (HTTP "
                f"{models.status}); expected a vLLM server, started with `vllm serve MODEL`"
            ) from error
        version = await self._send("GET", "/version")
        answer = version.answer if isinstance(version.answer, dict) else {}
        adapters = {str(other["id"]): str(other.get("root") or "") for other in others if other.get("parent")}
        return Server(
            self.url,
            name,
            max_length,
            str(answer.get("version", "unknown")),
            str(model.get("root", "")),
            adapters,
        )

    async def _endpoint(self, server: Server) -> Finding:
        reply = await self._generate(server, draft_body([1], 1, (), 1))
        if reply.status == 404:
            other = (
                ""
                if _is_tested(server)
                else f" (vLLM {server.version} may lack it; tested: {TESTED_VERSION})"
            )
            message = f"it has no {GENERATE}; start it with --enable-scale-out{other}"
            return Finding("endpoint", False, True, message)
        if reply.status != 200:
            message = f"{GENERATE} answers HTTP {reply.status}, {reply.message}"
            return Finding("endpoint", False, True, message)
        return Finding("endpoint", True, True, GENERATE)

    async def _top(self, server: Server) -> Finding:
        reply = await self._generate(server, draft_body([1], 1, (), SUPPORT + 1))
        if reply.status == 200:
            return Finding("top tokens", True, True, f"returns {SUPPORT} log-probabilities a step")
        message = (
            f"it does not return {SUPPORT + 1} log-probabilities a step ({reply.message}); start it with "
            "--max-logprobs 128"
        )
        return Finding("top tokens", False, True, message)

    async def _raw(self, server: Server) -> Finding:
        """Whether log-probabilities are those of the model: no logits, and not of what is sampled from."""
        body = draft_body([1], 1, (), NUM_COMPARED)
        heated = body | {"sampling_params": body["sampling_params"] | {"temperature": 2.0, "seed": 0}}
        values = []
        for one in (body, heated):
            reply = await self._generate(server, one)
            try:
                [step] = read_draft(reply.answer, 1, NEVER_TEXT, NUM_COMPARED).steps
            except AnswerError as error:
                return Finding(
                    "raw", False, True, f"its log-probabilities cannot be read ({reply.message or error})"
                )
            values.append(dict(zip(step.ids, step.log_probs, strict=True)))
        if not are_log_probabilities(list(values[0].values())):
            message = "it returns logits instead of log-probabilities; start it with "
            return Finding("raw", False, True, message + "--logprobs-mode raw_logprobs")
        common = values[0].keys() & values[1].keys()
        is_raw = bool(common) and all(abs(values[0][i] - values[1][i]) < 0.05 for i in common)
        message = (
            "log-probabilities are the model's own"
            if is_raw
            else "its log-probabilities change with the temperature; start it with "
            "--logprobs-mode raw_logprobs"
        )
        return Finding("raw", is_raw, True, message)

    async def _cache(self, server: Server) -> Finding:
        """Whether the beginning of a prompt is read from the prefix cache, and whether it is reported."""
        body = draft_body([1] * min(PROMPT_TOKENS, server.max_length - 2), 1, (), 1)
        await self._generate(server, body)
        reply = await self._generate(server, body)
        try:
            cached = read_usage(reply.answer).cached
        except AnswerError:
            cached = 0
        message = (
            f"{cached} of {PROMPT_TOKENS} tokens come from the prefix cache"
            if cached
            else "it reports no cached tokens; start it with --enable-prefix-caching and "
            "--enable-prompt-tokens-details (on a CPU also --block-size 32), or each request "
            "computes its whole prompt"
        )
        return Finding("prefix cache", cached > 0, False, message)

    async def _rows(self, server: Server) -> Finding:
        scored = [[1, 2], [1]]
        reply = await self._generate(server, rows_body([1, 1], [1, 1], scored, reads_cache=False))
        try:
            is_present = reply.status == 200 and read_rows(reply.answer, scored).log_probs is not None
            reason = reply.message
        except AnswerError as error:
            is_present, reason = False, str(error)
        message = (
            "scores a chunk in one request"
            if is_present
            else f"it scores one step a request ({reason or 'no prompt_token_id_logprobs'}), so "
            "trigger=kl takes about ten times as many requests; start it with VLLM_USE_V2_MODEL_RUNNER=1"
        )
        return Finding("rows", is_present, False, message)

    async def _generate(self, server: Server, body: dict[str, Any]) -> _Reply:
        return await self._send(
            "POST", GENERATE, body | {"model": server.model, "cache_salt": "s2t-eval-probe"}
        )

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> _Reply:
        try:
            async with self.session.request(method, self.url + path, json=body) as response:
                text = await response.text()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise ServersUnavailableError(
                f"{self.role} server {self.url} does not answer ({type(error).__name__}: {error}); "
                "start it with `vllm serve`, or correct the address"
            ) from error
        try:
            answer = json.loads(text)
        except json.JSONDecodeError:
            answer = None
        return _Reply(response.status, answer, "" if response.status == 200 else error_message(text))


def are_log_probabilities(largest: Sequence[float]) -> bool:
    """Whether numbers can be log-probabilities of a step's most likely tokens, and not their logits.

    Logits do not change with the temperature either. Most models have some above 0; where all are far below,
    the tokens would be less likely than those of a uniform distribution.

    Args:
        largest: the largest numbers of a step.
    """
    share = sum(map(math.exp, largest)) if max(largest) <= ROUNDING else math.inf
    return len(largest) / MOST_ROWS < share <= 1 + ROUNDING


def _version(server: Server) -> Finding:
    note = "" if _is_tested(server) else f"; the protocol was tested with {TESTED_VERSION}"
    return Finding("version", _is_tested(server), False, f"vLLM {server.version}{note}")


def _is_tested(server: Server) -> bool:
    return server.version.startswith(TESTED_VERSION)
