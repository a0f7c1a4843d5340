"""Tables and figures from the committed results, and what may not stand in one column."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from s2t_eval.method_table import BY_KEY
from s2t_eval.report.ablation_table import ablation_table
from s2t_eval.report.benchmarks import BENCHMARKS
from s2t_eval.report.blocks import arrange
from s2t_eval.report.comparable import NotComparableError
from s2t_eval.report.costs import costs
from s2t_eval.report.efficiency_table import efficiency_table
from s2t_eval.report.figures import (
    accuracy_plot,
    canvas,
    interval_arms,
    number_range,
    pareto_plot,
    spread,
)
from s2t_eval.report.json_files import ResultsError
from s2t_eval.report.main_table import main_table
from s2t_eval.report.published import published, published_size, sources
from s2t_eval.report.run import Run
from s2t_eval.report.runs import read_runs
from s2t_eval.report.seeds_table import seeds_table
from s2t_eval.report.table import Block, Cell, Table, tex
from s2t_eval.report.traces import pieces, read_trace
from s2t_eval.report.write import Options, make_tables
from s2t_eval.statistics import wilson
from tests.commands import exit_code, refused
from tests.harness_helpers import tokenizer
from tests.report_helpers import EMBEDDED, QWEN_200, REAL, edited, other_limit, scored


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return read_runs([EMBEDDED, REAL / "greedy.json", REAL / "s2t_tau5.json"])


def row_of(table: Table, block: int, label: str) -> dict[str, Cell]:
    [row] = [row for row in table.blocks[block].rows if row[0].text == label]
    return dict(zip(table.head, row, strict=True))


# ---------------------------------------------------------------- tables


def test_main_table_puts_published_beside_measured(runs: list[Run]) -> None:
    table = main_table(arrange(runs, {"qwen-0.5b": "qwen/Qwen2.5-0.5B-Instruct"}))
    assert [block.heading for block in table.blocks] == [
        "embedded/student",
        "qwen/Qwen2.5-0.5B-Instruct",
        "Qwen2.5-1.5B-Instruct, published numbers only",
    ]
    cell = row_of(table, 1, "S2T (teacher), kl, tau 5 %, K 8")["GSM8k"]
    assert cell == Cell("39.6", "83.2", is_best=True)
    assert row_of(table, 1, "Greedy")["GSM8k"] == Cell("21.9", "44.5", is_best=False)
    assert row_of(table, 1, "Distil")["GSM8k"] == Cell("", "?")
    assert row_of(table, 2, "Maj@8")["HumanEval"].text == "–"
    assert row_of(table, 0, "Maj@8")["HumanEval"].text == "–"
    assert row_of(table, 2, "PPS-Local")["Math Avg"].published == "48.8"


def of_eight(content: dict[str, Any]) -> None:
    """As eight responses to each problem of GSM8k give them."""
    for entries in (value for value in content.values() if isinstance(value, dict) and "s2t_arith" in value):
        entries["s2t_gsm8k"] = entries.pop("s2t_arith")
    del content["documents"]
    content["results"]["s2t_gsm8k"] |= {"avg@8,answer": 0.44, "pass@8,answer": 0.81}
    content["config"]["s2t_eval"]["pretrained"] = "Qwen/Qwen2.5-0.5B-Instruct"


def test_published_numbers_stand_beside_no_other_metric(tmp_path: Path) -> None:
    """The published accuracy stood beside pass@8, and no table said which metric its figures were of."""
    path = edited(EMBEDDED / "greedy.json", tmp_path / "greedy.json", of_eight)

    def table_of(metrics: dict[str, str]) -> Table:
        return make_tables(arrange(read_runs([path], metrics)), Options())[0]

    own, chosen = table_of({}), table_of({"s2t_gsm8k": "pass@8,answer"})
    assert row_of(own, 0, "Greedy")["GSM8k"] == Cell("44.3", "44.5", is_best=False)
    assert row_of(chosen, 0, "Greedy")["GSM8k"] == Cell("81.0", None, is_best=False)
    assert row_of(own, 0, "Greedy")["Math Avg"].published is not None
    assert row_of(chosen, 0, "Greedy")["Math Avg"].published is None
    assert row_of(chosen, 0, "Greedy")["HumanEval"].published is not None
    assert "Scores by lm_eval's metric and filter: GSM8k exact_match,answer." in own.notes
    assert "Scores by lm_eval's metric and filter: GSM8k pass@8,answer." in chosen.notes
    left_out = "Published numbers of GSM8k are left out: the scores are of another metric."
    assert left_out in chosen.notes and left_out not in own.notes


def test_published_numbers_stand_beside_no_other_student(runs: list[Run]) -> None:
    """Those of Qwen2.5-0.5B-Instruct once stood beside the Coder model of the same size."""
    blocks = {block.heading: block.rows for block in main_table(arrange(runs)).blocks}
    assert list(blocks)[2:] == [
        "Qwen2.5-1.5B-Instruct, published numbers only",
        "Qwen2.5-0.5B-Instruct, published numbers only",
    ]
    for student in ("embedded/student", "qwen-0.5b"):
        assert not any(cell.published for row in blocks[student] for cell in row)


def test_the_teacher_alone_is_no_method_of_the_student(runs: list[Run]) -> None:
    table = main_table(arrange(runs))
    labels = [row[0].text for row in table.blocks[0].rows]
    assert labels[0] == "Greedy" and labels[-1] == "Teacher alone"
    assert row_of(table, 0, "Teacher alone")["Arith (embedded)"] == Cell("93.7")
    cells = [row_of(table, 0, label)["Arith (embedded)"] for label in labels]
    assert [cell.text for cell in cells if cell.is_best] == ["92.0"]  # a student's row, not the teacher's


def test_two_selectors_of_one_setting_keep_rows_of_their_own(tmp_path: Path) -> None:
    paths = []
    for name in ("first", "second"):

        def select(content: dict[str, Any], name: str = name) -> None:
            content["config"]["s2t_eval"]["selector"] = name

        paths.append(edited(EMBEDDED / "s2t_kl_tau1.json", tmp_path / f"{name}.json", select))
    labels = [entry.label for entry in arrange(read_runs(paths))]
    assert labels == [f"S2T (teacher), kl, tau 1 %, K 8 ({name})" for name in ("first", "second")]


def test_intervals_on_request(runs: list[Run]) -> None:
    table = main_table(arrange(runs), intervals=True, with_published=False)
    assert table.head == [
        "method",
        "GSM8k",
        "Arith (embedded)",
        "cut off",
        "generated tokens / correct answer",
    ]
    assert row_of(table, 1, "Greedy")["GSM8k"].text == "21.9 [14.8–31.1] n=96"


def benchmark_runs(tmp_path: Path, values: dict[str, float]) -> list[Run]:
    """The greedy run as if it were of other benchmarks."""
    paths = []
    for task, value in values.items():

        def rename(content: dict[str, Any], task: str = task, value: float = value) -> None:
            for name in ("results", "configs", "versions", "n-samples", "higher_is_better", "documents"):
                content[name] = {task: content[name]["s2t_gsm8k"]}
            content["results"][task]["exact_match,answer"] = value

        paths.append(edited(REAL / "greedy.json", tmp_path / f"{task}.json", rename))
    return read_runs(paths)


def test_math_average_needs_all_four(tmp_path: Path) -> None:
    values = {"gsm8k": 0.5, "s2t_math500": 0.25, "s2t_olympiadbench": 0.125, "s2t_aime25": 0.0}
    runs = benchmark_runs(tmp_path, values)
    names = {"qwen-0.5b": "Qwen2.5-0.5B-Instruct"}
    assert row_of(main_table(arrange(runs, names)), 0, "Greedy")["Math Avg"] == Cell("21.9", "20.2")
    table = main_table(arrange(runs[:3], names))
    assert row_of(table, 0, "Greedy")["Math Avg"] == Cell("", "20.2")
    assert "Math Avg" not in main_table(arrange(runs[:3]), with_published=False).head


def test_ablation_and_efficiency() -> None:
    names = ("greedy", "teacher", "s2t_random_tau5", "s2t_kl_tau5", "maj8")
    embedded = [EMBEDDED / f"{name}.json" for name in names]
    entries = arrange(read_runs([*embedded, REAL / "greedy.json"]))  # seconds were measured of the last alone
    ablation = ablation_table(entries)
    assert ablation is not None
    random = row_of(ablation, 0, "S2T (teacher), random, tau 5 %, K 8")
    assert random["won / lost"].text == "6 / 1"
    kl = row_of(ablation, 0, "S2T (teacher), kl, tau 5 %, K 8")
    # 133, 241 and 281 of 300 are correct; a share of a gain never stands without its interval.
    assert kl["share of gap (95 %)"].text.startswith(f"{100 * (241 - 133) / (281 - 133):.0f} % (6")
    efficiency = efficiency_table(entries)
    assert efficiency is not None
    assert row_of(efficiency, 0, "Maj@8")["tokens"].text == "272.0"
    assert row_of(efficiency, 0, "Greedy")["seconds"].text == "–"
    assert "seconds" not in efficiency_table(entries, times=False).head  # type: ignore[union-attr]


def test_tokens_of_some_methods_alone_have_columns_where_they_are(tmp_path: Path) -> None:
    """R2R's and SpecReason's own tokens stood in no table, nor did rejected drafts."""

    def questions(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["telemetry"]["evaluation_tokens"] = 600

    files = [EMBEDDED / f"{name}.json" for name in ("greedy", "r2r_tau5", "tot")]
    few = efficiency_table(arrange(read_runs(files)))
    scored = edited(EMBEDDED / "specreason.json", tmp_path / "specreason.json", questions)
    table = efficiency_table(arrange(read_runs([*files, scored])))
    plain = efficiency_table(arrange(read_runs([EMBEDDED / "greedy.json", EMBEDDED / "s2t_kl_tau5.json"])))
    assert table is not None and few is not None and plain is not None
    own = ["written by teacher", "discarded tokens", "evaluation tokens"]
    assert [title for title in table.head if title in own] == own
    assert [title for title in few.head if title in own] == own[:2]
    assert not set(own) & set(plain.head) and not any("dash" in note for note in plain.notes)
    shown = {
        row[0].text.split(",")[0]: [c.text for title, c in zip(table.head, row, strict=True) if title in own]
        for row in table.blocks[0].rows
    }
    assert shown == {
        "Greedy": ["–", "–", "–"],
        "R2R": ["1.6", "–", "–"],
        "SpecReason": ["8.1", "8.1", "2.0"],
        "Tree of Thoughts": ["–", "162.5", "–"],
    }


def test_published_gains_stand_beside_those_of_the_published_student_alone() -> None:
    """The main table alone had published numbers."""
    runs = read_runs([REAL])
    table = ablation_table(arrange(runs, {"qwen-0.5b": "Qwen2.5-0.5B-Instruct"}))
    assert table is not None
    gains = {row[0].text: row[3].published for row in table.blocks[0].rows}
    # 83.2 of S2T and 86.9 of takeover, 44.5 of greedy decoding; a method's first row has its number.
    first, second, takeover, teacher = gains
    assert (gains[first], gains[second]) == ("+38.7", None)
    assert (gains[takeover], gains[teacher]) == ("+42.4", None)
    assert table.data["published_delta"].notna().sum() == 2
    assert any("published accuracies" in note for note in table.notes)
    other = ablation_table(arrange(runs))
    assert other is not None and other.data["published_delta"].isna().all()
    assert not any("published" in note for note in other.notes)


def test_published_accuracies_stand_in_the_figure_of_the_published_student_alone() -> None:
    """The figure of accuracies had none, although the table beside it did."""
    runs = read_runs([REAL])
    entries = arrange(runs, {"qwen-0.5b": "Qwen2.5-0.5B-Instruct"})
    plot = accuracy_plot(entries)
    shown = plot.data["published"]
    assert shown.dropna().tolist() == [44.5, 83.2, 86.9]
    labels = plot.data.loc[shown.notna(), "method"].tolist()
    assert [label.split()[0].strip(",") for label in labels] == ["Greedy", "S2T", "Takeover"]
    assert plot.title.endswith("; diamonds: published")
    assert plot.svg != accuracy_plot(entries, with_published=False).svg
    for other in (accuracy_plot(entries, with_published=False), accuracy_plot(arrange(runs))):
        assert "published" not in other.data and "published" not in other.title


def test_published_times_stand_beside_those_of_the_published_student_alone() -> None:
    """Costs had no published number; the authors of PPS-Local give times of two methods."""
    names = ("greedy", "s2t_local", "pps_local_tau1", "pps_local_tau5")
    runs = read_runs([QWEN_200 / f"{name}.json" for name in names])
    entries = arrange(runs, {"qwen-0.5b": "Qwen/Qwen2.5-1.5B-Instruct"}, other_limits=True)
    table = efficiency_table(entries)
    assert table is not None
    at = list(table.head).index("seconds")
    shown = {row[0].text: row[at].published for row in table.blocks[0].rows}
    first, *others = [label for label in shown if label.startswith("PPS-Local")]
    assert shown[first] == "4.4 × greedy" and len(others) == 1
    # greedy decoding of the adapted student is no S2T-Local, whose published time is 3.9 times greedy's
    assert [label for label, time in shown.items() if time is not None] == [first]
    assert any("published times" in note for note in table.notes)
    for other in (efficiency_table(entries, with_published=False), efficiency_table(arrange(runs))):
        assert other is not None and not any("published" in note for note in other.notes)
        assert not any(cell.published for row in other.blocks[0].rows for cell in row)
    without = efficiency_table(entries, times=False)
    assert without is not None and not any("published" in name for name in without.data)


def seed_runs(folder: Path, name: str, values: dict[int, float]) -> list[Run]:
    """A committed run as if it had been made with other seeds."""
    paths = []
    for seed, value in values.items():

        def change(content: dict[str, Any], seed: int = seed, value: float = value) -> None:
            content["config"]["s2t_eval"]["seed"] = seed
            content["results"]["s2t_arith"]["exact_match,answer"] = value

        paths.append(edited(EMBEDDED / f"{name}.json", folder / f"{name}-seed{seed}.json", change))
    return read_runs(paths)


def test_seeds_have_a_row_of_their_mean_and_spread(tmp_path: Path) -> None:
    votes = seed_runs(tmp_path, "maj8", {0: 0.35, 1: 0.40, 2: 0.30})
    table = seeds_table(arrange([*votes, *seed_runs(tmp_path, "greedy", {0: 0.44})]))
    assert table is not None
    [block] = table.blocks
    assert [[cell.text for cell in row] for row in block.rows] == [
        ["Maj@8", "Arith (embedded)", "300", "3", "35.0", "5.0", "35.0 40.0 30.0"]
    ]
    assert "## Accuracy over seeds" in table.markdown()
    assert [table.name for table in make_tables(arrange(votes), Options())][:2] == ["main", "seeds"]


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    assert seeds_table(arrange(seed_runs(tmp_path, "maj8", {0: 0.35}))) is None


def test_no_control_no_ablation() -> None:
    assert ablation_table(arrange(read_runs([EMBEDDED / "maj8.json"]))) is None


def test_work_counts_every_model(runs: list[Run]) -> None:
    entries = arrange(runs)
    table = costs(entries).set_index(["student", "method"])["billions_of_work"]
    greedy = next(run for run in runs if run.name == "greedy" and "embedded" in run.model)
    teacher = next(run for run in runs if run.name == "teacher")
    s2t = next(run for run in runs if run.name == "s2t_kl_tau5")
    small, large = (run.results["config"]["model_num_parameters"] for run in (greedy, teacher))
    student_tokens = s2t.cost["tokens"] + s2t.cost["prefill_tokens"]
    expected = (small * student_tokens + large * s2t.cost["teacher_tokens"]) / 300 / 1e9
    assert table["embedded/student", s2t.label] == pytest.approx(expected)
    local = next(run for run in runs if run.name == "pps_local")
    adapted = local.results["config"]["model_num_parameters"]
    student_tokens = local.cost["tokens"] + local.cost["prefill_tokens"]
    expected = (small * student_tokens + adapted * local.cost["scorer_tokens"]) / 300 / 1e9
    assert adapted > small and local.cost["scorer_tokens"] > 0
    assert table["embedded/student", local.label] == pytest.approx(expected)
    assert pd.isna(table["qwen-0.5b", "S2T (teacher), kl, tau 5 %, K 8"])  # its teacher was not run alone


def test_figures_come_with_their_numbers_and_twice_the_same(runs: list[Run], tmp_path: Path) -> None:
    entries = arrange(runs)
    for make in (accuracy_plot, pareto_plot):
        one, two = make(entries), make(entries)
        assert one is not None and two is not None
        assert one.svg == two.svg
        one.write(tmp_path)
        written = pd.read_csv(tmp_path / f"{one.name}.csv")
        assert written["method"].tolist() == one.data["method"].tolist()
    assert len(accuracy_plot(entries).data) == len(entries)


def test_on_the_front_are_the_runs_that_no_other_one_beats(runs: list[Run]) -> None:
    """Its twin compares every pair of a panel; of runs of one cost and accuracy, one is on the front."""
    plot = pareto_plot(arrange(runs))
    assert plot is not None
    panels = [part for _, part in plot.data.groupby(["student", "tasks"])]
    assert len(panels) == 2
    num_beaten = 0
    for part in panels:
        points = list(zip(part["cost"], part["accuracy"], strict=True))
        front = {
            (cost, accuracy)
            for cost, accuracy in points
            if not any(
                other != (cost, accuracy) and other[0] <= cost and other[1] >= accuracy for other in points
            )
        }
        on_edge = part[part["is_on_edge"]]
        assert sorted(zip(on_edge["cost"], on_edge["accuracy"], strict=True)) == sorted(front)
        num_beaten += len(points) - len(on_edge)
    assert num_beaten > 5


def less_is_better(content: dict[str, Any]) -> None:
    content["higher_is_better"]["s2t_arith"]["exact_match"] = False


def test_of_an_error_rate_the_smallest_is_the_best(tmp_path: Path) -> None:
    """The largest loss of a student was bold, and the front of the cost figure went through it."""
    names = ("greedy", "s2t_kl_tau5")
    paths = [edited(EMBEDDED / f"{n}.json", tmp_path / f"{n}.json", less_is_better) for n in names]
    entries = arrange(read_runs(paths))
    [block] = main_table(entries, with_published=False).blocks
    best = {row[0].text: row[1].is_best for row in block.rows}
    assert best == {"Greedy": True, "S2T (teacher), kl, tau 5 %, K 8": False}
    assert pareto_plot(entries) is None


def test_the_k_of_a_label_is_whole(tmp_path: Path) -> None:
    """`, K 8` is left out beside a point; of K 80 a 0 was left, behind the rate."""
    paths = [EMBEDDED / "greedy.json", EMBEDDED / "s2t_kl_tau5.json"]
    paths.append(
        edited(
            EMBEDDED / "s2t_kl_tau5.json",
            tmp_path / "k80.json",
            lambda c: c["config"]["s2t_eval"]["policy"].update(top_k=80),
        )
    )
    plot = pareto_plot(arrange(read_runs(paths)))
    assert plot is not None
    shown = {text.get_text() for text in plot.figure.axes[0].texts}
    assert {"S2T (teacher), kl, tau 5 %", "S2T (teacher), kl, tau 5 %, K 80"} <= shown


def test_a_panel_names_all_numbers_of_documents(tmp_path: Path) -> None:
    """The number of its first row stood for runs with fewer scored documents."""
    [part] = scored(tmp_path, s2t_kl_tau5=range(200))
    plot = accuracy_plot(arrange(read_runs([EMBEDDED / "greedy.json", part])))
    assert plot.figure.axes[0].get_title().endswith(", n = 200–300")
    assert number_range([300, 300]) == "300"
    assert number_range(pd.Series([1319.0, 200.0, 300.0])) == "200–1319"  # `n = 300.0` was drawn


def test_options_without_effect_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Traces were read for a report without a page, and a tokenizer without a trace was ignored."""
    run, trace = EMBEDDED / "s2t_kl_tau5.json", EMBEDDED / "traces" / "s2t_kl_tau5.jsonl"
    for arguments, message in (
        (("--tokenizer", "embedded/student"), "--tokenizer: it is that of --trace"),
        (("--trace", trace, "--format", "md,csv"), "--trace: its texts are on the page; add html"),
    ):
        assert message in refused(capsys, "report", run, "--out", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_no_point_of_the_front_is_dominated() -> None:
    """Greedy was on it, with 44.3 % at the cost of the distilled student's 87.3 %, because it came first."""
    names = ("greedy", "s2t_local", "tah", "distil")
    plot = pareto_plot(arrange(read_runs([EMBEDDED / f"{name}.json" for name in names])))
    assert plot is not None
    points = plot.data.set_index("method")
    assert points.at["Greedy", "cost"] == points.at["Top-K distilled, greedy", "cost"]
    assert points.index[points["is_on_edge"]].tolist() == ["Top-K distilled, greedy"]


@pytest.mark.parametrize(("right", "n"), [(0, 3), (0, 6), (10, 10), (2, 5)])
def test_intervals_of_none_right_and_all_right_are_drawn(right: int, n: int) -> None:
    """Wilson's lower bound of 0 out of 3 is above 0 by rounding, which ended reports of short trials."""
    low, high = wilson(right, n)
    arms = interval_arms(right / n, low, high)
    assert arms.shape == (2, 1) and (arms >= 0).all()
    assert arms[:, 0] == pytest.approx([right / n - low, high - right / n], abs=1e-12)
    with canvas(2, 2) as (_, [ax]):
        ax.errorbar(right / n, 0, xerr=arms)


def test_an_undefined_interval_has_no_arms() -> None:
    arms = interval_arms(np.array([0.4, 0.5]), np.array([np.nan, 0.3]), np.array([np.nan, 0.6]))
    np.testing.assert_allclose(arms, [[0, 0.2], [0, 0.1]])


def test_labels_stand_beside_the_figure_without_overlap(runs: list[Run]) -> None:
    """With 25 runs they were piled up over the title, and the topmost beyond the picture's edge."""
    plot = pareto_plot(arrange(runs))
    assert plot is not None and plot.svg
    canvas = FigureCanvasAgg(plot.figure)
    canvas.draw()
    for ax in plot.figure.axes:
        # The extent of an annotation would include its line to the point.
        boxes = [Text.get_window_extent(text, canvas.get_renderer()) for text in ax.texts]
        assert len(boxes) >= 2
        boxes.sort(key=lambda box: float(box.y0))
        assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(boxes))
        for box in boxes:
            assert box.x0 >= ax.bbox.x1 and box.y0 >= 0
            assert box.x1 <= plot.figure.bbox.x1 and box.y1 <= plot.figure.bbox.y1


