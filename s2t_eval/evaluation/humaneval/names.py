"""Global names in one top-level statement: which it binds, reads, uses at once and changes."""

from __future__ import annotations

import ast
import re
import symtable
from collections.abc import Iterator
from dataclasses import dataclass, field

STAR = "*"
"""Stands for whatever `from module import *` binds."""
READS_OR_ENDS = {"input", "raw_input", "exit", "quit", "SystemExit"}
READING_OR_ENDING_ATTRIBUTES = {"stdin", "exit", "_exit", "abort"}
CHANGES_FIRST = {"setattr", "delattr"}
SHOWS = {"print", "pprint", "display", "help", "repr", "len"}
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Assignment = ast.Assign | ast.AnnAssign | ast.AugAssign


@dataclass
class Names:
    """Global names in a statement.

    Args:
        bound: those it gives a value.
        read: those it uses, now or in the bodies of functions that it defines.
        used_now: those it uses when it is run.
        changed: those whose value it changes; of a definition, when it is called.
        called: functions that it calls by their bare name.
        passed: those it gives to calls, which may change them.
        bases: of a class.
        aliased: the name that an assignment gives another name to, or to a part of its value.
        module: of an import, the package.
        is_definition, is_assignment: whether it is one, of a function or class.
        is_demonstration: whether it reads input, ends the process or cannot stand at the top level;
            of a definition, whether a call of it does.
    """

    bound: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    used_now: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    bases: set[str] = field(default_factory=set)
    aliased: str | None = None
    module: str | None = None
    is_definition: bool = False
    is_assignment: bool = False
    is_demonstration: bool = False


def names_of(source: str, node: ast.stmt | None) -> Names:
    """The global names in a statement.

    Args:
        source: its text.
        node: its syntax tree; None where Python cannot read it, whose names are then guessed from the text.
    """
    try:
        table = symtable.symtable(source, "program.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        node = None  # what Python cannot compile here, the sandbox refuses with its reason
    if node is None:
        return _guessed(source)
    names = Names(is_definition=isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef))
    _add_from_table(names, table)
    _add_from_tree(names, node)
    return names


def _guessed(source: str) -> Names:
    words = set(re.findall(r"[^\W\d]\w*", source))
    begin = re.match(r"(?:@.*\n)*\s*(?:(?:async\s+)?def|class)\s+(\w+)|(\w+)\s*=(?!=)", source)
    if begin is None:
        return Names(read=words, used_now=words)
    bound, is_definition = {begin[1] or begin[2]}, begin[1] is not None
    return Names(bound, words, set() if is_definition else words, is_definition=is_definition)


def _add_from_table(names: Names, top: symtable.SymbolTable) -> None:
    for symbol in top.get_symbols():
        if symbol.is_assigned() or symbol.is_imported():
            names.bound.add(symbol.get_name())
        if symbol.is_referenced():
            names.read.add(symbol.get_name())
    waiting = top.get_children()
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
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
    now = list(run_at_once(node))
    body = list(ast.walk(node)) if names.is_definition else now
    stored = {id(root): root.id for root in map(_stored_root, body) if root is not None}
    names.changed |= set(stored.values())
    used = [part for part in now if isinstance(part, ast.Name) and id(part) not in stored]
    local = {part.id for part in used if isinstance(part.ctx, ast.Store)} - names.bound
    names.used_now |= {part.id for part in used if isinstance(part.ctx, ast.Load)} - local
    names.is_assignment = isinstance(node, Assignment)
    if isinstance(node, Assignment) and not isinstance(node.value, ast.Call) and node.value is not None:
        names.aliased = root.id if (root := _root(node.value)) is not None else None
    if isinstance(node, ast.ClassDef):
        names.bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
    for part in body:
        if isinstance(part, ast.Call):
            _add_call(names, part)
    if names.is_definition:
        names.changed &= names.read
        names.passed.clear()
    names.is_demonstration = _is_demonstration(names, node, now, body)


def _add_call(names: Names, call: ast.Call) -> None:
    if isinstance(call.func, ast.Name):
        if call.func.id in SHOWS:
            return
        names.called.add(call.func.id)
        if call.func.id in CHANGES_FIRST and call.args and (root := _root(call.args[0])) is not None:
            names.changed.add(root.id)
    elif (root := _root(call.func)) is not None:
        (names.passed if names.is_assignment else names.changed).add(root.id)
    if not names.is_assignment:
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        names.passed |= {value.id for value in given if isinstance(value, ast.Name)}


def _is_demonstration(names: Names, node: ast.stmt, now: list[ast.AST], body: list[ast.AST]) -> bool:
    used = names.read if names.is_definition else names.used_now
    if used & READS_OR_ENDS or (isinstance(node, ast.If) and "__name__" in used):
        return True
    if any(isinstance(part, ast.Attribute) and part.attr in READING_OR_ENDING_ATTRIBUTES for part in body):
        return True
    outside = ast.Return | ast.Yield | ast.YieldFrom | ast.Await
    return not names.is_definition and (
        isinstance(node, ast.Assert) or any(isinstance(part, outside) for part in now)
    )


def run_at_once(node: ast.AST) -> Iterator[ast.AST]:
    """A statement's parts without the bodies of its functions."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [*part.decorator_list, *part.args.defaults, *filter(None, part.args.kw_defaults)]
        elif isinstance(part, ast.Lambda):
            waiting += [*part.args.defaults, *filter(None, part.args.kw_defaults)]
        else:
            waiting += ast.iter_child_nodes(part)


def _stored_root(part: ast.AST) -> ast.Name | None:
    """The name whose attribute or item is assigned or deleted."""
    if isinstance(part, ast.Attribute | ast.Subscript) and not isinstance(part.ctx, ast.Load):
        return _root(part)
    return None


def _root(part: ast.AST) -> ast.Name | None:
    """The name that a chain of attributes, items and calls begins with."""
    while isinstance(part, ast.Attribute | ast.Subscript | ast.Call):
        part = part.func if isinstance(part, ast.Call) else part.value
    return part if isinstance(part, ast.Name) else None
