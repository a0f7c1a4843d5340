"""Figures made from results, each returned with its numbers."""

from __future__ import annotations

import colorsys
import functools
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from s2t_eval.artifacts.files import write_text
from s2t_eval.method_table import METHODS
from s2t_eval.report.blocks import Entry, in_first_rows, is_teacher_alone
from s2t_eval.report.cells import accuracy
from s2t_eval.report.costs import costs
from s2t_eval.report.published import published_accuracies
from s2t_eval.report.runs import is_of_default_metric

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "s2t-eval",  # makes the file a function of the numbers
    "text.parse_math": False,  # a dollar in a name does not begin a formula
    "figure.constrained_layout.use": True,
}
FORMULA = ("=", "+", "-", "@")
"""First characters of a cell that a spreadsheet evaluates as a formula."""

COLOURS = (
    *("#4c566a", "#7f7f7f", "#b07aa1", "#8c6d31", "#2a9d8f", "#6a51a3"),
    *("#9c755f", "#1f77b4", "#56b4e9", "#d1495b", "#e69f00", "#b5179e"),
)
"""Colours of the methods, in the order of the method table; those beyond them get hues of their own."""

LABEL_HEIGHT = 0.16
"""Height of a label beside a figure, in inches."""


@dataclass(frozen=True)
class Plot:
    """A figure and its numbers.

    Args:
        name: of its files.
        title: above it.
        data: its numbers.
        figure: the drawing.
    """

    name: str
    title: str
    data: pd.DataFrame
    figure: Figure

    @functools.cached_property
    def svg(self) -> str:
        """The figure as SVG without a date, the same on every machine; drawn once for file and page."""
        text = io.StringIO()
        with matplotlib.rc_context(STYLE):
            self.figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        # matplotlib leaves spaces at the ends of lines
        lines = "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
        return _numbered_clip_paths(lines, self.name)

    def files(self, folder: Path) -> list[Path]:
        """The files that `write` makes in a folder."""
        return [folder / f"{self.name}.svg", folder / f"{self.name}.csv"]

    def write(self, folder: Path) -> None:
        """NAME.svg and NAME.csv into a folder."""
        write_text(folder / f"{self.name}.svg", self.svg)
        write_text(folder / f"{self.name}.csv", csv_text(self.data))


def _numbered_clip_paths(svg: str, name: str) -> str:
    """Clip paths by number, since matplotlib names them by a hash of floats that differ between processors.

    The figure's name is their prefix, since several figures share one page.
    """
    hashes = dict.fromkeys(re.findall(r'<clipPath id="(p[0-9a-f]{10})"', svg))
    for number, clip_path in enumerate(hashes):
        svg = svg.replace(clip_path, f"{name}-clip{number}")
    return svg


def csv_text(data: pd.DataFrame) -> str:
    """Six significant digits: the last bits of a float depend on the processor.

    A text that a spreadsheet would evaluate as a formula is prefixed with an apostrophe.
    """
    texts = data.select_dtypes(exclude="number")
    safe = data.assign(**{str(name): texts[name].map(_no_formula) for name in texts.columns})
    safe.columns = [_no_formula(str(name)) for name in safe.columns]
    return str(safe.to_csv(index=False, float_format="%.6g"))


def _no_formula(value: object) -> object:
    if not isinstance(value, str) or not value.lstrip().startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


