"""What tasks may ask for through the stock harness: stops and limits of their own, few-shot, chat."""

from __future__ import annotations

import re
from typing import Any

import pytest
from lm_eval.models.huggingface import HFLM

from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.s2t import SelectToThink
from tests.harness_helpers import (
    STUDENT,
    TEACHER,
    arith_docs,
    counts,
    evaluate,
    generation,
    inline_task,
    ours,
    plain_run,
    prompts,
    texts,
    tokenizer,
)

OPTIONS: list[dict[str, Any]] = [
    {"until": ["\n\n"], "max_gen_toks": 40},
    {"until": ["."], "max_gen_toks": 40},
    {"until": [" ="], "max_gen_toks": 30},
    {"until": ["apples", "shells", " The answer"], "max_gen_toks": 60},
    {"until": [], "max_gen_toks": 7},
    {"until": "has", "max_gen_toks": 25},
    {"until": ["never said"], "max_new_tokens": 9},
]


def test_requests_keep_their_own_stops_and_limits() -> None:
    """All in one batch; stock answers them one by one."""
    asked = [
        generation(prompt, i, **options)
        for i, (prompt, options) in enumerate(zip(prompts(len(OPTIONS)), OPTIONS, strict=True))
    ]
    asked[-1].args[1].pop("max_gen_toks")
    lm = Greedy(STUDENT, batch_size=8)
    stock = HFLM(lm.pretrained, device="cpu", batch_size=1)
    expected = stock.generate_until(asked, disable_tqdm=True)
    assert lm.generate_until(asked, disable_tqdm=True) == expected
    assert len({len(text) for text in expected}) > 3


def test_texts_come_in_the_order_of_the_requests() -> None:
    lm = Greedy(STUDENT, batch_size=3)
    asked = [generation(prompt, i) for i, prompt in enumerate(prompts())]
    found = lm.generate_until(asked)
    assert lm.generate_until(asked[::-1]) == found[::-1]


def test_no_request_gives_no_text() -> None:
    assert Greedy(STUDENT).generate_until([]) == []


@pytest.mark.parametrize("more", [{"num_fewshot": 2}, {"apply_chat_template": True}])
def test_prompts_are_stock_s(more: dict[str, Any]) -> None:
    """A few examples before the question, or the model's chat template around it."""
    task = inline_task("prompted", arith_docs(4), num_fewshot=1, fewshot_split="test")
    more = {**more, "system_instruction": "Think."} if "apply_chat_template" in more else more
    found = evaluate("greedy", tasks=[task], **more)
    expected = evaluate("hf", tasks=[task], batch_size=1, **more)
    assert texts(found, "prompted") == texts(expected, "prompted")
    for mine, theirs in zip(found["samples"]["prompted"], expected["samples"]["prompted"], strict=True):
        assert mine["prompt_hash"] == theirs["prompt_hash"]
    assert found["results"]["prompted"] == expected["results"]["prompted"]


def test_two_tasks_in_one_run_are_summed() -> None:
    other = inline_task("other", arith_docs(3), generation_kwargs={"until": ["."], "max_gen_toks": 20})
    both = evaluate("s2t", {"teacher": TEACHER, "threshold": 0.5}, tasks=["s2t_arith", other])
    assert texts(both) == texts(plain_run("s2t", threshold=0.5))
    assert counts(both)["texts"] == len(texts(both)) + 3


def test_thinking_is_left_out_as_in_stock() -> None:
    """Everything up to the end of thinking goes, be it named by text or by its token."""
    for end in (" =", str(tokenizer().convert_tokens_to_ids("Ġ="))):
        lm = Greedy(STUDENT, think_end_token=end, batch_size=4)
        stock = HFLM(lm.pretrained, device="cpu", think_end_token=end)
        asked = [generation(prompt, i) for i, prompt in enumerate(prompts(4))]
        expected = stock.generate_until(asked, disable_tqdm=True)
        assert lm.generate_until(asked, disable_tqdm=True) == expected
        assert not any("=" in text for text in expected)


def test_context_is_what_both_models_can_see() -> None:
    lm = SelectToThink(STUDENT, teacher=TEACHER, threshold=0.5)
    assert lm.max_length == 1024
    lm.teacher.config.max_position_embeddings = 300
    assert lm.max_length == 300
    assert SelectToThink(STUDENT, teacher=TEACHER, threshold=0.5, max_length=200).max_length == 200


def test_automatic_batch_size_begins_with_the_largest() -> None:
    found = evaluate("greedy", {"max_batch_size": 4}, batch_size="auto")
    assert ours(found)["batch_size"] == 4
    assert texts(found) == texts(plain_run("greedy"))


def test_model_object_in_place_of_a_name() -> None:
    """As `HFLM` takes one; its tokenizer has to be given."""
    named = Greedy(STUDENT)
    given = Greedy(named.model, tokenizer=named.tokenizer, batch_size=16)
    assert texts(evaluate(given)) == texts(plain_run("greedy"))


@pytest.mark.parametrize("chosen", [[1, 4], [4, 1], [1, 4, 1]])
def test_samples_name_the_documents_that_were_evaluated(chosen: list[int]) -> None:
    """`--samples '{"task": [4, 1]}'` gave document 1 the number 4, and [1, 1, 4] gave 4 the number 1.

    lm_eval evaluates the documents in their own order, and reads the numbers from the list in the list's.
    """
    docs = arith_docs(6)
    task = inline_task("chosen", docs)
    found = evaluate("greedy", tasks=[task], limit=None, samples={"chosen": chosen})["samples"]["chosen"]
    assert [(sample["doc_id"], sample["doc"]["question"]) for sample in found] == [
        (number, docs[number]["question"]) for number in (1, 4)
    ]


@pytest.mark.parametrize(
    ("chosen", "shown"), [([], "none"), ([-1, 2], "-1"), ([6], "6"), (["1"], "'1'"), ([True], "True")]
)
def test_samples_that_are_no_documents_are_refused(chosen: list[Any], shown: str) -> None:
    """An empty list evaluated every document, and [-1, 2] document 2 under the number -1."""
    task = inline_task("chosen", arith_docs(6))
    message = f"task chosen, --samples: expected numbers of its documents, 0 to 5, got {re.escape(shown)}$"
    with pytest.raises(ValueError, match=message):
        evaluate("greedy", tasks=[task], limit=None, samples={"chosen": chosen})
