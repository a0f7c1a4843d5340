"""R2R's rules: sentences in tokens, and `reconverge` against a slow and obvious twin."""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Sequence
from decimal import Decimal

import pytest

from s2t_eval.methods.r2r_error import R2RError
from s2t_eval.training.r2r.rules import (
    Sentence,
    edit_distance,
    is_close,
    is_neutral,
)
from s2t_eval.training.r2r.sentences import prefix_lengths, sentence_begin, sentence_ends, sentence_through
from s2t_eval.training.r2r.settings import LabelSettings
from s2t_eval.training.written_arithmetic import normalise

# ---------------------------------------------------------------- sentences


def pieces(text: str) -> list[str]:
    """A toy tokenizer: words with the space before them, digits and marks one by one, runs of newlines."""
    return re.findall(r" ?[A-Za-z]+| ?\d|\n+|[^\w\s]+| ", text)


@functools.cache
def ids_of(piece: str) -> int:
    return next(COUNTER)


COUNTER = itertools.count()
PIECES: dict[int, str] = {}


def encode(text: str) -> list[int]:
    ids = [ids_of(piece) for piece in pieces(text)]
    PIECES.update(zip(ids, pieces(text), strict=True))
    return ids


def decode(ids: Sequence[int]) -> str:
    return "".join(PIECES[i] for i in ids)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One here. Two there. Three", ["One here.", " Two there.", " Three"]),
        ("It is 3.5 m. Next", ["It is 3.5 m.", " Next"]),
        ("a\nb\n\nc", ["a\n", "b\n\n", "c"]),
        ("So 4.\nThen 5!\n\nDone", ["So 4.\n", "Then 5!\n\n", "Done"]),
        ("Why? Because (it is.) Yes", ["Why?", " Because (it is.)", " Yes"]),
        ("no end at all", ["no end at all"]),
        ("The end.", ["The end."]),
    ],
)
def test_sentences_in_tokens(text: str, sentences: list[str]) -> None:
    ids = encode(text)
    ends = [0, *sentence_ends(ids, decode), len(ids)]
    found = [decode(ids[begin:end]) for begin, end in itertools.pairwise(ends) if end > begin]
    assert found == sentences


def test_the_sentence_of_a_step_is_found_from_lengths_of_the_whole_text() -> None:
    """For each mismatch every prefix of its text was decoded anew."""
    ids = encode("So 4.\nThen it is 3.5 m. Why? Because é so.\n\nDone")
    lengths = prefix_lengths(ids, decode)
    for t in range(len(ids) + 1):
        assert sentence_begin(ids[:t], decode, lengths[: t + 1]) == sentence_begin(ids[:t], decode)


def test_the_sentence_through_a_position_has_words_behind_it() -> None:
    """Where one side writes a line break and the other goes on, both are compared up to the same sentence."""
    ids = encode("First 3.\nThen 4 apples. Last")
    newline = 3
    assert decode(ids[newline : newline + 1]) == "\n"
    begin = sentence_begin(ids[:newline], decode)
    through = sentence_through(ids[begin:], newline - begin, decode)
    assert decode(through.ids) == "First 3.\nThen 4 apples." and through.is_whole
    assert not sentence_through(encode("It goes on"), 1, decode).is_whole
    other = sentence_through(encode("First 3. Then 4 apples. Last"), newline, decode)
    assert decode(other.ids) == "First 3. Then 4 apples."


# ---------------------------------------------------------------- reconverge


@functools.cache
def slow_distance(left: tuple[str, ...], right: tuple[str, ...]) -> int:
    """Levenshtein's definition."""
    if not left or not right:
        return len(left) + len(right)
    if left[0] == right[0]:
        return slow_distance(left[1:], right[1:])
    return 1 + min(
        slow_distance(left[1:], right), slow_distance(left, right[1:]), slow_distance(left[1:], right[1:])
    )


def slow_words(text: str) -> list[str]:
    """Words, whole numbers and marks of a plain lower-case text, character by character."""
    words: list[str] = []
    for i, char in enumerate(text):
        before = text[i - 1] if i else " "
        if char == " ":
            continue
        if char.isalnum() and before.isalnum():
            words[-1] += char
        else:
            words.append(char)
    return words


SLOW_VALUES = {"twelve": "12", "thirty": "30", "forty": "40"}
"""Number words of the random sentences."""


def slow_is_neutral(teacher: str, student: str, next_ids: tuple[int, int], max_edit: float) -> bool:
    """The rule word by word: numbers, equations, then closeness or the same next token."""
    a, b = (slow_words(" ".join(text.lower().split())) for text in (teacher, student))
    values = [
        sorted(
            Decimal(SLOW_VALUES.get(word, word)) for word in words if word.isdigit() or word in SLOW_VALUES
        )
        for words in (a, b)
    ]
    if values[0] != values[1]:
        return False

    def equations(words: list[str]) -> list[tuple[int, str, int, int]]:
        found = []
        for i in range(len(words) - 4):
            x, op, y, equal, z = words[i : i + 5]
            if op in "+-*/" and equal == "=" and x.isdigit() and y.isdigit() and z.isdigit():
                found.append((int(x), op, int(y), int(z)))
        return sorted(found)

    if equations(a) != equations(b):
        return False
    close = slow_distance(tuple(a), tuple(b)) <= max_edit * max(len(a), len(b))
    return close or next_ids[0] == next_ids[1]


