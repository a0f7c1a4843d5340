"""Extraction of programs from model answers: every answer shape, hostile text, linear time."""

from __future__ import annotations

import ast
import random
import textwrap
import time
from collections.abc import Callable
from typing import Any

import pytest

from s2t_eval.evaluation.humaneval import HumanEvalScorer, assemble, score_solutions
from s2t_eval.evaluation.humaneval import score as score_module
from tests.evaluation.program_variants import BODY, CHECK, GOOD, PROMPT, VARIANTS, fenced
from tests.harness_helpers import shared_records

DOC = {"prompt": PROMPT, "entry_point": "f", "test": CHECK}


def verdicts(texts: list[str], docs: list[dict[str, Any]]) -> list[str]:
    """For each text `right`, `wrong`, `none` or `unscored`, computed with the task's filter.

    Texts that give the same program of a document are run once.
    """
    keys = [
        (assemble(text, doc["prompt"], doc["entry_point"]), doc["test"])
        for text, doc in zip(texts, docs, strict=True)
    ]
    first = {key: (text, doc) for key, text, doc in zip(keys, texts, docs, strict=True)}
    outcomes = HumanEvalScorer().outcomes(
        [[text] for text, _ in first.values()], [d for _, d in first.values()]
    )
    names = {True: "right", False: "wrong", None: "unscored"}
    verdict_of = {
        key: names[outcome.verdict.passed] if outcome.program else "none"
        for key, [outcome] in zip(first, outcomes, strict=True)
    }
    return [verdict_of[key] for key in keys]


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_variants_of_reported_answers(every: int) -> None:
    """Neighbours differ little, so a part of them is run among the quick tests."""
    assert len(VARIANTS) > 230
    variants = VARIANTS[::every]
    actual = verdicts([text for _, text, _ in variants], [DOC] * len(variants))
    wrong = [(name, want, got) for (name, _, want), got in zip(variants, actual, strict=True) if want != got]
    assert wrong == []


@pytest.mark.usefixtures("sandbox")
def test_reported_answers() -> None:
    """Answer shapes from public bug reports; the non-terminating one is tested in `test_sandbox`."""
    pairs = [pair for pair in shared_records("answers", "pairs.jsonl") if pair["kind"] == "program"]
    pairs = [pair for pair in pairs if pair["note"] != "endless"]
    assert len(pairs) > 70
    actual = verdicts([pair["text"] for pair in pairs], [pair["gold"] for pair in pairs])
    wrong = [
        (pair["note"], pair["right"], got)
        for pair, got in zip(pairs, actual, strict=True)
        if got != pair["right"]
    ]
    assert wrong == []


FURTHER = "\n\nHuman: Now write f again.\n\nAssistant:\n\n" + fenced("def f(xs):\n    return 0\n")


@pytest.mark.parametrize(
    ("answer", "expected", "other"),
    [
        (fenced(GOOD) + FURTHER, "x * x", "return 0"),
        (GOOD + FURTHER, "x * x", "return 0"),
        (BODY + FURTHER, "x * x", "return 0"),
        (fenced(GOOD) + FURTHER.replace("Human:", "### USER:"), "x * x", "return 0"),
        (fenced(GOOD) + FURTHER.replace("Human:", "user\n"), "x * x", "return 0"),
        (f"Here it is.{FURTHER}", "return 0", "x * x"),
        (fenced(f'def f(xs):\n    """\nUser: a list\n"""\n{BODY}'), "x * x", "return 0"),
        (f'def f(xs):\n    """\nUser: a list\n"""\n{BODY}', "x * x", "return 0"),
        (fenced(f"def g(xs):\n    return 0\n\nuser: int = 0\n{GOOD}"), "x * x", "return 0"),
        (f"{fenced('def f(xs):')}\nThen\n{fenced(GOOD)}", "x * x", "return 0"),
    ],
)
def test_a_further_turn_ends_the_answer(answer: str, expected: str, other: str) -> None:
    """A right program was graded by the function of a turn that the model invented behind it."""
    program = assemble(answer, PROMPT, "f")
    assert program is not None and expected in program and other not in program


