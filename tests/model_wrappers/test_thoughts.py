"""A stop string inside a thought ends nothing, a thought is not handed on, an unfinished one is no answer."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from s2t_eval.engine import Finish, Request, Result, Usage
from s2t_eval.engine.stop import StopRule
from s2t_eval.evaluation.generated import GeneratedText
from s2t_eval.evaluation.grading.thinking import without_thoughts
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.thoughts import Thoughts
from tests.harness_helpers import STUDENT, evaluate, generation, prompts, texts, tokenizer

PIECES = [
    "<think>", "</think>", "[THINK]", "[/THINK]", "<|begin_of_thought|>", "<|end_of_thought|>", "<thi", "nk>",
    "\n\n", "\n", "Question:", "Quest", "ion:", "so 3 + 4 = 7", " ", "é", "a", "<", "/think>",
]  # fmt: skip
STOPS = ("\n\n", "Question:")


def decode(ids: Sequence[int]) -> str:
    return "".join(map(chr, ids))


def thoughts(end: str | int | None = None, is_enabled: bool | None = None, specials: Any = ()) -> Thoughts:
    """Of characters, the special ones from 5000 on."""

    marks = {5000 + i: SimpleNamespace(content=name, special=True) for i, name in enumerate(specials)}
    tokenizer = SimpleNamespace(added_tokens_decoder=marks, decode=decode)
    return Thoughts(tokenizer, lambda ids: decode([i for i in ids if i < 5000]), end, is_enabled)


def length_of(rule: StopRule, ids: Sequence[int]) -> int | None:
    """Tokens after which a rule ends this text."""
    return next((n for n in range(1, len(ids) + 1) if rule.finish(ids[:n])), None)


def slow_length(text: str, in_thought: bool) -> int | None:
    """The obvious rule: after each character read the whole text anew, see whether its answer just ended.

    Behind a thought the answer begins with its first character that is no space.
    """
    for n in range(1, len(text) + 1):
        answer = without_thoughts(text[:n], in_thought)
        if answer and answer != text[:n]:
            answer = answer.lstrip()
        if answer and any(text[:n].endswith(stop) and answer.endswith(stop) for stop in STOPS):
            return n
    return None


def random_texts(count: int, pieces: Sequence[str]) -> list[str]:
    rng = random.Random(0)
    return ["".join(rng.choices(pieces, k=rng.randint(1, 14))) for _ in range(count)]


@pytest.mark.parametrize("in_thought", [False, True])
def test_stops_where_the_slow_rule_stops(in_thought: bool) -> None:
    stopped = 0
    for text in random_texts(1500, PIECES):
        ids = list(map(ord, text))
        request = Request((1,), len(ids) + 1, stop_strings=STOPS, in_thought=in_thought)
        found = length_of(StopRule(request, decode, thoughts().answer_of), ids)
        assert found == slow_length(text, in_thought), repr(text)
        stopped += found is not None
    assert 200 < stopped < 1200


def test_texts_without_marks_end_where_they_did() -> None:
    marks = tuple("<[")
    for text in random_texts(
        500, [piece for piece in PIECES if not piece.startswith(marks) and piece != "nk>"]
    ):
        ids = list(map(ord, text))
        plain = Request((1,), len(ids) + 1, stop_strings=STOPS)
        aware = Request((1,), len(ids) + 1, stop_strings=STOPS, in_thought=False)
        expected = length_of(StopRule(plain, decode), ids)
        assert length_of(StopRule(aware, decode, thoughts().answer_of), ids) == expected


def test_long_thought_is_not_read_again_at_every_token() -> None:
    """A stop string inside a thought is looked into once; its text was decoded anew for each token."""
    reads = 0

    def counted(ids: Sequence[int], in_thought: bool) -> str | None:
        nonlocal reads
        reads += 1
        return thoughts().answer_of(ids, in_thought)

    text = "<think>" + "a line of thought\n\n" * 50 + "</think>The answer is 7."
    rule = StopRule(Request((1,), 9999, stop_strings=STOPS, in_thought=False), decode, counted)
    assert length_of(rule, list(map(ord, text))) is None
    # Once a stop string, and while the last of them is still among the last tokens after the thought.
    assert reads <= 50 + len("</think>") + 4 * len(STOPS[1]) + 4


@pytest.mark.parametrize("end", ["</think>", None])
@pytest.mark.parametrize("prompt", ["Question: 3 + 4?\nAnswer:", "Question: 3 + 4?\n<think>\n"])
@pytest.mark.parametrize("until", [["\n"], ["\n\n"], ["\n\n", "Question:"]])
def test_the_blank_line_behind_a_thought_is_no_stop(end: str | None, prompt: str, until: list[str]) -> None:
    """Models write it before their answer: decoding ended there, and every answer was empty."""
    marks = thoughts(end)
    opening = "" if prompt.endswith("<think>\n") else "<think>"
    answered = opening + "3 + 4\n\nis 7</think>\n\n7"
    ids = list(map(ord, answered + "\n\nQuestion: 4?"))
    request = Request((1,), 99, stop_strings=tuple(until), in_thought=marks.begins_inside(prompt, until))
    length = length_of(StopRule(request, decode, marks.answer_of), ids)
    assert length is not None
    found = marks.text(result(ids[:length]), prompt, until)
    assert found == ("7" if end else answered)
    assert (without_thoughts(found) or "").strip() == "7"


def test_the_blank_line_behind_an_empty_thought_is_no_stop() -> None:
    """Its marks are special tokens, which vanish from the text that is searched for stop strings."""
    marks = thoughts(specials=["[THINK]", "[/THINK]"])
    ids = [5000, 5001, *map(ord, "\n\n7\n\n")]
    request = Request((1,), 99, stop_strings=STOPS, in_thought=False)
    plain = StopRule(request, lambda tokens: decode([i for i in tokens if i < 5000]), marks.answer_of)
    assert length_of(plain, ids) == len(ids)


def test_a_text_without_thought_may_end_before_its_first_character() -> None:
    """As in stock, where nothing was thought and no `think_end_token` is given."""
    ids = list(map(ord, "\n\n7\n\n"))
    request = Request((1,), 99, stop_strings=STOPS, in_thought=False)
    assert length_of(StopRule(request, decode, thoughts().answer_of), ids) == 2
    assert length_of(StopRule(request, decode, thoughts("</t>", False).answer_of), ids) == len(ids)


# ---------------------------------------------------------------- texts


def result(ids: Sequence[int], finish: Finish = Finish.STOP_STRING) -> Result:
    return Result(Request((1,), 8), 0, list(ids), finish, [], Usage())


PROMPT = "Question: 3 + 4?\nAnswer:"


@pytest.mark.parametrize(
    ("text", "end", "expected"),
    [
        ("a thought\n\nmore</think>\n\n7\n\nQ", "</think>", "7"),
        ("<think>a\n\nb</think> 7\n\n", "</think>", "7"),
        ("one</t>two</t>seven\n\n", "</t>", "seven"),
        ("<think>a\n\nb</think> 7\n\n", None, "<think>a\n\nb</think> 7"),
        ("<think>a\n\nb</think>\n\n7\n\nQ", None, "<think>a\n\nb</think>\n\n7"),
        ("[THINK]a\n\nb[/THINK]7 is it\n\nQ", None, "[THINK]a\n\nb[/THINK]7 is it"),
        ("7 is it\n\nQ", None, "7 is it"),
        ("", None, ""),
    ],
)
def test_stops_cut_the_answer_alone(text: str, end: str | None, expected: str) -> None:
    found = thoughts(end).text(result(map(ord, text)), PROMPT, ["\n\n"])
    assert (found, found.truncated) == (expected, False)


@pytest.mark.parametrize("finish", [Finish.LENGTH, Finish.STOP_ID])
def test_unfinished_thought_is_an_empty_text_that_was_cut_off(finish: Finish) -> None:
    text = "<think>the answer is 7\n\nwait" + ("x" if finish is Finish.STOP_ID else "")
    found = thoughts("</think>").text(result(map(ord, text), finish), PROMPT, ["\n\n"])
    assert (found, found.truncated) == ("", True)


def test_thought_that_the_prompt_opened() -> None:
    """With or without the harness's `think_end_token`; the grader sees a thought that has ended."""
    prompt = PROMPT + "<think>\n"
    cut, whole = "the answer is 7\n\nor", "is it 7\n\nor</think>\n8\n\n"
    for end in (None, "</think>"):
        found = thoughts(end).text(result(map(ord, cut), Finish.LENGTH), prompt, ["\n\n"])
        assert (found, found.truncated) == ("", True)
    assert thoughts("</think>").text(result(map(ord, whole)), prompt, ["\n\n"]) == "8"
    found = thoughts().text(result(map(ord, whole)), prompt, ["\n\n"])
    assert found == "is it 7\n\nor</think>\n8"
    assert without_thoughts(found) == "\n8"


