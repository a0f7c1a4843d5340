"""Model cards name a command that their artifact accepts."""

from __future__ import annotations

import pytest

from s2t_eval.artifacts.card import evaluation_flags
from s2t_eval.artifacts.manifest import ManifestKind
from s2t_eval.embedded import embedded_path
from s2t_eval.methods.distilled import KIND, distilled_card
from s2t_eval.methods.selector_info import read_info, selector_card


@pytest.mark.parametrize(
    ("source", "prompt", "flags"),
    [
        ("s2t_gsm8k", {}, "--tasks s2t_gsm8k"),
        (
            "s2t_gsm8k",
            {"apply_chat_template": True, "max_gen_toks": 512},
            "--tasks s2t_gsm8k --apply_chat_template",
        ),
        (
            "s2t_math500",
            {"apply_chat_template": False, "num_fewshot": 4, "system_instruction": "It's a problem."},
            "--tasks s2t_math500 --system_instruction 'It'\"'\"'s a problem.' --num_fewshot 4",
        ),
        ("problems.jsonl", {"num_fewshot": 0, "system_instruction": None}, "--tasks TASK"),
        ("openai/gsm8k", {}, "--tasks TASK"),
    ],
)
def test_a_card_names_the_task_and_the_prompts_of_its_labels(
    source: str, prompt: dict[str, object], flags: str
) -> None:
    """Every card named `--tasks gsm8k`, whose five examples the artifacts refuse."""
    assert evaluation_flags({"data": {"source": source}, "prompt": prompt}) == flags


def test_labels_that_record_no_prompt_have_no_flags() -> None:
    assert evaluation_flags({"data": {"source": "s2t_arith"}}) == "--tasks s2t_arith"


@pytest.mark.parametrize("name", ["distilled", "rlkd"])
def test_the_shipped_cards_are_what_their_manifests_give(name: str) -> None:
    folder = embedded_path(f"embedded/{name}")
    assert isinstance(KIND, ManifestKind)
    info = KIND.read(name, folder / "distil.json")
    card = (folder / "README.md").read_text()
    assert card == distilled_card(info)
    assert "--tasks s2t_arith\n" in card


def test_the_shipped_selector_s_card_names_its_task() -> None:
    folder = embedded_path("embedded/selector")
    card = (folder / "README.md").read_text()
    assert "--tasks s2t_arith\n" in card and card == selector_card(read_info(folder))
