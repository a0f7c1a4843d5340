"""Shapes of chat models' answers to "complete this function": (name, prompt, answer, passes).

There are two prompts: a plain function, and one that contains an import and a helper which the answer may
use.
"""

# ruff: noqa: E501  (one pair a line reads as a table)
from __future__ import annotations

TWICE = 'def twice(x: int) -> int:\n    """Return two times x.\n    >>> twice(2)\n    4\n    """\n'
TWICE_CHECK = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-3) == -6\n"
ROTATE = (
    "from typing import List\n\n\ndef shift(word: str) -> str:\n    return word[1:] + word[:1]\n\n\n"
    'def rotate(words: List[str]) -> List[str]:\n    """Shift every word.\n    """\n'
)
ROTATE_CHECK = "def check(candidate):\n    assert candidate(['abc', 'xy']) == [shift('abc'), 'yx']\n"

GOOD = "def twice(x: int) -> int:\n    return 2 * x\n"

SHAPES = [
    # the body alone
    ("body", TWICE, "    return 2 * x\n", True),
    ("body without its indentation", TWICE, "return 2 * x", True),
    ("body of two lines", TWICE, "    y = x + x\n    return y", True),
    ("body whose first line lost its indentation", TWICE, "y = x + x\n    return y", True),
    ("body without indentation, nested", TWICE, "if x:\n    return 2 * x\nreturn 0", True),
    ("body with a stripped first line, nested", TWICE, "if x:\n        return 2 * x\n    return 0", True),
    ("body by tabs", TWICE, "\ty = x + x\n\treturn y", True),
    ("body, then a demonstration", TWICE, "    return 2 * x\n\nprint(twice(3))\n", True),
    ("body, then prose", TWICE, "    return 2 * x\n\nThis doubles the number, as asked.", True),
    ("body, then another function", TWICE, "    return helper(x)\n\ndef helper(x):\n    return x * 2\n", True),
    ("body in a fence", TWICE, "```python\n    return 2 * x\n```", True),
    ("body in a fence, dedented", TWICE, "```\nreturn 2 * x\n```", True),
    ("body with Windows line ends", TWICE, "    y = x + x\r\n    return y\r\n", True),
    # the whole function
    ("function", TWICE, GOOD, True),
    ("function with its docstring", TWICE, TWICE + "    return 2 * x\n", True),
    ("function in a fence", TWICE, f"```python\n{GOOD}```", True),
    ("fence without a language", TWICE, f"```\n{GOOD}```", True),
    ("fence called py", TWICE, f"```py\n{GOOD}```", True),
    ("fence called Python3", TWICE, f"```Python3\n{GOOD}```", True),
    ("fence of tildes", TWICE, f"~~~python\n{GOOD}~~~", True),
    ("fence of four marks", TWICE, f"````python\n{GOOD}````", True),
    ("fence that is never closed", TWICE, f"Sure!\n```python\n{GOOD}", True),
    ("prose before and after the fence", TWICE, f"Here it is:\n\n```python\n{GOOD}```\n\nIt doubles x.", True),
    ("fence in a list, indented", TWICE, "1. Code:\n\n   ```python\n   def twice(x):\n       return 2 * x\n   ```", True),
    ("prose before and after bare code", TWICE, f"Here is the function:\n\n{GOOD}\nI hope this helps!", True),
    ("other names and no annotations", TWICE, "def twice(n):\n    return n + n\n", True),
    ("lambda", TWICE, "```python\ntwice = lambda x: 2 * x\n```", True),
    ("helper before", TWICE, f"```python\ndef add(a, b):\n    return a + b\n\n{GOOD.replace('2 * x', 'add(x, x)')}```", True),
    ("helper after", TWICE, f"```python\n{GOOD.replace('2 * x', 'add(x, x)')}\ndef add(a, b):\n    return a + b\n```", True),
    ("helper in a fence of its own", TWICE, f"First:\n```python\nTWO = 2\n```\nThen:\n```python\n{GOOD.replace('2 *', 'TWO *')}```", True),
    ("import of its own", TWICE, "```python\nimport operator\n\ndef twice(x):\n    return operator.mul(2, x)\n```", True),
    ("demonstration under __main__", TWICE, f"```python\n{GOOD}\nif __name__ == '__main__':\n    print(twice(int(input())))\n```", True),
    ("demonstration that reads the terminal", TWICE, f"```python\n{GOOD}\nn = int(input())\nprint(twice(n))\n```", True),
    ("own test that is wrong", TWICE, f"```python\n{GOOD}\nassert twice(2) == 5\n```", True),
    ("demonstration in a second fence", TWICE, f"```python\n{GOOD}```\nUse it so:\n```python\nprint(twice(4))\n```", True),
    ("output in a second fence", TWICE, f"```python\n{GOOD}```\nOutput:\n```\n8\n```", True),
    ("shell command in a first fence", TWICE, f"```bash\npip install nothing\n```\n```python\n{GOOD}```", True),
    ("corrected version in a second fence", TWICE, f"```python\ndef twice(x):\n    return x\n```\nWait:\n```python\n{GOOD}```", True),
    ("interactive session", TWICE, "```python\n>>> def twice(x):\n...     return 2 * x\n>>> twice(2)\n4\n```", True),
    ("deeper stack", TWICE, f"```python\nimport sys\nsys.setrecursionlimit(5000)\n{GOOD}```", True),
    ("prompt's import and helper relied on", ROTATE, "```python\ndef rotate(words: List[str]) -> List[str]:\n    return [shift(w) for w in words]\n```", True),
    ("prompt's import and helper repeated", ROTATE, f"```python\n{ROTATE}    return [shift(w) for w in words]\n```", True),
    ("body that relies on the prompt's helper", ROTATE, "    return [shift(w) for w in words]", True),
    ("cut off after the function", TWICE, f"```python\n{GOOD}\ndef main():\n    print('resul", True),
    # what is not right stays wrong
    ("wrong body", TWICE, "    return x", False),
    ("wrong function", TWICE, "```python\ndef twice(x):\n    return x ** 2\n```", False),
    ("signature alone", TWICE, f"```python\n{TWICE}```", False),
    ("pass", TWICE, f"```python\n{TWICE}    pass\n```", False),
    ("another name", TWICE, "```python\ndef double(x):\n    return 2 * x\n```", False),
    ("cut off inside", TWICE, "```python\ndef twice(x):\n    if x > 0:\n        return 2 *", False),
    ("prose alone", TWICE, "You can multiply the number by two.", False),
    ("nothing", TWICE, "", False),
    ("refusal in a fence", TWICE, "```\nI cannot help with that.\n```", False),
    ("method of a class", TWICE, "```python\nclass Solution:\n    def twice(self, x):\n        return 2 * x\n```", False),
    ("helper overwritten to cheat", ROTATE, "```python\ndef shift(word):\n    return 'yx'\n\ndef rotate(words):\n    return ['yx', 'yx']\n```", False),
    ("checks overwritten to cheat", TWICE, "```python\ndef check(candidate):\n    pass\n\ndef twice(x):\n    return 0\n```", False),
]  # fmt: skip
