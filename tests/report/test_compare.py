"""`s2t-eval compare`: pairing, verdicts, refusals and exit codes, on real results."""

from __future__ import annotations

import json
import math
import shlex
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from s2t_eval.report.ablation_table import ablation_table
from s2t_eval.report.baseline import write_baselines
from s2t_eval.report.blocks import arrange
from s2t_eval.report.comparable import NotComparableError, require_comparable
from s2t_eval.report.compare import Rules, Verdict, compare, failures, p_heading
from s2t_eval.report.compare_text import markdown
from s2t_eval.report.documents import documents_of, format_documents, parse_documents
from s2t_eval.report.run import Run
from s2t_eval.report.runs import read_runs
from s2t_eval.statistics import detectable_effect, paired_p
from tests.commands import exit_code, refused
from tests.report_helpers import EMBEDDED, REAL, REPOSITORY, ROWS, edited

GREEDY = EMBEDDED / "greedy.json"
HEAD = "doc_id doc_hash prompt_hash target_hash output_hash score"


def run_of(path: Path) -> Run:
    [run] = read_runs([path])
    return run


def flip(number: int, scores: tuple[str, str]) -> Any:
    """Change the first documents of one score to the other."""

    def change(content: dict[str, Any]) -> None:
        lines = content["documents"]["s2t_arith"]
        places = [i for i, line in enumerate(lines) if i and line.split(" ")[-1] == scores[0]][:number]
        for i in places:
            lines[i] = " ".join([*lines[i].split(" ")[:-1], scores[1]])

    return change


def test_the_real_pair_as_published_here() -> None:
    """The committed GSM8k runs: won 18, lost 1, as results/baselines/README says."""
    [row] = compare(read_runs([REAL / "greedy.json"]), read_runs([REAL / "s2t_tau5.json"]))
    assert (row.n, len(row.won), len(row.lost)) == (96, 18, 1)
    assert row.verdict is Verdict.BETTER
    assert row.p == pytest.approx(2 * (1 + 19) / 2**19)
    assert row.delta == pytest.approx(17 / 96)
    assert row.costs["tokens"] == (25472, 25681)


def test_a_run_against_itself_is_within_noise() -> None:
    rows = compare(read_runs([EMBEDDED]), read_runs([EMBEDDED]))
    assert len(rows) == len(ROWS)
    assert all(row.verdict is Verdict.SAME and row.p_holm == 1 and not row.changed for row in rows)
    assert failures(rows, ["regression", "cost", "change"]) == []


def test_one_base_is_compared_with_every_method_and_holm_counts_them() -> None:
    others = [EMBEDDED / "s2t_random_tau5.json", EMBEDDED / "s2t_kl_tau1.json"]
    rows = compare(read_runs([GREEDY]), read_runs(others))
    assert [row.p for row in rows] == pytest.approx([0.125, 0.004181], rel=1e-3)
    assert [row.p_holm for row in rows] == pytest.approx([0.125, 2 * 0.004181], rel=1e-3)


@pytest.mark.parametrize(
    ("lost", "threshold", "verdict"),
    [
        (5, 0, Verdict.LOWER),  # five of 300 in one direction: p = 0.0625
        (6, 0, Verdict.REGRESSION),  # six: p = 0.031
        (6, 0.02, Verdict.SAME),  # significant, and not more than two points
        (7, 0.02, Verdict.REGRESSION),
    ],
)
def test_a_regression_is_past_threshold_and_significance(
    tmp_path: Path, lost: int, threshold: float, verdict: Verdict
) -> None:
    worse = edited(GREEDY, tmp_path / "greedy.json", flip(lost, ("1", "0")))
    [row] = compare(read_runs([GREEDY]), read_runs([worse]), Rules(threshold=threshold))
    assert len(row.lost) == lost and not row.won
    assert row.verdict is verdict


def test_a_metric_of_which_less_is_better(tmp_path: Path) -> None:
    def invert(content: dict[str, Any]) -> None:
        content["higher_is_better"]["s2t_arith"]["exact_match"] = False

    base = edited(GREEDY, tmp_path / "base" / "greedy.json", invert)
    new = edited(base, tmp_path / "new" / "greedy.json", flip(9, ("0", "1")))
    [row] = compare(read_runs([base]), read_runs([new]))
    assert row.verdict is Verdict.REGRESSION and len(row.lost) == 9


