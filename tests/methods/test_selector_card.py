"""The model card of a selector folder."""

from __future__ import annotations

from dataclasses import replace

from s2t_eval.embedded import embedded_path
from s2t_eval.methods.selector_info import read_info, selector_card


def test_the_shipped_card_is_the_one_that_the_code_writes() -> None:
    folder = embedded_path("embedded/selector")
    assert selector_card(read_info(folder)) == (folder / "README.md").read_text()


def test_a_card_names_a_readout_where_there_is_one() -> None:
    """The card of a selector of form direct named 16 bins, which nothing had trained."""
    info = read_info(embedded_path("embedded/selector"))
    assert "| score form | direct |\n" in selector_card(info)
    assert "| score form | residual, readout of 16 bins as log_odds |\n" in selector_card(
        replace(info, form="residual")
    )
