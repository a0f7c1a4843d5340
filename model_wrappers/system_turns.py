"""Conversations for chat templates that have no system role, such as Gemma's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jinja2.exceptions import TemplateError
from lm_eval.api.utils import maybe_delimit

Turns = Sequence[dict[str, str]]

PROBE = "s2tsystemturn"
DELIMITER = "\n\n"


def has_system_turn(turns: Turns) -> bool:
    """Whether a conversation has a system turn with text."""
    return any(turn["role"] == "system" and turn["content"] for turn in turns)


def keeps_system_turn(render: Callable[[Turns], str]) -> bool:
    """Whether a chat template renders the text of a system turn, instead of refusing it or leaving it out.

    Args:
        render: the template with the arguments of the run.
    """
    try:
        return PROBE in render([{"role": "system", "content": PROBE}, {"role": "user", "content": "?"}])
    except TemplateError:
        return False


def in_first_user_turn(turns: Turns) -> list[dict[str, str]]:
    """The conversation whose first user turn begins with the text of its system turns, which are left out.

    Raises:
        ValueError: it has no user turn.
    """
    system = DELIMITER.join(turn["content"] for turn in turns if turn["role"] == "system")
    others = [turn for turn in turns if turn["role"] != "system"]
    first = next((i for i, turn in enumerate(others) if turn["role"] == "user"), None)
    if first is None:
        raise ValueError(
            "chat template: it has no system turn, and the conversation has no user turn to begin with "
            f"the instruction {system!r}; leave --system_instruction out"
        )
    user = others[first]
    others[first] = {**user, "content": maybe_delimit(system, user["content"], DELIMITER)}
    return others