def test_unfinished_thought_without_the_argument_is_left_to_the_grader() -> None:
    found = thoughts().text(result(map(ord, "<think>7\n\n8"), Finish.LENGTH), PROMPT, ["\n\n"])
    assert (found, found.truncated) == ("<think>7\n\n8", True)
    assert without_thoughts(found) is None


def test_model_that_did_not_think() -> None:
    """Its text ended by itself and has no mark: it is the answer, as in stock."""
    found = thoughts("</think>").text(result([*map(ord, "7\n\nQ"), 1], Finish.STOP_ID), PROMPT, ["\n\n"])
    assert (found, found.truncated) == ("7", False)


@pytest.mark.parametrize(
    ("end", "is_enabled", "prompt", "expected"),
    [
        (None, None, PROMPT, False),
        (None, None, PROMPT + "<think>\n", True),
        ("</think>", None, PROMPT, True),
        ("</think>", True, PROMPT, True),
        ("</think>", False, PROMPT, False),
        ("</think>", False, PROMPT + "<think>\n", True),
        ("</think>", None, PROMPT + "<think>\n\n</think>\n\n", False),
        ("</t>", None, PROMPT + "</t>", False),
        (ord("="), None, PROMPT, True),
    ],
)
def test_where_a_text_begins(end: Any, is_enabled: bool | None, prompt: str, expected: bool) -> None:
    assert thoughts(end, is_enabled).begins_inside(prompt, ["\n\n"]) is expected


