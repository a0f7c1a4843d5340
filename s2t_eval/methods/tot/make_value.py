"""The values of Tree of Thoughts by name, with their questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from s2t_eval.engine.sampling import Sampling
from s2t_eval.engine.stop import Decode
from s2t_eval.methods.questions import QuestionError, question_ids, reply_ids
from s2t_eval.methods.tot.replies import ReplySampler
from s2t_eval.methods.tot.values import (
    VERDICTS,
    LikelihoodValue,
    Question,
    StateValue,
    WordsValue,
    YesNoValue,
)
from s2t_eval.methods.tot.vote import VoteValue

ValueName = Literal["yes_no", "loglik", "words", "vote"]
VALUES: tuple[ValueName, ...] = get_args(ValueName)

FORMS = (
    ("Is everything correct in the solution as far as it goes? Reply with yes or no.", True),
    ("Is there a mistake anywhere in the solution as far as it goes? Reply with no or yes.", False),
)
"""Two forms of one question in both orders of the replies, each with whether `yes` is good."""
OPENING = "Reply:"
WORDS_QUESTION = (
    "How likely is it that the solution, as far as it goes, leads to the right answer? Reply with one word: "
    "certain, doubtful or hopeless."
)
VOTE_QUESTION = "Which of these ways leads to the right answer? Reply with its number alone."
LINES_SHOWN = 4
"""Length of what a vote shows of a continuation, in lines of the greatest length. Continuations of different
parents may differ from early on; a longer list would exceed the context of small models."""


@dataclass(frozen=True)
class ValueSettings:
    """How solutions are evaluated.

    Args:
        name: `yes_no`, `loglik`, `words` or `vote`.
        num_replies: sampled replies to a question, of `words` and `vote`.
        max_reply: most tokens of a reply.
        sampling: how replies are drawn; None takes the most likely tokens.
        most_branches: most continuations of a level.
        max_line: most tokens of a line.
    """

    name: ValueName
    num_replies: int
    max_reply: int
    sampling: Sampling | None
    most_branches: int
    max_line: int

    def reply_sampler(self, decode: Decode, stop_ids: frozenset[int]) -> ReplySampler:
        """The sampler of replies."""
        return ReplySampler(decode, self.num_replies, self.max_reply, self.sampling, stop_ids)


def make_value(
    settings: ValueSettings,
    tokenizer: Any,
    decode: Decode,
    has_chat_template: bool,
    stop_ids: frozenset[int] = frozenset(),
    template_args: Mapping[str, Any] = MappingProxyType({}),
) -> StateValue | VoteValue:
    """The value of these settings; see `question_ids` for the arguments of the questions.

    Raises:
        QuestionError: the tokenizer cannot express the replies, or the chat template the question.
    """
    if settings.name == "loglik":
        return LikelihoodValue()

    def ids_of(question: str) -> tuple[int, ...]:
        return question_ids(tokenizer, question, OPENING, has_chat_template, template_args)

    if settings.name == "yes_no":
        return _yes_no(tokenizer, ids_of)
    replies = settings.reply_sampler(decode, stop_ids)
    if settings.name == "words":
        _require_spelling(tokenizer, decode, tuple(VERDICTS))
        return WordsValue(ids_of(WORDS_QUESTION), replies)
    _require_spelling(tokenizer, decode, tuple(map(str, range(1, settings.most_branches + 1))))
    return VoteValue(
        lambda text: tokenizer.encode(text, add_special_tokens=False),
        decode,
        ids_of(VOTE_QUESTION),
        replies,
        settings.most_branches,
        LINES_SHOWN * settings.max_line,
    )


def _yes_no(tokenizer: Any, ids_of: Callable[[str], tuple[int, ...]]) -> YesNoValue:
    yes = reply_ids(tokenizer, ("yes", "Yes", "YES"))
    no = reply_ids(tokenizer, ("no", "No", "NO"))
    if set(yes) & set(no):
        raise QuestionError("tokenizer: expected different tokens for yes and no; choose another value")
    return YesNoValue(
        tuple(
            Question(
                ids_of(text),
                *((yes, no) if yes_is_good else (no, yes)),
            )
            for text, yes_is_good in FORMS
        )
    )


def _require_spelling(tokenizer: Any, decode: Decode, replies: tuple[str, ...]) -> None:
    """Raise `QuestionError` unless the tokenizer can write these replies."""
    for reply in replies:
        written = decode(tokenizer.encode(reply, add_special_tokens=False)).strip()
        if written != reply:
            raise QuestionError(
                f"tokenizer: expected the reply {reply!r} to be text that it can write, and it writes "
                f"{written!r}; choose another value"
            )
