"""A table of cells, as Markdown, LaTeX (booktabs) and HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

LATEX = {
    "\\": r"\textbackslash{}",
    **{c: "\\" + c for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "Δ": r"$\Delta$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "→": r"$\to$",
    "−": "$-$",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


@dataclass(frozen=True)
class Cell:
    """One cell: the measured figure, and the published one after it (in parentheses, grey)."""

    text: str = ""
    published: str | None = None
    is_best: bool = False


@dataclass(frozen=True)
class Block:
    """Rows under a common heading, the first cell of each its label."""

    heading: str
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        name: of its files.
        title: above it.
        head: column names, that of the labels first.
        blocks: its rows.
        notes: explanations below it, a sentence or two each.
        data: the same numbers, not rounded and in long form, for CSV.
    """

    name: str
    title: str
    head: Sequence[str]
    blocks: Sequence[Block]
    notes: Sequence[str]
    data: pd.DataFrame

    def markdown(self) -> str:
        """GitHub's tables."""
        lines = [f"## {md(self.title)}", "", _line(list(map(md, self.head)))]
        lines.append(_line(["---"] + ["---:"] * (len(self.head) - 1)))
        for block in self.blocks:
            if block.heading:
                lines.append(_line([f"**{md(block.heading)}**"] + [""] * (len(self.head) - 1)))
            lines += [_line([_markdown(cell) for cell in row]) for row in block.rows]
        return "\n".join([*lines, "", *(f"{md(note)}\n" for note in self.notes)])

    def latex(self) -> str:
        """A table environment; needs booktabs, graphicx and xcolor."""
        lines = [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{tex(self.title)}}}",
            rf"\label{{tab:{self.name}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * (len(self.head) - 1)}}}",
            r"\toprule",
            " & ".join(map(tex, self.head)) + r" \\",
        ]
        for block in self.blocks:
            lines.append(r"\midrule")
            if block.heading:
                lines.append(rf"\multicolumn{{{len(self.head)}}}{{l}}{{\textbf{{{tex(block.heading)}}}}} \\")
            lines += [" & ".join(map(_latex, row)) + r" \\" for row in block.rows]
        lines += [r"\bottomrule", r"\end{tabular}}"]
        lines += [rf"\par\smallskip\raggedright\footnotesize {tex(note)}" for note in self.notes]
        return "\n".join([*lines, r"\end{table}", ""])

    def html(self) -> str:
        """A table that the page's script sorts by a column, within each block."""
        lines = [f'<table class="sortable" id="{self.name}"><thead><tr>']
        lines += [f'<th scope="col">{html.escape(name)}</th>' for name in self.head]
        lines.append("</tr></thead>")
        for block in self.blocks:
            lines.append("<tbody>")
            if block.heading:
                cell = f'<th scope="rowgroup" colspan="{len(self.head)}">{html.escape(block.heading)}</th>'
                lines.append(f'<tr class="heading">{cell}</tr>')
            for row in block.rows:
                lines.append("<tr>" + "".join(map(_html, row)) + "</tr>")
            lines.append("</tbody>")
        return "\n".join([*lines, "</table>"])


def tex(text: str) -> str:
    """Text with LaTeX's special characters escaped, including `[` and `*` at the beginning of a row."""
    escaped = "".join(LATEX.get(character, character) for character in plain(text))
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped[:1] in ("[", "*") else escaped


def md(text: str) -> str:
    """Text with the characters escaped that begin HTML, a link or a cell in Markdown; emphasis is kept."""
    escaped = plain(text).replace("\\", "\\\\").replace("|", "\\|").replace("](", "]\\(")
    return re.sub(r"&(?=[#\w])", "&amp;", escaped).replace("<", "&lt;")


def plain(text: str) -> str:
    """Text on one line, with control characters replaced by spaces."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown(cell: Cell) -> str:
    text = f"**{md(cell.text)}**" if cell.is_best else md(cell.text)
    return f"{text} ({md(cell.published)})".strip() if cell.published else text


def _latex(cell: Cell) -> str:
    text = rf"\textbf{{{tex(cell.text)}}}" if cell.is_best else tex(cell.text)
    grey = rf"\textcolor{{gray}}{{({tex(cell.published)})}}" if cell.published else ""
    return f"{text} {grey}".strip()


def _html(cell: Cell) -> str:
    text = html.escape(cell.text)
    text = f"<strong>{text}</strong>" if cell.is_best else text
    grey = f' <span class="published">({html.escape(cell.published)})</span>' if cell.published else ""
    return f"<td>{text}{grey}</td>"
