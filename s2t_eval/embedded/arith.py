"""Multi-step arithmetic word problems with worked solutions: the embedded pair's task.

    Question: Tom has 12 apples. Tom gets 5 apples from Mia. ... How many apples does Tom have now?
    Answer: First Tom has 12 + 5 = 17 apples. ... The answer is 13.

Each step of a solution needs three decisions (operand, operation and result); the tokens between them are
fixed wording. All numbers are in 1..99.

The splits train, dev and test have a seed each. Two problems that differ only in names and objects count as
the same problem (`question_key`), and no problem of one split occurs in another: test is drawn first, dev
skips the problems of test, and train skips those of both.

The only random method used is `random.Random.random()`, because Python guarantees its sequence: a seed gives
the same problems under every Python version.
"""

import functools
import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

SPLIT_SEEDS = {"train": 20_260_401, "dev": 20_260_402, "test": 20_260_403}
SPLIT_SIZES = {"train": 4_000, "dev": 300, "test": 300}

MAX_NUMBER = 99
"""Largest operand and result; every number up to it is a token of its own."""

NAMES = (
    "Tom", "Mia", "Ben", "Zoe", "Sam", "Ida", "Leo", "Eva",
    "Max", "Amy", "Jon", "Kim", "Dan", "Lea", "Gus", "Ana",
)  # fmt: skip
OBJECTS = (
    "apples", "books", "cards", "coins", "pens", "shells", "stamps", "stones", "cups", "balls",
    "plums", "nuts", "keys", "rings", "hats", "toys", "eggs", "pears", "beads", "buttons",
)  # fmt: skip
_CONTAINERS = ("boxes", "bags", "jars", "baskets")
_CONNECTORS = ("So", "Then", "Now", "Next")
_OWN_EVENTS = {
    "+": ("{owner} buys {n} more {obj}.", "{owner} finds {n} {obj}."),
    "-": ("{owner} sells {n} {obj}.", "{owner} loses {n} {obj}."),
}
_EVENTS = {
    "+": (
        *_OWN_EVENTS["+"],
        "{owner} is given {n} {obj} by {other}.",
        "{owner} gets {n} {obj} from {other}.",
    ),
    "-": (
        *_OWN_EVENTS["-"],
        "{owner} gives {n} {obj} to {other}.",
        "{owner} leaves {n} {obj} with {other}.",
    ),
}
_COMPARISONS = (
    ("{other} has {n} more {obj} than {owner}.", "+"),
    ("{other} has {n} fewer {obj} than {owner}.", "-"),
    ("{other} has {n} times as many {obj} as {owner}.", "*"),
    ("That is {n} more than {other} has.", "-"),
    ("That is {n} fewer than {other} has.", "+"),
)
_OBJECT_PATTERN = re.compile(r"\b(" + "|".join(OBJECTS) + r")\b")
_NAME_PATTERN = re.compile(r"\b(" + "|".join(NAMES).lower() + r")\b")

_T = TypeVar("_T")


@dataclass(frozen=True)
class Problem:
    """One problem.

    Args:
        question: the question.
        solution: a worked solution that ends with the answer.
        answer: the answer.
        num_steps: number of steps of the solution.
    """

    question: str
    solution: str
    answer: int
    num_steps: int


class _OutOfRangeError(Exception):
    """The result of a drawn step is outside 1..MAX_NUMBER; the draft is discarded."""


@dataclass
class _Draft:
    """A problem that is being drawn: the sentences of its question and the steps of its solution so far."""

    rng: random.Random
    owner: str
    other: str
    obj: str
    story: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    def add_sentence(self, template: str, **numbers: object) -> None:
        """Append a sentence to the question."""
        names = {"owner": self.owner, "other": self.other, "obj": self.obj}
        self.story.append(template.format(**(names | numbers)))

    def compute(self, who: str, left: int, op: str, right: int) -> int:
        """Append the step `who left op right = result` to the solution, and return the result."""
        result = {"+": left + right, "-": left - right, "*": left * right}[op]
        if not 1 <= result <= MAX_NUMBER:
            raise _OutOfRangeError
        opening = _choose(self.rng, _CONNECTORS) if self.steps else "First"
        self.steps.append(f"{opening} {who} {left} {op} {right} = {result} {self.obj}.")
        return result


def format_prompt(question: str) -> str:
    """The prompt of a question; the answer after it starts with a space."""
    return f"Question: {question}\nAnswer:"


def question_key(question: str) -> str:
    """A key of the question without case, spacing, names and objects; equal keys mean the same problem."""
    key = re.sub(r"\s+", " ", question.lower()).strip()
    key = _OBJECT_PATTERN.sub("obj", key)
    order: dict[str, str] = {}
    return _NAME_PATTERN.sub(lambda m: order.setdefault(m[0], f"name{len(order)}"), key)


def make_problem(rng: random.Random) -> Problem:
    """Draw one problem of two to four steps."""
    while True:
        try:
            return _draw(rng)
        except _OutOfRangeError:
            continue


