"""Makes a program out of what a chat model answers to "complete this function".

An answer comes fenced or bare, with prose around it, with the signature repeated or as the body
alone, whole or cut off. What is taken are definitions, imports and assignments; a demonstration
(`print(f(3))`, `if __name__ ...`, asserts of the model's own) is left out, since it says nothing
about the function and may read from a terminal that is not there.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator

FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.M)
CODE_STARTS = re.compile(r"(?:async\s+def|def|class|from|import|@)\b|@")
NOT_CODE = {"bash", "sh", "shell", "console", "text", "plaintext", "output", "json"}
INDENT = "    "
MOST_LINES = 400
KEPT = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
    ast.Try,
    ast.If,
    ast.Assign,
    ast.AnnAssign,
)


def assemble(answer: str, prompt: str, entry_point: str) -> str | None:
    """A program that defines the asked function, None where the answer holds none.

    Args:
        answer: what the model said.
        prompt: the function's beginning as the benchmark gives it: imports, helpers, signature, docstring.
        entry_point: the function's name.
    """
    answer = answer.replace("\r\n", "\n").expandtabs(4)
    beginning = before_entry(prompt, entry_point)
    blocks = _fenced(answer) or [answer]
    for place in range(len(blocks) - 1, -1, -1):
        code = _whole(blocks[place], entry_point)
        if code is not None:
            helpers = [_definitions(block) for block in blocks[:place]]
            return "\n\n".join([beginning, *filter(None, helpers), code])
    for block in reversed(blocks):
        if (code := _continued(block, prompt, entry_point)) is not None:
            return code
    return None


def before_entry(prompt: str, entry_point: str) -> str:
    """What stands before the function in the prompt: imports and helpers that an answer may use."""
    found = re.search(rf"^(?:async )?def {re.escape(entry_point)}\b", prompt, re.MULTILINE)
    return prompt[: found.start()].rstrip() if found else ""


def _fenced(answer: str) -> list[str]:
    found = [match for match in FENCE.finditer(answer) if match[2].lower() not in NOT_CODE]
    return [match[3] for match in found if match[3].strip()]


def _whole(block: str, entry_point: str) -> str | None:
    """The definitions of a block that defines the function, prose around them left out."""
    for text in (textwrap.dedent(_without_prompts(block)), *_from_code_on(block)):
        tree, _ = _longest(text, lambda tree: _defines(tree, entry_point))
        if tree is not None:
            return _cleaned(tree, entry_point)
    return None


def _definitions(block: str) -> str | None:
    """A block without the function: helpers that a later one may need."""
    tree = _parse(textwrap.dedent(block))
    return _cleaned(tree, "") if tree is not None else None


def _continued(block: str, prompt: str, entry_point: str) -> str | None:
    """The prompt with a body, whatever became of the body's indentation."""
    lines = block.strip("\n").split("\n")
    first, rest = lines[0], lines[1:]
    dedented = textwrap.dedent("\n".join(lines))
    bodies = [
        "\n".join(lines),
        textwrap.indent(dedented, INDENT),
        "\n".join([INDENT + first.lstrip(), *rest]),
        "\n".join([INDENT + first.lstrip(), textwrap.indent(textwrap.dedent("\n".join(rest)), INDENT)]),
    ]
    given = len(prompt.rstrip().split("\n"))
    best, most = None, given
    for body in bodies:
        text = prompt.rstrip() + "\n" + body
        tree, count = _longest(text, lambda tree: _has_body(tree, entry_point), given)
        if tree is not None and count > most:
            best, most = tree, count
    return _cleaned(best, entry_point) if best is not None else None


def _from_code_on(block: str) -> Iterator[str]:
    """A block from each line on that looks like the beginning of code."""
    lines = block.split("\n")
    for place, line in enumerate(lines):
        if CODE_STARTS.match(line.strip()):
            indent = len(line) - len(line.lstrip())
            yield "\n".join(part[indent:] if not part[:indent].strip() else part for part in lines[place:])


def _without_prompts(block: str) -> str:
    """An interactive session's input lines, where the block is one."""
    lines = block.split("\n")
    if not any(re.match(r"\s*>>> (def|import|from|class) ", line) for line in lines):
        return block
    return "\n".join(line.strip()[4:] for line in lines if re.match(r"\s*(>>>|\.\.\.)", line))


def _longest(
    text: str, wanted: Callable[[ast.Module], bool], fewest: int = 1
) -> tuple[ast.Module | None, int]:
    """The longest beginning that is Python and holds what is wanted, and its length in lines."""
    lines = text.split("\n")[:MOST_LINES]
    for count in range(len(lines), fewest - 1, -1):
        tree = _parse("\n".join(lines[:count]))
        if tree is not None and wanted(tree):
            return tree, count
    return None, 0


def _parse(text: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _defines(tree: ast.Module, name: str) -> bool:
    return any(name in _names(node) for node in tree.body)


def _names(node: ast.stmt) -> set[str]:
    """What a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.If | ast.Try):
        return set().union(*(_names(inner) for inner in node.body))
    return set()


def _has_body(tree: ast.Module, name: str) -> bool:
    """Whether the function does more than carry its docstring."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return len(node.body) > (ast.get_docstring(node) is not None)
    return False


def _cleaned(tree: ast.Module, entry_point: str) -> str:
    """The program without its demonstrations."""
    tree.body = [node for node in tree.body if _is_kept(node, entry_point)]
    return ast.unparse(tree)


def _is_kept(node: ast.stmt, entry_point: str) -> bool:
    if isinstance(node, ast.Expr):  # a deeper stack is part of a solution
        return isinstance(node.value, ast.Call) and "setrecursionlimit" in ast.unparse(node.value.func)
    if not isinstance(node, KEPT):
        return False
    if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
        return False
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.If | ast.Try):
        return not _calls(node) & {"input", "open", "print", "exit", "quit", entry_point}
    return True


def _calls(node: ast.stmt) -> set[str]:
    """Functions that a statement calls by name, but for those inside its own definitions."""
    inner = {
        call
        for definition in ast.walk(node)
        if isinstance(definition, ast.FunctionDef | ast.Lambda | ast.ClassDef)
        for call in ast.walk(definition)
    }
    return {
        call.func.id
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call not in inner
    }