@contextmanager
def canvas(width: float = 6.0, height: float = 3.6, columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure in the common style, with axes side by side; it changes no global state."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(1, columns, squeeze=False)[0]
        yield figure, list(axes)


def colour(method_key: str) -> str:
    """The colour of a method, the same in all figures."""
    place = [method.key for method in METHODS].index(method_key)
    if place < len(COLOURS):
        return COLOURS[place]
    # Steps of the golden ratio around the colour circle never come back to a hue.
    hue = (place - len(COLOURS)) * 0.618 % 1
    return to_hex(colorsys.hsv_to_rgb(hue, 0.75, 0.6))


def accuracy_plot(entries: Sequence[Entry], *, with_published: bool = True) -> Plot:
    """Accuracy with 95 % intervals, a panel for each student and benchmark, greedy as a line.

    Args:
        entries: runs in their places.
        with_published: whether published numbers are drawn, of published students, except in panels of
            another metric than the task's own.
    """
    panels = list(dict.fromkeys((e.student, e.benchmark.title) for e in entries))
    rows = []
    for e in entries:
        score, key = accuracy(e.run), "teacher" if e.is_teacher else e.run.method.key
        numbers = [100 * fraction for fraction in (score.value, *score.interval)]
        rows.append((e.student, e.benchmark.title, e.label, key, score.n, *numbers))
    names = ["student", "benchmark", "method", "method_key", "n", "value", "low", "high"]
    data = pd.DataFrame(rows, columns=names)
    if with_published:
        data = _with_published_accuracies(data, entries)
    num_rows = max(len(data[(data.student == s) & (data.benchmark == b)]) for s, b in panels)
    with canvas(2.6 + 3.2 * len(panels), 1.3 + 0.32 * num_rows, len(panels)) as (figure, axes):
        for ax, (student, benchmark) in zip(axes, panels, strict=True):
            part = data[(data["student"] == student) & (data["benchmark"] == benchmark)]
            _dots(ax, part)
            ax.set_title(f"{student}\n{benchmark}, n = {number_range(part['n'])}", fontsize=9)
    has_groups = any(len(e.run.tasks) > 1 for e in entries)
    kind = "Wilson; means of tasks: bootstrap" if has_groups else "Wilson"
    grey = "; diamonds: published" if "published" in data else ""
    return Plot("accuracy", f"Accuracy by method, with 95 % intervals ({kind}){grey}", data, figure)


def _with_published_accuracies(data: pd.DataFrame, entries: Sequence[Entry]) -> pd.DataFrame:
    """The numbers with a column `published` where one of the rows has a published accuracy; else as they are.

    Args:
        data: a row for each entry.
        entries: in the same order.
    """
    values: dict[int, float | None] = {}
    for student, benchmark in dict.fromkeys((e.student, e.benchmark) for e in entries):
        places = {
            i: e
            for i, e in enumerate(entries)
            if (e.student, e.benchmark) == (student, benchmark) and is_of_default_metric(e.run)
        }
        rows = [(e.label, e.run.method.key) for e in places.values()]
        known = published_accuracies(student, benchmark.key)
        values |= dict(zip(places, in_first_rows(rows, known), strict=True))
    column = pd.Series([values.get(i) for i in range(len(entries))], data.index, dtype=float)
    return data.assign(published=column) if column.notna().any() else data


def number_range(numbers: Iterable[float]) -> str:
    """Numbers of documents that a figure's title has for all of its rows: "300", or "296–300"."""
    # Rows of several tables, some without the column, have their whole numbers as floats.
    several = sorted({int(number) for number in numbers})
    return "–".join(map(str, several if len(several) < 3 else (several[0], several[-1])))


def benchmark_labels(data: pd.DataFrame) -> list[str]:
    """The benchmark of each row, behind its student where the rows have several."""
    has_students = data["student"].nunique() > 1
    places = zip(data["student"], data["benchmark"], strict=True)
    return [f"{student}, {benchmark}" if has_students else benchmark for student, benchmark in places]


def interval_arms(value: Any, low: Any, high: Any) -> np.ndarray:
    """How far intervals reach below and above their values, [2, values], as `errorbar` takes it.

    No arm is negative: rounding puts some bounds beside their value, as Wilson's of 0 out of 3 and those of a
    bootstrap whose samples are all alike. An undefined bound (nan) has no arm.
    """
    return np.fmax(0.0, [value - low, high - value]).reshape(2, -1)


def _dots(ax: Axes, part: pd.DataFrame) -> None:
    for at, row in enumerate(part.itertuples(index=False)):
        shade = "black" if row.method_key == "teacher" else colour(str(row.method_key))
        arms = interval_arms(row.value, row.low, row.high)
        ax.errorbar(row.value, at, xerr=arms, fmt="o", color=shade, capsize=2, markersize=5)
        ax.annotate(f"{row.value:.1f}", (row.value, at), (0, 5), textcoords="offset points", ha="center")
        if "published" in part and not np.isnan(row.published):
            ax.plot(row.published, at, marker="D", markersize=5, fillstyle="none", color="#8a8a8a")
    greedy = part.loc[part["method_key"] == "greedy", "value"]
    if len(greedy):
        ax.axvline(greedy.iloc[0], color=colour("greedy"), linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(part)), part["method"])
    ax.set_ylim(len(part) - 0.4, -0.7)
    ax.set_xlim(0, 100)
    ax.set_xlabel("correct, %")
    ax.grid(axis="y", visible=False)


