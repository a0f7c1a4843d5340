"""The speed page: its runs, its tables, and that the committed page is made from the committed runs."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import end_to_end
from benchmarks.end_to_end import describe, schedule, sides_of, with_earlier_runs
from benchmarks.figure_table import figure_table
from benchmarks.ratios import this_machine
from benchmarks.speed_table import speed_table, spread
from s2t_eval.method_table import BACKENDS
from s2t_eval.models.loading import default_device
from s2t_eval.reproduce.read import read_recipe
from scripts import generate_speed_page

RECIPE = read_recipe("embedded").recipe
CALIBRATION = {"calibration": "calibration.json"}


def run(side: str, number: int, seconds: float, correct: float = 4.0) -> dict[str, Any]:
    """A run of 100 tokens."""
    return {
        **{"side": side, "batch": 1, "round": number, "load": 0.5, "seconds": seconds, "tokens": 100},
        **{"documents": 8, "correct": correct, "peak_memory": 2**29, "costs": {}},
    }


def content(runs: list[dict[str, Any]]) -> dict[str, Any]:
    sides = {side.name: side for side in sides_of(RECIPE, CALIBRATION, ["hf", "greedy"])}
    return {**describe(RECIPE, sides, 8), "commit": "0123456789", "runs": runs}


def test_ratios_are_of_the_same_round() -> None:
    runs = [run("hf", 0, 1.0), run("greedy", 0, 0.5), run("hf", 1, 10.0), run("greedy", 1, 5.0)]
    rows = {
        line.split("|")[1].strip(): line for line in speed_table(content(runs)).splitlines() if "|" in line
    }
    cells = [cell.strip() for cell in rows["greedy"].split("|")[2:-1]]
    assert cells == ["110 (20–200)", "2.00 (2.00–2.00)", "0.50", "4", "0.69 (0.12–1.25)"]


def test_a_side_without_right_answers_has_no_price() -> None:
    table = speed_table(content([run("hf", 0, 1.0), run("greedy", 0, 0.5, correct=0.0)]))
    assert table.splitlines()[-1].endswith("| 0 | – |")


def test_a_side_that_was_trained_for_its_speed_shows_no_answers() -> None:
    """A selector of a few texts decodes as fast as one of all texts; its answers say nothing."""
    kept = content([run("hf", 0, 1.0), run("greedy", 0, 0.5)])
    table = speed_table({**kept, "speed_only": {"greedy": True}})
    assert table.splitlines()[-1].endswith("| 200 | 2.00 | 0.50 | – | – |")
    sides = {side.name: side for side in sides_of(RECIPE, CALIBRATION, ["hf", "greedy"])}
    assert describe(RECIPE, sides, 8, ["greedy"])["speed_only"] == {"hf": False, "greedy": True}
    with pytest.raises(ValueError, match="--speed-only: expected some of hf, greedy, got tah"):
        describe(RECIPE, sides, 8, ["tah"])


def test_spread_of_one_value_is_that_value() -> None:
    assert (spread([]), spread([1234.5]), spread([12.34, 12.0])) == ("–", "1,234", "12.2 (12.0–12.3)")
    assert (spread([0.51]), spread([0.01234])) == ("0.51", "0.0123")


def test_every_side_runs_once_a_round_and_another_begins() -> None:
    assert list(schedule(["a", "b"], [1, 32], 2)) == [
        *[(0, 1, "a"), (0, 1, "b"), (0, 32, "a"), (0, 32, "b")],
        *[(1, 1, "b"), (1, 1, "a"), (1, 32, "b"), (1, 32, "a")],
    ]


def test_all_rows_of_the_recipe_stand_beside_the_stock_models() -> None:
    names = [side.name for side in sides_of(RECIPE, CALIBRATION, [])]
    assert names == ["hf", "hf-teacher", *RECIPE.methods]


def test_stock_models_run_where_ours_do() -> None:
    """Stock `hf` looks for a GPU unless it is told a device, and ends where there is none."""
    recipe = read_recipe("qwen-gsm8k-compared").recipe
    assert recipe.models.device is None
    sides = sides_of(recipe, {}, ["hf", "hf-teacher", "greedy"])
    assert {side.model_args["device"] for side in sides} == {default_device()}


def test_a_row_without_its_artifact_is_refused_where_it_is_named() -> None:
    with pytest.raises(ValueError, match="row s2t_kl_tau1: expected --place calibration=PATH, got none"):
        sides_of(RECIPE, {}, ["s2t_kl_tau1"])
    assert "s2t_kl_tau1" not in [side.name for side in sides_of(RECIPE, {}, [])]
    with pytest.raises(ValueError, match=r"--rows: expected some of hf, .*, got greedily"):
        sides_of(RECIPE, {}, ["greedily"])


def test_runs_of_another_commit_are_not_continued(tmp_path: Path) -> None:
    kept = content([run("hf", 0, 1.0)])
    out = tmp_path / "speed.json"
    out.write_text(json.dumps(kept))
    heading = {name: value for name, value in kept.items() if name != "runs"}
    assert with_earlier_runs(out, heading) == (heading, kept["runs"])
    assert with_earlier_runs(tmp_path / "new.json", heading) == (heading, [])
    with pytest.raises(ValueError, match=r"expected runs of commit 'fff', got '0123456789'; move the file"):
        with_earlier_runs(out, {**heading, "commit": "fff"})


def test_rows_are_added_to_an_earlier_measurement(tmp_path: Path) -> None:
    kept = content([run("hf", 0, 1.0)])
    out = tmp_path / "speed.json"
    out.write_text(json.dumps({**kept, "labels": {"hf": "stock `hf`"}}))
    heading = {name: value for name, value in kept.items() if name != "runs"}
    extended, runs = with_earlier_runs(out, {**heading, "labels": {"maj8": "maj8"}, "sides": {"maj8": "0"}})
    assert extended["labels"] == {"hf": "stock `hf`", "maj8": "maj8"}
    assert extended["sides"] == {**kept["sides"], "maj8": "0"}
    assert runs == kept["runs"]


def test_a_row_of_other_models_is_not_continued(tmp_path: Path) -> None:
    """Runs of two students stood as rounds of one row."""
    out = tmp_path / "speed.json"
    out.write_text(json.dumps(content([run("hf", 0, 1.0)])))
    headings = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
        recipe = read_recipe("embedded", [f"models.student={tmp_path / name}"]).recipe
        headings.append(describe(recipe, {side.name: side for side in sides_of(recipe, {}, ["hf"])}, 8))
    one, two = ({**heading, "commit": "0123456789"} for heading in headings)
    assert one["sides"] != two["sides"] and str(tmp_path) not in json.dumps(one["sides"])
    with pytest.raises(ValueError, match="its runs of hf are of other models or arguments"):
        with_earlier_runs(out, one)


def test_the_committed_page_is_made_from_the_committed_runs() -> None:
    for path in generate_speed_page.PAGES:
        page = path.read_text()
        assert generate_speed_page.written(path, page) == page


def test_every_measurement_that_is_kept_stands_on_a_page() -> None:
    """The one of a GPU was typed by hand: nothing had read its file, so it could not be noticed as stale."""
    kept = {path.parent for path in (generate_speed_page.REPOSITORY / "results/speed").rglob("*.json")}
    assert kept == {generate_speed_page.REPOSITORY / part.folder for part in generate_speed_page.PARTS}


def test_a_figure_on_the_speed_page_has_data() -> None:
    """About 35 rows had none: a ratio with its x stands in generated parts alone."""
    page = generate_speed_page.SPEED.read_text()
    for part in generate_speed_page.PARTS:
        before, _, rest = page.partition(part.begin)
        page = before + rest.partition(generate_speed_page.END)[2]
    assert not re.findall(r"\|.*\d(?:\.\d+)?x", page)


def test_the_real_pair_has_a_row_of_every_backend() -> None:
    """What is trained had none, so that no command could add it to the table."""
    recipe = read_recipe(str(generate_speed_page.REPOSITORY / "benchmarks" / "qwen_gsm8k.yaml")).recipe
    trained = ("selector", "paper_selector", "distilled", "looped", "r2r")
    sides = sides_of(recipe, {name: f"trained/{name}" for name in trained}, [])
    votes = {"maj_at_k"}  # maj8 with another number of samples
    assert {side.model for side in sides} == {*BACKENDS, "hf"} - votes
    # rows that were measured are those of before, so that others can be added to their file
    without = sides_of(recipe, {}, [])
    for path in (generate_speed_page.REPOSITORY / "results/speed").glob("qwen-gsm8k*.json"):
        kept = json.loads(path.read_text())
        assert kept["labels"].items() <= {side.name: side.label for side in sides}.items()
        speed_only = {name for name, is_so in kept.get("speed_only", {}).items() if is_so}
        assert kept["labels"].keys() - speed_only <= {side.name for side in without}
    assert not {side.model for side in without} & {"distil", "tah", "r2r", "s2t_local", "pps_local"}


def test_the_caption_of_figures_names_the_models_that_they_load() -> None:
    """The kernels of a step, of a student alone, would have stood below a student and the default teacher."""
    machine = asdict(this_machine())
    settings = {"student": "one", "teacher": "two", "dtype": "bfloat16"}
    ratio = {"name": "a", "values": [0.5], "n": 1, "target": None, "is_met": None}

    def table(*names: str, **others: str) -> str:
        figures = [{"figure": name, "settings": settings, "ratios": [ratio]} for name in names]
        figures[-1] = {**figures[-1], "settings": {**settings, **others}}
        return figure_table({"machine": machine, "figures": figures})

    assert table("kernels").startswith("`one`, bfloat16; ")
    assert table("kernels", "verify").startswith("`one`, bfloat16 and `two`, bfloat16; ")
    with pytest.raises(ValueError, match="same models and dtype, got `one`, bfloat16, `one`, float32"):
        table("kernels", "local", dtype="float32")


def test_a_figure_names_its_texts_and_its_commit() -> None:
    """Two texts of 128 tokens and 64 of 512 stood in tables alike."""
    settings = {"student": "one", "dtype": "bfloat16", "requests": 8, "new_tokens": 64}
    ratio = {"name": "a", "values": [0.5], "n": 1, "target": None, "is_met": None}
    figure = {"figure": "pps", "commit": "0123456789", "settings": settings, "ratios": [ratio]}
    table = figure_table({"machine": asdict(this_machine()), **figure})
    assert "; commit `0123456` (" in table
    assert table.splitlines()[-1] == "| a, 8 texts of at most 64 tokens | 0.50 | 1 | – |"


@pytest.mark.slow
def test_a_measurement_is_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed.json"
    given = ["embedded", "--rows", "hf", "greedy", "--batches", "2", "--limit", "2", "--out", str(out)]
    end_to_end.main([*given, "--rounds", "1"])
    first = json.loads(out.read_text())["runs"]
    stock, greedy = first
    assert stock["documents"] == greedy["documents"] == 2
    assert stock["tokens"] == greedy["tokens"] > 0
    assert stock["correct"] == greedy["correct"]
    capsys.readouterr()
    end_to_end.main([*given, "--rounds", "2"])
    both = json.loads(out.read_text())["runs"]
    assert both[:2] == first
    assert [run["side"] for run in both[2:]] == ["greedy", "hf"]
    assert "round 1" not in capsys.readouterr().out
