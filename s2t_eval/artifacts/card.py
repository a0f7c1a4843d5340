"""Model cards of trained artifacts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

FLAGS = ("apply_chat_template", "system_instruction", "num_fewshot")
"""Settings of prompts that are flags of lm_eval."""


def render_card(template: str, content: Mapping[str, Any]) -> str:
    """Markdown with the Hub's metadata block.

    Args:
        template: of jinja2; `evaluated` in it is `evaluation_flags`.
        content: of the artifact's manifest, and what else the template names.
    """
    environment = Environment(autoescape=False)
    environment.filters["evaluated"] = evaluation_flags
    return environment.from_string(template).render(**content) + "\n"


def evaluation_flags(labels: Mapping[str, Any]) -> str:
    """The flags of lm_eval for the task and prompts of an artifact's labels: with others it is refused.

    Args:
        labels: manifest of its labels. Of problems that are no task's, the task is for the reader to name.
    """
    source = labels["data"]["source"]
    prompt = labels.get("prompt") or {}
    words = ["--tasks", source if source.isidentifier() else "TASK"]
    for name in FLAGS:
        value = prompt.get(name)
        if value:
            words += [f"--{name}"] if value is True else [f"--{name}", shlex.quote(str(value))]
    return " ".join(words)
