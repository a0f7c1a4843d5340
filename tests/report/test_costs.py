"""Costs that are a part's are unknown, not a figure: an earlier version wrote them for resumed runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from s2t_eval.analysis.scans import scan_data
from s2t_eval.engine import Finish, Request, Result, Usage
from s2t_eval.model_wrappers.response_cache import TimedResult
from s2t_eval.model_wrappers.telemetry import Telemetry, total_telemetry
from s2t_eval.report.blocks import arrange
from s2t_eval.report.comparable import NotComparableError
from s2t_eval.report.compare import Rules, compare, failures
from s2t_eval.report.compare_text import markdown
from s2t_eval.report.costs import computed_tokens, costs, cut_off, tokens_per_correct
from s2t_eval.report.efficiency_table import efficiency_table
from s2t_eval.report.figures import pareto_plot
from s2t_eval.report.main_table import main_table
from s2t_eval.report.runs import read_runs
from tests.commands import exit_code
from tests.report_helpers import BASELINES, EMBEDDED, edited, run_to

GREEDY = EMBEDDED / "greedy.json"


def telemetry(content: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = content["config"]["s2t_eval"]["telemetry"]
    return entry


@pytest.fixture
def resumed(tmp_path: Path) -> Path:
    """As a run that was killed after 40 of 300 texts was written."""
    return edited(GREEDY, tmp_path / "greedy.json", lambda c: telemetry(c).update(texts=260, tokens=9000))


def two_tasks(content: dict[str, Any]) -> None:
    """As if the run had been one of `--tasks s2t_arith,other`, which took as much again."""
    for name in ("results", "configs", "versions", "n-samples", "higher_is_better", "documents"):
        content[name]["other"] = content[name]["s2t_arith"]
    for name in ("texts", "tokens"):
        telemetry(content)[name] *= 2


def test_costs_of_two_tasks_are_not_those_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against a baseline of two tasks, one task passed `--fail_on cost` with up to twice its tokens."""
    base = edited(GREEDY, tmp_path / "base" / "both.json", two_tasks)

    def only(kept: str) -> Any:
        def change(content: dict[str, Any]) -> None:
            two_tasks(content)
            left_out = {"other", "s2t_arith"} - {kept}
            for name in ("results", "configs", "versions", "n-samples", "higher_is_better", "documents"):
                for task in left_out:
                    del content[name][task]
            telemetry(content)["texts"] //= 2

        return change

    for task in ("s2t_arith", "other"):
        edited(GREEDY, tmp_path / "new" / f"{task}.json", only(task))
    assert exit_code("compare", base, tmp_path / "new") == 0
    text = capsys.readouterr().out
    assert "Costs were not compared where the two results files hold different tasks" in text
    assert "s2t_arith (300), other (300) against other (300)" in text
    assert exit_code("compare", base, tmp_path / "new", "--fail_on", "cost") == 2
    assert "run the same tasks with one command, or leave out --fail_on cost" in capsys.readouterr().err
    assert exit_code("compare", base, base, "--fail_on", "cost") == 0
    assert "Costs were not" not in capsys.readouterr().out


def test_costs_of_a_file_are_those_of_a_problem_only_with_all_of_its_tasks(tmp_path: Path) -> None:
    """A newer run replaced one task's; the file's tokens were divided by the problems of the other."""
    both = edited(GREEDY, tmp_path / "both.json", two_tasks)
    runs = read_runs([both])
    [row] = costs(arrange(runs)).to_dict("records")
    assert (row["problems"], row["tokens"]) == (600, 34.0)
    edited(GREEDY, tmp_path / "newer.json", lambda content: content.update(date=content["date"] + 1))
    part = read_runs([tmp_path])
    assert sorted((run.task, run.name) for run in part) == [("other", "both"), ("s2t_arith", "newer")]
    [row] = costs(arrange(part)).to_dict("records")
    assert (row["tasks"], row["problems"]) == ("Arith (embedded)", 300)
    assert tokens_per_correct(runs) == pytest.approx(20_400 / 266)
    [other] = (run for run in part if run.name == "both")
    assert math.isnan(tokens_per_correct([other]))


