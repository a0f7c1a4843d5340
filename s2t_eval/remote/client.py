"""HTTP requests to the servers of one role, with repetition, and a change of server where one fails."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import aiohttp
import orjson

from s2t_eval.remote.gates import Gate, kind_of
from s2t_eval.remote.protocol import GENERATE, AnswerError
from s2t_eval.remote.settings import RemoteSettings, ServerError, ServersUnavailableError

logger = logging.getLogger(__name__)

T = TypeVar("T")

REPEATED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which the same request is sent again."""
UNAVAILABLE: Final = frozenset({429, 502, 503, 504})
"""Of these, those of a server that is overloaded or starting: like no answer, they end with the patience."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 8.0
"""Seconds before the second attempt, doubled for each further one, and their limit."""
ATTEMPTS_PER_SERVER = 3
"""Failed attempts in a row after which a document moves to another server of its pool."""
MAX_ATTEMPTS = 12
"""Attempts at a request that a server does answer, but with an error or not as expected."""
RETRY_S = 30.0
"""Seconds after which one new text tries a server that had not answered."""
HEADERS = {"Content-Type": "application/json"}
OTHER_FILES = 128
"""Files that the process may open beside its connections."""


class FailedAttemptError(Exception):
    """An attempt that may be repeated.

    Args:
        reason: for the message and the log.
        is_answered: whether the server itself answered, and is neither overloaded nor starting.
        wait_s: seconds to wait, as the server's answer requests.
        has_hung: whether the whole timeout passed without an answer.
    """

    def __init__(
        self, reason: str, is_answered: bool, wait_s: float | None = None, has_hung: bool = False
    ) -> None:
        super().__init__(reason)
        self.is_answered = is_answered
        self.wait_s = wait_s
        self.has_hung = has_hung


@dataclass
class Server:
    """One server of a pool.

    Args:
        url: without a path.
        model: the name by which it serves its model.
        max_length: its longest text in tokens, prompt included.
        version: of vLLM.
        root: the model's folder on the server's machine, or its hub name.
        adapters: name -> folder of each LoRA that it serves beside its model.
    """

    url: str
    model: str
    max_length: int
    version: str
    root: str = ""
    adapters: dict[str, str] = field(default_factory=dict)
    failures: int = 0
    """attempts in a row without an answer"""
    tried_at: float = 0.0
    """when a text was last pinned to it, in seconds of `time.monotonic`"""


@dataclass
class Pin:
    """The server that a document's requests go to: its prefix cache has the document's beginning."""

    server: Server


@dataclass
class Pool:
    """The servers of one role; a document stays with one of them.

    Args:
        role: "student" or "teacher", for messages.
        servers: at least one.
        session: of the HTTP client.
        settings: timeouts and patience.
        salt: keeps the prefix cache of this run apart from others.
        gates: by a server's URL, where its requests of two kinds must not be open together.
    """

    role: str
    servers: Sequence[Server]
    session: aiohttp.ClientSession
    settings: RemoteSettings
    salt: str
    gates: Mapping[str, Gate] = field(default_factory=dict)
    requests: int = 0
    """requests answered"""
    _jitter: random.Random = field(default_factory=random.Random)

    def pin(self, index: int) -> Pin:
        """The server of the document with this index: documents are assigned to the servers in turn.

        A server that does not answer gets none, except one every `RETRY_S` seconds as a test: where it hangs,
        each of its texts would wait for the whole `timeout_s` before moving.
        """
        now = time.monotonic()
        answering = [
            server
            for server in self.servers
            if server.failures < ATTEMPTS_PER_SERVER or now - server.tried_at >= RETRY_S
        ]
        servers = answering or self.servers
        server = servers[index % len(servers)]
        server.tried_at = now
        return Pin(server)

    async def generate(self, pin: Pin, body: dict[str, Any], read: Callable[[Any], T]) -> T:
        """Send a request until it is answered as expected.

        Args:
            pin: of the document; changed where its server does not answer.
            body: see `protocol.py`; model and salt are added.
            read: the answer's content; its `AnswerError` repeats the request.

        Raises:
            ServerError: the server refuses the request, or never answers it as expected.
            ServersUnavailableError: no server answered within the settings' patience.
        """
        started, attempts, failures = time.monotonic(), 0, 0
        untried = {server.url for server in self.servers}
        while True:
            server = pin.server
            untried.discard(server.url)
            try:
                async with self._passing(server, body):
                    answer = await self._attempt(
                        server, body | {"model": server.model, "cache_salt": self.salt}
                    )
                content = read(answer)
            except AnswerError as error:
                failed = FailedAttemptError(f"unexpected answer: {error}", is_answered=True)
            except FailedAttemptError as error:
                failed = error
            else:
                server.failures = 0
                self.requests += 1
                return content
            attempts += failed.is_answered
            failures += 1
            server.failures = 0 if failed.is_answered else server.failures + 1
            seconds = 0.0 if untried else time.monotonic() - started
            self._require_retryable(server, failed, attempts, seconds)
            has_failed_often = failures % ATTEMPTS_PER_SERVER == 0 or server.failures >= ATTEMPTS_PER_SERVER
            if (has_failed_often or failed.has_hung) and not self.move(pin, server, failed):
                untried.clear()
            await asyncio.sleep(self._wait(failed, failures))

    def _passing(self, server: Server, body: Mapping[str, Any]) -> AbstractAsyncContextManager[None]:
        gate = self.gates.get(server.url)
        return nullcontext() if gate is None else gate.passing(kind_of(body))

    async def _attempt(self, server: Server, body: dict[str, Any]) -> Any:
        try:
            data = orjson.dumps(body)
            async with self.session.post(server.url + GENERATE, data=data, headers=HEADERS) as response:
                content = await response.read()
                text = content.decode(errors="replace") if response.status != 200 else ""
                if response.status in REPEATED:
                    wait_s = _seconds(response.headers.get("Retry-After"))
                    is_answered = response.status not in UNAVAILABLE
                    raise FailedAttemptError(f"HTTP {response.status}: {text[:200]}", is_answered, wait_s)
                if response.status != 200:
                    raise ServerError(
                        f"{self.role} server {server.url}: HTTP {response.status}, {error_message(text)}"
                    )
                return parsed(content)
        except json.JSONDecodeError as error:
            raise FailedAttemptError(f"no JSON: {error}", True) from error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            reason = f"{type(error).__name__} {error}".strip()
            has_hung = isinstance(error, asyncio.TimeoutError)
            raise FailedAttemptError(reason, False, has_hung=has_hung) from error

    def _require_retryable(
        self, server: Server, failed: FailedAttemptError, attempts: int, seconds: float
    ) -> None:
        """Raise where attempts or patience are exhausted.

        Args:
            server: the one that failed.
            failed: its failure.
            attempts: answers of servers that were not as expected.
            seconds: since the first attempt; 0 as long as a server is untried that may answer.
        """
        if attempts >= MAX_ATTEMPTS:
            raise ServerError(f"{self.role} server {server.url}: {failed} ({attempts} attempts)") from failed
        if seconds > self.settings.patience_s:
            urls = ", ".join(other.url for other in self.servers)
            raise ServersUnavailableError(
                f"no {self.role} server answered for {self.settings.patience_s:g} s ({urls}; last: "
                f"{failed}); restart it and run the same command again: with --use_cache finished texts are "
                "not repeated"
            ) from failed

    def move(self, pin: Pin, server: Server, failed: FailedAttemptError) -> bool:
        """Pin the document to the server with the fewest failures, another than the one that failed.

        Several requests of a document fail together: the first of them moves it, and it stays there. Where
        the server has hung and all others are down, it stays too, except one document every `RETRY_S` seconds
        as a test of the others.

        Returns:
            False if it stays because all others are down.
        """
        others = [other for other in self.servers if other is not server]
        if not others or pin.server is not server:
            return True
        now = time.monotonic()
        best = min(others, key=lambda other: other.failures)
        is_down = best.failures >= server.failures + ATTEMPTS_PER_SERVER
        if failed.has_hung and is_down and now - best.tried_at < RETRY_S:
            others_down = "the other servers do not answer either"
            logger.warning(
                "%s server %s: %s; %s, so a text stays", self.role, server.url, failed, others_down
            )
            return False
        logger.warning("%s server %s: %s; a text moves to %s", self.role, pin.server.url, failed, best.url)
        pin.server, best.tried_at = best, now
        return True

    def _wait(self, failed: FailedAttemptError, failures: int) -> float:
        """Seconds until the next attempt; different for each document, so that not all return at once.

        A server may name a longer one, and not a shorter one: some name 0 seconds, whatever their load.
        """
        longest: float = min(FIRST_WAIT_S * 2 ** min(failures - 1, 10), LONGEST_WAIT_S)
        own = longest * self._jitter.uniform(0.5, 1.0)
        return own if failed.wait_s is None else min(max(failed.wait_s, own), self.settings.patience_s)


def new_session(settings: RemoteSettings) -> aiohttp.ClientSession:
    """An HTTP client with room for two requests a text; it has to be closed.

    A process may open a limited number of files, often 1,024: further requests wait for a connection.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = 2 * settings.concurrency
    if limit != resource.RLIM_INFINITY:
        room = min(room, max(limit - OTHER_FILES, 1))
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=room),
        timeout=aiohttp.ClientTimeout(total=settings.timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),  # vLLM sets none, and looking for one takes time
    )


def parsed(content: bytes) -> Any:
    """An answer's JSON; NaN, which JSON does not have, is read as Python writes it.

    Raises:
        json.JSONDecodeError: no JSON.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return json.loads(content.decode(errors="replace"))


def error_message(text: str) -> str:
    """The message of a server's error, which it wraps into JSON."""
    try:
        parsed = json.loads(text)
        return str(parsed["error"]["message"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return text[:300]


def _seconds(text: str | None) -> float | None:
    """A Retry-After header in seconds; its other form, a date, is not read."""
    return float(text) if text is not None and text.isdecimal() else None
