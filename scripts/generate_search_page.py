"""Write the tables of docs/results/selector-search.md from results/search.

python -m scripts.generate_search_page            # rewrites the parts between the markers
python -m scripts.generate_search_page --check    # exits with 1 where they are stale
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pandas as pd

from benchmarks.markdown_table import markdown_table
from scripts.marked_parts import REPOSITORY, replaced_part, write_or_check

PAGE = REPOSITORY / "docs/results/selector-search.md"
SEARCH = REPOSITORY / "results/search"
BEGIN = "<!-- {}: written by `python -m scripts.generate_search_page`. -->"
END = "<!-- End of {}. -->"
SHARE_HEAD = (
    "selector",
    "trigger, tau",
    "Agree@1 (greedy)",
    "steps",
    "expected share (95 %)",
    "measured share (95 %)",
    "n",
)
SELECTOR_HEAD = (
    "selector",
    "problems",
    "steps",
    "settings",
    "last step: Agree@1 (greedy's)",
    "gain, nats a text",
    "reported half: Agree@1 (95 %; greedy's)",
    "proposal weight",
    "gain of its default (95 %)",
)


def share_table(data: pd.DataFrame) -> str:
    """A row for each run whose measured share stands beside the expected one."""
    return markdown_table(SHARE_HEAD, [_share_row(row) for row in data.to_dict("records")])


def _share_row(row: dict[str, Any]) -> list[str]:
    agree = f"{_percent(row['agree'])} ({_percent(row['greedy_agree'])})"
    return [
        _share_name(row),
        f"{row['trigger']}, {100 * row['tau']:g} %",
        agree,
        f"{row['steps']:,}",
        _interval(row["share"], row["low"], row["high"]),
        _interval(row["measured"], row["measured_low"], row["measured_high"]),
        f"{row['n']:,}",
    ]


def _share_name(row: dict[str, Any]) -> str:
    if pd.isna(row["low"]):  # committed before agreement was measured at the steps that fire
        where = "embedded, as shipped, test items" if row["n"] == 300 else "real pair, GSM8k test 0–199"
        return f"{where} (Agree@1 at the top 10 % by KL)"
    if row["selector"] == "selector":
        return f"embedded, adapter scaled by {row['adapter_scale']:g}"
    writer = ", `s2t_local`" if row["proposer"] == "tuned" else ""
    return f"embedded, `{row['selector']}`{writer}"


def selector_table(data: pd.DataFrame) -> str:
    """A row for each selector: by form and texts, then by the number of problems."""
    data = data.sort_values(["form", "texts", "problems", "selector"])
    return markdown_table(SELECTOR_HEAD, [_selector_row(row) for row in data.to_dict("records")])


def _selector_row(row: dict[str, Any]) -> list[str]:
    last = f"{_percent(row['last_agree'])} ({_percent(row['last_greedy_agree'])}), n = {row['last_n']:,}"
    between = f"{100 * row['agree_low']:.1f}–{100 * row['agree_high']:.1f}"
    agree = f"{_percent(row['agree'])} ({between}; {_percent(row['greedy_agree'])}), n = {row['n']:,}"
    return [
        f"`{row['selector']}`",
        f"{row['problems']:,}",
        f"{row['steps']:,}",
        _settings(row),
        last,
        _signed(row["last_gain"]),
        agree,
        f"{row['proposal_weight']:g}",
        _default(row),
    ]


def _settings(row: dict[str, Any]) -> str:
    words = []
    if row["form"] != "direct":
        words.append(f"{row['form']}, {row['score_as']}, {row['loss']}, T {row['temperature']:g}")
    words += [f"batch {row['batch_size'] * row['accumulate']}", f"lr {row['lr']:g}", row["schedule"]]
    words.append(f"beta {row['beta']:g}" + (" labels" if row["anchor"] == "labels" else ""))
    words += [f"regret {row['regret']:g}"] if row["regret"] else []
    words += ["no misses"] if row["drop_misses"] else []
    words.append(f"K {row['num_candidates']}")
    words += [f"averaged {row['averaged']}"] if row["averaged"] else []
    if not pd.isna(row["start"]):
        words.append(f"from `{row['start']}`" + (", on its own texts" if row["texts"] == "selector" else ""))
    return ", ".join(words)


def _default(row: dict[str, Any]) -> str:
    if pd.isna(row["gain"]):
        return f"–, {row['default']}"
    between = f"{_signed(row['gain_low'])} to {_signed(row['gain_high'])}"
    return f"{_signed(row['gain'])} ({between}), {row['default']}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _signed(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:+.2f}".replace("-", "−")


def _interval(value: float, low: float, high: float) -> str:
    between = "" if pd.isna(low) else f" ({100 * low:.0f} to {100 * high:.0f})"
    return f"{100 * value:.0f} %{between}".replace("-", "−")


TABLES: dict[str, tuple[str, Callable[[pd.DataFrame], str]]] = {
    "Shares": ("share_rule.csv", share_table),
    "Selectors": ("embedded/selectors.csv", selector_table),
}
"""Name of a part of the page -> the file that it is made of, and how."""


def written(page: str) -> str:
    """The page with its tables made anew.

    Raises:
        ValueError: a page without the markers of a table.
    """
    for name, (file, make) in TABLES.items():
        table = make(pd.read_csv(SEARCH / file, dtype={"checkpoint": str}))
        page = replaced_part(PAGE.name, page, BEGIN.format(name), table, END.format(name))
    return page


def main() -> None:
    """Write or check the page."""
    write_or_check({PAGE: written}, "generate_search_page", sys.argv[1:])


if __name__ == "__main__":
    main()
