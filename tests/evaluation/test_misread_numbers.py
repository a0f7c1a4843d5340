"""Numbers and expressions that were misread, each kind beside similar replies that must be read as before."""

# ruff: noqa: E501  (one pair a line reads as a table)
from __future__ import annotations

import pytest

from s2t_eval.evaluation.generated import GeneratedText
from tests.evaluation.test_answers import Pair, failing

RIGHT, WRONG, NONE = "right", "wrong", "none"
STEPS = "1. Eggs laid: 16\n2. Eggs left: 16 - 7 = 9\n3. Money: 9 × 2 = $18\n\n"
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
    "a number of a step or of a list item at the end": (
        "number",
        [
            *((gold, f"{STEPS}{end}", expected) for end in ("4.", "4. ", "4) ", "4. **Total", "**Step 4:", "### Step 4", "Step 4: Calculate", "Step 4: Calculate\n\nStep 5:") for gold, expected in (("18", RIGHT), ("4", WRONG))),
            ("18", "Janet sells 9 duck eggs a day.\n\nStep 3: 9 × 2 = $18.\n\nStep 4: ", RIGHT),
            ("4", f"{STEPS}4. So she needs 4 bags.", RIGHT),
            ("4", f"{STEPS}4. So she needs 4", RIGHT),
            ("24", f"{STEPS}24.", RIGHT),
            ("4", f"{STEPS}So she needs\n\n4", RIGHT),
            ("4", f"{STEPS}Step 4: She needs 2 × 2 = 4 bags", RIGHT),
            ("4", "She has 9 - 5 eggs.\n\n4.", RIGHT),
            ("4", "4.", RIGHT),
            ("6", "```python\nbales = 6\n\n# Step 1: Calculate the distance", WRONG),
        ],
    ),
    "a formula broken off by the length limit": (
        "number",
        [
            ("3", "We need the day.\n\n\\[\n\\frac{2 \\log_2 30}{3} > 3", RIGHT),
            ("10", "So the area is 10π", RIGHT),
            ("10", "So the area is $10\\pi$. We now", WRONG),
        ],
    ),
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

