"""The figure of a group of tasks is not a share of its documents: no count and no interval of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from s2t_eval.report.ablation_table import ablation_table
from s2t_eval.report.blocks import arrange
from s2t_eval.report.cells import accuracy, group_note
from s2t_eval.report.comparable import NotComparableError
from s2t_eval.report.compare import Rules, compare
from s2t_eval.report.compare_text import markdown
from s2t_eval.report.costs import tokens_per_correct
from s2t_eval.report.figures import accuracy_plot
from s2t_eval.report.json_files import ResultsError
from s2t_eval.report.main_table import main_table
from s2t_eval.report.run import Run
from s2t_eval.report.runs import read_runs
from s2t_eval.report.submission import Claim, require_whole
from s2t_eval.statistics import stratified_bootstrap, wilson
from tests.commands import exit_code
from tests.report_helpers import EMBEDDED, edited

EASY, HARD = 240, 60
"""Documents of the two tasks: 216 and 6 are right, 90 % and 10 %."""
FILE = EMBEDDED / "greedy.json"


def group_run(path: Path, value: float = 0.5, easy_limit: int = 96, **changes: Any) -> Run:
    """A run of `lm_eval --tasks both`, of which 222 of 300 documents are right."""

    def change(content: dict[str, Any]) -> None:
        head, *lines = content["documents"].pop("s2t_arith")
        rights = [i < 216 for i in range(EASY)] + [i < 6 for i in range(HARD)]
        scored = [f"{line.rsplit(' ', 1)[0]} {right:d}" for line, right in zip(lines, rights, strict=True)]
        content["documents"]["both"] = [head, *scored]
        for name in ("configs", "n-samples"):
            content[name] = {task: dict(content[name]["s2t_arith"]) for task in ("easy", "hard")}
        limits = content["configs"]["easy"]["generation_kwargs"]
        content["configs"]["easy"]["generation_kwargs"] = {**limits, "max_gen_toks": easy_limit}
        content["n-samples"] = {
            "easy": {"original": EASY, "effective": EASY},
            "hard": {"original": HARD, "effective": HARD},
        }
        content["group_subtasks"] = {"both": ["easy", "hard"]}
        figures = {"easy": 0.9, "hard": 0.1, "both": value}
        content["results"] = {task: {"exact_match,answer": figure} for task, figure in figures.items()}
        content.update(changes)

    [run] = read_runs([edited(FILE, path, change)])
    return run


def test_the_mean_of_two_tasks_has_the_interval_of_their_mean(tmp_path: Path) -> None:
    """It had Wilson's interval of "150 of 300", though 222 documents were right."""
    run = group_run(tmp_path / "greedy.json")
    score = accuracy(run)
    assert (score.value, score.n, score.correct, score.method) == (0.5, 300, None, "bootstrap")
    assert score.count_text == "50.0 %"
    assert score.interval == stratified_bootstrap(run.scores_of_tasks)
    assert [len(part) for part in run.scores_of_tasks] == [EASY, HARD]
    # sqrt(0.9 * 0.1 / 240 + 0.9 * 0.1 / 60) / 2 = 2.2 points of standard error; Wilson's bounds are 5.6 away
    assert score.interval.low == pytest.approx(0.5 - 1.96 * 0.0217, abs=0.005)
    assert score.interval.high == pytest.approx(0.5 + 1.96 * 0.0217, abs=0.005)


def test_the_mean_over_all_documents_is_a_share(tmp_path: Path) -> None:
    score = accuracy(group_run(tmp_path / "greedy.json", value=222 / 300))
    assert (score.correct, score.interval, score.method) == (222, wilson(222, 300), "wilson")


def test_another_aggregate_has_no_interval(tmp_path: Path) -> None:
    score = accuracy(group_run(tmp_path / "greedy.json", value=0.6))
    assert (score.correct, score.interval_text, score.method) == (None, "–", None)


def test_without_documents_a_group_has_no_interval(tmp_path: Path) -> None:
    run = group_run(tmp_path / "greedy.json", documents=None)
    assert (accuracy(run).correct, accuracy(run).interval_text) == (None, "–")
    assert "it has no interval" in str(group_note(run))