def test_reconverge_is_its_slow_twin_on_random_sentences() -> None:
    numbers = random.Random(7)
    words = ["so", "Tom", "has", "apples", "then", "12", "5", "17", "+", "=", "12 + 5 = 17", "17 - 5 = 12"]
    words += ["twelve", "thirty", "forty"]
    seen = set()
    for _ in range(400):
        teacher = " ".join(numbers.choices(words, k=numbers.randint(2, 7))) + "."
        mutated = teacher.split()
        for _ in range(numbers.randint(0, 2)):
            mutated[numbers.randrange(len(mutated))] = numbers.choice(words)
        student = "  ".join(mutated)
        ids = (numbers.randint(0, 1), numbers.randint(0, 1))
        expected = slow_is_neutral(teacher, student, ids, 0.3)
        if normalise(teacher) == normalise(student):
            expected = True
        found = is_neutral(Sentence(teacher, ids[0]), Sentence(student, ids[1]), 0.3)
        assert found == expected, (teacher, student, ids)
        seen.add(expected)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("teacher", "student", "neutral"),
    [
        ("So he has 12 apples.", "Thus he has 12 apples.", True),
        ("So he has 12 apples.", "So he has 15 apples.", False),
        ("So  He has 12", "so he has\n12", True),
        (r"x = 3 \times 4 = 12", "x = 3 × 4 = 12", True),
        (r"It is 1{,}200\,m", "it is 1200 m", True),
        (r"It is 1{,}200\,m", "it is 1 200 m", False),
        ("It costs 3.50", "it costs 3.5", True),
        ("12 - 5 = 7", "5 - 12 = 7", False),
        ("12 + 5 = 17 apples", "17 = 12 + 5 apples", False),
        ("He has 5 - 15 = -10 dollars.", "He has 5 - 15 = 10 dollars.", False),
        ("So the value of x is -3.", "So the value of x is 3.", False),
        ("The profit is $20 - $8 = $12.", "The profit is $20 + $8 = $12.", False),
        ("12 eggs * 3 boxes = 36", "12 eggs + 3 boxes = 36", False),
        ("It is 15% of the total.", "It is 15 of the total.", False),
        (r"It is \frac{3}{4} of it", r"It is \frac{4}{3} of it", False),
        ("Now three apples are left.", "Now two apples are left.", False),
        ("Now two apples are left.", "Now 2 apples are left.", True),
        # words above twenty, fractions and dozens were read as no numbers: such tokens were labelled neutral
        ("There are thirty apples left now.", "There are forty apples left now.", False),
        ("There are thirty apples left now.", "There are 30 apples left now.", True),
        ("She ate half of the cake today.", "She ate all of the cake today.", False),
        ("He gave a third of it away.", "He gave a quarter of it away.", False),
        ("She bought a dozen eggs today.", "She bought some eggs today.", False),
        ("It is one hundred and five miles.", "It is one hundred and six miles.", False),
        ("That is the one that he has.", "That is the thing that he has.", True),
    ],
)
def test_what_is_neutral(teacher: str, student: str, neutral: bool) -> None:
    assert is_neutral(Sentence(teacher, 1), Sentence(student, 2), 0.3) == neutral


def test_the_next_token_decides_where_the_words_differ_and_the_numbers_do_not() -> None:
    """(ii) of the rule: and it is asked for only there."""
    teacher, student = "First Tom has 12 of them now.", "Then we see that 12 are there."
    assert is_neutral(Sentence(teacher, 5), Sentence(student, 5), 0.3) is True
    assert is_neutral(Sentence(teacher, 5), Sentence(student, 6), 0.3) is False
    assert is_neutral(Sentence(teacher, 5), Sentence(student, None), 0.3) is None
    assert is_neutral(Sentence(teacher, None), Sentence(student, 5), 0.3) is False
    assert is_neutral(Sentence(teacher, 5), Sentence("There are 13.", None), 0.3) is False


def test_words_are_close_up_to_the_largest_share_itself() -> None:
    """Three of ten words may differ at a share of 0.3, a fourth may not; the longer sentence counts."""
    ten = [str(i) for i in range(10)]
    assert is_close(ten, ["a", "b", "c", *ten[3:]], 0.3)
    assert not is_close(ten, ["a", "b", "c", "d", *ten[4:]], 0.3)
    assert is_close(ten, ten[3:], 0.3) and is_close(ten[3:], ten, 0.3)


def test_edit_distance_is_its_definition() -> None:
    numbers = random.Random(1)
    for _ in range(50):
        left, right = ("".join(numbers.choices("abc", k=numbers.randint(0, 6))) for _ in range(2))
        assert edit_distance(left, right) == slow_distance(tuple(left), tuple(right))


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rule": "guess"}, "rule: expected one of reconverge, answer, judge, regret, got 'guess'"),
        ({"max_sentence": 0}, "max_sentence: expected at least 1, got 0"),
        ({"max_edit": 2}, "max_edit: expected a share from 0 to 1, got 2"),
        ({"min_regret": -1}, "min_regret: expected 0 or more, got -1"),
        ({"validate": 1.5}, "validate: expected a share from 0 to 1, got 1.5"),
        ({"min_regret": 3}, "min_regret: rule=reconverge does not use it, got min_regret=3; leave it out"),
        (
            {"rule": "regret", "max_edit": 0.2},
            "max_edit: rule=regret does not use it, got max_edit=0.2; leave it out",
        ),
        (
            {"rule": "judge", "max_edit": 0.2},
            "max_edit: rule=judge does not use it, got max_edit=0.2; leave it out",
        ),
        (
            {"rule": "answer", "validate": 0.2},
            "validate: rule=answer does not use it, got validate=0.2; leave it out",
        ),
    ],
)
def test_settings_that_do_not_exist(wrong: dict[str, object], message: str) -> None:
    """Options without effect under the rule were accepted: `r2r label --min_regret 3` labelled as without."""
    with pytest.raises(R2RError, match=f"^{re.escape(message)}$"):
        LabelSettings(**wrong)  # type: ignore[arg-type]