@pytest.mark.parametrize("heights", [[0.5], [0.0, 1.0], [0.9] * 5, [0.1] * 30, [0.0, 0.01, 0.5, 0.99, 1.0]])
def test_labels_are_spread_near_their_points(heights: list[float]) -> None:
    placed = spread(heights)
    gap = 1 / max(len(heights) - 1, 14)
    assert all(-1e-9 <= height <= 1 + 1e-9 for height in placed)
    assert all(above - below >= gap - 1e-9 for below, above in itertools.pairwise(placed))
    assert spread([0.2, 0.6]) == [0.2, 0.6]


# ---------------------------------------------------------------- published numbers


def test_published_numbers_are_whole() -> None:
    table = published()
    assert set(table["source"]) <= set(sources())
    assert set(table["method"]) <= set(BY_KEY)
    assert set(table["benchmark"]) <= {b.key for b in BENCHMARKS} | {"math_avg"}
    assert not table.duplicated(["size", "benchmark", "method"]).any()
    assert (table["value"].notna() == (table["status"] == "published")).all()


def test_published_math_averages_are_means_of_their_benchmarks() -> None:
    """The check that the numbers were copied well: where all four are known, their mean is the average."""
    table = published()[lambda t: t["status"] == "published"]
    math = [b.key for b in BENCHMARKS if b.is_math]
    checked = 0
    for (_, method), part in table.groupby(["size", "method"]):
        values = part.set_index("benchmark")["value"]
        if "math_avg" in values and set(math) <= set(values.index):
            assert values[math].mean() == pytest.approx(values["math_avg"], abs=0.11), method
            checked += 1
    assert checked == 7


