"""Whether checks can run in a sandbox of their own: they only call the program's functions with data.

The decision depends on the checks alone, so that a program cannot influence it.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterator, Sequence

SEPARABLE_MODULES = {"copy", "math", "numpy", "random", "string", "typing"}
"""Modules whose values a program can receive and return; of others, such as datetime, it may not."""
DYNAMIC_FUNCTIONS = {"eval", "exec", "globals", "locals", "vars", "__import__"}
INSPECTING_FUNCTIONS = {
    "callable", "dir", "format", "getattr", "hasattr", "id", "next", "repr", "setattr", "str", "type",
}  # fmt: skip
"""Built-in functions whose results may differ for an object of the program and its copy or proxy."""

LITERAL_NODES = (ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.UnaryOp, ast.expr_context)
"""Nodes without a meaning here; the checks of HumanEval+ consist of a million of them."""
PARSE_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError)


def are_separable(checks: str) -> bool:
    """Whether checks need nothing of a program but the results of calling its functions.

    Not separable are checks that use a module, a constant or a class of the program, or an attribute or the
    identity of a result, or that compare one result with another.

    Args:
        checks: source text of the checks.

    Example:
        >>> are_separable("assert f(1) == 2"), are_separable("assert math.isclose(f(1), 2)")
        (True, False)
    """
    try:
        tree = ast.parse(checks)
        borrowed = _borrowed_names(symtable.symtable(checks, "checks.py", "exec"))
    except PARSE_ERRORS:
        return False
    nodes = [node for node in ast.walk(tree) if not isinstance(node, LITERAL_NODES)]
    failures = [node.msg for node in nodes if isinstance(node, ast.Assert) and node.msg is not None]
    messages = {node for message in failures for node in ast.walk(message)}
    modules = {name.partition(".")[0] for node in nodes for name in _imported_by(node)}
    if not modules <= SEPARABLE_MODULES or borrowed & DYNAMIC_FUNCTIONS:
        return False
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    functions = borrowed - set(dir(builtins))
    accepted = {id(call.func) for call in calls}
    definitions = {node.name: node.args for node in nodes if isinstance(node, ast.FunctionDef)}
    for name, argument in _follow_into_parameters(functions, calls, definitions):
        functions.add(name)
        accepted.add(id(argument))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    if any(name.id in functions and id(name) not in accepted for name in names):
        return False
    results = _Results(functions, nodes)
    if "numpy" in modules and any(map(results.are_passed_by, calls)):
        return False  # an array cannot be sent to the program
    return not any(results.are_inspected_by(node) for node in nodes if node not in messages)


def required_modules(checks: str) -> list[str]:
    """Modules that checks import, other than in a `try` statement; empty if the checks cannot be parsed.

    Args:
        checks: source text of the checks.
    """
    try:
        pending: list[ast.AST] = [ast.parse(checks)]
    except PARSE_ERRORS:
        return []
    modules: dict[str, None] = {}
    while pending:
        node = pending.pop()
        modules.update(dict.fromkeys(_imported_by(node)))
        if not isinstance(node, ast.Try):
            pending += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return sorted(modules)


def _borrowed_names(table: symtable.SymbolTable) -> set[str]:
    """Global names that are read and not bound by the text itself."""
    read, bound, pending = set[str](), set[str](), [table]
    while pending:
        scope = pending.pop()
        pending += scope.get_children()
        for symbol in scope.get_symbols():
            if scope is table or symbol.is_global():
                is_bound = symbol.is_assigned() or symbol.is_imported()
                (bound if is_bound else read).add(symbol.get_name())
    return read - bound


def _imported_by(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level and node.module and node.module != "__future__":
        return [node.module]
    return []


def _follow_into_parameters(
    functions: set[str], calls: Sequence[ast.Call], definitions: dict[str, ast.arguments]
) -> Iterator[tuple[str, ast.Name]]:
    """Yield parameters that receive a function of the program, as in `check(f)`, and the argument there."""
    known = set(functions)
    is_growing = True
    while is_growing:
        is_growing = False
        for call in calls:
            parameters = definitions.get(call.func.id) if isinstance(call.func, ast.Name) else None
            if parameters is None or any(isinstance(argument, ast.Starred) for argument in call.args):
                continue
            positional = (*parameters.posonlyargs, *parameters.args)
            for argument, parameter in zip(call.args, positional, strict=False):
                if isinstance(argument, ast.Name) and argument.id in known:
                    is_growing |= parameter.arg not in known
                    known.add(parameter.arg)
                    yield parameter.arg, argument


class _Results:
    """Expressions whose value is a result of the program, and what checks do with them.

    Args:
        functions: names of the program's functions, and of parameters that receive them.
        nodes: all nodes of the checks.
    """

    def __init__(self, functions: set[str], nodes: Sequence[ast.AST]) -> None:
        self._functions = functions
        self._variables = set[str]()
        for node in nodes:
            if isinstance(node, ast.Assign) and self._contains(node.value):
                self._variables |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.AnnAssign | ast.NamedExpr | ast.For | ast.comprehension):
                value = node.iter if isinstance(node, ast.For | ast.comprehension) else node.value
                if isinstance(node.target, ast.Name) and self._contains(value):
                    self._variables.add(node.target.id)

    def are_inspected_by(self, node: ast.AST) -> bool:
        """Whether a node does something with a result that only works with the program's own object."""
        if isinstance(node, ast.Attribute | ast.Await):
            return self._contains(node.value)
        if isinstance(node, ast.withitem):
            return self._contains(node.context_expr)
        if isinstance(node, ast.Call):
            inspects = isinstance(node.func, ast.Name) and node.func.id in INSPECTING_FUNCTIONS
            return self._contains(node.func) or (inspects and any(map(self._contains, node.args)))
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            others = [operand for operand in operands if not self._contains(operand)]
            by_identity = any(isinstance(operator, ast.Is | ast.IsNot) for operator in node.ops)
            is_constant = all(isinstance(other, ast.Constant) for other in others)
            num_results = len(operands) - len(others)
            return num_results > 1 or (num_results == 1 and by_identity and not is_constant)
        return False

    def are_passed_by(self, call: ast.Call) -> bool:
        """Whether a call of the program's function has a result, or a value made of one, as argument."""
        arguments = (*call.args, *(keyword.value for keyword in call.keywords))
        return self._contains(call) and any(
            self._contains(node) for argument in arguments for node in ast.walk(argument)
        )

    def _contains(self, node: ast.AST | None) -> bool:
        """Whether an expression is a call of the program's function, its result's variable, or an item."""
        if isinstance(node, ast.Subscript):
            return self._contains(node.value)
        if isinstance(node, ast.Call):
            return isinstance(node.func, ast.Name) and node.func.id in self._functions
        return isinstance(node, ast.Name) and node.id in self._variables
