"""The embedded pair as the default: a backend without `pretrained` runs on it, with a warning."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

STUDENT, TEACHER = "embedded/student", "embedded/teacher"
SELECTOR = "embedded/selector"
DEFAULT_TAU = 0.05

PARTS: Mapping[str, Mapping[str, Any]] = {
    "distil": {"peft": "embedded/distilled"},
    "s2t": {"teacher": TEACHER, "selector": SELECTOR, "tau": DEFAULT_TAU},
    "takeover": {"teacher": TEACHER, "selector": SELECTOR, "tau": DEFAULT_TAU},
    "r2r": {"teacher": TEACHER, "router": "embedded/r2r", "tau": DEFAULT_TAU},
    "specreason": {"teacher": TEACHER, "score": "logprob", "delimiter": "sentence"},
    "s2t_local": {"selector": SELECTOR},
    "pps_local": {"selector": SELECTOR},
    "tot": {"value": "loglik", "delimiter": "sentence", "max_line": 16, "budget": 272},
    "tah": {"tah": "embedded/tah"},
}
"""Method -> its arguments in addition to the student. The selector also contains thresholds of KL triggers,
measured with the embedded teacher."""

ARTIFACTS = ("selector", "router", "calibration")
"""Arguments of methods that select whose values were made with prompts of one kind."""
TRAINED_STUDENTS = ("peft", "tah")
"""Such arguments of the methods that take them from the embedded pair, `distil` and `tah`."""


def embedded_arguments(method: str, model_args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the embedded pair that complete those of the user; none where they name a model.

    No argument of the user is replaced. No rate is added beside a threshold or a trigger without a rate.
    Where all artifacts are the embedded ones, prompts of every kind are allowed (`other_prompt`): stock tasks
    come with few-shot examples, which these artifacts were not made with, and no artifact was chosen.

    Args:
        method: a backend's `METHOD`.
        model_args: `--model_args`.
    """
    if model_args.get("pretrained") is not None:
        return {}
    parts = {"pretrained": STUDENT, **PARTS.get(method, {})}
    if model_args.get("threshold") is not None or model_args.get("trigger") in ("always", "never"):
        parts.pop("tau", None)
    own = ARTIFACTS if {"selector", "router"} & parts.keys() else TRAINED_STUDENTS
    if {*ARTIFACTS, *TRAINED_STUDENTS} & parts.keys() and not any(model_args.get(name) for name in own):
        parts["other_prompt"] = True
    return {name: value for name, value in parts.items() if model_args.get(name) is None}


def with_embedded_pair(method: str, model_args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, completed by those of the embedded pair, which a warning names.

    Args:
        method: a backend's `METHOD`.
        model_args: `--model_args`.
    """
    added = embedded_arguments(method, model_args)
    if added:
        logger.warning(
            "--model %s without pretrained=MODEL: it runs on the embedded pair, with %s",
            method,
            ",".join(f"{name}={value}" for name, value in added.items()),
        )
    return {**model_args, **added}
