"""The table that a reproduction ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from s2t_eval.report.runs import read_runs
from s2t_eval.reproduce.read import read_recipe
from s2t_eval.reproduce.run import reproduce
from s2t_eval.reproduce.settings import Settings
from s2t_eval.reproduce.summary import print_summary, print_whole, summary
from scripts.summarize_baseline import paired_table
from tests.report_helpers import EMBEDDED, edited
from tests.reproduce.test_read import write

RECIPE = """
title: My pair [bf16]
models: {student: embedded/student}
methods:
  greedy: {model: greedy, label: "greedy [/no_think]"}
tasks: [{task: s2t_arith}]
"""


def test_numbers_are_whole_beside_long_labels(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table had 140 columns; with a longer label, `10,200` tokens were printed as `10…`."""
    monkeypatch.setenv("COLUMNS", "80")
    table = Table()
    for name in ("method", "tokens"):
        table.add_column(name, no_wrap=True)
    table.add_row("a label of a method " * 10, "10,200")
    print_whole(table)
    printed = capsys.readouterr().out
    assert "10,200" in printed and "…" not in printed


def test_brackets_of_titles_and_labels_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """rich read them as markup: `[bf16]` was missing, and `[/no_think]` ended the command in an error."""
    place = tmp_path / "out" / "runs" / "s2t_arith" / "greedy"
    place.mkdir(parents=True)
    (place / "greedy.json").write_text((EMBEDDED / "greedy.json").read_text())
    print_summary(read_recipe(write(tmp_path, RECIPE)).recipe, tmp_path / "out")
    printed = capsys.readouterr().out
    assert "My pair [bf16], n = 300" in printed and "greedy [/no_think]" in printed


COSTS = """
title: costs
models: {student: embedded/student}
methods:
  greedy: {model: greedy}
  pps_local: {model: pps_local, label: mine}
  s2t_local: {model: s2t_local, label: mine}
  tot: {model: tot}
tasks: [{task: s2t_arith}]
"""


def test_a_scorer_is_not_free_and_greedy_decoding_is_no_selection(tmp_path: Path) -> None:
    """`pps_local` stood there with the costs of greedy decoding, a tree with a sixth of its tokens, and a
    distilled student decoded greedily as s2t_local that fires at no step."""
    recipe = read_recipe(write(tmp_path, COSTS)).recipe
    for name in recipe.methods:
        place = tmp_path / "out" / "runs" / "s2t_arith" / name
        place.mkdir(parents=True)
        (place / f"{name}.json").write_text((EMBEDDED / f"{name}.json").read_text())
    [table] = summary(recipe, tmp_path / "out")
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    columns = {str(column.header): own for column, own in zip(table.columns, cells, strict=True)}
    assert columns["method"] == ["greedy", "mine", "mine (Top-K distilled, greedy)", "tot"]
    assert columns["scorer tokens"] == ["0", "18,972", "0", "0"]
    assert columns["fired"] == ["–", "19.7 %", "–", "–"]
    assert columns["tokens / correct"][3] == "513"  # 58,950 tokens for 115 answers
    assert columns["cut off"] == ["0.0 %"] * 4


def with_a_half(content: dict[str, Any]) -> None:
    """As if one of two responses to the first document had been right."""
    lines = content["documents"]["s2t_arith"]
    lines[1] = " ".join([*lines[1].split(" ")[:-1], "0.5"])


@pytest.mark.parametrize(
    ("methods", "halved", "heading"),
    [
        (("greedy", "pps_local"), (), "p (McNemar,\nuncorrected)"),
        (("greedy", "pps_local"), ("pps_local",), "p (permutation,\nuncorrected)"),
        (("greedy", "pps_local", "tot"), ("tot",), "p (McNemar or\npermutation,\nuncorrected)"),
        (("greedy",), (), "p (uncorrected)"),
    ],
)
def test_p_is_headed_by_its_test(
    methods: tuple[str, ...],
    halved: tuple[str, ...],
    heading: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every p was called McNemar's, also of means of responses, and nothing said that it is not corrected."""
    rows = "\n".join(f"  {name}: {{model: {name}}}" for name in methods)
    text = f"models: {{student: embedded/student}}\nmethods:\n{rows}\ntasks: [{{task: s2t_arith}}]\n"
    runs = []
    for name in methods:
        place = tmp_path / "out" / "runs" / "s2t_arith" / name / f"{name}.json"
        runs.append(edited(EMBEDDED / f"{name}.json", place, with_a_half if name in halved else len))
    recipe = read_recipe(write(tmp_path, f"title: p\n{text}")).recipe
    [table] = summary(recipe, tmp_path / "out")
    assert heading in [str(column.header) for column in table.columns]
    print_whole(table)
    printed = capsys.readouterr().out
    assert all(line in printed for line in heading.split("\n")) and "…" not in printed
    in_one_line = heading.replace("\n", " ")
    [control, *_] = read = read_runs(runs)
    assert f"| won / lost | {in_one_line} | cut off |" in paired_table(read, control)


def test_the_recipe_is_the_one_that_was_read_at_the_beginning(tmp_path: Path) -> None:
    """The file was read again after the run: moved meanwhile, a whole run ended with exit code 2."""
    path = Path(write(tmp_path, RECIPE))

    def move(line: str) -> None:
        path.unlink(missing_ok=True)

    done = reproduce(Settings(str(path), out=tmp_path / "out", plan=True), move)
    assert not path.exists() and done.recipe.title == "My pair [bf16]"
