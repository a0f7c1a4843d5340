"""Model cards of trained artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment


def render_card(template: str, content: Mapping[str, Any]) -> str:
    """Markdown with the Hub's metadata block.

    Args:
        template: of jinja2.
        content: of the artifact's manifest, and what else the template names.
    """
    return Environment(autoescape=False).from_string(template).render(**content) + "\n"
