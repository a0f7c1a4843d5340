"""`--use_cache`: finished texts with their costs, and the run that they belong to.

The harness's own cache identifies texts by prompt and generation arguments alone (#4063): a cache filled by
`greedy` would be used for `s2t`, and a resumed run would lack the costs of its first part. So our backends
store generated texts themselves, in the harness's file: by all fields of the engine's request, with their
tokens, steps and costs. Log-likelihoods are left to the harness, which passes on to a model only those that
it does not have; our backends receive all of them first, for their records.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sqlite3
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, CacheHook, CachingLM
from lm_eval.models.huggingface import HFLM

import s2t_eval
from s2t_eval.artifacts.code import present_code
from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.engine import Finish, FiredStep, Request, Result, Usage
from s2t_eval.model_wrappers.splitting import TEACHER

CACHE_KEY = "s2t_eval fingerprint"
TEXT_KEY = "s2t_eval text "
LOG_LIKELIHOODS = ("loglikelihood", "loglikelihood_rolling")
"""The harness's kinds of requests besides texts."""

WITHOUT_EFFECT = frozenset(
    """batch_size max_batch_size trace other_prompt logits_cache offload_folder low_cpu_mem_usage
    max_memory_per_gpu max_cpu_memory token cache_dir force_download local_files_only verify student_url
    teacher_url chunk concurrency timeout_s patience_s""".split()
)
"""Arguments of the models, a teacher's included, that do not change a text, but for rounding."""

RESOLVED = frozenset(
    "pretrained dtype max_length device teacher selector router calibration tah oracle".split()
)
"""Arguments that a run's description records resolved, such as fingerprints of weights and dtypes."""

NAMES_ONLY = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype"})
"""Entries of a model's configuration that do not change a text, or are recorded separately."""


class CacheMismatchError(ValueError):
    """A file that is no response cache, or contains another method's or model's texts."""


@dataclass(frozen=True)
class TimedResult:
    """A finished text with its share of the run's time.

    Args:
        result: the text.
        seconds: wall clock since the previous text was finished.
        memory: peak memory so far, in bytes.
        is_cached: whether an earlier run generated it.
    """

    result: Result
    seconds: float
    memory: int
    is_cached: bool = False


class TextCache:
    """Finished texts by their requests: prompt ids, stops, limit, sampling and seed.

    Args:
        store: the harness's file; None disables the cache.
    """

    def __init__(self, store: MutableMapping[str, Any] | None = None) -> None:
        self._store = store

    def get(self, request: Request, index: int) -> TimedResult | None:
        """The text of an equal request, as the result with this index."""
        if self._store is None:
            return None
        entry = self._store.get(TEXT_KEY + request_key(request))
        if entry is None:
            return None
        result = Result(
            request,
            index,
            entry["output_ids"],
            Finish(entry["finish"]),
            [FiredStep(*step) for step in entry["steps"]],
            Usage(**entry["usage"]),
            entry.get("observed", []),  # caches of earlier versions have none
        )
        return TimedResult(result, entry["seconds"], entry["memory"], is_cached=True)

    def put(self, timed: TimedResult) -> None:
        """Store a text under its request."""
        if self._store is None:
            return
        result = timed.result
        self._store[TEXT_KEY + request_key(result.request)] = {
            "output_ids": result.output_ids,
            "finish": result.finish.value,
            "steps": [tuple(step) for step in result.steps],
            "usage": asdict(result.usage),
            "observed": result.observed,
            "seconds": timed.seconds,
            "memory": timed.memory,
        }


