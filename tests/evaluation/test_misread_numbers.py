"""Numbers and expressions that were misread, each kind beside similar replies that must be read as before."""

# ruff: noqa: E501  (one pair a line reads as a table)
from __future__ import annotations

import pytest

from s2t_eval.evaluation.generated import GeneratedText
from tests.evaluation.test_answers import Pair, failing

RIGHT, WRONG, NONE = "right", "wrong", "none"
REPEATED = ("The final answer is $\\boxed{<>}$.", "#### <>", "The answer is <>.", "The answer is: <>", "**Final Answer**: <>", "Thus, the final answer is $<>$.")  # fmt: skip


def cut_off(form: str, answer: str, part: str) -> str:
    """A reply that repeats its answer until the length limit, which breaks off the last repetition."""
    return f"{form}\n{form}\n".replace("<>", answer) + form[: form.index("<>")] + part


TRUNCATED: dict[str, tuple[str, list[Pair]]] = {
    **{
        f"a repetition broken off by the length limit, rule {rule}": (
            rule,
            [
                *((gold, cut_off(form, "1260", "12"), expected) for form in REPEATED for gold, expected in (("1260", RIGHT), ("12", WRONG))),
                ("104", "\\boxed{104}\n\nThus, the answer is 10", RIGHT),
                ("104", "She has 104 pens.\n\nThus, the answer is 104", RIGHT),
                ("104", "The answer is the number of pens in both boxes.\n\nThe answer is 10.\n\nIn total, the answer is 104.", RIGHT),
                ("104", "The answer should be an integer.\n\nThus, the answer is 104", RIGHT),
                ("104", "The answer is 10.\n\n104 is the answer", RIGHT),
                ("104", "The answer is 10.\n\nThe answer is 104\n", RIGHT),
                ("104", "The answer is 10.\n\nThe answer is 104.", RIGHT),
                ("104", "The answer is 10. Wait, that is wrong. The answer is 104", RIGHT),
            ],
        )
        for rule in ("number", "integer", "expression")
    },
    "a repeated expression broken off by the length limit": (
        "expression",
        [
            ("\\frac{14}{3}", cut_off("The answer is $<>$.", "\\frac{14}{3}", "\\frac{1"), RIGHT),
            ("3\\sqrt{13}", cut_off("The answer is $<>$.", "3\\sqrt{13}", "3"), RIGHT),
            ("3", cut_off("The answer is $<>$.", "3\\sqrt{13}", "3"), WRONG),
            ("(3,4]", cut_off("The answer is $<>$.", "(3,4]", "(3,"), RIGHT),
            ("6-5i", cut_off("The final answer is: $\\boxed{<>}$", "6-5i", "6 -"), RIGHT),
            ("x^3+3x-6", cut_off("The answer is <>.", "x^3 + 3x - 6", "x^3"), RIGHT),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TRUNCATED)
def test_misread_truncated_replies(kind: str) -> None:
    rule, pairs = TRUNCATED[kind]
    assert not failing(
        rule, [(gold, GeneratedText(text, truncated=True), expected) for gold, text, expected in pairs]
    )
