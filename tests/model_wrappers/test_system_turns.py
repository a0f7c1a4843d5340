"""The instruction of a task reaches the model through every chat template."""

from __future__ import annotations

import logging

import pytest

from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.system_turns import in_first_user_turn
from tests.harness_helpers import STUDENT, arith_docs, evaluate, inline_task, ours

TURNS = (
    "{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] | trim + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
REFUSING = (  # as Gemma's
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + TURNS
)
SILENT = "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}" + TURNS
SYSTEM = {"role": "system", "content": "Be brief."}
EXAMPLE = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]


@pytest.fixture
def lm() -> Greedy:
    return Greedy(STUDENT)


@pytest.mark.parametrize("template", [REFUSING, SILENT])
def test_an_instruction_without_a_system_turn_begins_the_first_user_turn(
    lm: Greedy, template: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Gemma solved every benchmark without "put the final answer in \\boxed{}": stock drops the turn."""
    lm.tokenizer.chat_template = template
    turns = [SYSTEM, *EXAMPLE, {"role": "user", "content": "Be brief. 3?"}]
    with caplog.at_level(logging.WARNING):
        rendered = [lm.apply_chat_template(turns) for _ in range(2)]
    assert rendered == ["<user>Be brief.\n\n1+1?\n<assistant>2\n<user>Be brief. 3?\n<assistant>"] * 2
    assert len(caplog.records) == 1, "once, and nothing of stock's about removing the turn"
    assert caplog.records[0].getMessage().startswith("the chat template has no system turn")


def test_the_results_say_so(lm: Greedy) -> None:
    task = inline_task("told", arith_docs(1), description="Be brief.")
    lm.tokenizer.chat_template = REFUSING
    results = evaluate(lm, tasks=[task], limit=1, apply_chat_template=True)
    assert results["samples"]["told"][0]["arguments"][0][0].startswith("<user>Be brief.\n\n")
    assert ours(results)["system_turn"] == "in the first user turn"


def test_templates_with_a_system_turn_render_as_in_stock(lm: Greedy) -> None:
    lm.tokenizer.chat_template = TURNS
    assert lm.apply_chat_template([SYSTEM, *EXAMPLE], False) == "<system>Be brief.\n<user>1+1?\n<assistant>2"
    assert not lm.is_system_turn_moved and "system_turn" not in lm.get_model_info()["s2t_eval"]


def test_an_instruction_for_no_user_turn_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^chat template: .* no user turn .*leave --system_instruction out"):
        in_first_user_turn([SYSTEM])
