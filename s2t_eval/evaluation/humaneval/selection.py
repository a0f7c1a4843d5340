"""Selection of the top-level statements that a function needs, without demonstrations and tests.

A program contains what the function uses, directly or transitively, and every statement that binds or
modifies such a name: a loop that fills a lookup table is part of the program. Demonstrations are left out,
since they may read standard input, end the process or import packages that are not installed.
"""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterator, Sequence

from s2t_eval.evaluation.humaneval.names import STAR
from s2t_eval.evaluation.humaneval.statements import Statement

DYNAMIC = {"globals", "eval", "exec", "vars", "locals", "__import__"}
"""Functions with dynamic access to names: a statement that uses one may need any name."""
LIMIT_CALLS = {"setrecursionlimit", "set_int_max_str_digits"}


def is_stub(statement: Statement) -> bool:
    """Return whether a function consists of a docstring, `pass`, `...` or `raise NotImplementedError`."""
    node = statement.node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return all(
        isinstance(part, ast.Pass)
        or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        or (isinstance(part, ast.Raise) and "NotImplementedError" in ast.dump(part))
        for part in node.body
    )


def select_needed(groups: Sequence[Sequence[Statement]], entry_point: str) -> set[Statement]:
    """Return the statements that a function needs.

    Args:
        groups: statements in order of precedence: a later group is used only for names that no earlier
            group binds.
        entry_point: name of the function.
    """
    selection, excluded = _Selection(entry_point), set[str]()
    for group in groups:
        for statement in group:
            selection.add(statement, excluded)
        excluded = excluded.union(*(statement.names.bound for statement in group))
    return selection.run()


class _Selection:
    """A dependency graph of statements and names, and its traversal from the function."""

    def __init__(self, entry_point: str) -> None:
        self.entry_point = entry_point
        self.statements: list[Statement] = []
        self.modifiers_by_name: defaultdict[str, list[Statement]] = defaultdict(list)
        self.users_by_name: defaultdict[str, list[Statement]] = defaultdict(list)
        """Statements that use a name, in the body of a definition or when executed."""
        self.mutators_by_name: defaultdict[str, list[str]] = defaultdict(list)
        """Functions that modify a name when called."""
        self.modules: defaultdict[str, set[str]] = defaultdict(set)
        """Modules from which a name was imported; `imported` maps modules to names."""
        self.imported: defaultdict[str, set[str]] = defaultdict(set)
        self.aliases: defaultdict[str, set[str]] = defaultdict(set)
        """Other names for the same value, through which it may be modified."""
        self.excluded: dict[Statement, set[str]] = {}
        self.variables: set[str] = set()
        self.bound: set[str] = set()

    def add(self, statement: Statement, excluded: set[str]) -> None:
        """Add a statement to the graph, except for the names in `excluded`."""
        names = statement.names
        if self.entry_point in names.bound & excluded:
            return
        self.statements.append(statement)
        self.excluded[statement] = excluded
        for name in names.bound - excluded:
            self.modifiers_by_name[name].append(statement)
        for name in names.read if names.is_definition else names.used_immediately:
            self.users_by_name[name].append(statement)
        if names.alias_of is not None:
            self.aliases[names.alias_of] |= names.bound
        if names.is_definition:
            for name in names.changed:
                self.mutators_by_name[name] += names.bound
        if names.module is not None:
            for name in names.bound:
                self.modules[name].add(names.module)
                self.imported[names.module].add(name)
        elif not names.is_definition:
            self.variables |= names.bound
        self.bound |= names.bound

    def run(self) -> set[Statement]:
        """Return the needed statements."""
        self._add_mutations()
        demonstrations = self._demonstrations()
        selected = {statement for statement in self.statements if _raises_a_limit(statement)}
        seen: set[str] = set()
        pending = [self.entry_point, *(name for statement in selected for name in statement.names.read)]
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            for statement in self._modifiers(name):
                is_entry = self.entry_point in statement.names.bound
                if statement not in selected and (is_entry or statement not in demonstrations):
                    selected.add(statement)
                    pending += statement.names.read
            pending += self._implied_names(name)
        return selected

    def _add_mutations(self) -> None:
        """Register statements that modify a name's value, like those that bind it."""
        for statement in self.statements:
            names = statement.names
            mutated = names.base_classes - self.modules.keys()
            if not names.is_definition:
                mutated |= names.changed | (names.passed & self.variables)
            if not (names.is_definition or names.is_assignment):
                mutated |= names.called & (self.modules.keys() | self.variables)
                mutated |= set(filter(self._is_unknown, names.called))
            for name in mutated - self.excluded[statement]:
                self.modifiers_by_name[name].append(statement)

    def _modifiers(self, name: str) -> Iterator[Statement]:
        """Yield statements that bind or modify a name, or call a function that modifies it."""
        yield from self.modifiers_by_name[name]
        seen: set[str] = set()
        pending = list(self.mutators_by_name.pop(name, []))
        while pending:
            function = pending.pop()
            if function in seen:
                continue
            seen.add(function)
            for statement in self.users_by_name[function]:
                if function in statement.names.used_immediately:
                    yield statement
                elif statement.names.is_definition:
                    pending += statement.names.bound

    def _implied_names(self, name: str) -> set[str]:
        """Names that are needed because another one is.

        Settings made through one name of a module affect its other names; an unknown name may come from
        `from module import *`; `globals()` may access any name.
        """
        implied = {STAR} if self._is_unknown(name) else set[str]()
        if name in DYNAMIC:
            implied |= self.bound
        if name in self.variables:
            implied |= self.aliases[name]
        if name == STAR:
            implied |= {other for other in self.modifiers_by_name if self._is_unknown(other)}
        return implied.union(*(self.imported.pop(module, set()) for module in self.modules[name]))

    def _is_unknown(self, name: str) -> bool:
        return name not in self.bound and not hasattr(builtins, name)

    def _demonstrations(self) -> set[Statement]:
        """Statements whose execution calls the function, reads input or ends the process."""
        demonstrations = {statement for statement in self.statements if statement.names.is_demonstration}
        seen, pending = set[str](), [self.entry_point]
        for statement in demonstrations:
            if statement.names.is_definition:
                pending += statement.names.bound - {self.entry_point}
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            for statement in self.users_by_name[name]:
                if name in statement.names.called or not statement.names.is_assignment:
                    demonstrations.add(statement)
                if statement.names.is_definition:
                    pending += statement.names.bound
        return {statement for statement in demonstrations if not statement.names.is_definition}


def _raises_a_limit(statement: Statement) -> bool:
    """Whether a statement raises the limit of recursion or of integer digits, which a function may need."""
    node = statement.node
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    function = node.value.func
    if isinstance(function, ast.Attribute):
        return function.attr in LIMIT_CALLS
    return isinstance(function, ast.Name) and function.id in LIMIT_CALLS
