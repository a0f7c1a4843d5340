"""Reading results: lm_eval's own folders, committed baselines, and whatever is broken about them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from lm_eval.utils import sanitize_model_name

from s2t_eval.cli import main
from s2t_eval.method_table import method_of
from s2t_eval.report.baseline import without_paths, write_baselines
from s2t_eval.report.benchmarks import benchmark_of
from s2t_eval.report.blocks import arrange
from s2t_eval.report.documents import format_documents, parse_documents, results_name
from s2t_eval.report.figures import pareto_plot
from s2t_eval.report.json_files import ResultsError
from s2t_eval.report.kept_texts import texts_of
from s2t_eval.report.runs import read_runs
from tests.commands import refused
from tests.harness_helpers import TEACHER
from tests.report_helpers import BASELINES, EMBEDDED, edited, run_to


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods, each in a folder of its own, as a user keeps them."""
    folder = tmp_path_factory.mktemp("outputs")
    run_to(folder / "plain", "greedy")
    run_to(folder / "selected", "s2t", teacher=TEACHER, trigger="entropy", threshold=1.5)
    return folder


@pytest.fixture
def broken(outputs: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(outputs / "plain", tmp_path / "plain"))


def test_a_folder_of_runs_tells_methods_apart_by_the_model(outputs: Path) -> None:
    plain, selected = sorted(read_runs([outputs]), key=lambda run: run.name)
    assert (plain.name, plain.method.key, selected.name, selected.method.key) == (
        *("plain", "greedy"),
        *("selected", "s2t"),
    )
    assert selected.label == "S2T (teacher), entropy, threshold 1.5, K 8"
    assert plain.n == 12 and len(plain.scored) == 12
    assert plain.scored["score"].mean() == plain.value
    assert plain.limits["max_gen_toks"] == 96
    assert plain.cost["tokens"] > 0


def test_an_output_path_that_is_a_file(outputs: Path, tmp_path: Path) -> None:
    """`--output_path out/greedy.json`: its samples, beside it, were called missing."""
    for folder, name in (("plain", "greedy"), ("selected", "results_kl")):
        [results] = (outputs / folder).rglob("results_*.json")
        date = results.stem.removeprefix("results_")
        shutil.copy(results, tmp_path / f"{name}_{date}.json")
        samples = f"samples_s2t_arith_{date}.jsonl"
        shutil.copy(results.with_name(samples), tmp_path / samples)
    as_folders = {run.identity: run for run in read_runs([outputs])}
    as_files = read_runs([tmp_path])
    assert sorted(run.name for run in as_files) == ["greedy", "results_kl"]
    for run in as_files:
        assert run.scored.equals(as_folders[run.identity].scored)
        assert texts_of(run.source) == texts_of(as_folders[run.identity].source)


@pytest.mark.parametrize(
    ("path", "name", "stamp"),
    [
        ("results_2026-01-02T03-04-05.000006.json", "results", "2026-01-02T03-04-05.000006"),
        ("results_2026-01-02T03-04-05.json", "results", "2026-01-02T03-04-05"),  # at a whole second
        ("out/s2t_tau5_2026-01-02T03-04-05.000006.json", "s2t_tau5", "2026-01-02T03-04-05.000006"),
        ("results_old_2026-01-02T03-04-05.000006.json", "results_old", "2026-01-02T03-04-05.000006"),
        ("results_mine.json", "results", "mine"),
        ("s2t_kl_tau5.json", "s2t_kl_tau5", None),
        ("s2t_2026-01-02.json", "s2t_2026-01-02", None),
    ],
)
def test_names_of_results_files(path: str, name: str, stamp: str | None) -> None:
    assert results_name(Path(path)) == (name, stamp)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("maj8", ", log-likelihoods of the plain student"),
        ("pps_local_tau5", ", log-likelihoods of the plain student"),
        ("s2t_local", ", log-likelihoods of the adapted student"),
        ("tah", ", log-likelihoods of the plain student"),
        ("tah with weights of its own", ", log-likelihoods of the adapted student"),
        ("greedy", ""),
    ],
)
def test_log_likelihoods_of_a_method_for_texts_are_a_student_s(name: str, more: str, tmp_path: Path) -> None:
    """Reports showed the plain student's score of a multiple-choice task as "Maj@8 75.0", and the adapted
    student's as the plain one's."""

    def choose(content: dict[str, Any]) -> None:
        content["configs"]["s2t_arith"]["output_type"] = "multiple_choice"
        if own_weights:
            content["config"]["s2t_eval"]["adapted_likelihoods"] = ["s2t_arith"]

    name, _, own_weights = name.partition(" with ")
    paths = [EMBEDDED / f"{name}.json", edited(EMBEDDED / f"{name}.json", tmp_path / "choice.json", choose)]
    texts, choices = (read_runs([path])[0].label for path in paths)
    assert choices == texts + more


