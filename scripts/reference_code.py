"""Access to the code for the reference pages: classes by name, and the `Args:` of their docstrings."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
WRAPPERS = "s2t_eval.model_wrappers"


def find_class(name: str) -> Any:
    """Find the class of that name in the package."""
    if name not in modules_of_classes():
        sys.exit(
            f"generate_reference: there is no class {name}; mend its name in scripts/generate_reference.py"
        )
    return getattr(importlib.import_module(modules_of_classes()[name]), name)


@functools.cache
def modules_of_classes() -> dict[str, str]:
    """Class -> the first module that defines it."""
    modules: dict[str, str] = {}
    for root, package in ((REPOSITORY / "s2t_eval", "s2t_eval"), (REPOSITORY / "model_wrappers", WRAPPERS)):
        for path in sorted(root.rglob("*.py")):
            module = ".".join([package, *path.relative_to(root).with_suffix("").parts])
            for name in re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
                modules.setdefault(name, module)
    return modules


def descriptions(settings: type) -> dict[str, str]:
    """The descriptions of a class's fields, from the `Args:` of its docstring and those of its bases."""
    fields: dict[str, str] = {}
    for base in reversed(settings.__mro__):
        fields |= args_of(base.__dict__.get("__doc__") or "")
    return fields


def args_of(docstring: str) -> dict[str, str]:
    """Parse the entries below `Args:`; an entry may continue in lines with deeper indentation."""
    fields: dict[str, str] = {}
    name = None
    inside = False
    for line in inspect.cleandoc(docstring).splitlines():
        entry = re.match(r" {4}(\w+): (.*)", line)
        if re.fullmatch(r"\w+:", line):
            inside = line == "Args:"
        elif inside and entry:
            name = entry[1]
            fields[name] = entry[2]
        elif inside and name and line.startswith(" " * 8):
            fields[name] += " " + line.strip()
    return fields