@pytest.mark.parametrize("is_listed", [True, False], ids=["null", "not listed"])
def test_a_metric_without_a_direction_is_better_where_it_is_larger(
    is_listed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """lm_eval writes null for a metric of a task's own; a fall from 80.3 % to 44.3 % was "better"."""
    direction = {"exact_match": None} if is_listed else {}

    def undirected(content: dict[str, Any]) -> None:
        content["higher_is_better"]["s2t_arith"] = direction

    base = edited(EMBEDDED / "s2t_kl_tau5.json", tmp_path / "base" / "s2t.json", undirected)
    new = edited(GREEDY, tmp_path / "new" / "greedy.json", undirected)
    [row] = compare(read_runs([base]), read_runs([new]))
    assert row.delta == pytest.approx(row.new_score - row.base_score) and row.delta < -0.3
    assert row.verdict is Verdict.REGRESSION
    capsys.readouterr()
    assert exit_code("compare", base, new) == 1
    read_runs([tmp_path])
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    # One of each side of the comparison, and one of both files together.
    assert len(notes) == (3 if is_listed else 0)
    assert all("higher_is_better of exact_match is null on s2t_arith" in note for note in notes)


def test_unscored_documents_are_left_out_and_counted(tmp_path: Path) -> None:
    part = edited(GREEDY, tmp_path / "greedy.json", flip(4, ("1", "-")))
    [row] = compare(read_runs([GREEDY]), read_runs([part]))
    assert (row.n, row.unscored, row.delta) == (296, 4, 0)


def test_documents_that_lost_their_score_fail_the_gate(tmp_path: Path) -> None:
    """A grader that broke for every right answer passed: pairs without a score were dropped in silence."""
    part = edited(GREEDY, tmp_path / "greedy.json", flip(100, ("1", "-")))
    gone = "s2t_arith, greedy: Greedy: 100 of 300 documents have a score in the base and none in the new run"
    changed = "s2t_arith, greedy: Greedy: changed: 0 of 300 texts, 100 scores"
    rows = compare(read_runs([GREEDY]), read_runs([part]))
    assert failures(rows, ["regression", "cost"]) == [gone]
    assert failures(rows, ["change"]) == [changed]
    assert exit_code("compare", GREEDY, part) == 1
    assert exit_code("compare", GREEDY, part, "--fail_on", "nothing") == 0
    back = compare(read_runs([part]), read_runs([GREEDY]))  # more scores are a change, and no regression
    assert (failures(back, ["regression"]), failures(back, ["change"])) == ([], [changed])
    assert failures(compare(read_runs([part]), read_runs([part])), ["regression", "change"]) == []


def test_an_infinite_score_is_none(tmp_path: Path) -> None:
    """A new run with an infinite loss on one document had an undefined p, and passed as within noise."""
    lost = edited(GREEDY, tmp_path / "greedy.json", flip(1, ("1", "inf")))
    [row] = rows = compare(read_runs([GREEDY]), read_runs([lost]))
    assert (row.n, row.newly_unscored, row.delta, row.p) == (299, 1, 0, 1)
    [reason] = failures(rows, ["regression"])
    assert "1 of 300 documents have a score in the base and none in the new run" in reason
    sample = json.loads(sample_text(float("-inf")))
    assert documents_of([sample], "loss", "none", "samples.jsonl")["score"].isna().all()


def sample_text(loss: float) -> str:
    """A line of lm_eval's samples, with what `documents_of` reads."""
    names = ("doc_hash", "prompt_hash", "target_hash")
    return json.dumps({"doc_id": 0, **dict.fromkeys(names, "0"), "resps": [["text"]], "loss": loss})


def test_the_detectable_effect_is_that_of_the_alpha_of_the_comparison(tmp_path: Path) -> None:
    """It was that of a p-value of 0.05 whatever --alpha was, so the table promised too much."""
    worse = edited(GREEDY, tmp_path / "greedy.json", flip(6, ("1", "0")))
    rows = {
        alpha: compare(read_runs([GREEDY]), read_runs([worse]), Rules(alpha=alpha)) for alpha in (0.05, 0.001)
    }
    found = {alpha: row.detectable for alpha, [row] in rows.items()}
    assert found == {alpha: detectable_effect(300, 0, 6, alpha) for alpha in found}
    assert found[0.001] > 1.5 * found[0.05]
    text = markdown(rows[0.001], [], Rules(alpha=0.001))
    assert "with a power of 80 %, at a p-value of at most 0.001 without the correction." in text


THIRDS = (1 / 3, 2 / 3, 1.0, 0.0)


def in_thirds(write: Callable[[float], str]) -> Any:
    """Scores of three repeats, kept as `write` keeps them."""

    def change(content: dict[str, Any]) -> None:
        lines = content["documents"]["s2t_arith"]
        for at, line in enumerate(lines[1:], 1):
            lines[at] = " ".join([*line.split(" ")[:-1], write(THIRDS[at % 4])])

    return change


@pytest.mark.parametrize("write", [repr, "{:g}".format], ids=["as measured", "kept with six digits"])
def test_a_run_is_equal_to_its_own_kept_copy(tmp_path: Path, write: Callable[[float], str]) -> None:
    """A third was kept as 0.333333: a run of three repeats won and lost documents against its own copy."""
    measured = run_of(edited(GREEDY, tmp_path / "a" / "greedy.json", in_thirds(repr)))
    kept = run_of(edited(GREEDY, tmp_path / "b" / "greedy.json", in_thirds(write)))
    for pair in ((measured, kept), (kept, measured)):
        [row] = compare([pair[0]], [pair[1]])
        assert (row.won, row.lost, row.delta, row.p) == ([], [], 0.0, 1.0)
        assert failures([row], ["regression", "cost", "change"]) == []


def test_the_test_of_graded_scores_is_named(tmp_path: Path) -> None:
    """p of means of repeats was called McNemar's, and their detectable difference was that of this test."""
    thirds = in_thirds(repr)
    base = run_of(edited(GREEDY, tmp_path / "greedy.json", thirds))
    higher = edited(EMBEDDED / "s2t_kl_tau5.json", tmp_path / "s2t.json", thirds)
    new = run_of(edited(higher, higher, flip(30, (repr(1 / 3), "1"))))
    assert base.documents is not None and new.documents is not None
    [graded] = compare([base], [new])
    [exact] = compare([run_of(GREEDY)], [run_of(EMBEDDED / "s2t_kl_tau5.json")])
    assert (graded.is_graded, exact.is_graded) == (True, False) and len(graded.won) == 30
    assert graded.p == paired_p(new.documents["score"], base.documents["score"])
    assert math.isnan(graded.detectable) and exact.detectable > 0 and graded.report()["detectable"] is None
    permutation, mcnemar = "a sign-flip permutation test", "the exact McNemar test"
    for rows, named in (
        ([graded], permutation),
        ([exact], mcnemar),
        ([exact, graded], f"{mcnemar}, or {permutation} where scores lie between right and wrong"),
    ):
        assert f"(from {named}, with Holm's correction over the rows)" in markdown(rows, [], Rules())
    headings = [p_heading(rows) for rows in ([graded], [exact], [exact, graded], [])]
    assert headings == [
        "p (permutation, uncorrected)",
        "p (McNemar, uncorrected)",
        "p (McNemar or permutation, uncorrected)",
        "p (uncorrected)",
    ]
    for runs, named in (
        ([base, new], permutation),
        ([run_of(GREEDY), run_of(EMBEDDED / "s2t_kl_tau5.json")], mcnemar),
    ):
        table = ablation_table(arrange(runs))
        assert table is not None
        assert f"p is from {named}, with Holm's correction over the rows of a block." in table.notes[0]


def test_a_kept_score_is_read_as_the_number_that_it_was(tmp_path: Path) -> None:
    measured = run_of(edited(GREEDY, tmp_path / "greedy.json", in_thirds(repr)))
    (tmp_path / "kept").mkdir()
    [path] = write_baselines([measured], tmp_path / "kept")
    kept = run_of(path)
    assert measured.scored["score"].tolist() == kept.scored["score"].tolist()
    lines = json.loads(GREEDY.read_text())["documents"]["s2t_arith"]
    assert format_documents(parse_documents(lines)) == lines  # committed results are kept as they were


def test_the_order_of_documents_changes_nothing(tmp_path: Path) -> None:
    def turn(content: dict[str, Any]) -> None:
        head, *lines = content["documents"]["s2t_arith"]
        content["documents"]["s2t_arith"] = [head, *reversed(lines)]

    new = edited(EMBEDDED / "s2t_kl_tau5.json", tmp_path / "s2t.json", turn)
    [row] = compare(read_runs([GREEDY]), read_runs([new]))
    [straight] = compare(read_runs([GREEDY]), read_runs([EMBEDDED / "s2t_kl_tau5.json"]))
    assert (row.won, row.lost, row.p) == (straight.won, straight.lost, straight.p)


# ---------------------------------------------------------------- refusals


def reword(content: dict[str, Any]) -> None:
    lines = content["documents"]["s2t_arith"]
    parts = lines[5].split(" ")
    lines[5] = " ".join([*parts[:2], "0" * 16, *parts[3:]])


def other_document(content: dict[str, Any]) -> None:
    lines = content["documents"]["s2t_arith"]
    parts = lines[5].split(" ")
    lines[5] = " ".join([parts[0], "0" * 16, *parts[2:]])


def other_target(content: dict[str, Any]) -> None:
    lines = content["documents"]["s2t_arith"]
    parts = lines[5].split(" ")
    lines[5] = " ".join([*parts[:3], "0" * 16, *parts[4:]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["versions"].update(s2t_arith=2.0), r"task version 1\.0 against 2\.0"),
        (lambda c: c["n-samples"]["s2t_arith"].update(effective=200), "n 300 against 200"),
        (
            lambda c: c["configs"]["s2t_arith"]["generation_kwargs"].update(max_gen_toks=9),
            'decoding limits .*"max_gen_toks": 96.*"max_gen_toks": 9',
        ),
        (reword, "prompt hashes: 1 documents have another prompt"),
        (other_document, "document hashes: 2 in one run alone"),
        # The hash of the right answer was kept and never compared: other answers passed as noise.
        (other_target, "target hashes: 1 documents have another right answer"),
        (lambda c: c.pop("documents"), r"samples are missing beside .*new\.json: run lm_eval with --log"),
    ],
)
def test_what_may_not_be_compared(tmp_path: Path, change: Any, message: str) -> None:
    new = edited(GREEDY, tmp_path / "new.json", change)
    with pytest.raises(NotComparableError, match=message):
        compare(read_runs([GREEDY]), read_runs([new]))
    assert exit_code("compare", GREEDY, new) == 2


