"""Texts in the terminal as they are written: side by side, or below each other where it is narrow.

Where the output is no terminal nothing but text is written: no colour, no cursor movement, and every text
below the one before it.
"""

from __future__ import annotations

import os
import sys
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from s2t_eval.cli.transcript import Transcript
from s2t_eval.engine import OnRound, Round

WIDE = 100
"""Columns from which two texts stand side by side."""
KEPT, FLIPPED = "underline green", "bold underline yellow"
"""They differ without colours too (NO_COLOR)."""
TITLE = "bold"


class Display(Protocol):
    """Shows texts while they are written, one after the other."""

    def begin(self, title: str, transcript: Transcript) -> OnRound:
        """A new text; returns the engine's observer that shows it as it grows."""
        ...

    def end(self) -> None:
        """All texts are complete."""
        ...


def make_console() -> Console:
    """A console that writes control codes to a terminal only, whatever FORCE_COLOR says."""
    is_terminal = is_live()
    return Console(force_terminal=is_terminal, highlight=False, markup=False, emoji=False)


def is_live() -> bool:
    """Whether standard output is a terminal whose cursor can be moved."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def make_display(console: Console) -> Display:
    """The display that suits a console."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


class PlainDisplay:
    """Appends to the output and never takes anything back."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def begin(self, title: str, transcript: Transcript) -> OnRound:
        """Write the title, then the text as far as it is certain."""
        file = self.console.file
        file.write(f"{title}:\n")
        written = 0

        def show(state: Round) -> None:
            nonlocal written
            follow(transcript, state)
            start = written or len(transcript.text) - len(transcript.text.lstrip())
            if transcript.shown > start:
                file.write(transcript.text[start : transcript.shown])
                written = transcript.shown
            if transcript.is_finished:
                file.write("\n\n")
            file.flush()

        return show

    def end(self) -> None:
        """Nothing is left to write."""


class LiveDisplay:
    """Redraws the texts in place while they grow, and leaves them whole at the end."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.texts: list[tuple[str, Transcript]] = []
        # What is drawn while texts grow is their end, as much as fits; then it gives way to the whole.
        self.live = Live(console=console, transient=True, refresh_per_second=8)
        self.live.start()

    def begin(self, title: str, transcript: Transcript) -> OnRound:
        """Add a text beside those that are complete."""
        self.texts.append((title, transcript))

        def show(state: Round) -> None:
            follow(transcript, state)
            self.live.update(self.layout(self.console.height - 2))

        return show

    def end(self) -> None:
        """Leave the whole texts in place of what was redrawn."""
        self.live.stop()
        self.console.print(self.layout(), "")

    def layout(self, height: int | None = None) -> RenderableType:
        """The texts, cut at the top so that they fit into the height in lines; None cuts nothing."""
        is_wide = self.console.width >= WIDE and len(self.texts) > 1
        width = (self.console.width - 3) // 2 if is_wide else self.console.width
        if height is not None and not is_wide:
            height //= len(self.texts)
        parts = [
            Group(Text(title, TITLE), _last_lines(self.console, coloured(transcript), width, height))
            for title, transcript in self.texts
        ]
        if not is_wide:
            return Group(*parts)
        grid = Table.grid(padding=(0, 3, 0, 0))
        for _ in parts:
            grid.add_column(width=width)
        grid.add_row(*parts)
        return grid


def follow(transcript: Transcript, state: Round) -> None:
    """Take what a round of a run with one request has written."""
    [seq] = state.active
    finish = state.finished[0][1] if state.finished else None
    transcript.update(seq.output, seq.steps, finish)


def coloured(transcript: Transcript) -> Text:
    """The text with the characters of fired steps marked."""
    text = Text(transcript.text[: transcript.shown], overflow="fold")
    for span in transcript.spans:
        text.stylize(FLIPPED if span.is_flip else KEPT, span.start, span.end)
    start = len(transcript.text) - len(transcript.text.lstrip())
    return text[start:] if start < len(text) else Text()


def _last_lines(console: Console, text: Text, width: int, height: int | None) -> Text:
    if height is None:
        return text
    lines = text.wrap(console, width, overflow="fold")
    return Text("\n").join(lines[-max(1, height - 1) :])
