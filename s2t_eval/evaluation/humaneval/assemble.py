"""Extraction of a program from a chat model's answer to "complete this function".

An answer may be fenced or bare, surrounded by prose, a complete function or only its body, and truncated.
Its parts are parsed into statements (`statements.py`), and the program consists of the statements that the
function needs (`selection.py`), with their source unchanged. The time is linear in the answer's length, and
text that is not valid Python raises no error: it is not a program.
"""

from __future__ import annotations

import ast
import functools
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from s2t_eval.evaluation.humaneval.blocks import (
    BETWEEN,
    FENCED,
    INLINE,
    Block,
    extract_answer_text,
    find_blocks,
)
from s2t_eval.evaluation.humaneval.body import Body, begins_with_body, read_body
from s2t_eval.evaluation.humaneval.layout import indent
from s2t_eval.evaluation.humaneval.selection import is_stub, select_needed
from s2t_eval.evaluation.humaneval.statements import Reader, Statement, parse

COMPLETE, TRUNCATED, STUB = 3, 2, 1
"""Ranks of a block by how much of the function it defines."""
INDENT = "    "


@dataclass(frozen=True, eq=False)
class Section:
    """A block of the answer, parsed lazily."""

    block: Block
    reader: Reader

    @functools.cached_property
    def statements(self) -> list[Statement]:
        """The valid statements of the block; a definition at the end of an open fence may be truncated."""
        statements = [statement for statement in self.reader.read(self.block.text) if statement is not None]
        if statements and not self.block.is_closed and _ends_without_result(statements[-1].node):
            statements[-1] = replace(statements[-1], is_whole=False)
        return statements


def assemble(answer: str, prompt: str, entry_point: str) -> str | None:
    """Return a program that defines the requested function; None if the answer contains none.

    Args:
        answer: the model's response.
        prompt: the benchmark's prompt: imports, helpers, signature and docstring.
        entry_point: name of the function.

    Example:
        >>> print(assemble("return x + 1", "def f(x):\\n", "f"))
        def f(x):
            return x + 1
        <BLANKLINE>
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about escapes and comparisons in the generated code
        return _assemble(answer, prompt, entry_point)


def _assemble(answer: str, prompt: str, entry_point: str) -> str | None:
    text = extract_answer_text(answer)
    blocks = find_blocks(text) if text else []
    if not text or not blocks:
        return None
    reader, start = Reader(entry_point, len(text)), _entry_start(prompt, entry_point)
    sections = [Section(block, reader) for block in blocks]
    is_body = blocks[0].kind == BETWEEN and begins_with_body(text, entry_point)
    continue_prompt = functools.partial(_continued_prompt, sections, prompt[start:].rstrip(), entry_point)
    find_definition = functools.partial(_complete_definition, sections, entry_point)
    statements = continue_prompt(is_body=True) if is_body else None
    statements = (
        statements or find_definition(TRUNCATED) or continue_prompt(is_body=False) or find_definition(STUB)
    )
    return _program(prompt[:start].rstrip(), statements, sections) if statements else None


def _entry_start(prompt: str, entry_point: str) -> int:
    """The position of the function in the prompt, after imports and helpers that an answer may use."""
    match = re.search(rf"^(?:async )?def {re.escape(entry_point)}\b", prompt, re.MULTILINE)
    return match.start() if match else 0


def _complete_definition(
    sections: Sequence[Section], entry_point: str, min_rank: int
) -> list[Statement] | None:
    """The statements for a function defined in the answer: in the last block with the highest rank."""
    ranks = [
        (_rank(section, entry_point), not section.block.is_rejected, section.block.kind, i)
        for i, section in enumerate(sections)
    ]
    rank, _, _, index = max(ranks, default=(0, True, 0, 0))
    if rank < min_rank:
        return None
    main = [
        statement for statement in sections[index].statements if _rank_of(statement, entry_point) in (0, rank)
    ]
    return _needed_statements(main, sections, index, entry_point)


def _continued_prompt(
    sections: Sequence[Section], signature: str, entry_point: str, is_body: bool
) -> list[Statement] | None:
    """The prompt's function completed with a body: that of the last block that returns a value."""
    indices = sorted(range(len(sections)), key=lambda i: (sections[i].block.kind, i), reverse=True)
    for index in [0] if is_body else indices:
        section = sections[index]
        if section.block.kind == INLINE or (not is_body and _rank(section, entry_point)):
            continue
        body = read_body(section.block.text, section.reader)
        if body is not None and (body.has_result or is_body):
            function = _function_statement(signature, body)
            if function is not None:
                helpers = [
                    statement
                    for statement in body.remainder
                    if statement is not None and not statement.binds(entry_point)
                ]
                return _needed_statements([function, *helpers], sections, index, entry_point)
    return None


def _function_statement(signature: str, body: Body) -> Statement | None:
    source = f"{signature}\n{indent(body.source, INDENT)}"
    tree = parse(source)
    if isinstance(tree, ast.Module):
        return Statement(source, tree.body[-1]) if tree.body else None
    return Statement(source, None) if isinstance(tree, RecursionError | MemoryError) else None


def _needed_statements(
    main: list[Statement], sections: Sequence[Section], index: int, entry_point: str
) -> list[Statement]:
    """The statements that the function needs, in the answer's order.

    If several blocks define a name, the function's own block has precedence, then fenced blocks.
    """
    others = [section for i, section in enumerate(sections) if i != index]
    groups = [main] + [
        [
            statement
            for section in others
            if section.block.kind == kind
            for statement in section.statements
            if statement.is_whole
        ]
        for kind in (FENCED, BETWEEN)
    ]
    selected = select_needed(groups, entry_point)
    order = [main if i == index else section.statements for i, section in enumerate(sections)]
    return [statement for statements in order for statement in statements if statement in selected]


def _ends_without_result(node: ast.stmt | None) -> bool:
    """Whether a function does not end by returning or raising, so that its text may have been cut off."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not isinstance(
        node.body[-1], ast.Return | ast.Raise
    )


def _rank(section: Section, entry_point: str) -> int:
    if entry_point not in section.block.text:
        return 0
    return max((_rank_of(statement, entry_point) for statement in section.statements), default=0)


def _rank_of(statement: Statement, entry_point: str) -> int:
    """The rank of a statement by how much of the function it defines; 0 for other statements."""
    if not statement.binds(entry_point):
        return 0
    if is_stub(statement) or isinstance(statement.node, ast.Import | ast.ImportFrom):
        return STUB  # tests behind the function import it from a file that is not there
    return COMPLETE if statement.is_whole else TRUNCATED


def _program(prompt_start: str, statements: Iterable[Statement], sections: Iterable[Section]) -> str:
    """The source text of the program; imports from `__future__` must precede the prompt's imports."""
    futures = {
        statement.source: None
        for section in sections
        for statement in section.statements
        if statement.is_known_future
    }
    parts = [
        *futures,
        prompt_start,
        *(statement.source for statement in statements if not statement.is_known_future),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"
