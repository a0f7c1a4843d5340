"""Questions about an unfinished answer, as tokens that a model processes behind it.

The question follows the text as a further turn of the conversation where prompts have the model's chat
template, and as plain lines otherwise. The model's reply is read from the logits behind the question, so no
token is generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

MARK = "unfinished answer"


class QuestionError(ValueError):
    """A tokenizer or chat template in which a question or its replies cannot be expressed."""


def question_ids(
    tokenizer: Any,
    question: str,
    opening: str,
    has_chat_template: bool,
    template_args: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[int, ...]:
    """Token ids of a question that follows an unfinished answer.

    Args:
        tokenizer: tokenizer of the model that evaluates the answer.
        question: the question.
        opening: beginning of the model's reply, up to the token whose logits are read.
        has_chat_template: whether prompts have the chat template.
        template_args: further arguments of the template with which prompts are made (`enable_thinking`).

    Raises:
        QuestionError: a template that leaves the answers of earlier turns out.
    """
    if not has_chat_template:
        text = f"\n\n{question}\n{opening}"
    else:
        turns = [("user", "question"), ("assistant", MARK), ("user", question)]
        messages = [{"role": role, "content": content} for role, content in turns]
        rendered = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **template_args
        )
        _, separator, text = rendered.partition(MARK)
        if not separator:
            raise QuestionError(
                "chat template: expected one that keeps the answers of earlier turns, so that a question "
                "about an answer can follow it; this one drops them; run without --apply_chat_template"
            )
        text += opening
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return tuple(ids)


def reply_ids(tokenizer: Any, words: Sequence[str]) -> tuple[int, ...]:
    """Ids of the tokens that are one of these words, with or without a space before it.

    Raises:
        QuestionError: none of the words is a single token.
    """
    spellings = {
        tuple(tokenizer.encode(space + word, add_special_tokens=False))
        for word in words
        for space in ("", " ")
    }
    ids = tuple(sorted(spelling[0] for spelling in spellings if len(spelling) == 1))
    if not ids:
        raise QuestionError(
            f"tokenizer: expected one of the replies {', '.join(words)} to be a single token, and none is; "
            "choose a score that reads no reply"
        )
    return ids
