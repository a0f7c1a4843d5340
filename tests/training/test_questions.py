"""Benchmark questions are found regardless of spelling, markup and the text around them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from s2t_eval.training.contamination import (
    HASHES,
    OverlapError,
    evaluation_records,
    find_overlap,
    require_no_evaluation_prompts,
)
from s2t_eval.training.question_index import QuestionIndex, records
from s2t_eval.training.question_text import normalised
from scripts.hash_evaluation_questions import SOURCES
from tests.harness_helpers import shared_records

MATH = (
    r"Let $a$ and $b$ be such that \[\frac{a}{2} + b^{2} = 17.\] Find the \textbf{largest} value of $a - b$."
)
PLAIN = "A farmer's 12 hens lay 3 eggs a day each. He sells 20 eggs for $2 apiece. How much does he earn?"
FURTHER = {
    "mine": [MATH, PLAIN, "What is 7 choose 3, squared?", "Which of the following is true?", "Inflation"]
}

EDITS: dict[str, Callable[[str], str]] = {
    "nothing": str,
    "prefix": lambda text: "Solve the following problem.\n\n" + text,
    "prefix on the line": lambda text: "Question 3: " + text,
    "suffix": lambda text: text + "\nPut your final answer within \\boxed{}.",
    "suffix on the line": lambda text: text + " Think step by step.",
    "options": lambda text: text + "\nA. 12\nB. 15\nC. 18\nD. none of these",
    "bold": lambda text: f"**{text}**",
    "bold inside": lambda text: re.sub(r"(\w+)", r"**\1**", text, count=1),
    "italics": lambda text: f"*{text}*",
    "HTML": lambda text: f"<p><b>{text}</b></p>",
    "thin spaces": lambda text: re.sub(r"([=+-])", r"\\,\1\\,", text),
    "parentheses for dollars": lambda text: re.sub(r"\$([^$]+)\$", r"\\(\1\\)", text),
    "no dollars": lambda text: text.replace("$", ""),
    "curly quotes": lambda text: text.replace("'", "’").replace("-", "–"),
    "left and right": lambda text: text.replace("(", r"\left(").replace(")", r"\right)"),
    "braces dropped": lambda text: text.replace("{2}", "2"),
    "dfrac": lambda text: text.replace(r"\frac", r"\dfrac"),
    "exponent": lambda text: text.replace("^{2}", "²").replace("^2", "²"),
    "upper case": str.upper,
    "one line": lambda text: " ".join(text.split()),
    "wide spaces": lambda text: text.replace(" ", "\u00a0 "),
    "zero width": lambda text: text.replace(" ", " \u200b"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_does_not_hide_a_question(edit: str) -> None:
    """Any prefix or suffix, and most markup, once hid a question."""
    for question in (MATH, PLAIN):
        assert find_overlap([EDITS[edit](question)], FURTHER) == {0: "mine"}


def test_one_word_of_a_long_question_may_be_another() -> None:
    question = f"{PLAIN} He buys new boots for $30 of it, and asks himself what is left for his children."
    index = QuestionIndex({"long": records([question])})
    assert index.find(question.replace("apiece", "per egg")) == "long"
    assert index.find(question.replace("30", "31")) is None
    assert index.find(PLAIN) is None


def test_other_problems_with_the_same_words_are_others() -> None:
    others = [
        PLAIN.replace("12", "14"),
        PLAIN.replace("$2", "$5"),
        MATH.replace("17", "19"),
        "A farmer's 12 hens lay 3 eggs a day each. How many eggs are there after a week?",
        "What is 7 choose 2, squared?",
    ]
    assert find_overlap(others, FURTHER) == {}


def test_short_questions_are_found_as_sentences_or_by_their_numbers() -> None:
    texts = [
        "What is 7 choose 3, squared?",
        "Q: What is 7 choose 3, squared? A:",
        "Tell me what is 7 choose 3 squared and why.",
        "Inflation",
        "which of the following is true",
    ]
    index = QuestionIndex({name: records(questions) for name, questions in FURTHER.items()})
    assert [index.find(text) for text in texts] == ["mine"] * 5


def test_generic_phrases_belong_to_no_benchmark() -> None:
    """Questions of one or two words, and phrases with which many lists of options begin."""
    others = [
        "What does inflation do to the price of bread?",
        "Inflation\nis a rise of prices",
        "Birds can fly. Which of the following is true?\nA. All can\nB. Some can",
        "Which of the following is true of birds that cannot fly?",
        "",
        "?",
    ]
    assert find_overlap(others, FURTHER) == {}


@pytest.mark.parametrize(
    ("spellings", "letters"),
    [
        (("$x^{4}$", r"\(x^4\)", "x**4", "**x⁴**", r"x^{\,4}"), "x4"),
        ((r"$\frac{1}{2}$", "½", "1/2", r"\dfrac12"), "12"),
        ((r"\alpha + \varepsilon", "α + ε"), "alphaepsilon"),
        ((r"\sqrt{2}", "√2", "sqrt(2)"), "sqrt2"),
        ((r"a \le b", "a ≤ b", r"a \leqslant b"), "ab"),
        ((r"30^\circ", "30°"), "30"),
        (("1,000", "1{,}000", "1 000", "１０００"), "1000"),
        (("Café", "Cafe\u0301", "CAFE"), "cafe"),
        ((r"\begin{align*}x\end{align*}", "x"), "x"),
        (("x <y and z> 3",), "xyandz3"),
        ((r"\sin x",), "sinx"),
    ],
)
def test_spellings_of_one_text(spellings: tuple[str, ...], letters: str) -> None:
    assert {normalised(text) for text in spellings} == {letters}


def test_numbers_at_the_ends_count() -> None:
    index = QuestionIndex({"one": records(["12 apples are shared by the children of a school, each gets 3"])})
    assert index.find("Problem: 12 apples are shared by the children of a school, each gets 3.") == "one"
    assert index.find("13 apples are shared by the children of a school, each gets 3") is None
    assert index.find("12 apples are shared by the children of a school, each gets 4") is None


# ---------------------------------------------------------------- what is shipped


def test_the_shipped_hashes_are_small_and_whole() -> None:
    assert HASHES.stat().st_size < 2_000_000
    sizes = {name: len(texts) for name, texts in evaluation_records().items()}
    assert sizes.keys() == {*SOURCES, "gsm8k_dev"}
    assert sizes["gsm8k"] == 1319 and sizes["math500"] == 500 and sizes["gsm8k_dev"] == 500


def test_prompts_of_a_label_set_are_read() -> None:
    texts = {1: "What is 1 + 1?", 2: "Question: At 30, Anika is 4/3 the age of Maddie. What would be their "
             "average age in 15 years?\nAnswer:"}  # fmt: skip
    decode: Callable[[list[int]], str] = lambda ids: texts[ids[0]]  # noqa: E731
    require_no_evaluation_prompts([[1], [1]], decode)
    with pytest.raises(OverlapError, match=r"1 of 2 problems .* of gsm8k_dev \(the first is problem 1"):
        require_no_evaluation_prompts([[1], [2]], decode)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_shipped_questions_are_found_behind_every_edit(name: str) -> None:
    folder, field = SOURCES[name]
    questions = [record[field] for record in shared_records(folder)]
    sample = questions[:: max(1, len(questions) // 60)]
    for edit in EDITS:
        if edit in ("exponent", "upper case", "no dollars"):
            continue  # these change words of some questions
        missed = len(sample) - len(find_overlap([EDITS[edit](question) for question in sample]))
        # MMLU-Pro asks "Inflation is:" and the like, which any sentence may hold
        assert missed <= (0.05 if name == "mmlu_pro" else 0.02) * len(sample), edit


def test_the_training_sets_are_not_refused() -> None:
    """MATH's shares 75 questions with MMLU-Pro and OlympiadBench, and six that only look alike are taken
    for MATH500's; problem 3117 is OlympiadBench's with `x^4` for `x^{4}`."""
    gsm8k = [record["question"] for record in shared_records("openai/gsm8k", "train.jsonl")]
    assert find_overlap(gsm8k[:-500:5]) == {}
    math = [record["problem"] for record in shared_records("math_train", "train.jsonl")]
    assert find_overlap(math[3000:3500]) == {117: "olympiadbench", 325: "olympiadbench"}
