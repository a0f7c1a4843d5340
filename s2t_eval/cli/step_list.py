"""What stands under a tried text: its fired steps with candidates and scores, and what the texts cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from s2t_eval.cli.text_display import FLIPPED, KEPT, TITLE
from s2t_eval.cli.transcript import CONTROL
from s2t_eval.engine import FiredStep, Result

TokenText = Callable[[Sequence[int]], str]


def fired_steps(steps: Sequence[FiredStep], most: int, token_text: TokenText) -> Group:
    """The first fired steps: what was picked, and under it the candidates with their scores.

    Args:
        steps: in their order.
        most: how many are shown.
        token_text: token ids to text.
    """
    flips = sum(step.picked != step.greedy for step in steps)
    parts: list[RenderableType] = [Text(f"{len(steps)} fired steps, {flips} flips", TITLE)]
    for step in steps[:most]:
        parts += _step(step, lambda token: _quoted(token_text([token])))
    if len(steps) > most:
        parts.append(f"{len(steps) - most} further steps (--steps {len(steps)} shows all)")
    return Group(*parts)


def _step(step: FiredStep, name: Callable[[int], str]) -> tuple[RenderableType, RenderableType]:
    style = FLIPPED if step.picked != step.greedy else KEPT
    value = f", value {step.divergence:.2f}" if math.isfinite(step.divergence) else ""
    text = Text(f"token {step.t + 1}{value}: ").append(name(step.picked), style)
    if step.picked != step.greedy:
        text.append(f" in place of {name(step.greedy)}")
    if step.teacher is not None and step.teacher not in step.candidates:
        text.append(f" (the teacher's own token, {name(step.teacher)}, is no candidate)")
    candidates = [
        Text().append(name(token), style if token == step.picked else None) for token in step.candidates
    ]
    for candidate, score in zip(candidates, step.scores, strict=False):  # a takeover scores none
        candidate.append(f" {round(score, 2) + 0.0:.2f}")  # no minus zero
    return text, Padding(Columns(candidates, padding=(0, 3)), (0, 0, 0, 4))


def _quoted(text: str) -> str:
    return '"' + text.replace("\n", "\\n").replace("\t", "\\t").translate(CONTROL) + '"'


def cost_table(results: Mapping[str, Result], prompt_tokens: int) -> Table:
    """What each text cost; rows that are 0 for all texts and belong to some methods only are left out."""
    table = Table(box=None, pad_edge=False, header_style=TITLE)
    table.add_column("cost")
    for title in results:
        table.add_column(title, justify="right")
    usages = [result.usage for result in results.values()]
    table.add_row("prompt tokens", *[str(prompt_tokens)] * len(usages))
    for name, title in ALWAYS.items():
        table.add_row(title, *(str(getattr(usage, name)) for usage in usages))
    for name, title in WHERE_USED.items():
        values = [getattr(usage, name) for usage in usages]
        if any(values):
            table.add_row(title, *map(str, values))
    table.add_row("seconds", *(f"{usage.seconds:.2f}" for usage in usages))
    table.add_row("ended by", *(ENDS[result.finish.value] for result in results.values()))
    return table


ALWAYS = {"tokens": "tokens", "forwards": "forwards", "triggers": "fired", "flips": "flips"}
WHERE_USED = {
    "teacher_tokens": "teacher tokens",
    "teacher_generated": "written by teacher",
    "discarded_tokens": "discarded tokens",
    "drafted_steps": "drafted steps",
    "rejected_steps": "rejected steps",
    "evaluation_tokens": "evaluation tokens",
    "scorer_tokens": "scorer tokens",
    "continued": "tokens iterated",
    "deeper_passes": "further passes",
}
ENDS = {"stop_id": "stop token", "stop_string": "stop string", "length": "length limit"}
