"""Which top-level statements of an answer its function needs, and which only show or test it.

A program keeps what the function uses, directly or through what it uses, and every statement that
gives such a name its value or changes that value: a table that a loop fills is part of the program.
Demonstrations are not: they say nothing about the function, and may read a terminal that is not there,
end the process or import what is not installed.
"""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterator, Sequence

from s2t_eval.evaluation.humaneval.names import STAR
from s2t_eval.evaluation.humaneval.statements import Statement

DYNAMIC = {"globals", "eval", "exec", "vars", "locals", "__import__"}
"""Functions that use one of these may need any name."""
KEPT_CALLS = {"setrecursionlimit", "set_int_max_str_digits"}


def is_stub(statement: Statement) -> bool:
    """Whether a function has no more than its docstring, `pass`, `...` or `raise NotImplementedError`."""
    node = statement.node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return all(
        isinstance(part, ast.Pass)
        or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        or (isinstance(part, ast.Raise) and "NotImplementedError" in ast.dump(part))
        for part in node.body
    )


def needed(groups: Sequence[Sequence[Statement]], entry_point: str) -> set[Statement]:
    """The statements that the function needs.

    Args:
        groups: statements by precedence: those of a later group take part only for names that no
            earlier group gives a value.
        entry_point: the function's name.
    """
    selection, taken = _Selection(entry_point), set[str]()
    for group in groups:
        for statement in group:
            selection.add(statement, taken)
        taken = taken.union(*(statement.names.bound for statement in group))
    return selection.run()


class _Selection:
    """Statements by the names that they touch, and the walk from the function to all that it needs."""

    def __init__(self, entry_point: str) -> None:
        self.entry_point = entry_point
        self.statements: list[Statement] = []
        self.touching: defaultdict[str, list[Statement]] = defaultdict(list)
        self.users: defaultdict[str, list[Statement]] = defaultdict(list)
        """Statements that use a name: definitions in their bodies, others when they are run."""
        self.changers: defaultdict[str, list[str]] = defaultdict(list)
        """Functions that change a name when they are called."""
        self.modules: defaultdict[str, set[str]] = defaultdict(set)
        """Modules that a name was imported from, and below, names that were imported from a module."""
        self.imported: defaultdict[str, set[str]] = defaultdict(set)
        self.aliases: defaultdict[str, set[str]] = defaultdict(set)
        """Other names of what a name stands for, through which it may be changed."""
        self.taken: dict[Statement, set[str]] = {}
        self.variables: set[str] = set()
        self.bound: set[str] = set()

    def add(self, statement: Statement, taken: set[str]) -> None:
        """Take a statement into account, but not for names that are taken."""
        names = statement.names
        if self.entry_point in names.bound & taken:
            return
        self.statements.append(statement)
        self.taken[statement] = taken
        for name in names.bound - taken:
            self.touching[name].append(statement)
        for name in names.read if names.is_definition else names.used_now:
            self.users[name].append(statement)
        if names.aliased is not None:
            self.aliases[names.aliased] |= names.bound
        if names.is_definition:
            for name in names.changed:
                self.changers[name] += names.bound
        if names.module is not None:
            for name in names.bound:
                self.modules[name].add(names.module)
                self.imported[names.module].add(name)
        elif not names.is_definition:
            self.variables |= names.bound
        self.bound |= names.bound

    def run(self) -> set[Statement]:
        """The needed statements."""
        self._add_changes()
        demonstrations = self._demonstrations()
        kept = {statement for statement in self.statements if _is_kept_call(statement)}
        seen: set[str] = set()
        waiting = [self.entry_point, *(name for statement in kept for name in statement.names.read)]
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            for statement in self._touching(name):
                is_entry = self.entry_point in statement.names.bound
                if statement not in kept and (is_entry or statement not in demonstrations):
                    kept.add(statement)
                    waiting += statement.names.read
            waiting += self._also_needed(name)
        return kept

    def _add_changes(self) -> None:
        """Statements that change what a name stands for touch it as those that bind it do."""
        for statement in self.statements:
            names = statement.names
            touched = names.bases - self.modules.keys()
            if not names.is_definition:
                touched |= names.changed | (names.passed & self.variables)
            if not (names.is_definition or names.is_assignment):
                touched |= names.called & (self.modules.keys() | self.variables)
                touched |= set(filter(self._is_unknown, names.called))
            for name in touched - self.taken[statement]:
                self.touching[name].append(statement)

    def _touching(self, name: str) -> Iterator[Statement]:
        """Statements that give a name its value, change it, or call a function that does."""
        yield from self.touching[name]
        seen: set[str] = set()
        waiting = list(self.changers.pop(name, []))
        while waiting:
            function = waiting.pop()
            if function in seen:
                continue
            seen.add(function)
            for statement in self.users[function]:
                if function in statement.names.used_now:
                    yield statement
                elif statement.names.is_definition:
                    waiting += statement.names.bound

    def _also_needed(self, name: str) -> set[str]:
        """Names that a needed one brings along.

        Settings made through one name of a module hold for the others; an unknown name comes from
        `from module import *`; `globals()` may stand for any.
        """
        found = {STAR} if self._is_unknown(name) else set[str]()
        if name in DYNAMIC:
            found |= self.bound
        if name in self.variables:
            found |= self.aliases[name]
        if name == STAR:
            found |= {other for other in self.touching if self._is_unknown(other)}
        return found.union(*(self.imported.pop(module, set()) for module in self.modules[name]))

    def _is_unknown(self, name: str) -> bool:
        return name not in self.bound and not hasattr(builtins, name)

    def _demonstrations(self) -> set[Statement]:
        """Statements that, when run, call the function, read input or end the process."""
        found = {statement for statement in self.statements if statement.names.is_demonstration}
        seen, waiting = set[str](), [self.entry_point]
        for statement in found:
            if statement.names.is_definition:
                waiting += statement.names.bound - {self.entry_point}
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            for statement in self.users[name]:
                if name in statement.names.called or not statement.names.is_assignment:
                    found.add(statement)
                if statement.names.is_definition:
                    waiting += statement.names.bound
        return {statement for statement in found if not statement.names.is_definition}


def _is_kept_call(statement: Statement) -> bool:
    """Whether it is a call that lets the function go deeper or count further."""
    node = statement.node
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    function = node.value.func
    if isinstance(function, ast.Attribute):
        return function.attr in KEPT_CALLS
    return isinstance(function, ast.Name) and function.id in KEPT_CALLS
