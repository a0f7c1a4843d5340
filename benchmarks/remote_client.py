"""The client of vLLM servers alone, against a server that computes nothing: its own cost, and its scale.

python -m benchmarks.speed remote-client --requests 2000 --repeats 3
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.fast_server import fast_server
from benchmarks.ratios import Ratio, Target, alternate, divide
from benchmarks.remote import CLIENT_MS, NEW_TOKENS, ServerRun, run_on_servers
from benchmarks.workload import Settings
from s2t_eval.engine import Request
from s2t_eval.remote.probe import connect
from s2t_eval.remote.settings import RemoteSettings
from s2t_eval.selection.policy import Policy, greedy, s2t
from s2t_eval.selection.triggers import KlTrigger, TopEntropyTrigger

TEXT_VOCAB = 1000
MANY, FEW = 1000, 100
"""Texts at once."""
PROMPT = tuple(range(100))
FLAT = Target(1.2)
POLICIES: dict[str, Policy] = {
    "greedy": greedy(),
    "entropy64": s2t(TopEntropyTrigger(), 2.0),  # at the server's unsure steps, one of each chunk
    "kl": s2t(KlTrigger(), 1e9),  # every chunk is read, no step fires
}


def measure(settings: Settings) -> list[Ratio]:
    """Milliseconds of processor time a token; seconds a text and memory at many texts to those at few."""
    number = settings.requests or MANY
    requests = [Request((*PROMPT, i), settings.new_tokens or NEW_TOKENS) for i in range(number)]
    with fast_server() as url:
        many = RemoteSettings(concurrency=MANY)
        fleet = connect([url], [url], many, needs_rows=True)
        run = partial(run_on_servers, fleet, text_vocab=TEXT_VOCAB, requests=requests)
        sides: dict[str, Callable[[], ServerRun]] = {
            name: partial(run, policy=policy, settings=many) for name, policy in POLICIES.items()
        }
        few = replace(many, concurrency=FEW)
        sides["few"] = partial(run, policy=POLICIES["entropy64"], settings=few)
        run(policy=POLICIES["kl"], settings=many)
        before = resident_bytes()
        runs = alternate(sides, settings.repeats)
        after = resident_bytes()
    costs = [
        Ratio(
            f"client, {name}, {min(MANY, number)} texts at once, ms of processor time a token",
            [one.client_ms_per_token for one in runs[name]],
            CLIENT_MS,
            {"tokens": runs[name][0].tokens, "requests": runs[name][0].requests},
        )
        for name in POLICIES
    ]
    sides_of_scale = runs["entropy64"], runs["few"]
    scale = divide(*([one.seconds for one in side] for side in sides_of_scale))
    scale_cpu = divide(*([one.client_seconds for one in side] for side in sides_of_scale))
    name = f"client, {min(MANY, number)} texts at once to {FEW}, seconds a text"
    growth = Ratio("client, memory after all rounds to before", [after / before] * settings.repeats, FLAT)
    return [*costs, Ratio(name, scale, FLAT, cpu=scale_cpu), growth]


def resident_bytes() -> int:
    """Memory of this process at present."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
