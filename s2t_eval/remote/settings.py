"""Settings of a run on servers, and the errors that end one."""

from __future__ import annotations

from dataclasses import dataclass

from s2t_eval.ranges import AT_LEAST_1, POSITIVE, require_ranges


class ServerError(ValueError):
    """A server that refuses a request or answers it wrongly; the message names the server and the remedy."""


NO_KEY = (
    "this client sends no key or password; start the server without --api-key and VLLM_API_KEY, and keep its "
    "port in your own network or forward it with `ssh -L`"
)
"""What to do about a server with authentication."""


class ServersUnavailableError(ConnectionError):
    """No server of a pool answered for `patience_s` seconds."""


@dataclass(frozen=True)
class RemoteSettings:
    """How a run uses its servers. No text depends on any of it.

    Args:
        chunk: tokens that the student generates in one request before its steps are decided, at least 1.
            A cut discards the tokens behind it, so short chunks suit high rates of fired steps.
        concurrency: texts decoded at once, at least 1.
        timeout_s: seconds after which a request without an answer is sent again.
        patience_s: seconds for which a request is repeated while no server of its pool answers it.
    """

    chunk: int = 16
    concurrency: int = 64
    timeout_s: float = 300.0
    patience_s: float = 900.0

    def __post_init__(self) -> None:
        require_ranges(
            self, chunk=AT_LEAST_1, concurrency=AT_LEAST_1, timeout_s=POSITIVE, patience_s=POSITIVE
        )


def server_urls(argument: str, text: str) -> tuple[str, ...]:
    """The servers of a pool from one argument: base URLs joined by `+`.

    Raises:
        ValueError: an address that is no http or https URL, occurs twice, or has a user name or password,
            which would be written into results and logs.
    """
    urls = tuple(part.strip().rstrip("/") for part in text.split("+"))
    for url in urls:
        if "@" in url:
            host = url.rpartition("@")[2]
            raise ValueError(f"{argument}: an address with a user name or password, ...@{host}: {NO_KEY}")
        if not url.startswith(("http://", "https://")) or url.endswith("//"):
            raise ValueError(f"{argument}: expected URLs such as http://host:8001 joined by +, got {url!r}")
    if len(set(urls)) < len(urls):
        raise ValueError(f"{argument}: each server must be named once, got {text!r}")
    return tuple(url.removesuffix("/v1") for url in urls)
