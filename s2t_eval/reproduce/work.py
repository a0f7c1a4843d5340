"""How much a stage has to do, and how long that takes here: a rough prior, corrected by what was measured."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from s2t_eval.models.product import Product
from s2t_eval.reproduce.identity import model_place
from s2t_eval.reproduce.schema import Recipe

START_SECONDS = 10.0
"""Of a process that imports torch and loads a small model."""
PROMPT_TOKENS, DEFAULT_NEW_TOKENS, SHARE_WRITTEN = 150, 512, 0.6
"""What a text is taken to have: a prompt, and this share of the limit on new tokens."""
TRAINING_PASSES = 3
"""A backward pass costs about two forward passes."""
EFFICIENCY = 0.4
"""What decoding and training reach of the rate of one large matrix product."""
UNKNOWN_PARAMETERS = 1e9
ROUTER_PARAMETERS = 4e6
"""Of R2R's router with its default size."""
SLOW_RATIO = 2.0


@dataclass(frozen=True)
class Work:
    """Work of a stage.

    Args:
        parameter_tokens: tokens times the parameters of the model that reads or writes them.
        starts: processes that are started.
        fixed: seconds that depend on nothing here.
        is_shared: whether a server does a part of it, which is not counted: the seconds that it takes tell
            nothing about other stages.
    """

    parameter_tokens: float = 0.0
    starts: int = 1
    fixed: float = 0.0
    is_shared: bool = False

    @classmethod
    def of_texts(
        cls, texts: int, roles: Sequence[str], recipe: Recipe, starts: int = 1, is_shared: bool = False
    ) -> Work:
        """Texts that the student writes, and that every named model processes once."""
        tokens = texts * _tokens(recipe)
        return cls(tokens * sum(_parameters(recipe, role) for role in roles), starts, is_shared=is_shared)

    @classmethod
    def of_training(cls, texts: int, epochs: int, roles: Sequence[str], recipe: Recipe) -> Work:
        """Texts that the student learns from, and that the other named models process beside it."""
        passes = {role: TRAINING_PASSES if role == "student" else 1 for role in roles}
        tokens = texts * epochs * _tokens(recipe)
        return cls(tokens * sum(passes[role] * _parameters(recipe, role) for role in roles))

    @classmethod
    def of_selector(
        cls,
        texts: int,
        epochs: int,
        appended: float,
        has_frozen_pass: bool,
        num_routers: int,
        recipe: Recipe,
    ) -> Work:
        """Texts that a selector learns from, and that its routers read.

        Args:
            texts: number of texts.
            epochs: of the selector.
            appended: candidates that are appended to a text in training, for each token of its answer.
            has_frozen_pass: whether the student without the adapter processes the same tokens.
            num_routers: each one reads every text once more; their own networks are not counted.
            recipe: of the student and the limit on new tokens.
        """
        tokens = _tokens(recipe) + appended * _written_tokens(recipe)
        passes = epochs * (TRAINING_PASSES + has_frozen_pass)
        of_text = passes * tokens + num_routers * _tokens(recipe)
        return cls(texts * of_text * _parameters(recipe, "student"))

    @classmethod
    def of_rewarded(
        cls,
        problems: int,
        num_references: int,
        epochs: int,
        group: int,
        roles: Sequence[str],
        recipe: Recipe,
    ) -> Work:
        """Groups of texts that the student writes and learns from, and the other models' references."""
        learnt = problems * (1 + TRAINING_PASSES) * group * epochs
        texts = {role: learnt if role == "student" else num_references for role in roles}
        return cls(_tokens(recipe) * sum(texts[role] * _parameters(recipe, role) for role in roles))

    @classmethod
    def of_router(cls, texts: int, epochs: int, recipe: Recipe) -> Work:
        """Texts that R2R's router learns from; the student's states of them are in the labels."""
        return cls(texts * epochs * _tokens(recipe) * TRAINING_PASSES * ROUTER_PARAMETERS)

    def seconds(self, rate: float) -> float:
        """How long it takes at so many parameter-tokens a second."""
        return self.fixed + self.starts * START_SECONDS + self.parameter_tokens / rate


