"""The oldest Python that pyproject.toml allows has every name that is imported from the standard library."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FOLDERS = ("s2t_eval", "model_wrappers", "scripts", "benchmarks", "tests")
SINCE_311 = {
    "asyncio": {"Runner", "TaskGroup", "timeout", "timeout_at"},
    "contextlib": {"chdir"},
    "datetime": {"UTC"},
    "enum": {
        "EnumCheck",
        "FlagBoundary",
        "ReprEnum",
        "StrEnum",
        "global_enum",
        "member",
        "nonmember",
        "verify",
    },
    "hashlib": {"file_digest"},
    "itertools": {"batched"},
    "typing": {
        *("LiteralString", "Never", "NotRequired", "Required", "Self", "TypeVarTuple", "Unpack"),
        *("assert_never", "assert_type", "dataclass_transform", "get_overloads", "override", "reveal_type"),
    },
}
"""Names that Python 3.10 lacks; `typing.Self` once kept every backend from loading there."""
MODULES_SINCE_311 = {"tomllib"}


def newer_names(tree: ast.AST) -> list[str]:
    """The names of `SINCE_311` and `MODULES_SINCE_311` that a module uses."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [item.name for item in node.names if item.name in MODULES_SINCE_311]
        elif isinstance(node, ast.ImportFrom):
            newer = SINCE_311.get(node.module or "", set())
            names += [f"{node.module}.{item.name}" for item in node.names if item.name in newer]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            newer = SINCE_311.get(node.value.id, set())
            names += [f"{node.value.id}.{node.attr}"] if node.attr in newer else []
    return names


def test_the_search_finds_what_it_looks_for() -> None:
    source = "import tomllib\nfrom typing import Any, Self\nimport asyncio\nasyncio.timeout(3)\n"
    assert newer_names(ast.parse(source)) == ["tomllib", "typing.Self", "asyncio.timeout"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_name_is_newer_than_the_oldest_python(folder: str) -> None:
    assert 'requires-python = ">=3.10"' in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    newer = {}
    for path in sorted((REPOSITORY / folder).rglob("*.py")):
        # feature_version refuses syntax of later versions, such as `except*`
        tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
        if names := newer_names(tree):
            newer[str(path.relative_to(REPOSITORY))] = names
    assert newer == {}


def newer_patterns(tree: ast.AST) -> list[str]:
    """Possessive quantifiers and atomic groups of regular expressions, which Python 3.10 does not compile."""
    found = []
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("re."):
            for part in ast.walk(call):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    escaped = re.sub(r"\\[^\[\]]", "e", part.value)
                    plain = re.sub(r"\[(?:\\.|[^\]\\])*\]", "c", escaped)
                    found += re.findall(r"[\w)][?*+}]\+|\(\?>", plain)
    return found


def test_no_pattern_is_newer_than_the_oldest_python() -> None:
    """`(...)?+` in the pattern of letters that are called correct once failed every import of the graders."""
    assert newer_patterns(ast.parse("A = re.compile(r'(a)?+b')\nre.sub('(?>a)[?+]\\\\d++', '', x)")) == [
        ")?+",
        "(?>",
        "e++",
    ]
    paths = [path for folder in FOLDERS[:3] for path in (REPOSITORY / folder).rglob("*.py")]
    newer = {
        str(path.relative_to(REPOSITORY)): patterns
        for path in paths
        if (patterns := newer_patterns(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert newer == {}
