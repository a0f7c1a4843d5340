"""The table of several selectors, from folders as `s2t-eval train` writes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from s2t_eval.artifacts.fingerprint import folder_hash
from s2t_eval.embedded import embedded_path
from s2t_eval.statistics import wilson
from scripts import generate_search_page
from scripts.summarize_search import row, write
from tests import learning


def with_problems(source: Path, folder: Path, problems: int) -> Path:
    """A copy of a selector, as if it had learnt from another number of problems."""
    shutil.copytree(source, folder)
    info = json.loads((folder / "selector.json").read_text())
    info["training"]["problems"] = problems
    (folder / "selector.json").write_text(json.dumps(info))
    return folder


def test_a_row_for_each_selector_and_a_curve_of_those_that_differ_in_size_alone(tmp_path: Path) -> None:
    selector = learning.selector("direct")
    sizes = [with_problems(selector, tmp_path / f"of_{count}", count) for count in (9, 36)]
    write([selector, *sizes, learning.selector("residual")], tmp_path / "out")
    data = pd.read_csv(tmp_path / "out" / "selectors.csv")
    assert data["problems"].tolist() == [18, 9, 36, 18] and data["form"].nunique() == 2
    training = json.loads((selector / "selector.json").read_text())["training"]
    first, last = data.iloc[0], training["history"][-1]
    assert first["agree"] == pytest.approx(training["held_out"]["agree@1"], rel=1e-5)
    assert first["n"] == training["held_out"]["groups"] and first["last_n"] == last["groups"]
    assert first["last_agree"] == pytest.approx(last["agree@1"], rel=1e-5)
    bounds = wilson(round(last["agree@1"] * last["groups"]), last["groups"])
    assert (first["last_agree_low"], first["last_agree_high"]) == pytest.approx(bounds, rel=1e-5)
    curve = pd.read_csv(tmp_path / "out" / "learning_curve.csv")
    assert curve["problems"].tolist() == [9, 18, 36] and (curve["form"] == "direct").all()
    assert "problems that are learnt from" in (tmp_path / "out" / "learning_curve.svg").read_text()


def test_selectors_of_before_are_refused() -> None:
    """The shipped one was chosen by all its held-out texts: it has no figures of others."""
    with pytest.raises(
        ValueError, match=r"expected a selector folder of this version .*'choosing' is missing"
    ):
        row(embedded_path("embedded/selector"))


def test_the_tables_of_the_page_are_those_of_the_committed_figures() -> None:
    page = generate_search_page.PAGE.read_text()
    assert generate_search_page.written(page) == page


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"selector-search\.md: expected the lines '<!-- Shares: "):
        generate_search_page.written("# A page\n")


def test_a_second_round_is_no_point_of_the_learning_curve(tmp_path: Path) -> None:
    """Its settings are those of the first round: its point was drawn among selectors of greedy texts."""
    first = with_problems(learning.selector("direct"), tmp_path / "first", 9)
    second = with_problems(first, tmp_path / "second", 9)
    info = json.loads((second / "selector.json").read_text())
    info["labels"]["rollouts"] = {"selector": folder_hash(first)}
    info["training"]["settings"]["start"] = folder_hash(first)
    (second / "selector.json").write_text(json.dumps(info))
    write([learning.selector("direct"), first, second], tmp_path / "out")
    data = pd.read_csv(tmp_path / "out" / "selectors.csv").set_index("selector")
    assert data.loc["second", "texts"] == "selector" and data.loc["second", "start"] == "first"
    curve = pd.read_csv(tmp_path / "out" / "learning_curve.csv")
    assert "first" in set(curve["selector"]) and "second" not in set(curve["selector"])
    table = generate_search_page.selector_table(pd.read_csv(tmp_path / "out" / "selectors.csv"))
    assert "from `first`, on its own texts" in table.splitlines()[-1]
