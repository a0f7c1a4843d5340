"""Analysis of the global names in a top-level statement: bound, read, used immediately, changed."""

from __future__ import annotations

import ast
import re
import symtable
from collections.abc import Iterator
from dataclasses import dataclass, field

STAR = "*"
"""Placeholder for the names bound by `from module import *`."""
INTERACTIVE_NAMES = {"input", "raw_input", "exit", "quit", "SystemExit"}
INTERACTIVE_ATTRIBUTES = {"stdin", "exit", "_exit", "abort"}
MUTATING_FUNCTIONS = {"setattr", "delattr"}
DISPLAY_FUNCTIONS = {"print", "pprint", "display", "help", "repr", "len"}
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Assignment = ast.Assign | ast.AnnAssign | ast.AugAssign


@dataclass
class Names:
    """Global names in a statement.

    Args:
        bound: names to which it assigns a value.
        read: names that it uses, immediately or in the bodies of functions that it defines.
        used_immediately: names that it uses when it is executed.
        changed: names whose value it modifies; for a definition, when it is called.
        called: functions that it calls by name.
        passed: names that it passes to calls, which may modify them.
        base_classes: base classes of a class definition.
        alias_of: the name whose value, or part of it, an assignment binds to another name.
        module: the top-level package of an import.
        is_definition: whether it defines a function or class.
        is_assignment: whether it is an assignment.
        is_demonstration: whether it reads input, ends the process or is invalid at the top level; for a
            definition, whether a call of it does.
    """

    bound: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    used_immediately: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    base_classes: set[str] = field(default_factory=set)
    alias_of: str | None = None
    module: str | None = None
    is_definition: bool = False
    is_assignment: bool = False
    is_demonstration: bool = False


def find_names(source: str, node: ast.stmt | None) -> Names:
    """Return the global names in a statement.

    Args:
        source: its source text.
        node: its syntax tree; None if it cannot be parsed, in which case names are guessed from the text.
    """
    try:
        table = symtable.symtable(source, "program.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        node = None  # the sandbox reports the compilation error
    if node is None:
        return _guess_names(source)
    names = Names(is_definition=isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef))
    _add_from_table(names, table)
    _add_from_tree(names, node)
    return names


def _guess_names(source: str) -> Names:
    words = set(re.findall(r"[^\W\d]\w*", source))
    match = re.match(r"(?:@.*\n)*\s*(?:(?:async\s+)?def|class)\s+(\w+)|(\w+)\s*=(?!=)", source)
    if match is None:
        return Names(read=words, used_immediately=words)
    bound, is_definition = {match[1] or match[2]}, match[1] is not None
    return Names(bound, words, set() if is_definition else words, is_definition=is_definition)


def _add_from_table(names: Names, top: symtable.SymbolTable) -> None:
    for symbol in top.get_symbols():
        if symbol.is_assigned() or symbol.is_imported():
            names.bound.add(symbol.get_name())
        if symbol.is_referenced():
            names.read.add(symbol.get_name())
    pending = top.get_children()
    while pending:
        table = pending.pop()
        pending += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_global() or (table.get_type() == "class" and symbol.is_referenced()):
                names.read.add(symbol.get_name())
            if symbol.is_declared_global() and symbol.is_assigned():
                names.changed.add(symbol.get_name())


def _add_from_tree(names: Names, node: ast.stmt) -> None:
    if isinstance(node, ast.Import | ast.ImportFrom):
        module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        names.module = (module or "").split(".")[0]
        names.bound |= {STAR for alias in node.names if alias.name == STAR}
        return
    if isinstance(node, ast.AnnAssign) and node.value is None:
        names.bound.clear()
    executed = list(executed_nodes(node))
    body = list(ast.walk(node)) if names.is_definition else executed
    stored = {id(root): root.id for root in map(_modified_root, body) if root is not None}
    names.changed |= set(stored.values())
    used = [child for child in executed if isinstance(child, ast.Name) and id(child) not in stored]
    local = {child.id for child in used if isinstance(child.ctx, ast.Store)} - names.bound
    names.used_immediately |= {child.id for child in used if isinstance(child.ctx, ast.Load)} - local
    names.is_assignment = isinstance(node, Assignment)
    if isinstance(node, Assignment) and not isinstance(node.value, ast.Call) and node.value is not None:
        names.alias_of = root.id if (root := _root_name(node.value)) is not None else None
    if isinstance(node, ast.ClassDef):
        names.base_classes = {base.id for base in node.bases if isinstance(base, ast.Name)}
    for child in body:
        if isinstance(child, ast.Call):
            _add_call(names, child)
    if names.is_definition:
        names.changed &= names.read
        names.passed.clear()
    names.is_demonstration = _is_demonstration(names, node, executed, body)


def _add_call(names: Names, call: ast.Call) -> None:
    if isinstance(call.func, ast.Name):
        if call.func.id in DISPLAY_FUNCTIONS:
            return
        names.called.add(call.func.id)
        if (
            call.func.id in MUTATING_FUNCTIONS
            and call.args
            and (root := _root_name(call.args[0])) is not None
        ):
            names.changed.add(root.id)
    elif (root := _root_name(call.func)) is not None:
        (names.passed if names.is_assignment else names.changed).add(root.id)
    if not names.is_assignment:
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        names.passed |= {value.id for value in arguments if isinstance(value, ast.Name)}


def _is_demonstration(names: Names, node: ast.stmt, executed: list[ast.AST], body: list[ast.AST]) -> bool:
    used = names.read if names.is_definition else names.used_immediately
    if used & INTERACTIVE_NAMES or (isinstance(node, ast.If) and "__name__" in used):
        return True
    if any(isinstance(child, ast.Attribute) and child.attr in INTERACTIVE_ATTRIBUTES for child in body):
        return True
    outside = ast.Return | ast.Yield | ast.YieldFrom | ast.Await
    return not names.is_definition and (
        isinstance(node, ast.Assert) or any(isinstance(child, outside) for child in executed)
    )


def executed_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that are executed with a statement: all except the bodies of functions."""
    pending = [node]
    while pending:
        child = pending.pop()
        yield child
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            pending += [*child.decorator_list, *child.args.defaults, *filter(None, child.args.kw_defaults)]
        elif isinstance(child, ast.Lambda):
            pending += [*child.args.defaults, *filter(None, child.args.kw_defaults)]
        else:
            pending += ast.iter_child_nodes(child)


def _modified_root(part: ast.AST) -> ast.Name | None:
    """The variable whose attribute or item is assigned or deleted."""
    if isinstance(part, ast.Attribute | ast.Subscript) and not isinstance(part.ctx, ast.Load):
        return _root_name(part)
    return None


def _root_name(part: ast.AST) -> ast.Name | None:
    """The variable at the start of a chain of attributes, items and calls."""
    while isinstance(part, ast.Attribute | ast.Subscript | ast.Call):
        part = part.func if isinstance(part, ast.Call) else part.value
    return part if isinstance(part, ast.Name) else None
