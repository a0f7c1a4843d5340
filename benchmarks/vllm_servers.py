"""The engine beside vLLM servers of the same models: tokens a second of greedy decoding and of S2T.

    python -m benchmarks.gpu --figures greedy-vs-hf vllm --student FOLDER --teacher FOLDER \\
        --student_url http://localhost:8001 --teacher_url http://localhost:8002

The servers answer as many texts at once as the engine decodes, and both sides have the same requests. Where
they share one GPU, `vllm serve --gpu-memory-utilization` has to leave the engine its part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks.decoding import ClockedModel, decode, load_student, make_requests, warm_up
from benchmarks.ratios import Ratio, alternate, divide
from benchmarks.remote import CHUNK, fleet_of, run_on_servers
from benchmarks.verify import NEW_TOKENS, TAUS, thresholds_of
from benchmarks.workload import Settings, load_model
from s2t_eval.engine import Decoder
from s2t_eval.remote.settings import RemoteSettings
from s2t_eval.selection.policy import Policy, greedy, s2t
from s2t_eval.selection.triggers import KlTrigger


def measure(settings: Settings) -> list[Ratio]:
    """Tokens a second of the engine to those of the servers, prompts included: greedy, and S2T at each rate.

    Raises:
        ValueError: an address is missing.
    """
    fleet = fleet_of(settings)
    student, tokenizer = load_student(settings)
    teacher = ClockedModel(
        load_model(settings.teacher, settings), settings.teacher, student.text_vocab, settings.compile
    )
    num, new_tokens = settings.requests or settings.batch, settings.new_tokens or NEW_TOKENS
    requests = make_requests(settings, tokenizer, num, new_tokens)
    taus = settings.taus or TAUS
    policies: dict[str, Policy] = {"greedy": greedy()}
    for tau, threshold in zip(taus, thresholds_of(settings, student, teacher, requests, taus), strict=True):
        policies[f"s2t, kl, tau {tau:g}"] = s2t(KlTrigger(), threshold, settings.top_k)
    remote = RemoteSettings(concurrency=settings.batch, chunk=CHUNK)
    on_servers = partial(run_on_servers, fleet, text_vocab=student.text_vocab, settings=remote)
    sides: dict[str, Callable[[], Any]] = {}
    for name, policy in policies.items():
        needed = None if name == "greedy" else teacher
        decoder = Decoder(student, policy, needed, settings.batch, verify="auto")
        warm_up(decoder, requests)
        on_servers(policy=policy, requests=requests[:2])
        sides[_here(name)] = partial(decode, decoder, requests)
        sides[name] = partial(on_servers, policy=policy, requests=requests)
    runs = alternate(sides, settings.repeats)
    return [_ratio(settings.batch, name, runs[_here(name)], runs[name]) for name in policies]


def _here(name: str) -> str:
    return f"{name}, here"


def _ratio(batch: int, name: str, here: Sequence[Any], servers: Sequence[Any]) -> Ratio:
    rates = {
        side: [run.tokens / run.seconds for run in runs]
        for side, runs in (("engine", here), ("vllm", servers))
    }
    details = {
        "tokens_per_second": rates,
        "tokens": {"engine": here[0].tokens, "vllm": servers[0].tokens},
        "realised_rate": {
            "engine": here[0].triggers / here[0].tokens,
            "vllm": servers[0].triggers / servers[0].tokens,
        },
        "requests_per_text": servers[0].requests / servers[0].texts,
        "chunk": CHUNK,
    }
    ratios = divide(rates["engine"], rates["vllm"])
    return Ratio(f"{name}, to vLLM servers, tokens/s, batch {batch}", ratios, None, details)
