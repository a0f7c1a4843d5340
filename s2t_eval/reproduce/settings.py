"""What `s2t-eval reproduce` is to do; importing this module loads nothing of recipes and models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Arguments of `s2t-eval reproduce`.

    Args:
        recipe: YAML file, or the name of a shipped recipe: embedded, embedded-rlkd, embedded-search,
            qwen-gsm8k, qwen-gsm8k-compared, qwen-gsm8k-gpu, qwen-gsm8k-search or paper.
        out: folder of everything that is made.
        plan: print the steps, what is done and how long the rest will take, and run nothing.
        set: changes of single places of the recipe, KEY.KEY=VALUE.
        keep: finished steps that stay although s2t-eval itself has changed since.
        jobs: steps at work at once, those that need nothing of each other; meant for a large GPU. On a CPU
            they only slow each other down. Seconds in the tables are then those of a shared machine.
        keep_going: after a step has failed, still run those that do not need it.
    """

    recipe: str = field(kw_only=False)
    out: Path
    plan: bool = False
    set: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    jobs: int = 1
    keep_going: bool = False
