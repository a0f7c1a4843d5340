"""Models (shipped, loaded, or random with realistic shapes) and prompts of the benchmarks."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)
from transformers.utils import logging

from s2t_eval.artifacts.json_lines import read_json_lines
from s2t_eval.embedded import resolve_model
from s2t_eval.embedded.arith import make_split
from s2t_eval.embedded.tokenizer import build_tokenizer
from s2t_eval.engine.compiled_layers import Compile

RANDOM = "random/"
TAUS = (0.01, 0.05, 0.1, 1.0)
"""Rates at which the figures of branches in place let steps fire."""
PROMPT_WORDS = (60, 160)
"""Minimum and maximum length of a random prompt in tokens, as for GSM8k's questions in a chat template."""


@dataclass(frozen=True)
class Shape:
    """The model sizes that determine the cost of a forward pass."""

    family: Callable[..., PreTrainedConfig]
    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    tied: bool = True

    def config(self) -> PreTrainedConfig:
        """A configuration with these sizes and the family's defaults."""
        return self.family(
            hidden_size=self.hidden,
            intermediate_size=self.mlp,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            vocab_size=self.vocab,
            max_position_embeddings=32768,
            tie_word_embeddings=self.tied,
        )


SHAPES = {
    "tiny": Shape(Qwen2Config, 64, 128, 2, 4, 2, 512),
    "smollm2-135m": Shape(LlamaConfig, 576, 1536, 30, 9, 3, 49152),
    "qwen2.5-0.5b": Shape(Qwen2Config, 896, 4864, 24, 14, 2, 151936),
    "qwen2.5-1.5b": Shape(Qwen2Config, 1536, 8960, 28, 12, 2, 151936),
    "qwen2.5-3b": Shape(Qwen2Config, 2048, 11008, 36, 16, 2, 151936),
    "qwen2.5-7b": Shape(Qwen2Config, 3584, 18944, 28, 28, 4, 152064, tied=False),
}


@dataclass(frozen=True)
class Settings:
    """Settings shared by the benchmarks.

    Args:
        student: hub name, folder, `embedded/student`, or `random/SHAPE` (see `SHAPES`).
        teacher: the same; only `lockstep` and `verify` load it.
        dtype: data type of both models.
        device: device of both models.
        batch: number of texts decoded at once.
        requests: number of texts of a measured run; None for the benchmark's default.
        new_tokens: length limit of a text in tokens; None for the benchmark's default.
        repeats: number of rounds, in each of which every side is measured once.
        data: JSON-lines file with a `question` per line; None for problems of s2t_arith, or random words
            for a random model.
        fixed_length: whether only the length limit ends a text (`greedy-vs-hf`; always so in the others).
        taus: trigger rates; None for the benchmark's default.
        top_k: number of candidates of a fired step.
        last_layers: numbers of last layers that an adapter changes (`pps`); None for the benchmark's default.
        chunks: lengths of chunks beside lockstep and `auto` (`verify`); None for the benchmark's default.
        compile: of the measured models: "never", "auto" or "always" (see `ModelRunner`).
        student_url: servers of the student, for figures that measure servers.
        teacher_url: servers of the teacher.
    """

    student: str = "embedded/student"
    teacher: str = "embedded/teacher"
    dtype: str = "float32"
    device: str = "cpu"
    batch: int = 32
    requests: int | None = None
    new_tokens: int | None = None
    repeats: int = 5
    data: str | None = None
    fixed_length: bool = False
    taus: tuple[float, ...] | None = None
    top_k: int = 8
    last_layers: tuple[int, ...] | None = None
    chunks: tuple[int, ...] | None = None
    compile: Compile = "never"
    student_url: str | None = None
    teacher_url: str | None = None

    @property
    def is_random(self) -> bool:
        """Whether the student has random weights, whose texts never end."""
        return self.student.startswith(RANDOM)


def load_model(name: str, settings: Settings) -> PreTrainedModel:
    """Load a model in evaluation mode; random weights have a fixed seed."""
    logging.disable_progress_bar()
    dtype = getattr(torch, settings.dtype)
    if name.startswith(RANDOM):
        # On the device itself: drawing the weights of 1.5 billion parameters takes a CPU long.
        with torch.random.fork_rng(devices=[]), torch.device(settings.device):
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(_shape(name).config(), dtype=dtype)
    else:
        model = AutoModelForCausalLM.from_pretrained(resolve_model(name), dtype=dtype)
    loaded: PreTrainedModel = model.to(settings.device).eval()
    return loaded


def load_tokenizer(settings: Settings) -> Any:
    """Load the student's tokenizer; for random weights, one of the shape's size with a token per word."""
    if settings.is_random:
        size = _shape(settings.student).vocab
        # Bytes, numbers and special tokens are added; the head keeps some rows beyond the vocabulary.
        return build_tokenizer([" ".join(("", *islice(_words(), size - 384)))], 32768)
    return AutoTokenizer.from_pretrained(resolve_model(settings.student))


def kept_settings(settings: Settings) -> dict[str, Any]:
    """Settings for a file that is kept: of what lies on this machine only the name of its file or folder."""
    return {
        name: Path(value).name if isinstance(value, str) and Path(value).exists() else value
        for name, value in asdict(settings).items()
    }


def load_prompts(settings: Settings, tokenizer: Any, num: int, shots: int = 0) -> list[str]:
    """Create different prompts in the model's chat template, each preceded by `shots` other questions.

    Raises:
        ValueError: fewer questions than that.
    """
    questions = list(islice(_questions(settings), shots + num))
    if len(questions) < shots + num:
        raise ValueError(
            f"--requests: expected at most {len(questions) - shots}, the questions there are "
            f"({settings.data or 'the test split of s2t_arith'}), got {num}"
        )
    prefix = "".join(f"{question}\n\n" for question in questions[:shots])
    return [_templated(tokenizer, prefix + question) for question in questions[shots:]]


def _shape(name: str) -> Shape:
    shape = SHAPES.get(name.removeprefix(RANDOM))
    if shape is None:
        raise ValueError(f"{name}: expected {RANDOM} and one of {', '.join(SHAPES)}")
    return shape


def _templated(tokenizer: Any, content: str) -> str:
    if not tokenizer.chat_template:
        return content
    turns = [{"role": "user", "content": content}]
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return text


def _words() -> Iterator[str]:
    return ("".join(letters) for letters in product(string.ascii_lowercase, repeat=4))


def _questions(settings: Settings) -> Iterator[str]:
    if settings.data is not None:
        for line in read_json_lines(Path(settings.data)):
            yield line.record["question"]
    elif settings.is_random:
        words = list(islice(_words(), 100))
        numbers = random.Random(0)
        while True:
            yield " ".join(numbers.choices(words, k=numbers.randint(*PROMPT_WORDS)))
    else:
        yield from (f"Question: {problem.question}\nAnswer:" for problem in make_split("test"))