def with_choices(content: dict[str, Any]) -> None:
    """As if the run had been one of `--tasks s2t_arith,choices`, whose answers are scored, not generated."""
    two_tasks(content)
    for name in ("results", "configs", "versions", "n-samples", "higher_is_better", "documents"):
        content[name]["choices"] = content[name].pop("other")
    content["configs"]["choices"] = {**content["configs"]["choices"], "output_type": "multiple_choice"}
    content["n-samples"]["choices"] = {"original": 2400, "effective": 2400}
    for name in ("texts", "tokens"):
        telemetry(content)[name] //= 2


def test_tasks_without_generated_answers_have_no_part_in_costs(tmp_path: Path) -> None:
    """A multiple-choice task beside it divided the tokens of s2t_arith by its own 2,400 documents too."""
    runs = read_runs([edited(GREEDY, tmp_path / "greedy.json", with_choices)])
    pd.testing.assert_frame_equal(costs(arrange(runs)), costs(arrange(read_runs([GREEDY]))))
    assert tokens_per_correct(runs) == tokens_per_correct(read_runs([GREEDY]))
    [choices] = (run for run in runs if run.task == "choices")
    for figure in (tokens_per_correct([choices]), cut_off([choices])):
        assert math.isnan(figure)  # no answer of it is generated
    [generated] = (run for run in runs if run.task == "s2t_arith")
    assert cut_off(runs) == cut_off([generated])


def test_a_file_without_generated_answers_has_no_costs(tmp_path: Path) -> None:
    """Its tokens, none, were a point at zero on the figure's logarithmic axis."""

    def only_choices(content: dict[str, Any]) -> None:
        content["configs"]["s2t_arith"]["output_type"] = "multiple_choice"
        telemetry(content).update(dict.fromkeys(("texts", "tokens", "forwards", "prefill_tokens"), 0))

    path = edited(EMBEDDED / "s2t_kl_tau5.json", tmp_path / "s2t.json", only_choices)
    entries = arrange(read_runs([path]))
    assert costs(entries).empty and pareto_plot(entries) is None
    assert scan_data(entries)["tokens"].isna().all()
    assert main_table(entries, with_published=False).blocks[0].rows[0][-1].text == "–"


def test_costs_are_compared_beside_any_tasks_without_generated_answers(tmp_path: Path) -> None:
    runs = read_runs([edited(GREEDY, tmp_path / "greedy.json", with_choices)])
    [row] = compare(read_runs([GREEDY]), [run for run in runs if run.task == "s2t_arith"])
    assert row.costs["tokens"] == (10_200, 10_200) and row.other_tasks is None


