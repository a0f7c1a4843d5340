"""Numbers and equations as models write them, and whether an equation is true."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from s2t_eval.training.written_arithmetic import (
    NUMBER,
    canonical,
    equations,
    is_result,
    normalise,
    numbers,
    result_value,
    value_of,
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # lines of a 1.5B teacher, of which six in ten had no equation
        (r"\[ 8 \text{ ounces/glass} \times 2 \text{ glasses} = 16 \text{ ounces} \]", [("8*2", "16")]),
        (r"\( 9 \times \$2 = \$18 \)", [("9*2", "18")]),
        (r"\[ \frac{60}{2} = 30 \]", [("60/2", "30")]),
        (r"\[ 10 - 3 = \boxed{7} \]", [("10-3", "7")]),
        (r"\[ \left( \frac{7}{20} \right) \times 100 = 35\% \]", [("(7/20)*100", "35%")]),
        (r"\frac{12 \text{ inches}}{120 \text{ inches}} \times 100 = 10", [("(12)/(120)*100", "10")]),
        (r"3\frac{1}{2} * 2 = 7", [("(3+1/2)*2", "7")]),
        (r"20\% \times 50 = 10", [("20%*50", "10")]),
        ("20% of 50 = 10", [("20%*50", "10")]),
        ("1/2 of 48 = 24", [("1/2*48", "24")]),
        ("5 + 6 + 7 = **18**", [("5+6+7", "18")]),
        ("**Total**: 5 + 6 = 11", [("5+6", "11")]),
        ("$1,200 * 12 months/year = $14,400", [("1200*12", "14,400")]),
        ("$5/hour * 8 hours = $40", [("5*8", "40")]),
        ("12 eggs per box x 3 boxes = 36 eggs", [("12*3", "36")]),
        ("$20 (for the movie) + $1 (for the popcorn) = $21", [("20+1", "21")]),
        ("3 * -4 = -12", [("3*-4", "-12")]),
        ("total - 5 + 3 = 8", [("5+3", "8")]),
        (".5 * 8 = 4", [("1/2*8", "4")]),
        # runs of equalities
        ("4*2*2 = 8*2 = 16", [("4*2*2", "16")]),
        ("5 + 3 = 8 - 2 = 6", [("5+3", "8"), ("8-2", "6")]),
        ("(12 - 4) / 2 = 8 / 2 = 4", [("(12-4)/2", "4")]),
        ("x = 10 / 2 = 5", [("10/2", "5")]),
        ("3 + 4 = 7 apples. Then 7 * 2 = 14", [("3+4", "7"), ("7*2", "14")]),
        # results that are fractions
        ("1/2 + 1/4 = 3/4", [("1/2+1/4", "3/4")]),
        ("1/2 + 1/4 = -3/4 cups (of oil)", [("1/2+1/4", "-3/4")]),
        (r"\frac{1}{2} + \frac{1}{4} = \frac{3}{4}", [("1/2+1/4", "3/4")]),
        (r"5 / 2 = \boxed{\frac{5 \text{ cups}}{2}}", [("5/2", "5/2")]),
        (r"\frac{10}{4} = 2\frac{1}{2}", [("10/4", "(2+1/2)")]),
        ("1/2 + 1/4 = 3/4 = 0.75", [("1/2+1/4", "0.75")]),
        ("1/4 + 1/4 = 1/2 = 0.5", [("1/4+1/4", "0.5")]),
        ("1/4 + 1/4 = 1/2 * 48 = 24", [("1/4+1/4", "1/2"), ("1/2*48", "24")]),
        ("5 + 3 = 8 / 2 = 4", [("5+3", "8"), ("8/2", "4")]),
        ("50 / 3 = 16.67 / 2 = 8.33", [("50/3", "16.67"), ("1667/100/2", "8.33")]),
        ("1 + 1 = 2/1. Then 5 - 9 = - 4", [("1+1", "2/1"), ("5-9", "-4")]),
        # no equations
        ("17 = 12 + 5", []),
        ("5! = 120", []),
        (r"= \boxed{18}", []),
        ("0.99b + b = 4500", []),
    ],
)
def test_equations_as_models_write_them(text: str, found: list[tuple[str, str]]) -> None:
    assert [(canonical(one.expression), one.result) for one in equations(normalise(text))] == found


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("the value is -3", [-3]),
        ("from 10-15 eggs, 12 - 5 of them", [5, 10, 12, 15]),
        ("-$20 or $-20.50", ["-41/2", -20]),
        ("15% of 1,200", ["3/20", 1200]),
        ("two of them, one of 2", [2, 2]),
        ("is = - 5", [-5]),
        ("twice .5", ["1/2", 2]),
    ],
)
def test_numbers_have_their_sign_and_percent_sign(text: str, values: list[int | str]) -> None:
    assert sorted(numbers(normalise(text)).elements()) == [Fraction(value) for value in values]


def test_equations_in_any_dress_are_found() -> None:
    """The same equations with random currencies, units, brackets, bold print and LaTeX."""
    generator = random.Random(5)
    times = ["*", "x", "×", r"\times", r"\cdot"]
    units = ["", "", " eggs", r" \text{ eggs}", " eggs per box", " (in total)"]
    for _ in range(300):
        parts, expected = [], []
        for _ in range(generator.randint(1, 3)):
            values = [generator.randint(2, 4000) for _ in range(generator.randint(2, 4))]
            signs = generator.choices("+-*", k=len(values) - 1)
            result = generator.randint(2, 4000)
            written = [
                generator.choice(["", "$", r"\$"]) + generator.choice([str(value), f"{value:,}"])
                for value in values
            ]
            text = written[0] + generator.choice(units)
            for sign, value in zip(signs, written[1:], strict=True):
                text += (
                    f" {generator.choice(times) if sign == '*' else sign} {value}{generator.choice(units)}"
                )
            right = generator.choice([f"{result}", f"**{result}**", rf"\boxed{{{result}}}", f"${result:,}"])
            parts.append(
                generator.choice(["So {}.", r"\[ {} \]", r"Then \( {} \), and"]).format(f"{text} = {right}")
            )
            plain = "".join(f"{value}{sign}" for value, sign in zip(values, [*signs, ""], strict=True))
            expected.append((plain, Fraction(result)))
        found = equations(normalise(" ".join(parts)))
        assert [(canonical(one.expression), value_of(one.result)) for one in found] == expected, parts


@pytest.mark.parametrize(
    "text",
    [
        *("1 + " * 2000, "(" * 5000, "1(" * 3000, "1 = " * 2000, "1 " + "a " * 3000, "1 (" + "a " * 4000),
        *("- " * 4000, "**a" * 3000, r"\frac{" * 2000, "1" * 9000, "1,111" * 2000),
    ],
)
def test_texts_that_repeat_themselves_are_read(text: str) -> None:
    """A text at its limit is often one token again and again; a number of 4,301 digits ended a training."""
    plain = normalise(text)
    for one in equations(plain):
        value_of(one.result)
    assert sum(numbers(plain).values()) == len(NUMBER.findall(plain))


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("48/2 = 24", True),
        ("68 - 32 = 35", False),
        ("$1,200 + $300 = 1,500", True),
        ("5 x 2 + 1 = 11", True),
        ("5 x (2 + 1) = 11", False),
        ("12 eggs - 3 eggs = 9", True),
        ("10 / 3 = 3.33", True),
        ("10 / 3 = 3.32", False),
        ("10 / 3 = 3", True),
        ("7 + 1 = 8.4", False),
        ("50% * 30 = 15", True),
        ("4 - 9 = -5", True),
        ("60 / 50% = 120", True),
        ("20/25% = 80", True),
        ("1/2 + 1/4 = 3/4", True),
        ("1/2 + 1/4 = 3/8", False),
        ("3/4 = 1/1", False),
        ("7 / 0 = 7", None),
        ("(3 + 4 = 7", None),
        ("How many? = 7", None),
        ("2 ** 999999 = 1", None),
    ],
)
def test_whether_an_equation_is_true(equation: str, expected: bool | None) -> None:
    expression, _, answer = equation.rpartition(" = ")
    assert is_result(answer, expression) is expected


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("60 / 50%", 120),
        ("20/25%", 80),
        ("60 / (20 + 30)%", 120),
        ("-50% * 4", -2),
        (r"\frac{3}{4} \div \frac{1}{2}", "3/2"),
        (r"6 / \left( \frac{1}{2} \right)", 12),
        (r"$6 \div \$\frac{1}{2}$", 12),
        (r"\frac{\frac{1}{2}}{\frac{1}{4}}", 2),
        (r"\frac{1}{2}\% \times 400", 2),
        ("2 x 007", 14),
        ("00.5 * 100", 50),
        ("0 + 000", 0),
    ],
)
def test_a_percentage_or_fraction_divides_as_a_whole(expression: str, value: int | str) -> None:
    """`60 / 50%` was 60/50/100, three quarters over a half three eighths, and `007` had no value."""
    assert value_of(expression) == Fraction(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3/4", "3/4"),
        ("$0.75", "3/4"),
        ("75%", "3/4"),
        (r"\frac{3}{4} cups", "3/4"),
        (r"2\frac{1}{2}", "5/2"),
        ("-6/4", "-3/2"),
        ("3 and 4", None),
        ("1 2/4", None),
        ("3 + 4", None),
        ("many", None),
        ("7/0", None),
    ],
)
def test_the_value_of_a_result(text: str, value: str | None) -> None:
    assert result_value(text) == (None if value is None else Fraction(value))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("thirty apples, forty-two pears", [30, 42]),
        ("two hundred and five, one thousand three hundred", [205, 1300]),
        ("two and three, twenty and five", [2, 3, 5, 20]),
        ("five six twenty five", [5, 6, 25]),
        ("half of them, a third, two thirds, three quarters", ["1/3", "1/2", "2/3", "3/4"]),
        ("one third and two thirds", ["1/3", "2/3"]),
        ("three and a half, two and three quarters", ["11/4", "7/2"]),
        ("a dozen, two dozen, half a dozen", [6, 12, 24]),
        ("twice, double and triple", [2, 2, 3]),
        ("he paid twenty a third time", ["1/3", 20]),
        ("no one of this one, none, often, dozens", []),
        ("one hundred of the twenty-one", [21, 100]),
    ],
)
def test_numbers_in_words(text: str, values: list[int | str]) -> None:
    """Only words up to twenty were numbers, each for itself: `two hundred` was 2."""
    assert sorted(numbers(text).elements()) == [Fraction(value) for value in values]


def test_every_number_up_to_a_thousand_is_read_in_words() -> None:
    ones = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    ones = ["", *ones.split(), "seventeen", "eighteen", "nineteen"]
    tens = ["", "", *"twenty thirty forty fifty sixty seventy eighty ninety".split()]
    for value in range(2, 1000):
        hundreds, rest = divmod(value, 100)
        small = ones[rest] if rest < 20 else "-".join(filter(None, (tens[rest // 10], ones[rest % 10])))
        spelled = " and ".join(filter(None, (f"{ones[hundreds]} hundred" if hundreds else "", small)))
        assert list(numbers(f"so {spelled} are left")) == [value], spelled
