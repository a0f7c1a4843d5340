"""The instruction of a task reaches the model through every chat template."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from lm_eval.loggers import EvaluationTracker

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


def test_prompts_are_rendered_by_the_template_that_was_named(lm: Greedy, tmp_path: Path) -> None:
    """`--apply_chat_template rag` was recorded, and every prompt had the default template."""
    lm.tokenizer.chat_template = {"default": TURNS, "rag": "{{ 'RAG ' }}" + TURNS}
    task = inline_task("named", arith_docs(1))

    def prompt(template: str | bool) -> str:
        tracker = EvaluationTracker(output_path=str(tmp_path))  # as lm_eval's command has one
        results = evaluate(
            lm, tasks=[task], limit=1, apply_chat_template=template, evaluation_tracker=tracker
        )
        text: str = results["samples"]["named"][0]["arguments"][0][0]
        return text

    plain = prompt(True)
    assert plain.startswith("<user>Question: ")
    assert prompt("rag") == "RAG " + plain
    assert prompt(True) == plain
    with pytest.raises(ValueError, match=r"'rga' is not available\. Available template names are"):
        prompt("rga")


def test_a_tokenizer_without_a_template_is_named(lm: Greedy) -> None:
    """A base model with --apply_chat_template ended in a traceback of transformers."""
    lm.tokenizer.chat_template = None
    message = r"^--apply_chat_template: the tokenizer of embedded/student has no \(default\) chat template; "
    for render in (lambda: lm.chat_template(True), lambda: lm.apply_chat_template(EXAMPLE)):
        with pytest.raises(ValueError, match=message):
            render()
    lm.chat_template_args = {"chat_template": TURNS}
    assert lm.apply_chat_template(EXAMPLE[:1]) == "<user>1+1?\n<assistant>"


def test_an_instruction_for_no_user_turn_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^chat template: .* no user turn .*leave --system_instruction out"):
        in_first_user_turn([SYSTEM])
