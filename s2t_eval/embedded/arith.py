"""Multi-step arithmetic word problems with worked solutions: the embedded pair's task.

    Question: Tom has 12 apples. Tom gets 5 apples from Mia. ... How many apples does Tom have now?
    Answer: First Tom has 12 + 5 = 17 apples. ... The answer is 13.

Each step of a solution asks for three decisions (which operand, which operation, which result);
everything between them is wording. No number leaves 1..99.

Problems come from three seeds: train, dev and test. Two problems that differ only in names and
objects count as the same problem (`question_key`), and no problem of one split occurs in another:
test is drawn first, dev skips test, train skips both.

Only `random.Random.random()` is used, the one method whose sequence Python promises to keep, so a
seed gives the same problems under every Python version.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

SPLIT_SEEDS = {"train": 20_260_401, "dev": 20_260_402, "test": 20_260_403}
SPLIT_SIZES = {"train": 4_000, "dev": 300, "test": 300}

MAX_NUMBER = 99
"""No operand and no result is larger: every number is a token of its own."""

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
    """One problem: its question, a worked solution that ends in the answer, and its length."""

    question: str
    solution: str
    answer: int
    num_steps: int


class _OutOfRangeError(Exception):
    """A drawn step left 1..MAX_NUMBER; the draft is thrown away."""


@dataclass
class _Draft:
    """A problem while it is being drawn: the story so far and the steps that solve it."""

    rng: random.Random
    owner: str
    other: str
    obj: str
    story: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    def tell(self, template: str, **numbers: object) -> None:
        names = {"owner": self.owner, "other": self.other, "obj": self.obj}
        self.story.append(template.format(**(names | numbers)))

    def compute(self, who: str, left: int, op: str, right: int) -> int:
        """Append the step `who left op right = result` and return the result."""
        result = {"+": left + right, "-": left - right, "*": left * right}[op]
        if not 1 <= result <= MAX_NUMBER:
            raise _OutOfRangeError
        opening = _choose(self.rng, _CONNECTORS) if self.steps else "First"
        self.steps.append(f"{opening} {who} {left} {op} {right} = {result} {self.obj}.")
        return result


def format_prompt(question: str) -> str:
    """The text a model reads; its answer starts with a space."""
    return f"Question: {question}\nAnswer:"


def question_key(question: str) -> str:
    """The question up to case, spacing, names and objects: equal keys mean the same problem."""
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
        ValueError: for any other name.
    """
    if name not in SPLIT_SEEDS:
        raise ValueError(f"unknown split {name!r}; known: {', '.join(SPLIT_SEEDS)}")
    taken: set[str] = set()
    for split in ("test", "dev"):
        problems = _take(SPLIT_SEEDS[split], SPLIT_SIZES[split], taken)
        if split == name:
            return problems
    return _take(SPLIT_SEEDS["train"], SPLIT_SIZES["train"], taken)


def training_stream() -> Iterator[Problem]:
    """Endless training problems; it begins with the train split. Never a dev or test one."""
    held_out = {question_key(p.question) for split in ("test", "dev") for p in make_split(split)}
    return _distinct(random.Random(SPLIT_SEEDS["train"]), held_out)


def _take(seed: int, size: int, taken: set[str]) -> list[Problem]:
    """`size` problems of `seed` whose keys are not in `taken`; adds their keys to it."""
    stream = _distinct(random.Random(seed), taken)
    return [next(stream) for _ in range(size)]


def _distinct(rng: random.Random, taken: set[str]) -> Iterator[Problem]:
    """Problems of `rng` with keys not seen before; `taken` grows as they are drawn."""
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
    """One person's things grow and shrink; some problems name a number that does not matter."""
    rng, num_steps = draft.rng, _between(draft.rng, 2, 4)
    count = _open_with_containers(draft) if rng.random() < 0.35 else _open_with_count(draft)
    if rng.random() < 0.3:
        draft.tell("{other} is {n} years old.", n=_between(rng, 6, 60))
    while len(draft.steps) < num_steps:
        count = _change(draft, count, _EVENTS)
    draft.tell("How many {obj} does {owner} have now?")
    return count


def _open_with_count(draft: _Draft) -> int:
    count = _between(draft.rng, 5, 70)
    draft.tell("{owner} has {n} {obj}.", n=count)
    return count


def _open_with_containers(draft: _Draft) -> int:
    boxes, each = _between(draft.rng, 2, 9), _between(draft.rng, 2, 19)
    container = _choose(draft.rng, _CONTAINERS)
    draft.tell("{owner} has {k} {c} with {n} {obj} each.", k=boxes, c=container, n=each)
    return draft.compute(f"{draft.owner} has", boxes, "*", each)


def _change(draft: _Draft, count: int, events: Mapping[str, Sequence[str]]) -> int:
    """One event: the owner's count grows or shrinks by a number of the story."""
    op = _choose(draft.rng, ("+", "-"))
    amount = _between(draft.rng, 2, 40)
    draft.tell(_choose(draft.rng, events[op]), n=amount)
    return draft.compute(f"{draft.owner} has", count, op, amount)


def _draw_comparison(draft: _Draft) -> int:
    """Two people compared, perhaps an event, then one of them or both together.

    The event leaves the first person's count alone, which the sum at the end takes as it was.
    """
    rng = draft.rng
    first = _open_with_containers(draft) if rng.random() < 0.3 else _open_with_count(draft)
    second = _compare(draft, first)
    if rng.random() < 0.6:
        second = _change(replace(draft, owner=draft.other), second, _OWN_EVENTS)
    if len(draft.steps) > 1 and rng.random() < 0.3:
        draft.tell("How many {obj} does {other} have now?")
        return second
    draft.tell("How many {obj} do {owner} and {other} have together?")
    return draft.compute("they have", first, "+", second)


def _compare(draft: _Draft, first: int) -> int:
    """Say how the other person's count follows from the owner's; two of five are said backwards."""
    template, op = _choose(draft.rng, _COMPARISONS)
    amount = _between(draft.rng, 2, 6 if op == "*" else 40)
    draft.tell(template, n=amount)
    return draft.compute(f"{draft.other} has", first, op, amount)
