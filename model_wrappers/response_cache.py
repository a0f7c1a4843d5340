"""`--use_cache`: finished texts with what they cost, and whose they are.

The harness's own cache holds texts by prompt and generation arguments alone (#4063): a greedy cache would
answer for `s2t`, and a resumed run would not know what its first part cost. So our backends keep generated
texts themselves, in the harness's file: by everything that was asked of the engine, with their tokens,
steps and costs. Log-likelihoods stay the harness's.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sqlite3
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from lm_eval.api.model import LM, CachingLM
from lm_eval.models.huggingface import HFLM

import s2t_eval
from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.engine import Finish, FiredStep, Request, Result, Usage

CACHE_KEY = "s2t_eval fingerprint"
TEXT_KEY = "s2t_eval text "

WITHOUT_EFFECT = frozenset(
    """batch_size max_batch_size trace logits_cache offload_folder low_cpu_mem_usage max_memory
    max_memory_per_gpu max_cpu_memory token cache_dir force_download local_files_only""".split()
)
"""Arguments of the models that change no text."""

RESOLVED = frozenset(
    """pretrained dtype max_length device teacher teacher_dtype teacher_device selector router calibration tah
    oracle""".split()
)
"""Arguments that stand in a run's description as what they came to: weights' fingerprints, resolved types."""

NAMES_ONLY = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype"})
"""Entries of a model's configuration that change no text, or are described apart."""


class CacheMismatchError(ValueError):
    """A response cache that holds another method's or model's texts, or is none."""


@dataclass(frozen=True)
class TimedResult:
    """A finished text with its share of the run's time.

    Args:
        result: the text.
        seconds: wall clock since the text that was finished before it.
        memory: peak memory so far, in bytes.
        is_cached: whether an earlier run generated it.
    """

    result: Result
    seconds: float
    memory: int
    is_cached: bool = False


class TextCache:
    """Finished texts by what was asked of the engine: prompt ids, stops, limit, sampling and seed.

    Args:
        store: the harness's file; None caches nothing.
    """

    def __init__(self, store: MutableMapping[str, Any] | None = None) -> None:
        self._store = store

    def get(self, request: Request, index: int) -> TimedResult | None:
        """The text of an equal request, as the result number `index`."""
        if self._store is None:
            return None
        entry = self._store.get(_key(request))
        if entry is None:
            return None
        result = Result(
            index,
            entry["output_ids"],
            Finish(entry["finish"]),
            [FiredStep(*step) for step in entry["steps"]],
            Usage(**entry["usage"]),
            entry.get("observed", []),  # caches of earlier versions have none
        )
        return TimedResult(result, entry["seconds"], entry["memory"], is_cached=True)

    def put(self, request: Request, timed: TimedResult) -> None:
        """Keep a text."""
        if self._store is None:
            return
        result = timed.result
        self._store[_key(request)] = {
            "output_ids": result.output_ids,
            "finish": result.finish.value,
            "steps": [tuple(step) for step in result.steps],
            "usage": asdict(result.usage),
            "observed": result.observed,
            "seconds": timed.seconds,
            "memory": timed.memory,
        }


def _key(request: Request) -> str:
    """Every field counts, so that a new one cannot be forgotten."""
    # The prompt, by far the longest field, is left as it is: asdict would copy it.
    fields = {**asdict(replace(request, prompt_ids=(0,))), "prompt_ids": request.prompt_ids}
    text = json.dumps(fields, default=sorted, sort_keys=True)
    return TEXT_KEY + hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------- whose texts


def argument_values(own: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every model argument that may change a text, ours and stock `hf`'s, with its default if not given.

    Args:
        own: our arguments, a dataclass.
        given: what the user gave.
    """
    stock = {
        name: parameter.default
        for name, parameter in inspect.signature(HFLM.__init__).parameters.items()
        if parameter.default is not parameter.empty
    }
    values = {**stock, **given, **asdict(own)}  # type: ignore[call-overload]
    left_out = WITHOUT_EFFECT | RESOLVED
    return {name: value for name, value in values.items() if name not in left_out and value is not None}


def software() -> dict[str, str]:
    """Versions that may change a text."""
    return {
        "s2t_eval": s2t_eval.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def loaded_as(role: str, model: Any) -> dict[str, str]:
    """What a model is beside its weights: its configuration (with an adapter's), dtype and kind of device."""
    configs = [model.config, *getattr(model, "peft_config", {}).values()]
    values = [{k: v for k, v in config.to_dict().items() if k not in NAMES_ONLY} for config in configs]
    return {
        f"{role}_config": data_hash([json.loads(json.dumps(values, sort_keys=True, default=_plain))]),
        f"{role}_dtype": str(model.dtype),
        f"{role}_device": model.device.type,
    }


def _plain(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def require_same_run(store: MutableMapping[str, Any], name: object, ours: dict[str, Any]) -> None:
    """Sign an empty cache; raises `CacheMismatchError` unless this run signed it."""
    signature = json.dumps(ours, sort_keys=True, default=_plain)
    theirs = store.get(CACHE_KEY)
    if theirs is None and len(store) == 0:
        store[CACHE_KEY] = signature
    elif theirs != signature:
        raise CacheMismatchError(
            f"--use_cache: {name} was filled by {_difference(theirs, signature)}; name another file for this "
            "run"
        )


def _difference(theirs: str | None, ours: str) -> str:
    if theirs is None:
        return "another backend, which left no note of its model and method"
    before, now = json.loads(theirs), json.loads(ours)
    differing = [key for key in {**now, **before} if before.get(key) != now.get(key)]
    if "backend" in differing:
        differing = ["backend"]  # the arguments of another method differ in any case
    return "another run: " + ", ".join(f"{k} {before.get(k)} (now {now.get(k)})" for k in differing)


# ---------------------------------------------------------------- the harness's side


def keep_own_texts(backend: type[LM]) -> None:
    """Have the harness hand these backends every request, and check its file before it is opened.

    Calling it again changes nothing. Remove when the harness's cache knows models and costs.
    """
    init = CachingLM.__init__
    if getattr(init, "is_checked_by_s2t_eval", False):
        return

    @functools.wraps(init)
    def init_checked(self: CachingLM, lm: LM, cache_db: str) -> None:
        if isinstance(lm, backend):
            _require_cache_file(Path(cache_db))
            self.generate_until = lm.generate_until  # found before __getattr__, which looks texts up
        init(self, lm, cache_db)

    init_checked.is_checked_by_s2t_eval = True  # type: ignore[attr-defined]
    CachingLM.__init__ = init_checked


def _require_cache_file(path: Path) -> None:
    """Raise `CacheMismatchError` for what is no response cache; the harness would show three tracebacks."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        database = sqlite3.connect(path)
        try:
            database.execute("BEGIN IMMEDIATE").close()  # fails where it cannot be written
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
