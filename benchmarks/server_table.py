"""The tables of the servers' guide from the figures `remote` and `remote-client` of `benchmarks.speed`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.ratios import Machine
from benchmarks.remote import TO_ENGINE, TO_STUDENT
from benchmarks.speed_table import spread

HEAD = ("trigger", "at once", "chunk", "time of a token, to the student alone", "fired steps")
COSTS = ("requests a text", "of them to the teacher", "discarded tokens a text")


def server_tables(content: Mapping[str, Any]) -> str:
    """The tables of a file in Markdown; what the sides are follows from the ratios' names."""
    if content["figure"] == "remote-client":
        return client_table(content)
    ratios: Sequence[Mapping[str, Any]] = content["ratios"]
    lines = [_caption(content), "", *_head((*HEAD, *COSTS))]
    for ratio in ratios:
        name = ratio["name"]
        if name.endswith(TO_STUDENT):
            trigger, at_once, chunk = (part.strip() for part in name.removesuffix(TO_STUDENT).split(","))
            details = ratio["details"]
            cells = [f"`{trigger}`", at_once.removesuffix(" at once"), chunk.removeprefix("chunk ")]
            cells += [f"{spread(ratio['values'])}x", f"{100 * details['realised_rate']:.1f} %"]
            costs = ("requests_per_text", "teacher_requests_per_text", "discarded_per_text")
            lines.append(_row([*cells, *(f"{details[cost]:.1f}" for cost in costs)]))
    lines += ["", *_head(("on servers", "time of a token, to the engine here"))]
    for ratio in ratios:
        side, found, end = ratio["name"].partition(TO_ENGINE)
        if found:
            lines.append(_row([side, f"{spread(ratio['values'])}x, {end.strip()}"]))
    return "\n".join(lines)


def client_table(content: Mapping[str, Any]) -> str:
    """The client's own costs, against a server that computes nothing."""
    lines = [_caption(content), "", *_head(("figure", "measured", "target"))]
    for ratio in content["ratios"]:
        missed = "" if ratio["is_met"] else ": **missed**"
        target = f"{ratio['target'].replace('<=', 'at most')}{missed}" if ratio["target"] else "–"
        cpu = f"; in processor time {spread(ratio['cpu'])}" if ratio["cpu"] else ""
        lines.append(_row([ratio["name"], f"{spread(ratio['values'])}{cpu}", target]))
    return "\n".join(lines)


def _caption(content: Mapping[str, Any]) -> str:
    settings, ratios = content["settings"], content["ratios"]
    pair = f"`{settings['student']}` and `{settings['teacher']}`, {settings['dtype']}"
    what = "The client alone" if content["figure"] == "remote-client" else pair
    rounds = f"n = {len(ratios[0]['values'])} rounds (median, smallest and largest)"
    return f"{what}, {rounds}; {Machine(**content['machine'])}:"


def _head(names: Sequence[str]) -> list[str]:
    return [_row(names), "|---" * len(names) + "|"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
