"""The `--model_args` of a backend in three parts: our own, those of stock `hf`, and those of its teacher.

A teacher is loaded as stock `hf` loads a model. So it takes every argument of stock `hf` about loading, with
`teacher_` in front: `teacher_revision`, `teacher_device_map`, `teacher_load_in_4bit`, ...
"""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import simple_parse_args_string

from s2t_eval.method_table import ADDRESSES, FIRING_MODELS, LENGTH_NAMES
from s2t_eval.model_wrappers.arguments import SERVED_METHODS, CommonArguments, SelectionArguments

# Stock `hf` passes every unknown argument to from_pretrained, typing errors included. These are the
# keywords of from_pretrained that apply here. `max_memory` is not one of them: stock replaces it by its own
# arguments max_memory_per_gpu and max_cpu_memory.
LOADING_ARGS = frozenset(
    """attn_implementation device_map low_cpu_mem_usage use_safetensors variant token code_revision
    local_files_only cache_dir force_download load_in_4bit load_in_8bit bnb_4bit_compute_dtype
    bnb_4bit_quant_type bnb_4bit_use_double_quant quantization_config experts_implementation""".split()
)
STOCK_ARGS = frozenset(inspect.signature(HFLM.__init__).parameters) - {"self", "kwargs"}
ABOUT_REQUESTS = frozenset(
    """pretrained backend truncation logits_cache max_length softmax_dtype mixed_precision_dtype batch_size
    max_batch_size add_bos_token prefix_token_id think_end_token enable_thinking chat_template_args""".split()
)
"""Arguments of stock `hf` about what is run and how, which a teacher shares with its student; all others are
about loading."""
TEACHER = "teacher_"
"""Beginning of the names of a teacher's arguments."""
TEACHER_ARGS = frozenset(TEACHER + name for name in (STOCK_ARGS - ABOUT_REQUESTS) | LOADING_ARGS)
RENAMED = {"warmup": "warmup_tokens"}
"""Former name of an argument -> its name."""
GENERATION_ARGS = frozenset((*LENGTH_NAMES, "until", "stop_token_ids", "do_sample", "temperature", "top_p"))
"""Arguments of a task's generation, which some of lm_eval's other backends take in `--model_args` too."""
HARNESS_OPTIONS = frozenset(field.name for field in fields(EvaluatorConfig))
"""Options of lm_eval's command that are no arguments of a model."""


class ModelArguments(NamedTuple):
    """A backend's arguments."""

    own: CommonArguments
    stock: dict[str, Any]
    """stock `hf`'s, of the student"""
    teacher: dict[str, Any]
    """stock `hf`'s, of the teacher; without the `teacher_` in front"""


def split_arguments(
    method: str, own_class: type[CommonArguments], model_args: Mapping[str, Any]
) -> ModelArguments:
    """Separate the user's arguments into ours, the student's and the teacher's.

    Args:
        method: name of the backend.
        own_class: its own arguments; with a field `teacher` it has a teacher.
        model_args: as `--model_args` gives them.

    Raises:
        ValueError: an argument that the backend does not have, whose message names the nearest known one; or
            one of a teacher where none is loaded.
    """
    own_names = {field.name for field in fields(own_class)}
    teacher_names = TEACHER_ARGS if "teacher" in own_names else frozenset()
    _require_known(method, own_names, teacher_names, model_args)
    own = own_class(**{name: model_args[name] for name in own_names if name in model_args})
    teacher = {name: model_args[name] for name in model_args if name in teacher_names - own_names}
    _require_loaded_teacher(own, [name for name, value in teacher.items() if value is not None])
    left_out = own_names | teacher.keys()
    return ModelArguments(
        own,
        {name: value for name, value in model_args.items() if name not in left_out},
        {name.removeprefix(TEACHER): value for name, value in teacher.items() if value is not None},
    )


def parse_model_args(text: str) -> dict[str, Any]:
    """Arguments written as in lm_eval's `--model_args`: name=value joined by commas, or one JSON object.

    Raises:
        ValueError: a part without a value, or text that begins as JSON and is none.
    """
    if text.lstrip().startswith("{"):
        try:
            parsed: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"expected name=value pairs or a JSON object, got {text!r} ({error})") from error
        return parsed
    malformed = [part for part in text.split(",") if part and "=" not in part]
    if malformed:
        raise ValueError(f"expected name=value pairs, got {malformed[0]!r}")
    return dict(simple_parse_args_string(text))


def require_teacher_names(option: str, names: Collection[str]) -> None:
    """Raise `ValueError` for a name that no argument of a teacher has, given without `teacher_`.

    Args:
        option: the option that gives them, for messages.
        names: the names.
    """
    known = sorted(name.removeprefix(TEACHER) for name in TEACHER_ARGS)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"expected of {', '.join(known)}"
            raise ValueError(f"{option}: unknown argument {name!r}; {hint}")


def _require_known(
    method: str, own_names: set[str], teacher_names: frozenset[str], model_args: Mapping[str, Any]
) -> None:
    """Raise `ValueError` for a name that the backend does not have."""
    known = own_names | STOCK_ARGS | LOADING_ARGS | teacher_names
    unknown = [name for name in model_args if name not in known]
    if not unknown:
        return
    if unknown[0] in ADDRESSES and ADDRESSES[0] in own_names:
        here = ", or load the teacher here by teacher=MODEL" if "teacher" in own_names else ""
        raise ValueError(
            f"--model {method}: {unknown[0]}: its student alone may be on servers ({ADDRESSES[0]}); leave it "
            f"out{here}"
        )
    if unknown[0] in ADDRESSES:
        raise ValueError(
            f"--model {method}: {unknown[0]}: its models run in this process only; on servers run "
            f"{SERVED_METHODS}"
        )
    renamed = RENAMED.get(unknown[0])
    if renamed in own_names:
        raise ValueError(
            f"--model {method}: the argument {unknown[0]} is now called {renamed}; give "
            f"{renamed}={model_args[unknown[0]]}"
        )
    hint = _hint(unknown[0], own_names, known)
    raise ValueError(f"--model {method}: unknown argument {unknown[0]!r}; {hint}")


def _hint(unknown: str, own_names: set[str], known: Collection[str]) -> str:
    """What may have been meant by a name that a backend does not have."""
    if f"sample_{unknown}" in own_names:
        return f"did you mean 'sample_{unknown}'?"
    if unknown in {field.name for field in fields(SelectionArguments)}:
        return f"methods that select have it ({', '.join(FIRING_MODELS)}); leave it out, or name one of these"
    if unknown in GENERATION_ARGS:
        return f"it is decided by the task and by --gen_kwargs {unknown}=VALUE"
    if unknown in HARNESS_OPTIONS:
        return f"it is an option of lm_eval, --{unknown}"
    if not unknown.startswith(TEACHER[:2]):
        known = [name for name in known if not name.startswith(TEACHER)]
    near = difflib.get_close_matches(unknown, sorted(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"its own are {', '.join(sorted(own_names))}"


def _require_loaded_teacher(own: CommonArguments, names: list[str]) -> None:
    """Raise `ValueError` for arguments of a teacher that is on a server, or that there is none of."""
    if not names:
        return
    if getattr(own, "teacher_url", None) is not None:
        raise ValueError(f"{names[0]}: the server of teacher_url decides it; leave it out")
    if getattr(own, "teacher", None) is None:
        raise ValueError(
            f"{names[0]}: there is no teacher that it could apply to; give teacher=MODEL, or leave it out"
        )