def _tokens(recipe: Recipe) -> float:
    return PROMPT_TOKENS + _written_tokens(recipe)


def _written_tokens(recipe: Recipe) -> float:
    return SHARE_WRITTEN * (recipe.limits.max_gen_toks or DEFAULT_NEW_TOKENS)


def _parameters(recipe: Recipe, role: str) -> float:
    name = getattr(recipe.models, role)
    return parameters(name) if name is not None else 0.0


@cache
def parameters(name: str) -> float:
    """Parameters of a model: counted in its safetensors files, or read from its name (`0.5B`)."""
    place = model_place(name)
    files = sorted(place.glob("*.safetensors")) if place is not None and place.is_dir() else []
    counted = sum(_elements(file) for file in files)
    size = re.search(r"(\d+(?:\.\d+)?)\s?([bBmM])(?![a-zA-Z])", name.rsplit("/", 1)[-1])
    if counted:
        return float(counted)
    return float(size[1]) * (1e9 if size[2] in "bB" else 1e6) if size else UNKNOWN_PARAMETERS


def _elements(file: Path) -> int:
    """Numbers in a safetensors file; 0 of a damaged one, which the step that loads it names."""
    try:
        with safe_open(file, framework="numpy") as opened:
            return sum(math.prod(opened.get_slice(name).get_shape()) for name in list(opened.keys()))
    except SafetensorError:
        return 0


NO_WORK = Work()


class Finished(NamedTuple):
    """A finished stage: what was to be expected, and how long it took."""

    kind: str
    work: Work
    seconds: float


class Estimator:
    """Seconds of stages: the prior of a rate, times what finished stages of this kind took of their priors.

    Args:
        rate: parameter-tokens a second of this machine.
        finished: on this machine.
    """

    def __init__(self, rate: float, finished: Iterable[Finished] = ()) -> None:
        self.rate = rate
        self.finished: list[Finished] = []
        for one in finished:
            self.add(one)

    def add(self, finished: Finished) -> None:
        """Take one more into account, unless a server did a part of it."""
        if not finished.work.is_shared:
            self.finished.append(finished)

    def seconds(self, kind: str, work: Work) -> float:
        """How long a stage will take."""
        return work.seconds(self.rate) * self._factor(kind)

    def rest(self, kind: str, work: Work, spent: float) -> float:
        """How long a stage will still take, of which so many seconds are done: at least a process's start."""
        whole = self.seconds(kind, work)
        return max(whole - spent, min(whole, START_SECONDS))

    def basis(self, kinds: Iterable[str]) -> str:
        """The basis of the estimates of these kinds, in words."""
        known = {kind for kind, _, _ in self.finished}
        if not known:
            return "from a measured matrix product: good to a factor of about four"
        if set(kinds) <= known:
            return "from finished steps of the same kinds"
        return "from the finished steps, some of other kinds"

    def _factor(self, kind: str) -> float:
        same = [one for one in self.finished if one.kind == kind] or self.finished
        expected = sum(one.work.seconds(self.rate) for one in same)
        return sum(one.seconds for one in same) / expected if expected else 1.0


def measured_rate(dtype: str, device: str | None) -> float:
    """Parameter-tokens a second that this machine will reach, from one matrix product."""
    import torch

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = getattr(torch, dtype, torch.float32) if dtype != "auto" else torch.float32
    product = Product(rows=64)
    return EFFICIENCY * product.multiplications / product.seconds(place, kind)


def dtype_hint(dtype: str, device: str | None) -> str | None:
    """What to change where this machine multiplies another dtype much faster; None where it does not."""
    if dtype not in ("bfloat16", "float16"):
        return None
    ratio = measured_rate("float32", device) / measured_rate(dtype, device)
    if ratio < SLOW_RATIO:
        return None
    return f"{dtype} is {ratio:.0f} times as slow as float32 on this machine: give --set models.dtype=float32"


def duration(seconds: float) -> str:
    """A duration for people to read: `40 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"