def test_the_tables_say_what_the_figure_of_a_group_is(tmp_path: Path) -> None:
    runs = [group_run(tmp_path / "greedy.json")]
    table = main_table(arrange(runs), intervals=True, with_published=False)
    assert (
        "both is the mean of its 2 tasks (easy, hard), each of equal weight; its interval is from a "
        "bootstrap of the documents within each task."
    ) in table.notes
    assert table.blocks[0].rows[0][1].text.startswith("50.0 [4")
    assert "means of tasks: bootstrap" in accuracy_plot(arrange(runs)).title
    other = edited(tmp_path / "greedy.json", tmp_path / "tah.json", lambda c: c["config"].update(model="tah"))
    ablation = ablation_table(arrange([*runs, *read_runs([other])]))
    assert ablation is not None
    assert "The scores of both are means over all documents of its tasks here." in ablation.notes
    text = markdown(compare(runs, runs), [], Rules())
    assert "Scores of groups are means over all their documents, which are paired: both (2 tasks)" in text


def test_tokens_are_those_of_each_right_answer(tmp_path: Path) -> None:
    """They were divided by the 150 answers that a mean of 50 % seems to be."""
    run = group_run(tmp_path / "greedy.json")
    assert run.num_correct == pytest.approx(222)
    assert tokens_per_correct([run]) == pytest.approx(run.cost["tokens"] / 222)


def test_a_part_of_a_group_is_a_part(tmp_path: Path) -> None:
    """A group has no number of documents of its own among lm_eval's, and passed for whole."""
    part = {"easy": {"original": 1000, "effective": EASY}, "hard": {"original": HARD, "effective": HARD}}
    run = group_run(tmp_path / "greedy.json", **{"n-samples": part})
    with pytest.raises(ResultsError, match="both was run on 300 of 1060 documents"):
        require_whole([run], Claim())


def test_limits_of_a_group_are_those_of_each_of_its_tasks(tmp_path: Path) -> None:
    """The limit of the first task was shown and compared as that of all."""
    one = group_run(tmp_path / "a" / "greedy.json", easy_limit=512)
    two = group_run(tmp_path / "b" / "greedy.json")
    assert "max_gen_toks" not in one.limits and two.limits["max_gen_toks"] == 96
    assert one.identity != two.identity
    with pytest.raises(NotComparableError, match=r'"easy": .*512.* against .*"easy": .*96'):
        compare([one], [two])


@pytest.mark.parametrize(("easy", "hard", "is_better"), [(False, None, False), (True, True, True)])
def test_a_group_has_the_direction_of_its_tasks(
    easy: bool, hard: bool | None, is_better: bool, tmp_path: Path
) -> None:
    """lm_eval writes null for a group unless all of its tasks have one direction, and null read as less."""
    directions = {"easy": {"exact_match": easy}, "hard": {"exact_match": hard}, "both": {"exact_match": None}}
    assert group_run(tmp_path / "a.json", higher_is_better=directions).is_higher_better is is_better


def test_a_group_whose_tasks_disagree_has_no_better_figure(tmp_path: Path) -> None:
    directions = {
        "easy": {"exact_match": True},
        "hard": {"exact_match": False},
        "both": {"exact_match": None},
    }
    with pytest.raises(ResultsError, match=r"group both: its tasks disagree on whether a larger exact_match"):
        group_run(tmp_path / "a.json", higher_is_better=directions)


def test_the_tasks_of_a_group_are_submitted_one_by_one(tmp_path: Path) -> None:
    """Of a run of `s2t_paper` only the mean of its mathematics could be submitted, as a dataset of its own,
    and no score of GSM8k."""
    path = tmp_path / "greedy.json"
    whole = group_run(path)
    names = ("--dataset", "easy=me/easy:test", "hard=me/hard:test")
    arguments = ("submit", path, "--to", "eval-results", "--out")
    assert exit_code(*arguments, tmp_path / "out", *names) == 0
    files = {file.stem: yaml.safe_load(file.read_text())[0] for file in (tmp_path / "out").rglob("*.yaml")}
    assert {name: entry["value"] for name, entry in files.items()} == {"easy": 90.0, "hard": 10.0}
    assert "n 60 of 60" in files["hard"]["notes"]

    easy, hard = read_runs([path], is_whole=lambda _: False)
    assert [run.task for run in (easy, hard)] == ["easy", "hard"]
    assert easy.documents is not None and hard.documents is not None and whole.documents is not None
    assert (len(easy.documents), easy.documents["score"].sum()) == (EASY, 216)
    assert (len(hard.documents), hard.documents["score"].sum()) == (HARD, 6)
    both = [*easy.documents["doc_hash"], *hard.documents["doc_hash"]]
    assert both == whole.documents["doc_hash"].tolist()

    assert exit_code(*arguments, tmp_path / "both", "--dataset", "both=me/both:test") == 0
    [file] = (tmp_path / "both").rglob("*.yaml")
    assert yaml.safe_load(file.read_text())[0]["value"] == 50.0