def test_a_baseline_keeps_what_pairing_needs(outputs: Path, tmp_path: Path) -> None:
    runs = read_runs([outputs])
    write_baselines(runs, tmp_path)
    again = {run.name: run for run in read_runs([tmp_path])}
    for run in runs:
        assert run.documents is not None
        assert format_documents(run.documents) == format_documents(again[run.name].documents)  # type: ignore[arg-type]
        assert again[run.name].identity == run.identity
        assert again[run.name].value == run.value


def test_documents_without_a_score_stay_unscored() -> None:
    lines = ["doc_id doc_hash prompt_hash target_hash output_hash score", "3 a b c d -", "4 a b c d 0.5"]
    documents = parse_documents(lines)
    assert documents["score"].isna().tolist() == [True, False]
    assert format_documents(documents) == lines


def test_paths_and_addresses_are_cut() -> None:
    value = {"a": "file /home/me/x/model.bin", "pretty_env_info": 1, "f": "<function f at 0x7f60>"}
    assert without_paths(value) == {"a": "file model.bin", "f": "<function f>"}


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("/home/me/models/qwen-0.5b", "qwen-0.5b"),
        ("Qwen/Qwen2.5-0.5B", "Qwen__Qwen2.5-0.5B"),
        ("embedded/student", "embedded__student"),
    ],
)
def test_the_folder_s_name_of_lm_eval_holds_no_path(name: str, kept: str) -> None:
    """Kept results had `__home__me__models__qwen-0.5b` in place of each path that was cut."""
    assert without_paths({"model_name_sanitized": sanitize_model_name(name)}) == {
        "model_name_sanitized": kept
    }


def test_committed_results_hold_no_paths() -> None:
    for path in BASELINES.rglob("*.json"):
        content = json.loads(path.read_text())
        assert without_paths(content) == content, path


def test_addresses_of_servers_are_cut() -> None:
    """They are machines of a network, and kept files are committed."""
    pairs = "pretrained=x,teacher_url=http://gpu7.corp.example:8002/v1+http://b:1,tau=0.05"
    assert without_paths({"model_args": pairs}) == {"model_args": "pretrained=x,teacher_url=SERVER,tau=0.05"}
    named = {"model_args": {"student_url": "http://gpu7:8001", "teacher_url": None, "tau": 0.05}}
    kept = {"model_args": {"student_url": "SERVER", "teacher_url": None, "tau": 0.05}}
    assert without_paths(named) == kept


def test_a_score_is_not_how_many_had_an_answer(tmp_path: Path) -> None:
    """s2t_humaneval's figures begin with `extracted`, which was once taken for its score."""

    def change(content: dict[str, Any]) -> None:
        content["results"]["s2t_arith"] = {
            "extracted,answer": 1.0,
            "truncated,answer": 0.0,
            "pass@1,answer": 0.4,
        }

    [run] = read_runs([edited(EMBEDDED / "greedy.json", tmp_path / "code.json", change)])
    assert (run.metric, run.value) == ("pass@1", 0.4)


def test_committed_baselines_hold_no_path() -> None:
    for path in EMBEDDED.parent.rglob("*.json"):
        assert not any(root in path.read_text() for root in ('"/', "/home/", "/root/", "/tmp/")), path


def test_benchmarks_by_task_name() -> None:
    titles = {
        "GSM8k": ("s2t_gsm8k", "gsm8k"),
        "MATH500": ("s2t_math500", "hendrycks_math500"),
        "AIME25": ("s2t_aime25", "aime25"),
        "HumanEval": ("s2t_humaneval", "humaneval"),
        "MMLU-Pro": ("s2t_mmlu_pro", "mmlu_pro"),
    }
    for title, tasks in titles.items():
        assert {benchmark_of(task).title for task in tasks} == {title}


