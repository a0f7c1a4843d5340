"""A progress bar that is updated while texts are generated, not only when they end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from s2t_eval.engine import OnRound, Round

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

TERMINAL_SECONDS = 0.5
LOG_SECONDS = 5.0
"""Seconds between two updates; a log file keeps every one of them."""
FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
"""tqdm's own format without its rate of texts, so that the rate of tokens fits into 80 columns."""


class GenerationProgress:
    """A bar over finished texts that also shows generated tokens, tokens per second and active rows.

    Rows are active from their prefill on, so the bar is updated before the first token. The rate is an
    average since then. Texts that are generated again because memory ran out are counted again.

    Args:
        total: number of texts, or of problems with several texts each.
        desc: text before the bar.
        disable: do not show the bar.
        seconds: between two updates; None takes fewer on a terminal than in a log file.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        total: int,
        desc: str,
        disable: bool = False,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bar: tqdm[Any] = tqdm(
            total=total, desc=desc, disable=disable, bar_format=FORMAT, dynamic_ncols=True
        )
        self._seconds = seconds or (TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS)
        self._clock = clock
        self._started: float | None = None
        self._next = self._last = 0.0
        self._ended_tokens = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._started is not None:
            self._show(Round([], []), self._last - self._started)
        self.bar.close()

    @property
    def on_round(self) -> OnRound | None:
        """The observer for the engine; None where the bar is not shown."""
        return None if self.bar.disable else self._on_round

    def update(self, count: int = 1) -> None:
        """Count this many further texts as done."""
        self.bar.update(count)

    def _on_round(self, state: Round) -> None:
        now = self._last = self._clock()
        if self._started is None:
            self._started = self._next = now
        if now >= self._next:
            self._next = now + self._seconds
            self._show(state, now - self._started)
        self._ended_tokens += sum(len(state.active[row].output) for row, _ in state.finished)

    def _show(self, state: Round, seconds: float) -> None:
        tokens = self._ended_tokens + sum(len(seq.output) for seq in state.active)
        rate = f"{tokens / seconds:,.0f}" if seconds > 0 else "?"
        rows = len(state.active) - len(state.finished)
        self.bar.set_postfix_str(f"{tokens:,} tokens ({rate}/s), {rows} rows")