FORMS: dict[str, Callable[[str, str], str]] = {
    "closing fence glued to the last line": lambda prompt, body: f"```python\n{prompt}{body.rstrip()}```",
    "end mark glued to the last line": lambda prompt, body: f"{prompt}{body.rstrip()}<|im_end|>",
    "end mark behind the fence": lambda prompt, body: f"{fenced(prompt + body)}</s>",
    "from __future__": lambda prompt, body: fenced(f"from __future__ import annotations\n{prompt}{body}"),
    "byte order mark": lambda prompt, body: fenced(f"\ufeff{prompt}{body}"),
    "CRLF": lambda prompt, body: fenced(prompt + body).replace("\n", "\r\n"),
    "thinking before": lambda prompt, body: f"<think>{prompt}    return 0</think>\n{fenced(prompt + body)}",
    "thinking in the prompt": lambda prompt, body: f"Hmm, {prompt}</think>{fenced(prompt + body)}",
    "list item": lambda prompt, body: f"1. Code:\n\n{textwrap.indent(fenced(prompt + body), '   ')}",
    "no fence, prose around": lambda prompt, body: f"Sure (here:\n\n{prompt}{body}\n\nThat's all (really.",
    "body, stripped": lambda prompt, body: body.strip(),
    "body, one space too many": lambda prompt, body: textwrap.indent(body, " "),
    "body, then prose": lambda prompt, body: f"{body}\n\nThis isn't (too) hard.",
    "body, then a wrong one": lambda prompt, body: f"{body}\n\n{prompt}    return None\n",
    "body before a fence's end": lambda prompt, body: f"{body}```\nIt works as follows.",
    "special token in front": lambda prompt, body: f"<|im_start|>assistant\n{prompt}{body}",
    "tags": lambda prompt, body: f"[PYTHON]\n{prompt}{body}[/PYTHON]",
    "interactive session": lambda prompt, body: "\n".join(
        f">>> {line}" if line[:1].strip() else f"... {line}" for line in f"{prompt}{body}".split("\n")
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_canonical_solutions_are_extracted_from_every_form(form: str, every: int) -> None:
    """The function equals that of a plain fence, which `test_humaneval` runs in the sandbox."""
    docs = shared_records("openai/openai_humaneval")
    assert len(docs) == 164
    different = []
    for doc in docs[::every]:
        prompt, body, entry = doc["prompt"], doc["canonical_solution"], doc["entry_point"]
        expected = assemble(fenced(prompt + body), prompt, entry)
        actual = assemble(FORMS[form](prompt, body), prompt, entry)
        if actual is None or expected is None or function(actual, entry) != function(expected, entry):
            different.append(doc["task_id"])
    assert different == []


def function(program: str, name: str) -> str:
    """The last function of that name, dumped without its docstring and other constants."""
    functions = [node for node in ast.parse(program).body if isinstance(node, ast.FunctionDef)]
    [*_, last] = [node for node in functions if node.name == name]
    constants = [
        node for node in last.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    return ast.dump(ast.Module([node for node in last.body if node not in constants], []))


def test_source_text_is_unchanged() -> None:
    """Unparsing a syntax tree changes this source or raises an error, which used to end the run."""
    odd = "def f(xs):\n    a = 0xFF + 1_000  # why\n    return f\"{'\u3000'.join([])}\" 'x\ty' + (a)\n"
    assert assemble(fenced(odd), PROMPT, "f") == f"from typing import List\n\n{odd.rstrip()}\n"


DEEP = {
    "minus": "-" * 25_000 + "1",
    "not": "not " * 12_500 + "1",
    "calls": "x" + "()" * 5_000,
    "sum": " + ".join(["x"] * 5_000),
    "powers": "**".join(["x"] * 12_500),
    "open brackets": "(" * 25_000,
    "brackets": "(" * 1_250 + ")" * 1_250,
    "lambda": "lambda:" * 12_500 + "1",
    "conditions": "1 if 1 else " * 5_000 + "1",
    "comparisons": "<".join(["a"] * 5_000),
    "digits": "9" * 50_000,
}


@pytest.mark.parametrize("expression", DEEP.values(), ids=DEEP)
def test_deeply_nested_or_long_source_raises_nothing(expression: str) -> None:
    """Python's parser raises three kinds of exceptions; a function next to such a line is still extracted."""
    program = assemble(fenced(f"X = {expression}\n{GOOD}"), PROMPT, "f")
    assert program is not None and program.endswith(GOOD)
    for answer in (f"def f(xs):\n    return {expression}\n", f"    return {expression}\n", expression):
        assemble(answer, PROMPT, "f")


BITS = [
    "```", "```python\n", "'''", '"""', "\n", "\n    ", "(", ")", "\t", "\u00a0", "\\", "def f(xs):", "@",
    "<think>", "</think>", "<|im_end|>", "~~~", "#", "'", '"', "f'{", "else:", "\0", "\ud800", "return ", "*",
    "[PYTHON]", ">>> ", "\f", "\u2028", "if x:", "try:", "from __future__ import annotations\n", "0777",
    "global f", "nonlocal x", "yield", "await f()", "import *", "del f", "class f:", "async ", "1__0", "\x1a",
    "lambda", "`",
]  # fmt: skip


def test_no_answer_raises() -> None:
    """Known answers are truncated, mixed and filled with difficult characters (5,000 more were tried)."""
    rng = random.Random(7)
    texts = [text for _, text, _ in VARIANTS if len(text) < 2_000]
    for _ in range(400):
        text = rng.choice(texts)
        for _ in range(rng.randint(1, 6)):
            place = rng.randint(0, len(text))
            removed = rng.choice([0, rng.randint(0, 20)])
            text = text[:place] + rng.choice([*BITS, rng.choice(texts)[:50]]) + text[place + removed :]
        program = assemble(text, PROMPT, "f")
        assert program is None or program.encode()


LONG = {
    "imports": lambda n: "import a\n" * n,
    "imports and the function": lambda n: "import a\n" * n + GOOD,
    "functions": lambda n: "".join(f"def g{i}(x):\n    return g{i + 1}(x)\n" for i in range(n // 2)) + GOOD,
    "one function": lambda n: "def f(xs):\n" + "    y = [1, (2, 3)]\n" * n + "    return 0\n",
    "cut off inside brackets": lambda n: "def f(xs):\n" + "    y = 1\n" * n + "    return (",
    "body": lambda n: "    y = 1\n" * n + BODY,
    "prose": lambda n: "This isn't code (or is it?\n" * n,
    "prose and indented lines": lambda n: "Note that\n    x = 1\nis nice\n" * (n // 3),
    "fences": lambda n: "```\nx\n" * n,
    "docstrings with fences": lambda n: "```python\n" + "'''\n```\na\n```\n'''\n" * (n // 5),
    "nested headers": lambda n: "def f():\n" + "".join(" " * (i % 80 + 1) + "if a:\n" for i in range(n)),
    "quotes": lambda n: "\\\"\"\"" * n,
    "backquotes": lambda n: "` `` " * n,
    "statements in a line": lambda n: "a = 1;" * n,
    "thoughts": lambda n: "<think>a</think>" * n,
    "turns": lambda n: "return\nUser: a\n```\n" * (n // 3),
}  # fmt: skip


@pytest.mark.parametrize("long", LONG.values(), ids=LONG)
def test_time_is_linear_in_the_length(long: Callable[[int], str]) -> None:
    """200 lines of `import a` used to take 25 s: the longest text that parses was searched line by line.

    Ratio of processor times within one run: ten times the text takes 10 times as long if the time is linear,
    and 100 times if it is quadratic. The bound lies between them, with a factor of three for a busy machine.
    """

    def seconds(count: int) -> float:
        text = long(count)
        began = time.process_time()
        assemble(text, PROMPT, "f")
        return time.process_time() - began

    seconds(200)
    bound = 32 * max(min(seconds(500) for _ in range(3)), 0.005)
    assert seconds(5_000) < bound or seconds(5_000) < bound


def test_error_during_extraction_does_not_end_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Too deep nesting is incorrect, an error of this package unscored and logged; others are unaffected."""

    def failing(answer: str, prompt: str, entry_point: str) -> str | None:
        if answer == "deep":
            raise RecursionError("maximum recursion depth exceeded")
        if answer == "fault":
            raise KeyError("oops")
        return assemble(answer, prompt, entry_point)

    monkeypatch.setattr(score_module, "assemble", failing)
    [deep], [fault], [none] = HumanEvalScorer().outcomes([["deep"], ["fault"], ["no"]], [DOC] * 3)
    assert (deep.verdict.passed, fault.verdict.passed, none.verdict.passed) == (False, None, False)
    assert deep.verdict.reason.endswith("nested too deeply or too long: RecursionError")
    assert fault.verdict.reason == "extracting a program failed: KeyError: 'oops'"
    assert none.verdict.reason == "the answer contains no program"
    assert "extracting a program from an answer failed" in caplog.text


@pytest.mark.usefixtures("sandbox")
def test_reason_names_the_modules_of_the_sandbox() -> None:
    missing = "import surely_not_installed\ndef f(xs):\n    return surely_not_installed.f(xs)\n"
    [verdict] = score_solutions([missing], [DOC])
    assert verdict is not None and verdict.passed is False
    assert verdict.reason.endswith("(the sandbox has Python's standard library and numpy, nothing else)")
