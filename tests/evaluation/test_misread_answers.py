"""Replies that were misread, each kind beside similar replies that must be read as before."""

# ruff: noqa: E501  (one pair a line reads as a table)
from __future__ import annotations

import pytest

from tests.evaluation.test_answers import Pair, failing

RIGHT, WRONG, NONE = "right", "wrong", "none"
GIVENS = "1. Ducks lay 16 eggs per day.\n2. She eats 3.\n3. She bakes with 4."
FURTHER_QUESTION = "\n\nQuestion: A man has 4 cats. How many legs have they?\nThey have 16 legs."

MISREAD: dict[str, tuple[str, list[Pair]]] = {
    "ordinary words behind a number do not withdraw it": (
        "number",
        [
            ("18", "\\boxed{18}\n\nNote: The number of eggs she actually sells is 9. A common mistake is to forget the muffins, which would give 26.", RIGHT),
            ("30", "So he has to wait \\boxed{30} minutes.\n\nThis means that he has to wait 30 minutes. That is 10 minutes more than Ann.", RIGHT),
            ("12", "#### 12\n\nThis is the amount she actually pays; it is 3 dollars less than 15.", RIGHT),
            ("18", "\\boxed{18}\n\nShe is sorry for the error, which cost her 4 dollars.", RIGHT),
            ("18", "\\boxed{18}\n\nActually, that is 3 more than Ann has.", RIGHT),
            ("18", "\\boxed{18}\n\nWait, is that right? 3 + 4 = 7 eggs are used. Yes, that is right, no error.", RIGHT),
            ("18", "\\boxed{18}\n\nWait, let me re-read the problem. She bakes with 4 eggs. So it holds.", RIGHT),
            ("18", "\\boxed{18}\n\nWait, did I make a mistake? 3 + 4 = 7 eggs are used. That checks out.", RIGHT),
        ],
    ),
    "a correction is read, whatever follows it": (
        "number",
        [
            ("27", "\\boxed{28}\n\nWait, I made a mistake. Let me correct it: 9 x 3 = 27, so she has 27 apples.", RIGHT),
            ("27", "\\boxed{28}\n\nWait, I made a mistake. The correct total is 9 x 3 = 27.", RIGHT),
            ("27", "\\boxed{28}\n\nWait, I made a mistake. She still has 27 apples.", RIGHT),
            ("27", "\\boxed{28}\n\nWait, let me re-read the problem. She has 3 bags of 9 apples, so 9 x 3 = 27 apples.", RIGHT),
            ("27", "The answer is 28.\n\nSorry, I made an error earlier: 9 x 3 = 27. A good way to see it is 9 + 9 + 9 = 27.", RIGHT),
            ("27", "The answer is 28 - wait, no, that is wrong. She has 9 x 3 = 27 apples.", RIGHT),
            ("27", "The answer is 28. But wait, the price is wrong. It should be 27.", RIGHT),
            ("27", "The answer is 28. Hmm, I forgot the last bag. So she has 27.", RIGHT),
            ("28", "\\boxed{28}\n\nWait, I made a mistake. The correct total is 9 x 3 = 27.", WRONG),
        ],
    ),
    "ordinary words behind a letter do not withdraw it": (
        "letter",
        [
            ("C", "The answer is (C).\n\nStudents actually often select (D), which is a mistake.", RIGHT),
            ("C", "The answer is (C).\n\nOption (A) is tempting, but the current actually decreases, so it is a mistake to choose (A).", RIGHT),
            ("D", "The answer is (C).\n\nWait, I made a mistake. The right choice is (D).", RIGHT),
            ("D", "The answer is (C). Actually, that is wrong: it is (D).", RIGHT),
        ],
    ),
    "givens behind a heading answer nothing": (
        "number",
        [
            *(("18", f"{heading}\n{GIVENS}\n\n{label} How much does she make?\n\n16 - 3 - 4 = 9 eggs.\n9 * 2 = $18.\nThe answer is 18.", RIGHT) for heading in ("**Given:**", "**Facts:**", "Given information:", "Here is what we know:", "**Understanding the problem**", "Let's restate the problem.") for label in ("Question:", "**Question:**", "Problem:")),
            ("18", f"**Given:**\n{GIVENS}\n\n**Solution:**\nShe sells 9 eggs.\nShe makes 18 dollars.{FURTHER_QUESTION}", RIGHT),
            ("18", f"Let's restate the problem. Ducks lay 16 eggs. She sells 9 eggs, so she makes 18 dollars.{FURTHER_QUESTION}", RIGHT),
            ("18", f"**Given:**\n{GIVENS}\n16 - 7 = 9 and 9 * 2 = 18.{FURTHER_QUESTION}", RIGHT),
        ],
    ),
    "the text of an option in brackets": (
        "letter",
        [
            *((letter, text, RIGHT) for letter, text in (("B", "The answer is B (Mitosis)."), ("B", "The answer is **B** (Mitosis)."), ("B", "Answer: B (Mitosis)"), ("B", "The correct answer is B (12 J)."), ("B", "\\boxed{B (Mitosis)}"), ("B", "\\boxed{\\text{B (Mitosis)}}"), ("C", "The answer is C (42)."), ("C", "The answer is C (i.e., 42)."), ("C", "The answer is C ($42$)."), ("C", "\\boxed{C (42)}"), ("C", "The answer is C (42), since 6 x 7 = 42."))),
            ("F", "The answer is F (x) = 2x.", NONE),
            ("F", "The answer is F (x, y).", NONE),
            ("F", "The answer is F(x).", NONE),
            ("A", "The answer is a (positive) integer.", NONE),
            ("A", "A (small) error was made.", NONE),
        ],
    ),
    "letters of points, quantities and people in running text": (
        "letter",
        [
            ("B", "The lines intersect at point B.", NONE),
            ("B", "The particle moves from point A to point B.", NONE),
            ("C", "So the electric field is largest at point C.", NONE),
            ("B", "The vector points to B.", NONE),
            ("A", "The blood type of the child must be A.", NONE),
            ("C", "So the capacitance has to be C.", NONE),
            ("E", "The electric field is given by E.", NONE),
            ("D", "Hence the displacement is described by D.", NONE),
            ("B", "This is equal to B.", NONE),
            ("C", "This leads to C.", NONE),
            ("A", "We pick A as the origin.", NONE),
            ("A", "We choose A as a reference point.", NONE),
            ("A", "Let us mark A on the graph.", NONE),
            ("C", "So it must be C.", RIGHT),
            ("C", "Must be C.", RIGHT),
            ("C", "The blood type of the child must be (C).", RIGHT),
            ("C", "The electric field is given by option C.", RIGHT),
            ("C", "The vector points to the correct choice C.", RIGHT),
            ("C", "This leads to (C).", RIGHT),
            ("C", "That leaves C.", RIGHT),
            ("C", "So choose C.", RIGHT),
            ("C", "You should choose C.", RIGHT),
            ("C", "We pick C as the pressure rises.", RIGHT),
            ("C", "I choose C as the best answer.", RIGHT),
            ("C", "I choose C as my answer.", RIGHT),
            ("C", "The value of 3.2 corresponds to C.", RIGHT),
        ],
    ),
    "the pronoun I behind a letter": (
        "letter",
        [
            ("C", "The answer is (C), I believe.", RIGHT),
            ("C", "The answer is C, I think.", RIGHT),
            ("C", "\\boxed{C}, and I am sure.", RIGHT),
            ("C", "The answer is (C) and I hope this helps.", RIGHT),
            ("C", "The answer is (C), I.", WRONG),
            ("C", "The answer is C and I, because both rise.", WRONG),
            ("C", "The answer is C or I because both rise.", WRONG),
            ("I", "The answer is (I), I believe.", RIGHT),
        ],
    ),
    **{
        f"another case behind a box, rule {rule}": (
            rule,
            [
                ("3", "The final answer is: $\\boxed{3}$. For 2 robes the answer is 6.", RIGHT),
                ("12", "The total is \\boxed{12}.\n\nIf there were 2 boxes, the answer is 8.", RIGHT),
                ("12", "The sum is $\\boxed{12}$. For $n=1$ the answer is $1$, and for $n=2$ the answer is $3$.", RIGHT),
                ("12", "\\boxed{12}\n\nWhen she has 2 boxes, the answer is 8.", RIGHT),
                ("12", "\\boxed{12}\n\nA common wrong answer is 8.", RIGHT),
                ("13", "\\boxed{12}\n\nSo the answer is 13.", RIGHT),
                ("13", "\\boxed{12}\n\nTherefore, in total, the correct answer is 13.", RIGHT),
                ("13", "\\boxed{12}\n\nI forgot one. **Final answer:** 13", RIGHT),
                ("13", "\\boxed{12}\n\nWe conclude that the answer is 13.", RIGHT),
                ("13", "\\boxed{12}\n\n### Final answer\n\n13", RIGHT),
            ],
        )
        for rule in ("number", "expression", "integer")
    },
    **{
        f"a label before the number in a box, rule {rule}": (
            rule,
            [
                ("24", "\\boxed{\\text{Total cost: } \\$24}", RIGHT),
                ("24", "\\boxed{\\text{Profit: }24}", RIGHT),
                ("24", "\\boxed{\\text{Time: } 24 \\text{ minutes}}", RIGHT),
                ("24", "\\boxed{Total: 24}", RIGHT),
                ("24", "\\boxed{\\text{Total}: 24}", RIGHT),
                ("24", "\\boxed{2:24}", WRONG),
                ("24", "\\boxed{A:24}", WRONG),
                ("24", "\\boxed{\\text{Not: } 24}", WRONG),
                ("24", "\\boxed{\\text{Ratio: } 24:12}", WRONG),
                ("24", "\\boxed{\\text{Ann: } 24, \\text{ Bob: } 12}", WRONG),
                ("12", "\\boxed{\\text{Ann: } 24, \\text{ Bob: } 12}", WRONG),
            ],
        )
        for rule in ("number", "expression")
    },
    **{
        f"alternatives of equal value, rule {rule}": (
            rule,
            [
                ("3/4", "\\boxed{\\frac34} or \\boxed{0.75}", RIGHT),
                ("18", "\\boxed{18} or \\boxed{\\$18}", RIGHT),
                ("3/4", "\\boxed{\\frac{3}{4} \\text{ or } 0.75}", RIGHT),
                ("18", "\\boxed{18} or \\boxed{19}", WRONG),
                ("19", "\\boxed{18} or \\boxed{19}", WRONG),
                ("19", "\\boxed{18 \\text{ or } 19}", WRONG),
                ("3/4", "\\boxed{\\frac{3}{4} \\text{ or } 0.8 \\text{ or } 0.75}", WRONG),
                ("18", "\\boxed{18}, \\boxed{18.0}", WRONG),
            ],
        )
        for rule in ("number", "expression")
    },
    **{
        f"raised ordinal endings, rule {rule}": (
            rule,
            [
                ("13", "\\boxed{13^{\\text{th}}}", RIGHT),
                ("13", "\\boxed{13^\\text{th}}", RIGHT),
                ("13", "\\boxed{13^{th}}", RIGHT),
                ("3", "\\boxed{3^{\\text{rd}}}", RIGHT),
                ("2", "\\boxed{2^{\\text{nd}}}", RIGHT),
                ("21", "\\boxed{21^{st}}", RIGHT),
                ("2", "\\boxed{2^{nd}}", WRONG),
                ("13", "\\boxed{13^{t}}", WRONG),
                ("12", "\\boxed{13^{\\text{th}}}", WRONG),
                ("13", "\\boxed{13^{2}}", WRONG),
            ],
        )
        for rule in ("number", "expression")
    },
    "a decimal number before the letter": (
        "letter",
        [
            ("B", "The closest answer to 12.5 J is B.", RIGHT),
            ("B", "The closest option to our computed value of 12.5 is (B) 12.4.", RIGHT),
            ("B", "Among the options, the closest to 12.5 kJ is (B) 12.4 kJ.", RIGHT),
            ("B", "The answer is close to 12.5. Option (B) is 12.4.", NONE),
            ("B", "The closest answer to 12.5 J is not B.", NONE),
            ("B", "The answer differs from 12. 5 J is B.", NONE),
        ],
    ),
    "an explanation behind a derived result": (
        "number",
        [
            *(("18", f"Janet sells 16 - 3 - 4 = 9 eggs.\nShe makes 9 * 2 = $18 every day.\n\n{heading} She starts with 16 and uses 7.", RIGHT) for heading in ("**Explanation:**", "Explanation:", "### Breakdown:\n", "**Key takeaways:**", "Here's the reasoning:")),
            ("18", "She sells 9 eggs.\nSo she makes $18.\n\n**Breakdown:**\n- 16 eggs a day\n- 7 used", RIGHT),
            ("18", "She has 16 eggs.\nShe sells 16 - 7 = 9 eggs.\n\n**Explanation:** 7 are used.\nShe makes 9 * 2 = $18.", RIGHT),
            ("18", "She sells 16 - 7 = 9 eggs.\n\n**Breakdown:** Each costs $2.\nTherefore she makes $18.", RIGHT),
            ("9", "She has 16 eggs.\nShe sells 16 - 7 = 9 eggs.\n\n**Explanation:** 7 are used.\nShe makes 9 * 2 = $18.", WRONG),
            ("18", "She has 16 eggs.\n\n**Breakdown:** She uses 7 of them and makes $18.", RIGHT),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISREAD)
def test_misread_answers(kind: str) -> None:
    rule, pairs = MISREAD[kind]
    assert not failing(rule, pairs)
