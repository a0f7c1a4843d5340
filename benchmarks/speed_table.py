"""The tables of the speed page from the runs that `benchmarks.end_to_end` measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.markdown_table import markdown_table

STOCK = "hf"
GIBIBYTE = 2**30


def speed_table(content: Mapping[str, Any]) -> str:
    """A file's table in Markdown: a row a side, rates by batch, memory and the price of a right answer.

    Sides whose artifacts were trained too little (`speed_only`) have neither right answers nor a price.
    """
    runs: Sequence[Mapping[str, Any]] = content["runs"]
    batches = sorted({run["batch"] for run in runs})
    head = ["method"]
    for batch in batches:
        head += [f"tokens/s, batch {batch}", "to stock `hf`"]
    head += [
        "peak memory, GiB",
        f"right of {content['documents']}",
        f"seconds a right answer, batch {batches[-1]}",
    ]
    rows = []
    for name, label in content["labels"].items():
        cells = [label]
        for batch in batches:
            rates = _rates(runs, name, batch)
            cells += [spread(list(rates.values())), _ratio(rates, _rates(runs, STOCK, batch))]
        mine = [run for run in runs if run["side"] == name and run["batch"] == batches[-1]]
        cells.append(f"{max((run['peak_memory'] for run in mine), default=0) / GIBIBYTE:.2f}")
        answered = [] if content.get("speed_only", {}).get(name) else mine
        cells.append(f"{answered[0]['correct']:.0f}" if answered else "–")
        cells.append(spread([run["seconds"] / run["correct"] for run in answered if run["correct"]]))
        rows.append(cells)
    caption = _caption(content, len({run["round"] for run in runs}))
    return f"{caption}\n\n{markdown_table(head, rows)}"


def spread(values: Sequence[float]) -> str:
    """Median, and the smallest and largest value where there are several, with about three digits."""
    if not values:
        return "–"
    median = statistics.median(values)
    digits = 0 if median >= 100 else 1 if median >= 10 else 2 if median >= 0.1 else 4
    middle = f"{median:,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def _rates(runs: Sequence[Mapping[str, Any]], name: str, batch: int) -> dict[int, float]:
    """Tokens a second by round."""
    return {
        run["round"]: run["tokens"] / run["seconds"]
        for run in runs
        if run["side"] == name and run["batch"] == batch
    }


def _ratio(rates: Mapping[int, float], stock: Mapping[int, float]) -> str:
    return spread([rates[i] / stock[i] for i in rates if i in stock])


def _caption(content: Mapping[str, Any], rounds: int) -> str:
    machine = content["machine"]
    where = machine["gpu"] or f"{machine['processor']}, {machine['threads']} threads"
    loads = [run["load"] for run in content["runs"]]
    limit = content["max_gen_toks"]
    limited = f"at most {limit} tokens a text" if limit else "the task's length limit"
    return (
        f"**{content['title']}**: `{content['task']}`, the first {content['documents']} documents, "
        f"{limited}, {content['dtype']}, n = {rounds} {_rounds(rounds)}; {where}, torch "
        f"{machine['torch']}, load before a run {min(loads):.1f}–{max(loads):.1f}; commit "
        f"`{content['commit'][:7]}`. Memory and seconds are those of the largest batch."
    )


def _rounds(number: int) -> str:
    return "round" if number == 1 else "rounds (median, smallest and largest)"