MISREAD: dict[str, tuple[str, list[Pair]]] = {
    "a verdict on another sentence behind a pause that corrected nothing": (
        "number",
        [
            ("28", "The answer is 28. Actually, I made sure to count. Some would add 3 and get 31. This is wrong since 3 are eaten.", RIGHT),
            ("28", "The answer is 28. Wait, is it? Yes. If we add 3, we get 31. This is wrong: 3 are eaten.", RIGHT),
            ("31", "The answer is 28. Wait, is it? Yes. Hmm, I made a mistake: it is 31.", RIGHT),
        ],
    ),
    "last sentences that passed for remarks to the reader": (
        "number",
        [
            ("40", "He works 40 hours.", RIGHT),
            ("12", "So she is going to have 12 apples left.", RIGHT),
            ("40", "They are supposed to pay 40 dollars each.", RIGHT),
            ("5", "He has 60 dollars.\nSo she works 60 / 12 = 5 days.", RIGHT),
            ("3", "There are 18 pouches.\nIf you divide 18 by 6 you get 3 packs.", RIGHT),
            ("12", "Tom has 6 apples.\nWe double that: 6 * 2 = 12 apples.", RIGHT),
            ("12", "Tom has 12 apples.\nIf you have 2 more questions, just ask.", RIGHT),
            ("12", "Tom has 12 apples.\nIf you'd like, I can show 2 other ways.", RIGHT),
            ("12", "Tom has 12 apples.\nWe double-check: 6 + 6 is 2 * 6.", RIGHT),
            ("12", "Tom has 12 apples.\nThey are correct for all 3 boxes.", RIGHT),
        ],
    ),
    "the conclusion from an equation": (
        "number",
        [
            ("7", "54 / 8 = 6.75, so he needs 7 packs.", RIGHT),
            ("6.75", "54 / 8 = 6.75, so he needs 7 packs.", WRONG),
            ("7", "54 / 8 = 6.75, which means he needs 7 packs.", RIGHT),
            ("7", "54 / 8 = 6.75, and since he can't buy part of a pack, he needs 7 packs.", RIGHT),
            ("7", "54/8 = 6.75 → 7 packs", RIGHT),
            ("7", "54/8 = 6.75, rounded up is 7.", RIGHT),
            ("30", "0.25 * $40 = $10, so the jeans cost $30.", RIGHT),
            ("18", "16 - 3 - 4 = 9, so Janet sells 9 eggs and makes 18 dollars.", RIGHT),
            ("13", "4 x 6 = 24, so on Wednesday Walt walked 13 miles.", RIGHT),
            ("16", "8 * 3 = 24, so in 16 years she will be thrice her present age.", RIGHT),
            ("36", "9 * 4 = 36, so Jim spends 36 hours in 4 weeks.", RIGHT),
            ("70", "7 * 2 = 14, so there are 70 holes in all the buttons.", RIGHT),
            ("36", "9 * 4 = 36, which is more than 30.", RIGHT),
            ("36", "9 * 4 = 36 hours, and so on.", RIGHT),
            ("36", "36 = the number of hours that he works.", RIGHT),
            ("7", "\\boxed{7 = \\text{packs that he needs}}", RIGHT),
        ],
    ),
    **{
        f"a box without a number, rule {rule}": (
            rule,
            [
                ("7", "The problem has no solution because 3 + 4 = 7.\n\nThe final answer is \\(\\boxed{\\text{No solution}}\\).", WRONG),
                ("3", "He buys 3 pens at x dollars.\n\nThe total cost is \\boxed{3x}.", WRONG),
                ("5", "There are 5 boys.\n\n\\boxed{\\text{Cannot be determined}}", WRONG),
                ("3", "Since 4 > 3, Tom has more.\n\n\\boxed{\\text{Tom}}", WRONG),
                ("4", "With 4 bags the cost is\n\\[\n\\boxed{C}\n\\]", WRONG),
                ("18", "The answer is 18.\n\n\\boxed{\\text{Janet}}", RIGHT),
                ("18", "\\boxed{18}\n\n\\boxed{\\text{dollars}}", RIGHT),
                ("18", "\\boxed{18\\, \\text{dollars}\\,}", RIGHT),
                ("18", "\\boxed{\\text{She makes 18 dollars}}", RIGHT),
                ("18", "\\boxed{\\text{eighteen}}", RIGHT),
                ("18", "I put it in \\boxed{answer}. She makes 18 dollars.", RIGHT),
                ("18", "I put it in \\boxed\\.\nShe makes 18 dollars.", RIGHT),
                ("18", "\\boxed{\\text{Total}} = 18 dollars.", RIGHT),
                ("18", "$\\boxed{\\checkmark}$\nShe makes 18 dollars.", RIGHT),
            ],
        )
        for rule in ("number", "integer")
    },
    **{
        f"a formula that is not a number, rule {rule}": (
            rule,
            [
                *((gold, text.replace("<>", formula), WRONG) for gold, formula in (("10", "$10\\pi$"), ("10", "$3\\sqrt{10}$"), ("2", "$10\\sqrt{2}$"), ("10", "$10i$"), ("10", "$10-x$"), ("10", "$10 - a$"), ("10", "$x > 10$"), ("10", "$\\pm 10$"), ("3", "$n = 10k + 3$"), ("10", "$10k+3$"), ("1", "$10(k+1)$"), ("10", "10π"), ("10", "±10"), ("10", "\\(10\\pi\\) square units"), ("10", "10π square units"), ("10", "\\boxed{n = 10k+3}"), ("10", "$n = \\boxed{10k+3}$"), ("10", "\\boxed{10k - 3}")) for text in ("The answer is <>.", "Therefore, the area is <>.", "So the area is **<>**.")),
                ("3", "The answer is 5.\n\nIt follows from $2x + 3$.", WRONG),
                ("5", "The answer is 5.\n\nIt follows from $2x + 3$.", RIGHT),
                ("10", "The answer is 5. Sorry, I made an error: the answer is $10\\pi$.", WRONG),
            ],
        )
        for rule in ("number", "integer")
    },
    **{
        f"a number in a formula, rule {rule}": (
            rule,
            [
                *(("10", text.replace("<>", formula), RIGHT) for formula in ("$x = 10$", "$10$", "$10 \\text{ dollars}$", "$10\\ \\mathrm{cm}$", "$10\\text{ cm}^2$", "$10\\,m/s$", "$10 \\text{ kg}\\cdot\\text{m}$", "$10\\%$", "$10^\\circ$", "$10^\\circ C$", "$\\$10$", "$\\approx 10$", "$\\frac{20}{2}$", "$2 \\cdot 5 = 10$", "$10 \\pmod{12}$", "\\(x = 10\\)", "10 m", "10 cm", "$10", "10%", "50/5", "$2x = 20 \\implies x = 10$", "$A = \\pi r^2 \\approx 10$") for text in ("The answer is <>.", "Therefore, the value is <>.")),
                ("18", "Therefore, she sells 18 eggs, since $x > 10$.", RIGHT),
                ("18", "The answer is 18, because $n = 10k + 8$.", RIGHT),
                ("18", "The answer is $2x$, where $x = 9$, so she makes 18 dollars.", RIGHT),
                ("18", "=> 18", RIGHT),
                ("50", "The answer is 50p.", RIGHT),
                ("7", "They meet at 7 p.m.", RIGHT),
            ],
        )
        for rule in ("number", "integer")
    },
    "values of several names, each in its box": (
        "expression",
        [
            ("(2,3)", "$x=\\boxed{2}$ and $y=\\boxed{3}$", RIGHT),
            ("(2,3)", "\\[x = \\boxed{2}, \\quad y = \\boxed{3}\\]", RIGHT),
            ("(2,3)", "$y = \\boxed{3}$, $x = \\boxed{2}$", RIGHT),
            ("(3,3)", "$x=\\boxed{3}$ and $y=\\boxed{3}$", RIGHT),
            ("(2,3)", "$\\boxed{x = 2}$ and $y=\\boxed{3}$", RIGHT),
            ("(2,3)", "$y=\\boxed{2}$ and $x=\\boxed{3}$", WRONG),
            ("x = 2, y = 3", "$x=\\boxed{2}$ and $y=\\boxed{3}$", RIGHT),
            ("x = 2, y = 3", "$y=\\boxed{2}$ and $x=\\boxed{3}$", WRONG),
            ("2, 3", "$x=\\boxed{2}$ or $x=\\boxed{3}$", RIGHT),
            ("2, 3", "$x_1=\\boxed{2}$, $x_2=\\boxed{3}$", RIGHT),
            ("2, 3", "$\\boxed{2} \\quad \\text{and} \\quad \\boxed{3}$", RIGHT),
            ("3", "\\[x = \\boxed{2}, \\quad y = \\boxed{3}\\]", WRONG),
            ("(2,3)", "$(\\boxed{2}, \\boxed{3})$", RIGHT),
            ("(2,2)", "$\\left(\\boxed{2}, \\boxed{2}\\right)$", RIGHT),
            ("(3,2)", "($\\boxed{2}$, $\\boxed{3}$)", WRONG),
            ("[2,3)", "$[\\boxed{2}, \\boxed{3})$", RIGHT),
            ("2, 3", "\\(\\boxed{2}, \\boxed{3}\\)", RIGHT),
            ("2, 3", "The roots (\\boxed{2} and \\boxed{3}) are real.", RIGHT),
        ],
    ),
    "several boxed values are no number": (
        "number",
        [
            *((gold, text, WRONG) for gold in ("2", "3") for text in ("$x=\\boxed{2}$ and $y=\\boxed{3}$", "$x=\\boxed{2 \\text{ dollars}}$ and $y=\\boxed{3 \\text{ dollars}}$", "$x_{1} = \\boxed{2}$, $x_{2} = \\boxed{3}$", "$(\\boxed{2}, \\boxed{3})$", "\\[x = \\boxed{2}, \\quad y = \\boxed{3}\\]")),
            ("3", "$x=\\boxed{3}$. Since $y = x$, the number is $y = \\boxed{3}$", RIGHT),
        ],
    ),
    **{
        f"a list below a heading that names the answer, rule {rule}": (
            rule,
            [
                ("18", "To find the answer\n- 16 eggs are laid a day\n- 7 are eaten\nSo she makes 9 * 2 = 18 dollars.", RIGHT),
                ("18", "Let's work out the answer\n\n- 16 eggs per day\n- 7 are eaten\n- 9 * 2 = 18 dollars", RIGHT),
                ("18", "Here is the result\n\n- 16 eggs per day\n- 9 * 2 = 18 dollars", RIGHT),
                ("18", "Answer - 18", RIGHT),
                ("18", "**Answer** — 18 dollars\n\nShe uses 7 eggs.", RIGHT),
                ("16", "To find the answer\n- 16 eggs are laid a day\n- 7 are eaten\nSo she makes 9 * 2 = 18 dollars.", WRONG),
            ],
        )
        for rule in ("number", "expression")
    },
    "a list of equations": (
        "expression",
        [
            ("3, 5, 7", "Thus the roots are x = 3, x = 5, and x = 7.", RIGHT),
            ("3, 5, 7", "The roots are x=3, x=5, x=7", RIGHT),
            ("7", "Thus the roots are x = 3, x = 5, and x = 7.", WRONG),
            ("1, -2", "So the possible values are n = 1 and n = -2.", RIGHT),
            ("1, -2", "The only integers are n = 1, n = -2.", RIGHT),
            ("1, 5", "Thus, x = 1 and x = 5 are the solutions.", RIGHT),
            ("5", "Thus, x = 1 and x = 5 are the solutions.", WRONG),
            ("3/2", "The only root is x = 3/2, or x = 1.5.", RIGHT),
            ("2", "We subtract the equations. Then x + y = 4, x = 2.", RIGHT),
            ("2", "We subtract the equations. Then y = 4, x = 2.", RIGHT),
            ("5", "x = 5 is the only solution.", RIGHT),
            ("(2, -1)", "So x = 2 and y = -1.", RIGHT),
            ("(6,31,-1)", "So we have p=6, q=31, r=-1.", RIGHT),
            ("(6,31,-1)", "Thus $p = 6$, $q = 31$, and $r = -1$.", RIGHT),
            ("(6,31,-1)", "Therefore, $p = 6$, $q = 31$, $r = -1$.", RIGHT),
            ("(31,6,-1)", "Therefore, $p = 6$, $q = 31$, $r = -1$.", WRONG),
            ("-1", "With $p = 6$, $q = 31$, we get $r = -1$.", RIGHT),
        ],
    ),
    "a rejected number": (
        "number",
        [
            ("20", "18 is not the correct answer; it is 20.", RIGHT),
            ("18", "18 is not the correct answer; it is 20.", WRONG),
            ("18", "18 is not the correct answer.", NONE),
            ("18", "18 is wrong.", NONE),
            ("20", "3 + 5 = 18 was wrong, so she has 20 dollars.", RIGHT),
            ("18", "18 is the correct answer.", RIGHT),
            ("18", "18 is not a prime number.", RIGHT),
        ],
    ),
    "ångström": (
        "quantity",
        [
            ("6630", "The wavelength is 6630 Å.", RIGHT),
            ("6630", "\\boxed{6630 Å}", RIGHT),
            ("6630", "\\boxed{6630\\ \\mathring{A}}", RIGHT),
            ("6630", "\\boxed{6630\\ \\overset{\\circ}{A}}", RIGHT),
            ("6630", "\\boxed{6630\\ \\text{\\AA}}", RIGHT),
            ("663", "\\boxed{6630 Å}", WRONG),
            ("6630", "\\boxed{6630 A_1}", WRONG),
        ],
    ),
    "money with spaces between its digits": (
        "number",
        [
            ("43500", "The total cost of Bill's truck is $43 500.", RIGHT),
            ("43500", "The total cost is 43 500 dollars.", RIGHT),
            ("70000", "Le bénéfice est de 70 000 $.", RIGHT),
            ("9500", "The answer is 9 500 €.", RIGHT),
            ("1234567", "He has $1 234 567.", RIGHT),
            ("500", "The total cost is $43 500.", WRONG),
            ("100", "He has room 2 100 times.", RIGHT),
            ("250", "She pays with the bills 100 50 250.", RIGHT),
            ("500", "In 2020 500 dollars were paid.", RIGHT),
        ],
    ),
    "what was given or compared behind a result": (
        "number",
        [
            ("80", "The discounted price is $80, down from $100.", RIGHT),
            ("125", "The profit would be $125, compared to $96 for the gadgets.", RIGHT),
            ("125", "The maximum profit is $125 from jewelry versus $96 from gadgets.", RIGHT),
            ("24", "The class has 24 students, consisting of 10 girls and 14 boys.", RIGHT),
            ("24", "There are 24 students in the class (12 boys and 12 girls).", RIGHT),
            ("82", "The sun will be 82 degrees from the ground (32° + 50°).", RIGHT),
            ("7", "Mr. Jackson needs to buy 7 packs of 8 glue sticks each.", RIGHT),
            ("4", "He needs 4 bags of oats, each weighing 50 pounds.", RIGHT),
            ("18", "Janet makes $18 every day, assuming she sells all 9 eggs.", RIGHT),
            ("142", "Sheila paid $142 more than Clara, who paid $398.", RIGHT),
            ("9500", "The house costs $9,500 more than her $400,000 budget.", RIGHT),
            ("12", "Alice is 12 years older than Erica, who is 30 years old.", RIGHT),
            ("100", "Compared to last year, the price fell from $80 to $100.", RIGHT),
            ("12", "The class consists of 7 girls and 5 boys, so there are 12.", RIGHT),
            ("56", "7 packs of 8 glue sticks each make 56 glue sticks.", RIGHT),
            ("15", "5 more than 10 is 15.", RIGHT),
            ("20", "Each friend (there are 4) gets 20 dollars.", RIGHT),
        ],
    ),
    "a chain with two signs": (
        "expression",
        [
            ("1 \\pm \\sqrt{19}", "\\boxed{\\frac{2 \\pm \\sqrt{76}}{2} = 1 \\pm \\sqrt{19}}", RIGHT),
            ("3 \\pm 2\\sqrt{2}", "\\boxed{x = \\frac{6 \\pm \\sqrt{32}}{2} = 3 \\pm 2\\sqrt{2}}", RIGHT),
            ("1 \\pm \\sqrt{18}", "\\boxed{\\frac{2 \\pm \\sqrt{76}}{2} = 1 \\pm \\sqrt{19}}", WRONG),
            ("1 + \\sqrt{19}", "\\boxed{\\frac{2 \\pm \\sqrt{76}}{2} = 1 \\pm \\sqrt{19}}", WRONG),
            ("1 + \\sqrt{19}, 1 - \\sqrt{19}", "\\boxed{x = \\frac{2 \\pm \\sqrt{76}}{2} = 1 \\pm \\sqrt{19}}", RIGHT),
            ("3, 1, -1, -3", "\\boxed{\\pm 1 \\pm 2}", RIGHT),
            ("3, -3", "\\boxed{\\pm 1 \\pm 2}", WRONG),
        ],
    ),
    "a computation in brackets behind its value": (
        "expression",
        [
            ("27", "The answer is 27 (8 + 9 + 10).", RIGHT),
            ("9", "The answer is 9 (3 × 3).", RIGHT),
            ("27", "The answer is 27 (8 + 9 + 11).", WRONG),
            ("729", "The answer is 27 (8 + 9 + 10).", WRONG),
            ("4", "The answer is 2(2).", RIGHT),
            ("4", "\\boxed{2 (2)}", RIGHT),
            ("2(x+1)", "The answer is 2 (x + 1).", RIGHT),
        ],
    ),
    "what was given, in a phrase or a clause behind the result": (
        "number",
        [
            ("15", "She therefore has $15 left over from the original $50.", RIGHT),
            ("16", "The box weighs 16 pounds after Ken added 2 more pounds of gummy worms.", RIGHT),
            ("990", "Tina makes $990 for working 10 hours a day for 5 days.", RIGHT),
            ("7", "He has to wait for 7 more days before he can collect his 30 coins.", RIGHT),
            ("1200000", "The population will be 1.2 million in 5 years.", RIGHT),
            ("1.2", "The population will be 1.2 million in 5 years.", WRONG),
            ("-5", "The temperature dropped to −5°C from 3°C.", RIGHT),
            ("5", "Each child gets 5 sweets with 2 left over.", RIGHT),
            ("75", "She still has to read 75 of the book's 250 pages.", RIGHT),
            ("75", "She needs 250 - 175 = 75 more points to reach 250.", RIGHT),
            ("42", "Mary pays 42 dollars for 6 books and 4 pens.", RIGHT),
            ("88", "Tim's score was 88, the average of 84 and 92.", RIGHT),
            ("11", "Amy is 11 years old, 3 years younger than Ben, who is 14.", RIGHT),
            ("5", "She starts with 20 apples and ends with 5 left.", RIGHT),
            ("6", "Of the 20 apples he is left with 6 apples.", RIGHT),
            ("20", "She had 20 apples before she gave 5 to Tom.", RIGHT),
            ("3", "The two trains, 300 miles apart, meet after 3 hours.", RIGHT),
            ("10", "He can finish the 50 pages in 10 days.", RIGHT),
            ("176", "In 2 tests, the sum of 84 and 92 is 176.", RIGHT),
            ("5", "The price went up from 45 to 50, so the difference is 5.", RIGHT),
        ],
    ),
    "a result behind several numbers": (
        "number",
        [
            ("10", "He ends up with 4 apples and 6 oranges, i.e. 10 pieces of fruit.", RIGHT),
            ("8", "Sara read 3 books on Monday and 5 on Tuesday, which is 8 books.", RIGHT),
            ("28", "Susan has 2 less than 3 times as many as 10, which is 28.", RIGHT),
            ("-20", "The profit is -$20, that is, a loss of $20.", RIGHT),
            ("18", "She has 18 eggs, which is 2 more than 16.", RIGHT),
            ("24", "So $k = 2024$ and the remainder upon division by $1000$ is $24$.", RIGHT),
            ("36", "9 * 4 = 36, and he works 4 weeks.", RIGHT),
        ],
    ),
    "a check or a remark behind the result": (
        "number",
        [
            ("18", "So she makes $18.\n\nTo double-check: 18 / 2 = 9 eggs, and 9 + 3 + 4 = 16 eggs.", RIGHT),
            ("18", "So she makes $18.\n\nLet's verify our answer:\nEggs sold: 16 - 7 = 9\nPer week: 18 x 7 = $126", RIGHT),
            ("24", "The shirt costs $24. Note that without the discount, it would have cost $30.", RIGHT),
            ("48", "The total is $48.\n\n(If the coupon had been for $5, the total would have been $52.)", RIGHT),
            ("10", "She has 12 - 1 = 11 pens. Note that one pen is lost, so she has 10 pens.", RIGHT),
            ("18", "We can verify that the answer is 18.", RIGHT),
            ("56", "(3 + 4) * 8 = 56", RIGHT),
        ],
    ),
    "money of other countries": (
        "number",
        [
            ("14.95", "Das Buch kostet 14,95 €.", RIGHT),
            ("12.5", "Le prix est de 12,50 euros.", RIGHT),
            ("12.5", "Cuesta €12,50 en total.", RIGHT),
            ("1250", "Итого: 1 250 рублей.", RIGHT),
            ("70000", "Sie zahlt 70 000 Euro.", RIGHT),
            ("1250", "The total is €1,250.", RIGHT),
            ("12.13", "\\boxed{12,13}", WRONG),
            ("500", "He has 2 500 dollar bills.", RIGHT),
        ],
    ),
    "the same measure in two units": (
        "number",
        [
            ("90", "The answer is 90 minutes or 1.5 hours.", RIGHT),
            ("1.5", "The answer is 90 minutes or 1.5 hours.", WRONG),
            ("5", "The answer is 5 hours or 6 hours.", WRONG),
            ("5", "The answer is 5 or 6 hours.", WRONG),
        ],
    ),
    "formulas in and outside dollars": (
        "expression",
        [
            ("63", "The value is $5^3 = 125$ and 125 - 62 = 63.", RIGHT),
            ("125", "The value is $5^3 = 125$ and 125 - 62 = 63.", WRONG),
            ("12", "The value of $n$ = 12.", RIGHT),
            ("17", "The integer is 17, since $17 \\equiv 2 \\pmod{5}$ and $17 \\equiv 3 \\pmod 7$.", RIGHT),
            ("3", "The integer is 17, since $17 \\equiv 2 \\pmod{5}$ and $17 \\equiv 3 \\pmod 7$.", WRONG),
            ("5", "The number is 17 since $x = 2$, so $y = 5$.", RIGHT),
            ("4", "So $x = 4$ (2(4) + 3 = 11).", RIGHT),
            ("3\\sqrt{13}", "The distance is sqrt(117), which simplifies to 3*sqrt(13), about 10.82.", RIGHT),
            ("\\frac{3}{56}", "So the sum of the series is 3/56, approximately 0.0536.", RIGHT),
            ("x^3-2x^2+4x-8", "(x-2)(x^2+4) expands to x^3 - 2x^2 + 4x - 8.", RIGHT),
            ("(x-3)(x+2)", "The polynomial factors to (x - 3)(x + 2).", RIGHT),
            ("16", "The maximum is achieved at $x = 4$, where the value is $16$.", RIGHT),
            ("4", "The maximum is $4$, where $x = 16$.", RIGHT),
        ],
    ),
    "alternatives, exceptions and pairs in the last sentence": (
        "expression",
        [
            ("(-\\infty,3)\\cup(5,\\infty)", "Thus $x < 3$ or $x > 5$.", RIGHT),
            ("(5,\\infty)", "Thus $x < 3$ or $x > 5$.", WRONG),
            ("(3,5)", "Thus $x < 3$ or $x > 5$.", WRONG),
            ("(-\\infty,2)\\cup(2,\\infty)", "Therefore, the domain is all real numbers except $x = 2$.", RIGHT),
            ("2", "Therefore, the domain is all real numbers except $x = 2$.", WRONG),
            ("(-\\infty,-3)\\cup(-3,3)\\cup(3,\\infty)", "The domain is all real numbers except $x = -3$ and $x = 3$.", RIGHT),
            ("1", "For all real numbers except $x = 0$, $f(x) = 1$.", RIGHT),
            ("(3,2)", "We have $2x + y = 8$ and so $x = 3$ and $y = 2$.", RIGHT),
            ("2", "We have $2x + y = 8$ and so $x = 3$ and $y = 2$.", WRONG),
            ("(3,-2)", "Thus the ordered pair is $(3, -2)$, meaning $x = 3$ and $y = -2$.", RIGHT),
            ("4", "The value is $4$ when $x = 3$ and $y = 2$.", RIGHT),
        ],
    ),
    "a quantity with what is given": (
        "quantity",
        [
            ("2", "Hence the angular size is 2 arcseconds, given a distance of 10 pc.", RIGHT),
            ("10", "Hence the angular size is 2 arcseconds, given a distance of 10 pc.", WRONG),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISREAD)
def test_misread_numbers(kind: str) -> None:
    rule, pairs = MISREAD[kind]
    assert not failing(rule, pairs)


@pytest.mark.parametrize("kind", TRUNCATED)
def test_misread_truncated_replies(kind: str) -> None:
    rule, pairs = TRUNCATED[kind]
    assert not failing(
        rule, [(gold, GeneratedText(text, truncated=True), expected) for gold, text, expected in pairs]
    )