@pytest.mark.parametrize(
    "task",
    """gsm8k_platinum gsm8k_cot gsm8k_cot_zeroshot s2t_gsm8k_dev humaneval_plus humaneval_infilling
    humaneval_64 mmlu_pro_biology mmlu_prox_en mmlu_pro_plus aime24 hendrycks_math_algebra my_own""".split(),
)
def test_other_tasks_of_a_benchmark_s_name_are_not_the_benchmark(task: str) -> None:
    """They stood in its column, beside its published number, and were submitted as results on its dataset."""
    benchmark = benchmark_of(task)
    assert (benchmark.title, benchmark.dataset, benchmark.is_math) == (task, None, False)
    assert benchmark.is_code is task.startswith("humaneval")  # a recipe confirms the running of its programs


def test_tasks_of_one_benchmark_have_columns_of_their_own(tmp_path: Path) -> None:
    """`--tasks gsm8k,gsm8k_cot` ended the report with code 2, and so did a stock task beside ours."""
    tasks = ("gsm8k_cot", "gsm8k", "s2t_gsm8k")

    def three(content: dict[str, Any]) -> None:
        for name in ("results", "configs", "versions", "n-samples", "higher_is_better", "documents"):
            own = content[name].pop("s2t_arith")
            content[name] |= dict.fromkeys(tasks, own)

    runs = read_runs([edited(EMBEDDED / "greedy.json", tmp_path / "three.json", three)])
    titles = {entry.run.task: entry.benchmark.title for entry in arrange(runs)}
    assert titles == {"s2t_gsm8k": "GSM8k", "gsm8k": "gsm8k", "gsm8k_cot": "gsm8k_cot"}
    [alone] = arrange([run for run in runs if run.task == "gsm8k"])
    assert alone.benchmark.title == "GSM8k"


# ---------------------------------------------------------------- bad input


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"no results in it; expected results_\*\.json"):
        read_runs([tmp_path])


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no such file or folder"):
        read_runs([tmp_path / "nonesuch"])


def test_results_cut_off(broken: Path) -> None:
    [path] = broken.rglob("results_*.json")
    path.write_text(path.read_text()[:900])
    with pytest.raises(ResultsError, match=r"results_.*not complete JSON \(line \d+.*run it again"):
        read_runs([broken])


def test_samples_cut_off(broken: Path) -> None:
    [path] = broken.rglob("samples_*.jsonl")
    path.write_text(path.read_text()[:-300])
    with pytest.raises(
        ResultsError, match=r"samples_.*, line 12: expected one JSON object.*may have been cut off"
    ):
        read_runs([broken])


def test_a_sample_that_is_not_lm_evals(broken: Path) -> None:
    [path] = broken.rglob("samples_*.jsonl")
    path.write_text('{"doc_id": 0, "filter": "answer"}\n')
    with pytest.raises(ResultsError, match=r":1: a sample without 'doc_hash'"):
        read_runs([broken])


def test_samples_missing(broken: Path) -> None:
    [path] = broken.rglob("samples_*.jsonl")
    path.unlink()
    [run] = read_runs([broken])
    with pytest.raises(ResultsError, match="no samples of task s2t_arith; run lm_eval with --log_samples"):
        _ = run.scored


def test_unknown_method(tmp_path: Path) -> None:
    path = edited(EMBEDDED / "greedy.json", tmp_path / "odd.json", lambda c: c["config"].update(model="odd"))
    with pytest.raises(ResultsError, match=r"odd\.json: unknown method: config\.model is 'odd'.*METHODS"):
        read_runs([path])
    with pytest.raises(ValueError, match="the table knows hf, greedy"):
        method_of("odd")


def test_not_a_results_file(tmp_path: Path) -> None:
    path = tmp_path / "results_1.json"
    path.write_text("{}")
    with pytest.raises(ResultsError, match="not a results file of lm_eval"):
        read_runs([path])
    path.write_text("[]")
    with pytest.raises(ResultsError, match="expected a JSON object, got list"):
        read_runs([path])


