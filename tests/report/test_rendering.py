"""Names of models and methods are text everywhere: no formula, markup, command or row of their own."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from s2t_eval.analysis.rescue import _code
from s2t_eval.cli import main
from s2t_eval.report.figures import csv_text
from s2t_eval.report.table import Block, Cell, Table, md, plain, tex
from tests.report_helpers import EMBEDDED, edited

HOSTILE = [
    "=HYPERLINK(\"http://x\")",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "a|b",
    "a\\|b\\",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](http://x/y.png)",
    r"$\bad{$",
    r"$x$ and $y",
    r"50% of \input{/etc/passwd} & more_of #1 ~ ^",
    "two\nlines\r\nand\x00 more",
    "[5mm] off",
    "* starred",
    "&lt;b&gt;",
]  # fmt: skip


def named(name: str, folder: Path) -> list[Path]:
    """The committed runs of greedy and s2t, of a model of this name."""
    folder.mkdir(exist_ok=True)
    files = []
    for run in ("greedy", "s2t"):

        def change(content: dict[str, Any]) -> None:
            content["config"]["s2t_eval"]["pretrained"] = name

        source = next(p for p in EMBEDDED.glob("*.json") if p.stem.startswith(run))
        files.append(edited(source, folder / source.name, change))
    return files


@pytest.mark.parametrize("first", range(0, len(HOSTILE), 4))
def test_a_report_of_any_model_name(first: int, tmp_path: Path) -> None:
    """`$\\bad{$` in a name ended the report; others came out as formulas, cells or markup."""
    out, names = tmp_path / "out", HOSTILE[first : first + 4]
    files = [str(path) for i, name in enumerate(names) for path in named(name, tmp_path / str(i))]
    main(["report", *files, f"--title={''.join(names)}", "--out", str(out)])
    text = (out / "report.md").read_text()
    assert "<script" not in text and "<img" not in text and "](http" not in text
    for table in text.split("\n## ")[1:]:
        lines = [line for line in table.split("\n") if line.startswith("|")]
        assert len({len(cells(line)) for line in lines}) == 1, table
    for path in out.glob("*.csv"):
        for row in csv.reader(io.StringIO(path.read_text(), newline="")):
            assert not any(is_formula(value) for value in row), (path.name, row)
    for path in out.glob("*.svg"):
        ElementTree.fromstring(path.read_text())
    page = (out / "report.html").read_text()
    assert "<script>alert" not in page and "<img src=x" not in page


def cells(line: str) -> list[str]:
    """A row's cells as GitHub takes them: a backslash takes the character behind it along."""
    cells, cell, characters = [], "", iter(line.strip().strip("|"))
    for character in characters:
        if character == "\\":
            cell += character + next(characters, "")
        elif character == "|":
            cells.append(cell)
            cell = ""
        else:
            cell += character
    return [*cells, cell]


def is_formula(value: str) -> bool:
    if not value.startswith(("=", "+", "-", "@")):
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False


def test_numbers_of_a_csv_stay_numbers() -> None:
    data = pd.DataFrame({"name": ["=A1", "plain", "-3", "-x", None], "value": [-1.5, 2.0, -0.25, 3, -4]})
    lines = csv_text(data).splitlines()
    assert lines[1:] == ["'=A1,-1.5", "plain,2", "-3,-0.25", "'-x,3", ",-4"]
    assert csv_text(pd.DataFrame({"=x": [1]})).splitlines()[0] == "'=x"
    assert csv_text(pd.DataFrame({"x": [" =A1", "\t=A1"]})).splitlines()[1].startswith("' =A1")


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("a|b", "a\\|b"),
        ("a\\|b", "a\\\\\\|b"),
        ("<b>", "&lt;b>"),
        ("&lt;", "&amp;lt;"),
        ("R & D", "R & D"),
        ("[x](y)", "[x]\\(y)"),
        ("61.2 [50.0, 70.0] n=9", "61.2 [50.0, 70.0] n=9"),
        ("a\nb\u2028c", "a b c"),
    ],
)
def test_markdown(text: str, markdown: str) -> None:
    assert md(text) == markdown


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("[x] y", "{[}x] y"),
        ("* y", "{*} y"),
        ("a|b", r"a\textbar{}b"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("$x$", r"\$x\$"),
        ("a\nb", "a b"),
        ("", ""),
    ],
)
def test_latex(text: str, latex: str) -> None:
    assert tex(text) == latex


def test_a_table_of_hostile_texts() -> None:
    rows = [[Cell(text), Cell(text, text, is_best=True)] for text in HOSTILE]
    table = Table(
        "t", HOSTILE[6], [HOSTILE[4], HOSTILE[13]], [Block(HOSTILE[4], rows)], HOSTILE, pd.DataFrame()
    )
    lines = [line for line in table.markdown().split("\n") if line.startswith("| ")]
    assert len(lines) == 3 + len(HOSTILE)
    assert {len(cells(line)) for line in lines} == {2}
    assert "<script" not in table.markdown() and "<script" not in table.html()


def test_code_keeps_its_backticks() -> None:
    for text in ("a`b", "``", "`", "a``b```c", "plain", ""):
        shown = _code(text)
        fence = shown[: len(shown) - len(shown.lstrip("`"))]
        assert fence not in (text or "∅") and shown.endswith(fence)
        assert shown[len(fence) : -len(fence)].strip(" ") == (text or "∅")


def test_a_comparison_of_hostile_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(content: dict[str, Any]) -> None:
        # as if the last text had become another, and a wrong one
        content["documents"]["s2t_arith"][-1] = content["documents"]["s2t_arith"][-1].rsplit(" ", 1)[0] + " 0"

    source = json.loads((EMBEDDED / "greedy.json").read_text())
    assert source["documents"]["s2t_arith"]
    new = edited(EMBEDDED / "greedy.json", tmp_path / "a|b <img src=x>.json", change)
    main(["compare", str(EMBEDDED / "greedy.json"), str(new), "--fail_on", "nothing"])
    text = capsys.readouterr().out
    assert "<img" not in text
    lines = [line for line in text.split("\n") if line.startswith("|")]
    assert len({len(cells(line)) for line in lines}) == 1


def test_plain_text() -> None:
    assert plain("a\tb\x7f\x85c\nd") == "a b c d"
