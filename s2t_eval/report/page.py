"""One self-contained HTML page: sortable tables, figures, and the trajectory viewer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from s2t_eval.report.figures import Plot
from s2t_eval.report.table import Table


def page(
    title: str,
    subtitle: str,
    tables: Sequence[Table],
    plots: Sequence[Plot],
    trajectories: Sequence[dict[str, Any]] = (),
) -> str:
    """The page as HTML, which loads nothing from elsewhere.

    Args:
        title, subtitle: above everything.
        tables, plots: in their order.
        trajectories: from `traces.trajectory`, with `was` (greedy's score) where known.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = [{"name": plot.name, "title": plot.title, "svg": _inline(plot)} for plot in plots]
    text = environment.get_template("page.html.jinja").render(
        title=title,
        subtitle=subtitle,
        tables=tables,
        plots=figures,
        trajectories=_script_safe(list(trajectories)) if trajectories else "",
    )
    return text.rstrip() + "\n"


def _inline(plot: Plot) -> str:
    """The <svg> element; the plot's name is added to its ids, since a page contains several plots."""
    svg = plot.svg
    svg = svg[svg.index("<svg") :]
    for before in ('id="', 'href="#', "url(#"):
        svg = svg.replace(before, f"{before}{plot.name}-")
    return svg


def _script_safe(value: object) -> str:
    """JSON without characters that could end the surrounding script element."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
