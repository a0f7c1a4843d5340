"""Extraction of answers: every answer shape, reference solutions as controls, and linear time."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from s2t_eval.evaluation.generated import GeneratedText
from s2t_eval.evaluation.grading import EXPRESSION, INTEGER, LETTER, NUMBER, QUANTITY
from s2t_eval.evaluation.grading.extraction.spans import box_spans
from s2t_eval.evaluation.grading.numbers.arithmetic import evaluate_arithmetic
from s2t_eval.evaluation.grading.numbers.parsing import format_number, parse_number
from s2t_eval.evaluation.grading.thinking import MARKERS, opens_thought, without_thoughts
from tests.evaluation.answer_discussions import DISCUSSIONS
from tests.evaluation.answer_replies import REPLIES
from tests.evaluation.answer_second_replies import SECOND_REPLIES
from tests.evaluation.answer_third_replies import THIRD_REPLIES
from tests.evaluation.answer_variants import VARIANTS
from tests.harness_helpers import shared_records

RULES = {rule.name: rule for rule in (NUMBER, EXPRESSION, INTEGER, LETTER, QUANTITY)}
VERDICTS = {True: "right", False: "wrong", None: "timeout"}
Pair = tuple[str, str, str]
TABLES = {
    **{f"{rule}: {kind}": (rule, pairs) for rule, kinds in VARIANTS.items() for kind, pairs in kinds.items()},
    **{
        f"{rule}: {kind}": (rule, pairs)
        for rule, kinds in DISCUSSIONS.items()
        for kind, pairs in kinds.items()
    },
    **{f"{rule}: replies": (rule, pairs) for rule, pairs in REPLIES.items()},
    **{f"{rule}: second replies": (rule, pairs) for rule, pairs in SECOND_REPLIES.items()},
    **{f"{rule}: third replies": (rule, pairs) for rule, pairs in THIRD_REPLIES.items()},
}
DISPUTED: dict[tuple[str, str], str] = {}
"""Reasons, by (gold, text), for pairs whose expected verdict seems wrong; none at present."""


def verdict(rule: str, gold: str, text: str) -> str:
    answer = RULES[rule].extract(text)
    return "none" if answer is None else VERDICTS[RULES[rule].is_equivalent(gold, answer)]


def failing(rule: str, pairs: list[Pair]) -> list[tuple[str, str, str, str | None]]:
    """(gold, text, expected verdict, extracted answer) of the pairs with another verdict."""
    return [
        (gold, text, expected, RULES[rule].extract(text))
        for gold, text, expected in pairs
        if verdict(rule, gold, text) != expected
    ]


@pytest.mark.parametrize("table", TABLES)
def test_answer_shapes(table: str) -> None:
    rule, pairs = TABLES[table]
    assert len(pairs) >= 10
    assert not failing(rule, pairs)


@pytest.mark.parametrize("rule", RULES)
def test_answers_from_public_bug_reports(rule: str) -> None:
    pairs = [pair for pair in shared_records("answers", "pairs.jsonl") if pair["kind"] == rule]
    expected = [
        (pair["gold"], pair["text"], pair["right"])
        for pair in pairs
        if (pair["gold"], pair["text"]) not in DISPUTED
    ]
    assert len(expected) >= 10
    assert not failing(rule, expected)


# ---------------------------------------------------------------- reference solutions


def test_reference_solutions_of_gsm8k_are_correct() -> None:
    solutions = [doc["answer"] for doc in shared_records("openai/gsm8k")]
    assert len(solutions) == 1319
    assert not failing("number", [(text.split("#### ")[-1], text, "right") for text in solutions])


def test_solutions_of_gsm8k_without_hashes_are_correct() -> None:
    """A chat model ends with a sentence, not with `####`; a few solutions end with another number."""
    solutions = [doc["answer"].split("#### ") for doc in shared_records("openai/gsm8k")]
    plain = [(gold, re.sub(r"<<.*?>>", "", text).strip(), "right") for text, gold in solutions]
    assert len(plain) == 1319
    assert len(failing("number", plain)) <= 12
    last_lines = [(gold, text.split("\n")[-1], expected) for gold, text, expected in plain]
    assert len(failing("number", last_lines)) <= 12


def math500() -> list[dict[str, Any]]:
    return shared_records("HuggingFaceH4/MATH-500")


def test_reference_solutions_of_math500_are_correct() -> None:
    docs = math500()
    assert len(docs) == 500
    assert not failing("expression", [(doc["answer"], doc["solution"], "right") for doc in docs])


@pytest.mark.parametrize(
    "form",
    [
        "The answer is {}. Check: both sides agree, so the answer is correct.",
        "The answer is ${}$. Check: both sides agree, so the answer is correct.",
        "The answer is {}. The solution is unique.",
        "The answer is ${}$. The result is valid.",
        "So the answer is ${}$. I hope the answer is right.",
        "The answer is therefore {}. This is the only solution, so the result is verified.",
        "${}$ is the answer. This is correct.",
        "The result is ${}$. The solution is complete.",
        "**Final Answer:**\n\n${}$\n\nThe answer has been verified.",
        "Final Answer: The final answer is ${}$. I hope it is correct.",
        "## Answer\n\n${}$",
        "### Final Answer\n{}",
        "**Answer:** {}",
        "<answer>{}</answer>",
        "#### {}",
        "{}",
        "Step 1: the result is $99$. Step 2: So the answer is ${}$.",
        "**Solution:** We compute. Therefore the answer is ${}$.",
        "<think>Is it 7? \\boxed{{7}}</think>The answer is ${}$.",
        "Therefore\n\\[\n{}\n\\]",
        "Therefore we get\n$$\n{}\n$$\n",
        "Therefore\n\n\\[\n{}.\n\\]\n\nThis completes the solution.",
        "We have\n\\begin{{align*}}\nx &= y \\\\\n&= {}\n\\end{{align*}}",
        "\\[\n\\begin{{aligned}}\nT &= 1 \\\\\n&= {}\n\\end{{aligned}}\n\\]",
    ],
)
def test_gold_answers_of_math500_are_extracted_from_sentences(form: str) -> None:
    """A remark about the answer used to be extracted in its place, so every gold answer was wrong."""
    golds = sorted({doc["answer"] for doc in math500()})
    assert len(golds) > 300
    assert not failing("expression", [(gold, form.format(gold), "right") for gold in golds])


# ---------------------------------------------------------------- thoughts


def test_every_family_of_delimiters() -> None:
    marks = [
        ("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<thought>", "</thought>"),
        ("<reasoning>", "</reasoning>"), ("<seed:think>", "</seed:think>"), ("[THINK]", "[/THINK]"),
        ("◁think▷", "◁/think▷"), ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("<|START_THINKING|>", "<|END_THINKING|>"), ("<|inner_prefix|>", "<|inner_suffix|>"),
        ("<|channel>thought", "<channel|>"), ("<unused94>", "<unused95>"),
        ("<|im_start|>think", "<|im_start|>answer"),
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("analysisWe", "assistantfinal"), ("Here is my thought process:", "Here is my response:"),
    ]  # fmt: skip
    assert len({marker.name for marker in MARKERS}) == len(MARKERS) <= len(marks)
    for begin, end in marks:
        assert without_thoughts(f"{begin} 20 {end} 18") == " 18", begin
        assert without_thoughts(f"{begin} 20") is None, begin
        assert NUMBER.extract(f"{begin} \\boxed{{20}} {end} 18") == "18", begin
        if begin != "Here is my thought process:":
            assert without_thoughts(f" 20 {end} 18") == " 18", end


def test_nested_open_and_absent_thoughts() -> None:
    assert without_thoughts("a<think>b</think>c<think>d</think>e") == "ace"
    assert without_thoughts("<think>a<think>b</think>c</think>d") == "d"
    assert without_thoughts("Analysis: 1 < 2 and x[THIN]") == "Analysis: 1 < 2 and x[THIN]"
    assert without_thoughts("Here is my response: 5") == "Here is my response: 5"
    assert without_thoughts("hm", is_open=True) is None
    assert without_thoughts("hm</think>5", is_open=True) == "5"
    assert without_thoughts("hm ### 5", is_open=True, end="###") == " 5"
    assert opens_thought("<|im_start|>assistant\n<think>\n")
    assert not opens_thought("<think>\n\n</think>\n\n") and not opens_thought("Use <think> tags.")


def test_truncated_texts() -> None:
    assert NUMBER.extract(GeneratedText("<think>The answer is 5", truncated=True)) is None
    assert EXPRESSION.extract(GeneratedText(r"So \boxed{12", truncated=True)) is None
    assert EXPRESSION.extract(GeneratedText(r"So \boxed{12", truncated=False)) == "12"
    assert INTEGER.extract(GeneratedText("Hence it is 12", truncated=True)) is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Option A states that the policy is legal. This is true. Option B", None),
        ("Let's evaluate each option:\n\nA. This option says that the price falls, which is", None),
        ("So it must be D", None),
        ("So it must be C.", "C"),
        ("C. Stratified epithelium\n\nThe esophagus must resist", "C"),
        ("The answer is (C).\n\nThe gas expands, so option B", "C"),
    ],
)
def test_a_truncated_text_chooses_no_letter_that_it_begins_to_discuss(text: str, letter: str | None) -> None:
    """The first words about an option, at which the length limit had ended a text, counted as its choice."""
    assert LETTER.extract(GeneratedText(text, truncated=True)) == letter


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2^5", "32"), (r"4 \times 5", "20"), (r"3\sqrt{4}", "6"), (r"\sqrt[3]{8}", "2"),
        (r"\binom{10}{3}", "120"),
        (r"{10 \choose 3}", "120"), ("10-15", "-5"), (r"\frac{36}{2}", "18"), (r"3\frac12", "3.5"),
        (r"-3\frac{1}{2}", "-3.5"), ("2(3+4)", "14"), ("5!", "120"), ("4^{1.5}", "8"), ("2^{-1}", "0.5"),
        ("|3-5|", "2"), ("9 x 2", "18"), ("12 ÷ 4", "3"), (r"\left(2+3\right)^2", "25"), ("3/4/2", "0.375"),
    ],
)  # fmt: skip
def test_arithmetic(text: str, value: str) -> None:
    result = evaluate_arithmetic(text)
    assert result is not None and format_number(result) == value


@pytest.mark.parametrize(
    "text",
    [
        r"3\sqrt5", r"2\pi", "x+1", "1/0", "0^0", "9^{9^{9^{9}}}", "2^{100000}", "10000!", "((((", "",
        "e", "3 4",
        "__import__('os')", "1;2", "(" * 300 + "1" + ")" * 300, "9" * 10_000, r"\sqrt{-1}",
    ],
)  # fmt: skip
def test_other_texts_are_not_arithmetic(text: str) -> None:
    assert evaluate_arithmetic(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2½", "2.5"), ("-½", "-0.5"), ("1\u202f234", "1234"), ("1 234 567", "1234567"),
        (r"1\,234", "1234"),
        ("1'234", "1234"), ("1,00,000", "100000"), ("1.5 million", "1500000"), ("negative 10", "-10"),
        ("minus 10", "-10"), ("₹18", "18"), ("US$ 5", "5"), ("１８", "18"), ("18 €", "18"),
        ("-3 1/2", "-3.5"),
        (r"2 \text{ thousand}", "2000"),
    ],
)  # fmt: skip
def test_number_notations(text: str, value: str) -> None:
    number = parse_number(text)
    assert number is not None and format_number(number) == value


@pytest.mark.parametrize(
    "text", [r"1 \quad 2", r"1\quad 234", "1 12", "1e99999999", "1e" + "9" * 5000, "3:5"]
)
def test_other_texts_are_not_numbers(text: str) -> None:
    assert parse_number(text) is None


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "unit",
    [
        "the answer is 5. ", "answer is ", "\\boxed{5} ", "\\boxed{", "<think>", "$x$ ", "\\[", "5 ",
        "5", "a", "(A) ",
        "The answer is 5.\nQuestion 2\n",
        "Question: a\n", "\n", " ", "Step 1 ", "<answer>", "5, ", "{", "is the answer. ",
        "C is correct. ", "9\\,", "so ",
    ],
)  # fmt: skip
def test_time_is_linear_in_the_length(rule: str, unit: str) -> None:
    """A reply that repeats itself used to take quadratic time.

    Ratio of processor times within one run: eight times the text takes 8 times as long if the time is linear,
    and 64 times if it is quadratic. The bound between them, and a second measurement where the first one
    exceeds it, allow for a busy machine.
    """

    def seconds(size: int) -> float:
        began = time.process_time()
        RULES[rule].extract(unit * (size // len(unit)))
        return time.process_time() - began

    bound = 32 * max(seconds(10_000), 0.03)
    assert seconds(80_000) < bound or seconds(80_000) < bound


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("form", ["{}", "The answer is {}.", "\\boxed{{{}}}", "1e{}", "2^{{{}}}", "{}/{}"])
def test_number_of_very_many_digits(rule: str, form: str) -> None:
    """Python rejects integers of more than 4,300 digits."""
    answer = RULES[rule].extract(form.replace("{}", "9" * 200_000, 1).format("9"))
    assert answer is None or answer != "9"


def test_solutions_of_math500_without_boxes_are_mostly_correct() -> None:
    """The conclusion of the last sentence is extracted; some solutions continue after their answer."""
    unboxed = []
    for problem in math500():
        text = problem["solution"]
        for box in reversed(box_spans(text)):
            text = text[: box.start] + box.content + text[box.end :]
        unboxed.append((problem["answer"], re.sub(r"\[asy\].*?\[/asy\]", "", text, flags=re.DOTALL), "right"))
    assert len(unboxed) == 500
    assert len(failing("expression", unboxed)) <= 50