def test_only_the_published_students_have_a_published_size() -> None:
    for student in ("Qwen/Qwen2.5-0.5B-Instruct", "qwen2.5-0.5b-instruct", "/models/Qwen2.5-0.5B-Instruct/"):
        assert published_size(student) == "0.5B"
    assert published_size("Qwen/Qwen2.5-1.5B-Instruct") == "1.5B"
    others = ("qwen-0.5b", "Qwen/Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-0.5B", "Qwen2.5-0.5B-Instruct-GGUF")
    assert not any(map(published_size, others))


# ---------------------------------------------------------------- refusals


def other_version(content: dict[str, Any]) -> None:
    content["versions"]["s2t_arith"] = 3.0


@pytest.mark.parametrize(
    ("change", "what"), [(other_limit, "decoding limits"), (other_version, "task version")]
)
def test_unlike_runs_share_no_column(tmp_path: Path, change: Any, what: str) -> None:
    odd = edited(EMBEDDED / "maj8.json", tmp_path / "odd.json", change)
    with pytest.raises(
        NotComparableError, match=rf"Arith \(embedded\): .*greedy.*odd.*share a column: {what}"
    ):
        arrange(read_runs([EMBEDDED / "greedy.json", odd]))


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", tmp_path / "out")
    greedy = EMBEDDED / "greedy.json"
    trace = tmp_path / "t.jsonl"
    trace.write_text('{"task": "a"}\n')
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    for arguments, message in (
        ((greedy, "--format", "pdf"), "--format: expected some of md, latex, csv, html, got 'pdf'"),
        ((greedy, "--student", "a"), "--student: expected MODEL=STUDENT"),
        ((greedy, "--trace", trace), "t.jsonl:1: not a trace of s2t-eval: it has no doc_id"),
        ((greedy, "--trace", empty), "empty.jsonl: an empty trace"),
        ((greedy, "--trace", tmp_path / "none"), "there is no such trace; run a backend with trace="),
        ((greedy, "--trace", EMBEDDED / "traces" / "s2t_kl_tau5.jsonl"), "give --tokenizer MODEL"),
        ((tmp_path,), "no results in it"),
    ):
        assert exit_code("report", *arguments, *out) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- files


