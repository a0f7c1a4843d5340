"""The table that a reproduction ends with."""

from __future__ import annotations

import pytest
from rich.table import Table

from s2t_eval.reproduce.summary import print_whole


def test_numbers_are_whole_beside_long_labels(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table had 140 columns; with a longer label, `10,200` tokens were printed as `10…`."""
    monkeypatch.setenv("COLUMNS", "80")
    table = Table()
    for name in ("method", "tokens"):
        table.add_column(name, no_wrap=True)
    table.add_row("a label of a method " * 10, "10,200")
    print_whole(table)
    printed = capsys.readouterr().out
    assert "10,200" in printed and "…" not in printed
