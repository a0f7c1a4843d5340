"""Makes a program out of what a chat model answers to "complete this function".

An answer comes fenced or bare, with prose around it, with the signature repeated or as the body
alone, whole or cut off. Its parts are read as statements (`statements`), and the program is what the
function needs of them (`selection`), in their own words. The time this takes grows with the answer's
length and no faster, and no answer makes it raise: text that Python cannot read is not a program.
"""

from __future__ import annotations

import ast
import functools
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from s2t_eval.evaluation.humaneval.blocks import BETWEEN, FENCED, INLINE, Block, answer_text, blocks
from s2t_eval.evaluation.humaneval.body import Body, begins_with_body, read_body
from s2t_eval.evaluation.humaneval.layout import indent
from s2t_eval.evaluation.humaneval.selection import is_stub, needed
from s2t_eval.evaluation.humaneval.statements import Reader, Statement, parse

WHOLE, CUT, STUB = 3, 2, 1
"""How much of the function a block defines."""
INDENT = "    "


@dataclass(frozen=True, eq=False)
class Section:
    """A block of the answer, read when it is asked for."""

    block: Block
    reader: Reader

    @functools.cached_property
    def statements(self) -> list[Statement]:
        """Its statements without what is no Python."""
        return [statement for statement in self.reader.read(self.block.text) if statement is not None]


def assemble(answer: str, prompt: str, entry_point: str) -> str | None:
    """A program that defines the asked function, None where the answer holds none.

    Args:
        answer: what the model said.
        prompt: the function's beginning as the benchmark gives it: imports, helpers, signature, docstring.
        entry_point: the function's name.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes and comparisons in the model's code
        return _assembled(answer, prompt, entry_point)


def _assembled(answer: str, prompt: str, entry_point: str) -> str | None:
    text = answer_text(answer)
    found = blocks(text) if text else []
    if not text or not found:
        return None
    reader, start = Reader(entry_point, len(text)), _entry_start(prompt, entry_point)
    sections = [Section(block, reader) for block in found]
    is_body = found[0].kind == BETWEEN and begins_with_body(text, entry_point)
    continued = functools.partial(_continued, sections, prompt[start:].rstrip(), entry_point)
    whole = functools.partial(_whole, sections, entry_point)
    statements = continued(is_body=True) if is_body else None
    statements = statements or whole(CUT) or continued(is_body=False) or whole(STUB)
    return _program(prompt[:start].rstrip(), statements, sections) if statements else None


def _entry_start(prompt: str, entry_point: str) -> int:
    """Where the function begins in the prompt, behind imports and helpers that an answer may use."""
    found = re.search(rf"^(?:async )?def {re.escape(entry_point)}\b", prompt, re.MULTILINE)
    return found.start() if found else 0


def _whole(sections: Sequence[Section], entry_point: str, lowest: int) -> list[Statement] | None:
    """What the function needs, where a block defines it; the last of the best such blocks."""
    ranks = [(_rank(section, entry_point), section.block.kind, i) for i, section in enumerate(sections)]
    rank, _, place = max(ranks, default=(0, 0, 0))
    if rank < lowest:
        return None
    main = [part for part in sections[place].statements if _rank_of(part, entry_point) in (0, rank)]
    return _needed(main, sections, place, entry_point)


def _continued(
    sections: Sequence[Section], signature: str, entry_point: str, is_body: bool
) -> list[Statement] | None:
    """The prompt's function with the body of the last block that returns something, and what it needs."""
    places = sorted(range(len(sections)), key=lambda i: (sections[i].block.kind, i), reverse=True)
    for place in [0] if is_body else places:
        section = sections[place]
        if section.block.kind == INLINE or (not is_body and _rank(section, entry_point)):
            continue
        body = read_body(section.block.text, section.reader)
        if body is not None and (body.has_result or is_body):
            function = _function(signature, body)
            if function is not None:
                rest = [part for part in body.rest if part is not None and not part.binds(entry_point)]
                return _needed([function, *rest], sections, place, entry_point)
    return None


def _function(signature: str, body: Body) -> Statement | None:
    source = f"{signature}\n{indent(body.source, INDENT)}"
    tree = parse(source)
    if isinstance(tree, ast.Module):
        return Statement(source, tree.body[-1]) if tree.body else None
    return Statement(source, None) if isinstance(tree, RecursionError | MemoryError) else None


def _needed(
    main: list[Statement], sections: Sequence[Section], place: int, entry_point: str
) -> list[Statement]:
    """What the function needs, in the answer's order; its own block has precedence, then fences have it."""
    others = [section for i, section in enumerate(sections) if i != place]
    groups = [main] + [
        [
            part
            for section in others
            if section.block.kind == kind
            for part in section.statements
            if part.is_whole
        ]
        for kind in (FENCED, BETWEEN)
    ]
    kept = needed(groups, entry_point)
    order = [main if i == place else section.statements for i, section in enumerate(sections)]
    return [part for statements in order for part in statements if part in kept]


def _rank(section: Section, entry_point: str) -> int:
    if entry_point not in section.block.text:
        return 0
    return max((_rank_of(part, entry_point) for part in section.statements), default=0)


def _rank_of(statement: Statement, entry_point: str) -> int:
    """How much of the function a statement defines; 0 for another statement."""
    if not statement.binds(entry_point):
        return 0
    if is_stub(statement):
        return STUB
    return WHOLE if statement.is_whole else CUT


def _program(beginning: str, statements: Iterable[Statement], sections: Iterable[Section]) -> str:
    """The source text; imports from `__future__` have to come before the prompt's own beginning."""
    futures = {
        part.source: None for section in sections for part in section.statements if part.is_known_future
    }
    pieces = [*futures, beginning, *(part.source for part in statements if not part.is_known_future)]
    return "\n\n".join(filter(None, pieces)) + "\n"