def test_latex_compiles(tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex on this machine (Debian: texlive-latex-recommended)")
    arguments = (EMBEDDED, REAL, "--mixed", "--format", "latex", "--intervals", "--out", tmp_path)
    assert exit_code("report", *arguments) == 0
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_latex_is_balanced_and_escaped() -> None:
    """What holds without a TeX: pairs of environments and braces, no raw specials."""
    rows = [[Cell("50 % & #1_x"), Cell("1.0", "2.0", is_best=True)]]
    text = Table("t", "Δ ~ {x}", ["a", "b"], [Block("h$", rows)], ["n^2 ≥ 4\\"], pd.DataFrame()).latex()
    assert text.count(r"\begin{") == text.count(r"\end{")
    plain = text.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert r"50 \% \& \#1\_x & \textbf{1.0} \textcolor{gray}{(2.0)} \\" in text
    assert tex("a\\b~c^d–e") == r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d--e"


def test_markdown_cells_hold_no_bars() -> None:
    table = Table("t", "T", ["a|b"], [Block("", [[Cell("c|d")]])], [], pd.DataFrame())
    assert "| a\\|b |" in table.markdown() and "| c\\|d |" in table.markdown()


# ---------------------------------------------------------------- traces


def test_pieces_join_to_the_text() -> None:
    ids = tokenizer()("Ünïcödé 5 + 3 = 8 ✓ balls")["input_ids"]
    parts = pieces(ids, lambda part: str(tokenizer().decode(part)))
    assert len(parts) == len(ids)
    assert "".join(parts) == tokenizer().decode(ids)


def test_a_trace_that_was_cut_off(tmp_path: Path) -> None:
    text = (EMBEDDED / "traces" / "s2t_kl_tau5.jsonl").read_text()
    path = tmp_path / "cut.jsonl"
    path.write_text(text[:-40])
    with pytest.raises(
        ResultsError, match=r"cut\.jsonl, line 12: expected one JSON object.*may have been cut off"
    ):
        read_trace(path)