@pytest.mark.parametrize("until", [["</think>"], ["\n\n", "<think>"], ["[/THINK]"]])
def test_mark_among_the_stop_strings_stops(until: list[str]) -> None:
    """Who stops at the end of a thought wants the thought."""
    assert thoughts().begins_inside(PROMPT, until) is None
    found = thoughts().text(result(map(ord, "<think>7</think>8")), PROMPT, ["</think>"])
    assert found == "<think>7"


@pytest.mark.parametrize("end", ["[/THINK]", 5001, None])
def test_marks_that_are_special_tokens(end: str | int | None) -> None:
    """They vanish from decoded text, and the thought was graded."""
    marks = thoughts(end, specials=["[THINK]", "[/THINK]", "<|im_end|>"])
    ids = [5000, *map(ord, "is it 7\n\nor"), 5001, *map(ord, "8"), 5002, *map(ord, "\n\n")]
    found = marks.text(result(ids), PROMPT, ["\n\n"])
    assert found == ("8" if end else "[THINK]is it 7\n\nor[/THINK]8")
    assert marks.answer_of(ids[:6], end is not None) is None


# ---------------------------------------------------------------- through the harness


@pytest.mark.parametrize("as_id", [False, True])
def test_stop_string_inside_a_thought_through_the_backend(as_id: bool) -> None:
    """The embedded pair's ` =` stands for the mark: what comes before the last of them is thought."""
    plain = Greedy(STUDENT, batch_size=4)
    mark = tokenizer().convert_tokens_to_ids("Ġ=")
    lm = Greedy(plain.model, tokenizer=plain.tokenizer, think_end_token=mark if as_id else " =", batch_size=4)
    for prompt in prompts(4):
        [text] = plain.generate_until([generation(prompt, until=[])])
        before, _, after = text.partition(" =")
        stop = next(char for char in after[2:] if char in before)
        [found] = lm.generate_until([generation(prompt, until=[stop])])
        assert found == after.lstrip().partition(stop)[0]
        assert isinstance(found, GeneratedText)
        assert found.truncated is False


def test_unfinished_thought_through_the_harness() -> None:
    results = evaluate("greedy", {"think_end_token": "</think>"}, limit=2, gen_kwargs="max_gen_toks=6")
    assert texts(results) == ["", ""]
    assert [text.truncated for text in texts(results)] == [True, True]


def test_marks_of_a_real_tokenizer() -> None:
    marked = copy.deepcopy(tokenizer())
    marked.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})

    def plain(ids: Sequence[int]) -> str:
        return str(marked.decode(ids, skip_special_tokens=True))

    ids = marked("[THINK]Tom has 3\n\n 4[/THINK] 7")["input_ids"]
    assert "[THINK]" not in plain(ids)
    found = Thoughts(marked, plain, "[/THINK]").text(result(ids), PROMPT, ["\n\n"])
    assert found == "7"
