"""What the model card of a selector says of the two ways to use it."""

from __future__ import annotations

from dataclasses import replace

from s2t_eval.embedded import embedded_path
from s2t_eval.methods.selector_folder import read_info, selector_card


def test_a_card_calls_greedy_decoding_no_selection() -> None:
    """With the form `direct` its command was `--model s2t_local`, by default with the trigger always: that is
    a distilled student, decoded greedily."""
    folder = embedded_path("embedded/selector")
    info = read_info(folder)
    card = selector_card(info)
    assert card == (folder / "README.md").read_text()
    assert "lm_eval --model pps_local --model_args" in card and "default of `s2t_local`" not in card
    assert "| `s2t_local` (proposer tuned) | greedy decoding of the adapted model" in card
    other = selector_card(replace(info, form="lookahead"))
    assert "lm_eval --model s2t_local --model_args" in other and "greedy decoding of" not in other
    assert other.count("\n| default of `") == 2
