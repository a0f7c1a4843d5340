"""The oldest Python that pyproject.toml allows has every name that is imported from the standard library."""

from __future__ import annotations

import ast
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