def without_column(content: dict[str, Any]) -> None:
    content["documents"]["s2t_arith"] = ["doc_id doc_hash prompt_hash output_hash score", "0 a b c 1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_column, "its documents of s2t_arith cannot be read (no column target_hash)"),
        (lambda c: c["n-samples"]["s2t_arith"].update(effective=0), "s2t_arith: evaluated on no document"),
        (
            lambda c: c["config"]["s2t_eval"].update(sampling={"num_samples": "8"}),
            'config.s2t_eval.sampling.num_samples: expected a whole number, got "8"',
        ),
        (
            lambda c: c["configs"]["s2t_arith"].update(repeats="x"),
            'configs.s2t_arith.repeats: expected a whole number, got "x"',
        ),
    ],
)
def test_results_that_cannot_be_used_are_named(
    change: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They ended in tracebacks, or in messages that named no file."""
    path = edited(EMBEDDED / "greedy.json", tmp_path / "broken.json", change)
    for command in (("report", path, "--out", tmp_path / "out"), ("compare", path, path)):
        line = refused(capsys, *command)
        assert "broken.json" in line and message in line


def test_an_undefined_score_is_no_point_of_the_cost_figure(tmp_path: Path) -> None:
    """A report with one ended with `Axis limits cannot be NaN or Inf`."""
    figures = {"exact_match,answer": float("nan")}
    paths = [
        edited(
            EMBEDDED / "maj8.json", tmp_path / "nan.json", lambda c: c["results"]["s2t_arith"].update(figures)
        )
    ]
    assert pareto_plot(arrange(read_runs(paths))) is None
    plot = pareto_plot(arrange(read_runs([*paths, EMBEDDED / "greedy.json"])))
    assert plot is not None and plot.data["method"].tolist() == ["Greedy"]
    main(["report", *map(str, paths), "--out", str(tmp_path / "out")])
    assert "| Maj@8 |" in (tmp_path / "out" / "report.md").read_text()


def test_of_duplicate_runs_the_newest_wins_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, date in (("a", 30.0), ("b", 20.0), ("c", 10.0)):
        edited(EMBEDDED / "greedy.json", tmp_path / f"{name}.json", lambda c, date=date: c.update(date=date))
    [run] = read_runs([tmp_path])
    assert run.name == "a"
    notices = capsys.readouterr().err.splitlines()
    assert len(notices) == 2 and all("taking the newer" in line for line in notices)
    assert "a.json, leaving out" in notices[1] and "b.json" in notices[1]


def test_a_figure_that_the_task_does_not_have() -> None:
    with pytest.raises(ResultsError, match=r"no figure 'f1,none'; it has exact_match,answer"):
        read_runs([EMBEDDED / "greedy.json"], {"s2t_arith": "f1,none"})


def test_two_runs_of_one_name_are_not_written_over_each_other(tmp_path: Path) -> None:
    """The first of them had been written when the second was refused, and passed for what was to be kept."""
    runs = read_runs([EMBEDDED / "greedy.json", EMBEDDED / "teacher.json"])
    twice = [runs[0], *read_runs([edited(EMBEDDED / "teacher.json", tmp_path / "greedy.json", len)])]
    out = tmp_path / "kept"
    out.mkdir()
    with pytest.raises(ValueError, match="two runs are named 'greedy'"):
        write_baselines(twice, out)
    textless = edited(EMBEDDED / "maj8.json", tmp_path / "maj8.json", lambda c: c.pop("documents"))
    with pytest.raises(ResultsError, match="no samples of task s2t_arith"):
        write_baselines([runs[0], *read_runs([textless])], out)
    assert not list(out.iterdir())


def test_keep_renews_a_run_and_replaces_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`keep runs-0.5b/greedy`, then `keep runs-1.5b/greedy`: the first model's results were gone."""
    kept = tmp_path / "kept"
    for _ in range(2):
        main(["keep", str(EMBEDDED / "greedy.json"), "--out", str(kept)])
    before = {path: path.read_bytes() for path in kept.iterdir()}
    capsys.readouterr()

    def change(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["student"] = "0" * 16

    other = edited(EMBEDDED / "greedy.json", tmp_path / "greedy.json", change)
    line = refused(capsys, "keep", other, "--out", kept)
    assert (
        f"--out: {kept / 'greedy.json'} holds a run of another model, task or setting than {other}; " in line
    )
    assert {path: path.read_bytes() for path in kept.iterdir()} == before


def test_keep_writes_to_no_folder_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every folder with a JSON file, such as a selector's, was taken for one of `keep`."""
    (tmp_path / "selector.json").write_text("{}")
    line = refused(capsys, "keep", EMBEDDED / "greedy.json", "--out", tmp_path)
    assert "holds other files; expected a new or empty folder, or one of `s2t-eval keep`" in line