def test_runs_without_a_document_have_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two empty files of samples ended in a traceback of pandas."""
    empty = edited(GREEDY, tmp_path / "empty.json", lambda c: c["documents"].update(s2t_arith=[HEAD]))
    assert refused(capsys, "compare", empty, empty).endswith("no document has a score in both")


@pytest.mark.parametrize("kept", [0, 30])
def test_a_file_of_the_baseline_that_was_cut_off_is_no_missing_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: int
) -> None:
    """An empty `s2t.json`, as a full disk leaves one, was skipped, and the gate passed without its row."""
    (tmp_path / "greedy.json").write_text(GREEDY.read_text())
    (tmp_path / "s2t.json").write_text(GREEDY.read_text()[:kept])
    (tmp_path / "other.json").write_text('{"of": "something else"}')
    (tmp_path / "list.json").write_text("[1]\n")
    assert "s2t.json: not complete JSON" in refused(capsys, "compare", tmp_path, GREEDY)
    (tmp_path / "s2t.json").unlink()
    assert [run.name for run in read_runs([tmp_path])] == ["greedy"]


def test_without_documents_the_harness_hash_over_all_will_do_for_a_column(tmp_path: Path) -> None:
    def strip(task_hash: str) -> Any:
        def change(content: dict[str, Any]) -> None:
            content.pop("documents")
            content["task_hashes"] = {"s2t_gsm8k": task_hash}

        return change

    one, same, other = (
        run_of(edited(REAL / "greedy.json", tmp_path / f"{i}.json", strip(text)))
        for i, text in enumerate(("x", "x", "y"))
    )
    require_comparable([one, same], "GSM8k")
    with pytest.raises(NotComparableError, match=r"GSM8k: .*may not share a column: task hash x against y"):
        require_comparable([one, other], "GSM8k")


# ---------------------------------------------------------------- the command


def test_exit_codes_table_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary, out = tmp_path / "summary.md", tmp_path / "compare.json"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    worse = edited(GREEDY, tmp_path / "worse.json", flip(20, ("1", "0")))
    assert exit_code("compare", GREEDY, GREEDY) == 0
    assert exit_code("compare", GREEDY, worse, "--json", out) == 1
    assert exit_code("compare", GREEDY, worse, "--fail_on", "nothing") == 0
    text = capsys.readouterr().out
    # it was headed "no regression" above a row with one
    assert "### 1 of 1 comparisons are regressions, which are no reason to fail here" in text
    assert "❌ 1 of 1 comparisons failed" in text
    assert "**failed:** s2t_arith, worse: Greedy: -6.7 points" in text
    assert "<details>" in text
    written = summary.read_text()
    assert written.startswith("before\n") and written.count("### ") == 3
    assert all(line in written for line in text.splitlines())
    content = json.loads(out.read_text())
    assert "Scores by lm_eval's metric and filter: s2t_arith exact_match,answer." in text
    assert content["rows"][0]["metric"] == "exact_match,answer"
    assert content["rows"][0]["verdict"] == "regression" and len(content["rows"][0]["lost"]) == 20
    assert exit_code("compare", GREEDY, tmp_path / "nonesuch") == 2


def test_a_row_in_markdown_has_percentages_and_the_change_of_each_cost() -> None:
    """By hand: 21 and 38 of 96; 25,681 tokens after 25,472; the teacher's are new; scorer tokens unknown."""
    rows = compare(read_runs([REAL / "greedy.json"]), read_runs([REAL / "s2t_tau5.json"]))
    [line] = [line for line in markdown(rows, [], Rules()).splitlines() if line.startswith("| ✅")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    low, high = (f"{100 * bound:+.1f}" for bound in rows[0].interval)
    assert cells[0] == "✅ better"
    assert cells[4:9] == ["96", "21.9", "39.6", f"+17.7 ({low} to {high})", "18 / 1"]
    assert cells[9:11] == ["7.6e-05", f"{100 * detectable_effect(96, 18, 1):.1f}"]
    assert cells[11:] == ["25,681 (+0.8 %)", "1.000", "31,729 (new)", "–"]


def test_another_text_is_a_change_even_where_the_score_stays(tmp_path: Path) -> None:
    def reply(content: dict[str, Any]) -> None:
        lines = content["documents"]["s2t_arith"]
        parts = lines[7].split(" ")
        lines[7] = " ".join([*parts[:4], "0" * 16, parts[5]])

    new = edited(GREEDY, tmp_path / "greedy.json", reply)
    assert exit_code("compare", GREEDY, new) == 0
    assert exit_code("compare", GREEDY, new, "--fail_on", "change") == 1


def test_a_baseline_may_hold_the_texts_of_several_processors(tmp_path: Path) -> None:
    """One text of `tah` hangs on the last bit of a float; it failed the regression on another processor."""

    def with_hashes(*hashes: str) -> Any:
        def change(content: dict[str, Any]) -> None:
            lines = content["documents"]["s2t_arith"]
            doc_id, doc, prompt, target, _, score = lines[1].split(" ")
            lines[1] = " ".join([doc_id, doc, prompt, target, "|".join(hashes), score])

        return change

    base = run_of(edited(GREEDY, tmp_path / "base.json", with_hashes("a" * 16, "b" * 16)))
    for text, changed in (("a", 0), ("b", 0), ("c", 1)):
        new = run_of(edited(GREEDY, tmp_path / f"{text}.json", with_hashes(text * 16)))
        [row] = compare([base], [new])
        assert row.changed == changed
        assert bool(failures([row], ["change"])) is bool(changed)


def test_the_workflow_for_users_says_what_the_command_takes() -> None:
    """Its steps are run here as far as they need no other machine."""
    workflow = yaml.safe_load((REPOSITORY / "examples" / "ci" / "regression.yml").read_text())
    env = workflow["env"]
    steps = {step.get("name"): step.get("run", "") for step in workflow["jobs"]["scores"]["steps"]}
    command = shlex.split(string.Template(steps["Compare"]).substitute(env))
    assert command[:2] == ["s2t-eval", "compare"]
    baseline = REPOSITORY / env["BASELINE"]
    arguments = [str(baseline) if word in (env["BASELINE"], "results-new") else word for word in command[2:]]
    arguments[arguments.index("--json") + 1 :] = []
    assert exit_code("compare", *arguments[:-1]) == 0
    run = run_of(baseline)
    assert (run.results["config"]["model"], run.task) == (env["MODEL"], env["TASKS"])
    assert run.model == env["MODEL_ARGS"].removeprefix("pretrained=")
    for flag in ("--log_samples", "--output_path results-new", '--model "$MODEL"', '--tasks "$TASKS"'):
        assert flag in steps["Run"]


def test_wrong_flags() -> None:
    assert exit_code("compare", GREEDY, GREEDY, "--alpha", 2) == 2
    assert exit_code("compare", GREEDY, GREEDY, "--metric", "exact_match") == 2
    assert exit_code("compare", GREEDY, GREEDY, "--threshold", -1) == 2