def pareto_plot(entries: Sequence[Entry]) -> Plot | None:
    """Accuracy against work (parameters times tokens of student, teacher and scorer), with the Pareto front.

    In a panel with a teacher of unknown size the axis is the sum of tokens instead, and the teacher alone is
    left out, since its tokens cost more than the student's. Scores of a metric of which less is better are
    left out too, and undefined ones.

    Args:
        entries: runs with costs.

    Returns:
        None where no run has telemetry.
    """
    points = costs([entry for entry in entries if entry.run.is_higher_better])
    points = points.dropna(subset="accuracy") if len(points) else points
    if points.empty:
        return None
    panels = [part for _, part in points.groupby(["student", "tasks"], sort=False)]
    drawn = []
    height = max(3.8, 1.2 + LABEL_HEIGHT * max(map(len, panels)))
    with canvas(6.2 * len(panels), height, len(panels)) as (figure, axes):
        for ax, part in zip(axes, panels, strict=True):
            is_known = bool(part["billions_of_work"].notna().all())
            if not is_known:
                part = part[~part["method"].map(is_teacher_alone).astype(bool)]
            tokens = part["tokens"] + part["teacher_tokens"] + part["scorer_tokens"]
            cost = part["billions_of_work"] if is_known else tokens
            unit = f"{'parameters × tokens' if is_known else 'tokens'} of all models per problem"
            unit += ", billions" if is_known else ""
            part = part.assign(cost=cost, unit=unit)
            # Of equal costs the most accurate comes first: the others are not on the front.
            part = part.sort_values(["cost", "accuracy"], ascending=[True, False], kind="stable")
            part["is_on_edge"] = part["accuracy"] > part["accuracy"].cummax().shift(fill_value=-1)
            _scatter(ax, part)
            drawn.append(part)
        axes[0].set_ylabel("correct, %")
    columns = ["student", "tasks", "method", "method_key", "problems", "accuracy"]
    columns += ["tokens", "teacher_tokens", "scorer_tokens"]
    data = pd.concat(drawn, ignore_index=True)[[*columns, "cost", "unit", "is_on_edge"]]
    return Plot("pareto", "Accuracy against cost (grey line: Pareto front)", data, figure)


def spread(heights: Sequence[float]) -> list[float]:
    """Heights of labels near these ascending ones, within [0, 1] and a label apart where those are closer."""
    last = len(heights) - 1
    gap = 1 / max(last, 14)
    placed: list[float] = []
    for i, height in enumerate(heights):
        lowest = placed[-1] + gap if placed else 0.0
        placed.append(min(max(height, lowest), 1 - (last - i) * gap))
    return placed


def _scatter(ax: Axes, part: pd.DataFrame) -> None:
    edge = part[part["is_on_edge"]]
    ax.step(edge["cost"], edge["accuracy"], where="post", color="#b0b0b0", linewidth=1)
    ax.set_xscale("log")
    ax.set_xlim(part["cost"].min() / 1.3, part["cost"].max() * 1.3)
    bottom, top = part["accuracy"].min(), part["accuracy"].max()
    margin = max(top - bottom, 5.0) / 14
    bottom, top = bottom - margin, top + margin
    ax.set_ylim(bottom, top)
    # Of equal accuracies the dearest is labelled lowest, so that lines to the points do not cross.
    rows = list(part.sort_values(["accuracy", "cost"], ascending=[True, False]).itertuples(index=False))
    heights = spread([(row.accuracy - bottom) / (top - bottom) for row in rows])
    for row, height in zip(rows, heights, strict=True):
        shade = "black" if is_teacher_alone(str(row.method)) else colour(str(row.method_key))
        ax.scatter(row.cost, row.accuracy, color=shade, s=28, zorder=3)
        ax.annotate(
            re.sub(r", K 8(?!\d)", "", str(row.method)),
            (row.cost, row.accuracy),
            (1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=7,
            arrowprops={
                "arrowstyle": "-",
                "color": "#c8c8c8",
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 4,
                "relpos": (0, 0.5),
            },
        )
    ax.set_title(f"{part['student'].iloc[0]}, {part['tasks'].iloc[0]}", fontsize=9)
    ax.set_xlabel(part["unit"].iloc[0])
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