def request_key(request: Request) -> str:
    """A hash over every field that is part of the request's identity, so that a new one is included."""
    # The prompt, by far the longest field, is left out of asdict, which would copy it.
    values = asdict(replace(request, prompt_ids=(0,), origin=None))
    values = {item.name: values[item.name] for item in fields(request) if item.compare}
    text = json.dumps({**values, "prompt_ids": request.prompt_ids}, default=sorted, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------- identity of a run


def argument_values(own: object, model_args: Mapping[str, Any]) -> dict[str, Any]:
    """Every model argument that may change a text, ours and stock `hf`'s, defaults included.

    Args:
        own: our arguments, a dataclass.
        model_args: as the user gave them.
    """
    stock = {
        name: parameter.default
        for name, parameter in inspect.signature(HFLM.__init__).parameters.items()
        if parameter.default is not parameter.empty
    }
    values = {**stock, **model_args, **asdict(own)}  # type: ignore[call-overload]
    left_out = WITHOUT_EFFECT | RESOLVED | {TEACHER + name for name in WITHOUT_EFFECT | RESOLVED}
    return {name: value for name, value in values.items() if name not in left_out and value is not None}


def software() -> dict[str, str]:
    """Versions and code that may change a text."""
    return {
        "s2t_eval": s2t_eval.__version__,
        "code": present_code(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def loaded_as(role: str, model: Any) -> dict[str, str]:
    """A model's configuration (with an adapter's), dtype and type of device."""
    configs = [model.config, *getattr(model, "peft_config", {}).values()]
    values = [{k: v for k, v in config.to_dict().items() if k not in NAMES_ONLY} for config in configs]
    return {
        f"{role}_config": data_hash([json.loads(json.dumps(values, sort_keys=True, default=plain))]),
        f"{role}_dtype": str(model.dtype),
        f"{role}_device": model.device.type,
    }


def plain(value: Any) -> Any:
    """A value that is not JSON, as one that is and that does not depend on an order."""
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def require_same_run(store: MutableMapping[str, Any], name: object, identity: dict[str, Any]) -> None:
    """Write the run's identity into an empty cache; raise `CacheMismatchError` for another run's cache."""
    signature = json.dumps(identity, sort_keys=True, default=plain)
    saved = store.get(CACHE_KEY)
    if saved is None and len(store) == 0:
        store[CACHE_KEY] = signature
    elif saved != signature:
        raise CacheMismatchError(
            f"--use_cache: {name} was filled by {_difference(saved, signature)}; name another file for this "
            "run"
        )


def _difference(saved: str | None, current: str) -> str:
    if saved is None:
        return "another backend, which did not record its model and method"
    before, now = json.loads(saved), json.loads(current)
    differing = [key for key in {**now, **before} if before.get(key) != now.get(key)]
    if "backend" in differing:
        differing = ["backend"]  # the arguments of another method differ in any case
    return "another run: " + ", ".join(f"{k} {before.get(k)} (now {now.get(k)})" for k in differing)


# ---------------------------------------------------------------- the harness


def keep_own_texts(backend: type[LM]) -> None:
    """Make the harness pass every request to these backends, and check its file before it is opened.

    Calling it again changes nothing. Remove when the harness's cache records models and costs.
    """
    init = CachingLM.__init__
    if getattr(init, "is_checked_by_s2t_eval", False):
        return

    @functools.wraps(init)
    def init_checked(self: CachingLM, lm: LM, cache_db: str) -> None:
        if isinstance(lm, backend):
            _require_cache_file(Path(cache_db))
            # Attributes go before __getattr__, which looks responses up.
            self.generate_until = functools.partial(_texts, self)
            for kind in LOG_LIKELIHOODS:
                setattr(self, kind, functools.partial(_log_likelihoods, self, kind))
        init(self, lm, cache_db)

    init_checked.is_checked_by_s2t_eval = True  # type: ignore[attr-defined]
    CachingLM.__init__ = init_checked


def _log_likelihoods(cache: CachingLM, kind: str, requests: list[Instance]) -> Any:
    """Log-likelihoods from the cache or the model, whose records begin with all of them."""
    with _in_use(cache) as lm:
        lm.begin_scoring(requests)
        return CachingLM.__getattr__(cache, kind)(requests)


def _texts(cache: CachingLM, requests: list[Instance], *args: Any, **kwargs: Any) -> Any:
    """Texts from the cache or the model."""
    with _in_use(cache) as lm:
        return lm.generate_until(requests, *args, **kwargs)


@contextmanager
def _in_use(cache: CachingLM) -> Iterator[Any]:
    """The model, with this cache meanwhile: its next evaluation may have another one, or none."""
    lm: Any = cache.lm
    lm.set_cache_hook(cache.get_cache_hook())
    try:
        yield lm
    finally:
        lm.set_cache_hook(CacheHook(None))


def _require_cache_file(path: Path) -> None:
    """Raise `CacheMismatchError` for a file that is no response cache; the harness would show tracebacks."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        database = sqlite3.connect(path)
        try:
            database.execute("BEGIN IMMEDIATE").close()  # fails if the file cannot be written
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            [(verdict,), *_] = database.execute("PRAGMA quick_check(1)").fetchall()
        finally:
            database.close()
    except (sqlite3.Error, OSError) as error:
        raise CacheMismatchError(
            f"--use_cache: {path} cannot be used as a response cache ({error}); expected a file that an "
            "earlier run made with --use_cache, or the name of a new one"
        ) from error
    if verdict != "ok" or (tables and "unnamed" not in tables):
        reason = "it is damaged" if verdict != "ok" else f"it has the tables {', '.join(sorted(tables))}"
        raise CacheMismatchError(
            f"--use_cache: {path} is no response cache of lm_eval ({reason}); name another file"
        )
