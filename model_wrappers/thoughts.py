"""The answer of a reasoning model outside of its thoughts, with the harness's `think_end_token`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.models.utils import postprocess_generated_text

from s2t_eval.engine import Finish, Result
from s2t_eval.evaluation.generated import GeneratedText
from s2t_eval.evaluation.grading.thinking import BEGIN, END, opens_thought, without_thoughts


class Thoughts:
    """Separates thoughts from answers, for one tokenizer.

    The marks of thoughts are those of `s2t_eval.evaluation.grading.thinking`. With a `think_end_token` a
    text begins inside a thought, unless `enable_thinking` is false or its prompt has already closed one;
    everything before the last such token is removed. Without it the thought stays in the text, as in
    stock, and the task's rule skips it. Between a thought and its answer models write a blank line, so stop
    strings count from the answer's first character that is no space, as in stock with a `think_end_token`.

    Args:
        tokenizer: its special tokens may mark thoughts; they are removed from decoded text.
        decode: token ids to text without special tokens.
        end: the harness's `think_end_token`, a string or a token's id.
        is_enabled: the harness's `enable_thinking`.
    """

    def __init__(
        self,
        tokenizer: Any,
        decode: Callable[[Sequence[int]], str],
        end: str | int | None = None,
        is_enabled: bool | None = None,
    ) -> None:
        special: dict[str, int] = {
            token.content: i for i, token in tokenizer.added_tokens_decoder.items() if token.special
        }
        end = None if end == "" else end
        self.special_ids = special
        self._marks = {i: name for name, i in special.items() if BEGIN.fullmatch(name) or END.fullmatch(name)}
        self._plain = decode
        self._end = end if isinstance(end, str) else None
        self._end_id = special.get(end) if isinstance(end, str) else end
        self._end_text = end if isinstance(end, str) or end is None else tokenizer.decode([end])
        self._is_enabled = is_enabled

    def begins_inside(self, prompt: str, until: Sequence[str]) -> bool | None:
        """Whether the text after a prompt begins inside a thought; None where a mark is a stop string."""
        if any(stop and (stop == self._end_text or BEGIN.search(stop) or END.search(stop)) for stop in until):
            return None
        if opens_thought(prompt):
            return True
        return self._end_text is not None and self._is_enabled is not False and not self._is_closed(prompt)

    def _is_closed(self, prompt: str) -> bool:
        """Whether a prompt ends with the end of a thought, as from templates that disable thinking."""
        prompt = prompt.rstrip()
        assert self._end_text is not None
        last = max((mark.end() for mark in END.finditer(prompt)), default=None)
        return last == len(prompt) or prompt.endswith(self._end_text.strip() or "\n")

    def answer_of(self, ids: Sequence[int], in_thought: bool) -> str | None:
        """The answer outside of a text's thoughts; None while a thought is still open.

        Without the spaces before it, unless the text has no thought and there is no `think_end_token`.
        """
        if self._end_id is not None and self._end_id in ids:
            last = len(ids) - 1 - list(reversed(ids)).index(self._end_id)
            ids, in_thought = ids[last + 1 :], False
        text = self._decode(ids)
        answer = without_thoughts(text, in_thought, self._end)
        is_plain = answer == text and self._end_text is None
        return answer if answer is None or is_plain else answer.lstrip()

    def _decode(self, ids: Sequence[int]) -> str:
        """Text with the special tokens that mark thoughts, and without all others."""
        if self._marks.keys().isdisjoint(ids):
            return self._plain(ids)
        runs = itertools.groupby(ids, key=self._marks.get)
        return "".join(mark * len([*run]) if mark else self._plain([*run]) for mark, run in runs)

    def text(self, result: Result, prompt: str, until: Sequence[str]) -> GeneratedText:
        """A result's text for the harness: cut at the first stop string of its answer.

        An unfinished thought has no answer: the text is empty, and counts as cut off.
        """
        in_thought = self.begins_inside(prompt, until)
        is_cut = result.finish is Finish.LENGTH
        whole = self._decode(result.text_ids)
        if in_thought is None:
            return GeneratedText(postprocess_generated_text(whole, list(until), self._end), is_cut)
        answer = self.answer_of(result.text_ids, in_thought)
        is_thoughtless = not is_cut and not opens_thought(prompt) and without_thoughts(whole) == whole
        if answer is None and self._end_text is not None and is_thoughtless:
            answer = whole  # the model ended its text without a mark: it did not think
        if answer is None:
            is_shown = self._end_text is None and not in_thought
            return GeneratedText(whole, is_cut) if is_shown else GeneratedText("", True)
        if self._end_text is not None:
            return GeneratedText(_cut(answer.lstrip(), until), is_cut)
        surplus = len(answer) - len(_cut(answer, until))
        return GeneratedText(whole[: len(whole) - surplus], is_cut)


def _cut(text: str, until: Sequence[str]) -> str:
    return postprocess_generated_text(text, list(until), None)
