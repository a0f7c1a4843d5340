"""The tables of the servers' guide from the figures `remote` and `remote-client` of `benchmarks.speed`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.figure_table import GOAL, target_text
from benchmarks.markdown_table import markdown_table
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
    to_student = [_student_row(ratio) for ratio in ratios if ratio["name"].endswith(TO_STUDENT)]
    to_engine = []
    for ratio in ratios:
        side, separator, end = ratio["name"].partition(TO_ENGINE)
        if separator:
            to_engine.append([side, f"{spread(ratio['values'])}x, {end.strip()}"])
    heads = (*HEAD, *COSTS), ("on servers", "time of a token, to the engine here")
    tables = map(markdown_table, heads, (to_student, to_engine))
    return "\n\n".join([_caption(content), *tables])


def _student_row(ratio: Mapping[str, Any]) -> list[str]:
    """A side on servers, beside the student alone on the same servers."""
    trigger, at_once, chunk = (part.strip() for part in ratio["name"].removesuffix(TO_STUDENT).split(","))
    details = ratio["details"]
    cells = [f"`{trigger}`", at_once.removesuffix(" at once"), chunk.removeprefix("chunk ")]
    cells += [f"{spread(ratio['values'])}x", f"{100 * details['realised_rate']:.1f} %"]
    costs = ("requests_per_text", "teacher_requests_per_text", "discarded_per_text")
    return [*cells, *(f"{details[cost]:.1f}" for cost in costs)]


def client_table(content: Mapping[str, Any]) -> str:
    """The client's own costs, against a server that computes nothing."""
    rows = []
    for ratio in content["ratios"]:
        cpu = f"; in processor time {spread(ratio['cpu'])}" if ratio["cpu"] else ""
        rows.append([ratio["name"], f"{spread(ratio['values'])}{cpu}", target_text(ratio)])
    return f"{_caption(content)}\n\n{markdown_table(('figure', 'measured', GOAL), rows)}"


def _caption(content: Mapping[str, Any]) -> str:
    settings, ratios = content["settings"], content["ratios"]
    pair = f"`{settings['student']}` and `{settings['teacher']}`, {settings['dtype']}"
    what = "The client alone" if content["figure"] == "remote-client" else pair
    rounds = f"n = {len(ratios[0]['values'])} rounds (median, smallest and largest)"
    return f"{what}, {rounds}; {Machine(**content['machine'])}:"
