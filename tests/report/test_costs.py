"""Costs that are a part's are unknown, not a figure: an earlier version wrote them for resumed runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s2t_eval.engine import Finish, Request, Result, Usage
from s2t_eval.model_wrappers.response_cache import TimedResult
from s2t_eval.model_wrappers.telemetry import Telemetry, total_telemetry
from s2t_eval.report.comparable import NotComparableError
from s2t_eval.report.compare import Rules, compare, failures
from s2t_eval.report.compare_text import markdown
from s2t_eval.report.runs import read_runs
from tests.report.test_compare import exit_code
from tests.report_helpers import BASELINES, EMBEDDED, edited, run_to

GREEDY = EMBEDDED / "greedy.json"


def telemetry(content: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = content["config"]["s2t_eval"]["telemetry"]
    return entry


@pytest.fixture
def resumed(tmp_path: Path) -> Path:
    """As a run that was killed after 40 of 300 texts was written."""
    return edited(GREEDY, tmp_path / "greedy.json", lambda c: telemetry(c).update(texts=260, tokens=9000))


def test_costs_of_a_part_are_unknown(resumed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [run] = read_runs([resumed])
    assert run.cost == {}
    assert f"note: {resumed}: its costs are unknown: they count 260 of 300 texts" in capsys.readouterr().err


def test_committed_runs_know_their_costs() -> None:
    for path in sorted(BASELINES.rglob("*.json")):
        if '"telemetry"' in path.read_text():
            for run in read_runs([path]):
                assert run.cost["tokens"] > 0, path


@pytest.mark.parametrize("unknown_is_new", [True, False])
def test_unknown_costs_cannot_pass_a_gate(
    unknown_is_new: bool, resumed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = (GREEDY, resumed) if unknown_is_new else (resumed, GREEDY)
    assert exit_code(*pair) == 0
    assert " – | – |" in capsys.readouterr().out
    assert exit_code(*pair, "--fail_on", "cost") == 2
    assert "is unknown (another backend" in capsys.readouterr().err
    rows = compare(read_runs([pair[0]]), read_runs([pair[1]]))
    with pytest.raises(
        NotComparableError, match=r"^task s2t_arith: the cost of greedy: Greedy or of .* is unknown"
    ):
        failures(rows, ["regression", "cost"])
    assert "tokens" not in rows[0].report()["costs"]
    assert markdown(rows, [], Rules())


def test_unknown_costs_are_left_out_of_the_table(resumed: Path) -> None:
    from s2t_eval.report.blocks import arrange
    from s2t_eval.report.efficiency_table import costs

    known, unknown = (arrange(read_runs([path])) for path in (GREEDY, resumed))
    assert len(costs(known)) == 1
    assert costs(unknown).empty


def test_votes_and_repeats_are_counted(tmp_path: Path) -> None:
    folder = run_to(tmp_path / "maj", "maj8", limit=2, num_samples=3)
    [run] = read_runs([folder])
    assert run.cost["texts"] == 6
    [file] = folder.rglob("results_*.json")
    edited(file, file, lambda content: telemetry(content).update(texts=4))
    assert read_runs([folder])[0].cost == {}


def test_processes_together() -> None:
    """Counts are summed; they worked at the same time, each in its own memory."""
    parts = []
    for seconds, memory in ((2.0, 30), (5.0, 10)):
        part = Telemetry(truncated_prompts=1)
        result = Result(
            Request((1,), 2),
            0,
            [1, 2],
            Finish.LENGTH,
            [],
            Usage(tokens=2, forwards=2, hits=1, seconds=seconds),
        )
        part.add(TimedResult(result, seconds, memory, is_cached=memory == 10))
        parts.append(part)
    total = total_telemetry(parts)
    assert (total.texts, total.cached_texts, total.usage.tokens, total.usage.hits) == (2, 1, 4, 2)
    assert (total.length_limited, total.truncated_prompts, total.processes) == (2, 2, 2)
    assert (total.seconds, total.memory) == (5.0, 30)