def make_split(name: str) -> list[Problem]:
    """The fixed problems of a split.

    Args:
        name: "train" (4,000 problems), "dev" (300) or "test" (300).

    Raises:
        ValueError: the name is another one.
    """
    if name not in SPLIT_SEEDS:
        raise ValueError(f"unknown split {name!r}; known: {', '.join(SPLIT_SEEDS)}")
    return list(_problems(name))


DRAWN_BEFORE: Mapping[str, Sequence[str]] = {"test": (), "dev": ("test",), "train": ("test", "dev")}
"""Split -> those whose problems it must not have."""


@functools.cache
def _problems(name: str) -> tuple[Problem, ...]:
    """The problems of a split, drawn once in a process."""
    return tuple(itertools.islice(_stream(name), SPLIT_SIZES[name]))


def _stream(name: str) -> Iterator[Problem]:
    """An endless stream that begins with the problems of a split."""
    taken = {question_key(problem.question) for split in DRAWN_BEFORE[name] for problem in _problems(split)}
    return _distinct(random.Random(SPLIT_SEEDS[name]), taken)


def training_stream() -> Iterator[Problem]:
    """An endless stream of training problems that begins with the train split and has none of dev or test."""
    return _stream("train")


def _distinct(rng: random.Random, taken: set[str]) -> Iterator[Problem]:
    """Problems of `rng` whose keys are not in `taken`, to which their keys are added."""
    while True:
        problem = make_problem(rng)
        key = question_key(problem.question)
        if key not in taken:
            taken.add(key)
            yield problem


def _below(rng: random.Random, n: int) -> int:
    return int(rng.random() * n)


def _between(rng: random.Random, low: int, high: int) -> int:
    """An integer in low..high, both included."""
    return low + _below(rng, high - low + 1)


def _choose(rng: random.Random, options: Sequence[_T]) -> _T:
    return options[_below(rng, len(options))]


def _draw(rng: random.Random) -> Problem:
    owner = _choose(rng, NAMES)
    other = _choose(rng, [name for name in NAMES if name != owner])
    draft = _Draft(rng, owner, other, _choose(rng, OBJECTS))
    answer = (_draw_chain if rng.random() < 0.55 else _draw_comparison)(draft)
    solution = " ".join(draft.steps) + f" The answer is {answer}."
    return Problem(" ".join(draft.story), solution, answer, len(draft.steps))


def _draw_chain(draft: _Draft) -> int:
    """A problem in which one person gains and loses objects; some have an irrelevant number."""
    rng, num_steps = draft.rng, _between(draft.rng, 2, 4)
    count = _open_with_containers(draft) if rng.random() < 0.35 else _open_with_count(draft)
    if rng.random() < 0.3:
        draft.add_sentence("{other} is {n} years old.", n=_between(rng, 6, 60))
    while len(draft.steps) < num_steps:
        count = _change(draft, count, _EVENTS)
    draft.add_sentence("How many {obj} does {owner} have now?")
    return count


def _open_with_count(draft: _Draft) -> int:
    count = _between(draft.rng, 5, 70)
    draft.add_sentence("{owner} has {n} {obj}.", n=count)
    return count


def _open_with_containers(draft: _Draft) -> int:
    boxes, each = _between(draft.rng, 2, 9), _between(draft.rng, 2, 19)
    container = _choose(draft.rng, _CONTAINERS)
    draft.add_sentence("{owner} has {k} {c} with {n} {obj} each.", k=boxes, c=container, n=each)
    return draft.compute(f"{draft.owner} has", boxes, "*", each)


def _change(draft: _Draft, count: int, events: Mapping[str, Sequence[str]]) -> int:
    """Add an event that changes the owner's count; returns the new count."""
    op = _choose(draft.rng, ("+", "-"))
    amount = _between(draft.rng, 2, 40)
    draft.add_sentence(_choose(draft.rng, events[op]), n=amount)
    return draft.compute(f"{draft.owner} has", count, op, amount)


def _draw_comparison(draft: _Draft) -> int:
    """A problem that compares two people and asks for the second person's count or for both together.

    An event in between changes the second person's count only, so the sum uses the first person's count from
    the beginning.
    """
    rng = draft.rng
    first = _open_with_containers(draft) if rng.random() < 0.3 else _open_with_count(draft)
    second = _compare(draft, first)
    if rng.random() < 0.6:
        second = _change(replace(draft, owner=draft.other), second, _OWN_EVENTS)
    if len(draft.steps) > 1 and rng.random() < 0.3:
        draft.add_sentence("How many {obj} does {other} have now?")
        return second
    draft.add_sentence("How many {obj} do {owner} and {other} have together?")
    return draft.compute("they have", first, "+", second)


def _compare(draft: _Draft, first: int) -> int:
    """Add a comparison that determines the other person's count; returns that count.

    Two of the five comparisons state the difference from the owner's point of view, so their operation is the
    inverse of their wording.
    """
    template, op = _choose(draft.rng, _COMPARISONS)
    amount = _between(draft.rng, 2, 6 if op == "*" else 40)
    draft.add_sentence(template, n=amount)
    return draft.compute(f"{draft.other} has", first, op, amount)