def test_costs_of_a_part_are_unknown(resumed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [run] = read_runs([resumed])
    assert run.cost == {}
    assert f"note: {resumed}: its costs are unknown: they count 260 of 300 texts" in capsys.readouterr().err


def test_committed_runs_know_their_costs() -> None:
    known = [path for path in sorted(BASELINES.rglob("*.json")) if '"telemetry"' in path.read_text()]
    assert {path.parent.name for path in known} >= {"embedded", "gsm8k-qwen", "gsm8k-qwen-h100"}
    for path in known:
        for run in read_runs([path]):
            assert run.cost["tokens"] > 0, path


@pytest.mark.parametrize("unknown_is_new", [True, False])
def test_unknown_costs_cannot_pass_a_gate(
    unknown_is_new: bool, resumed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = (GREEDY, resumed) if unknown_is_new else (resumed, GREEDY)
    assert exit_code("compare", *pair) == 0
    assert " – | – |" in capsys.readouterr().out
    assert exit_code("compare", *pair, "--fail_on", "cost") == 2
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


@pytest.mark.parametrize(
    ("metric", "correct"),
    [
        ("exact_match", 8 * 150),
        ("avg@8", 8 * 150),  # half of the 2400 responses
        ("pass@1", 8 * 150),
        ("pass@8", 150),  # half of the 300 documents
        ("maj@8", 150),
    ],
)
def test_tokens_of_a_correct_answer_count_responses_unless_they_are_scored_together(
    metric: str, correct: int, tmp_path: Path
) -> None:
    """Every metric with "@" counted documents: of avg@8 a right answer took eight times its tokens."""

    def repeated(content: dict[str, Any]) -> None:
        content["configs"]["s2t_arith"]["repeats"] = 8
        content["results"]["s2t_arith"] = {f"{metric},answer": 0.5}
        for name in ("texts", "tokens"):
            telemetry(content)[name] *= 8

    entries = arrange(read_runs([edited(GREEDY, tmp_path / "greedy.json", repeated)]))
    assert tokens_per_correct([entries[0].run]) == pytest.approx(8 * 10_200 / correct)
    note = "Each problem of Arith (embedded) was repeated: the figures are of one response."
    for rows, is_noted in ((entries, True), (arrange(read_runs([GREEDY])), False)):
        table = efficiency_table(rows)
        assert table is not None and (note in table.notes) is is_noted


def test_every_cost_is_that_of_one_problem(tmp_path: Path) -> None:
    """By hand, with another number for each: a column that took the entry beside it would show it."""
    counts = {
        "tokens": 30_000,
        "teacher_calls": 600,
        "teacher_tokens": 900,
        "scorer_calls": 1_200,
        "scorer_tokens": 1_500,
        "teacher_generated": 1_800,
        "discarded_tokens": 2_100,
        "evaluation_tokens": 2_400,
        "seconds": 450.0,
    }
    rates = {"forwards_per_token": 0.75, "realised_rate": 0.04, "flip_rate": 0.03, "tokens_per_second": 66.5}
    others = {"texts": 300, "length_limited": 15, "peak_memory_bytes": 3 * 2**30}

    def change(content: dict[str, Any]) -> None:
        telemetry(content).update(counts | rates | others)

    entries = arrange(read_runs([edited(EMBEDDED / "s2t_kl_tau5.json", tmp_path / "s2t.json", change)]))
    [row] = costs(entries).to_dict("records")
    assert {name: row[name] for name in counts} == {name: count / 300 for name, count in counts.items()}
    shares = [row[name] for name in ("forwards_per_token", "fired", "flips", "cut_off")]
    assert shares == pytest.approx([0.75, 4, 3, 5])
    assert (row["tokens_per_second"], row["peak_gib"]) == (66.5, 3.0)
    assert row["tokens_per_correct"] == pytest.approx(32_100 / 241)  # discarded ones were generated too
    prefilled = entries[0].run.cost["prefill_tokens"]
    computed = 32_100 + prefilled + 900 + 1_500  # what the teacher read to evaluate is among its 900
    assert row["computed_per_correct"] == pytest.approx(computed / 241)
    table = efficiency_table(entries)
    assert table is not None
    shown = dict(zip(table.head, (cell.text for cell in table.blocks[0].rows[0]), strict=True))
    assert [shown[title] for title in ("forwards / token", "fired %", "flips %", "cut off %")] == [
        "0.750",
        "4.00",
        "3.00",
        "5.0",
    ]
    assert [shown[title] for title in ("seconds", "tokens/s", "peak GiB")] == ["1.50", "66.5", "3.00"]


def test_computed_tokens_of_a_correct_answer_count_every_model() -> None:
    """What a scorer or teacher reads was in no cost of a correct answer: `pps_local` seemed cheap."""
    names = ("greedy", "pps_local", "s2t_kl_tau5", "tot", "tah", "teacher")
    runs = {name: read_runs([EMBEDDED / f"{name}.json"])[0] for name in names}
    cost = {name: run.cost for name, run in runs.items()}
    own = {name: one["tokens"] + one["prefill_tokens"] for name, one in cost.items()}
    expected = {
        "greedy": own["greedy"],
        "pps_local": own["pps_local"] + 18_972,
        "s2t_kl_tau5": own["s2t_kl_tau5"] + cost["s2t_kl_tau5"]["discarded_tokens"] + 20_470,
        "tot": own["tot"] + cost["tot"]["discarded_tokens"] + cost["tot"]["evaluation_tokens"],
        "tah": own["tah"] + cost["tah"]["deeper_passes"],
        "teacher": own["teacher"],
    }
    assert {name: computed_tokens(run) for name, run in runs.items()} == expected
    [row] = costs(arrange([runs["pps_local"]])).to_dict("records")
    assert row["computed_per_correct"] == pytest.approx(expected["pps_local"] / 270)
    assert row["computed_per_correct"] > 2 * row["tokens_per_correct"]


def test_ratios_of_a_run_are_of_its_tokens_and_of_the_teacher_s_picks() -> None:
    usage = Usage(
        tokens=200, triggers=50, flips=20, hits=30, misses=10, forwards=150, deeper_passes=40, continued=30
    )
    report = Telemetry(usage=usage, seconds=8.0).report()
    names = ("realised_rate", "flip_rate", "hit_rate", "forwards_per_token", "mean_depth", "continued_rate")
    assert [report[name] for name in names] == pytest.approx([0.25, 0.1, 0.75, 0.75, 1.2, 0.15])
    assert report["tokens_per_second"] == 25.0
    nothing = Telemetry().report()
    assert nothing["hit_rate"] is None and nothing["tokens_per_second"] is None
    assert (nothing["realised_rate"], nothing["mean_depth"]) == (0.0, 1.0)


@pytest.mark.parametrize("fingerprint", [None, "unknown"])
def test_a_teacher_of_unknown_weights_has_no_other_model_s_size(
    fingerprint: str | None, tmp_path: Path
) -> None:
    """None was a key as "None": a teacher on a server had the parameters of a stock hf row."""

    def no_teacher(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"] |= {"teacher": fingerprint, "teacher_parameters": None}

    def stock(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["student"] = fingerprint
        content["config"]["model_num_parameters"] = 7e9

    files = [
        edited(EMBEDDED / "s2t_kl_tau5.json", tmp_path / "s2t.json", no_teacher),
        edited(GREEDY, tmp_path / "hf.json", stock),
    ]
    both = costs(arrange(read_runs(files))).set_index("method_key")["billions_of_work"]
    assert math.isnan(both["s2t"])
    assert both["greedy"] == pytest.approx(7e9 * (10_200 + 10_570) / 300 / 1e9)  # its own, not that of others

    def smaller(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"] |= {"student": fingerprint, "pretrained": "another"}
        content["config"]["model_num_parameters"] = 1e9

    files.append(edited(GREEDY, tmp_path / "small.json", smaller))
    rows = costs(arrange(read_runs(files))).set_index(["student", "method_key"])["billions_of_work"]
    assert rows["embedded/student", "greedy"] == both["greedy"]


def test_a_run_of_unknown_size_leaves_the_size_of_its_model_known(tmp_path: Path) -> None:
    """The smaller of nan and a number was nan: no run of the model had a figure of work."""
    newer = {"date": 2e9, "versions": {"s2t_arith": 1.0}}

    def unknown(content: dict[str, Any]) -> None:
        content.update(newer)
        content["config"]["model_num_parameters"] = None
        content["config"]["s2t_eval"]["dtype"] = "torch.bfloat16"

    files = [GREEDY, edited(GREEDY, tmp_path / "unknown.json", unknown)]
    rows = costs(arrange(read_runs(files)))
    assert rows["billions_of_work"].isna().sum() == 1


@pytest.mark.parametrize(
    ("read", "prefilled", "expected"), [(0, 0, 0), (10, 8, 8), (10, 0, None)], ids=["none", "both", "read"]
)
def test_tokens_that_a_teacher_read_are_counted_or_left_out(
    read: int, prefilled: int, expected: int | None
) -> None:
    """SpecReason alone counts those read in chunks; results of the others said that nothing was."""
    usage = Usage(tokens=2, teacher_tokens=read, teacher_prefilled=prefilled)
    report = Telemetry(usage=usage).report()
    assert report.get("teacher_prefilled") == expected
    assert report["teacher_tokens"] == read and "seconds" in usage.counts()


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
