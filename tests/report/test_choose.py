"""A selector's default by answers to development problems: real runs of the embedded pair."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from s2t_eval.cli import main
from s2t_eval.embedded import embedded_path
from s2t_eval.embedded.arith import make_split
from s2t_eval.evaluation import benchmark_data
from s2t_eval.methods.selector_info import read_info
from s2t_eval.report.benchmarks import benchmark_of
from s2t_eval.report.runs import read_runs
from tests.harness_helpers import evaluate, task_manager
from tests.report_helpers import edited, save

DEV_TASK = "s2t_arith_dev"
LIMIT = 8
Change = Callable[[dict[str, Any]], object]


def fresh_selector(folder: Path) -> Path:
    """A copy of the embedded selector, whose default may be rewritten."""
    return Path(shutil.copytree(embedded_path("embedded/selector"), folder))


def run_dev(selector: Path, out: Path, **model_args: Any) -> Path:
    """`pps_local` with this selector on development problems."""
    arguments = {"selector": str(selector), **model_args}
    return save(evaluate("pps_local", arguments, tasks=[DEV_TASK], limit=LIMIT), out)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A selector, and three runs of it."""
    folder = tmp_path_factory.mktemp("choose")
    selector = fresh_selector(folder / "selector")
    return selector, [
        run_dev(selector, folder / "tau1", trigger="router", tau=0.01, proposal_weight=0.5),
        run_dev(selector, folder / "tau20", trigger="router", tau=0.2, proposal_weight=0.5),
        run_dev(selector, folder / "always", trigger="always"),
    ]


def with_value(right: int) -> Change:
    """A run with this many right answers; what was fired stays."""

    def change(content: dict[str, Any]) -> None:
        content["results"][DEV_TASK]["exact_match,answer"] = right / LIMIT

    return change


def results_file(folder: Path) -> Path:
    return next(folder.rglob("results_*.json"))


def changed(run: Path, out: Path, change: Change) -> Path:
    """A run's folder with a change made to its results, samples beside them."""
    source = results_file(run)
    copied = edited(source, out / "x" / source.name, change)
    for samples in source.parent.glob("samples_*.jsonl"):
        shutil.copy(samples, copied.parent)
    return out


def given_values(runs: list[Path], folder: Path, *values: int) -> list[str]:
    """The runs' results with other numbers of right answers, the first documents'."""
    folders = []
    for i, (run, value) in enumerate(zip(runs, values, strict=True)):
        out = changed(run, folder / str(i), with_value(value))
        [samples] = out.rglob("samples_*.jsonl")
        records = [json.loads(line) for line in samples.read_text().splitlines()]
        scored = [{**record, "exact_match": float(at < value)} for at, record in enumerate(records)]
        samples.write_text("".join(json.dumps(record) + "\n" for record in scored))
        folders.append(str(out))
    return folders


def test_the_most_right_answers_become_the_default(
    made: tuple[Path, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what was chosen is what the backend then runs with, to the same texts."""
    selector = Path(shutil.copytree(made[0], tmp_path / "selector"))
    main(["choose", "--selector", str(selector), *given_values(made[1], tmp_path / "a", 3, 5, 4)])
    out = capsys.readouterr().out.splitlines()
    assert "tau 20 %" in out[0] and "5 of 8 correct, 62.5 %" in out[0] and out[0].startswith("->")
    assert [line.startswith("->") for line in out].count(True) == 1
    info = read_info(selector)
    default = info.default("base")
    assert (default.trigger, default.tau) == ("router", 0.2)
    assert default.chosen == "answers to 8 problems of s2t_arith_dev"
    assert info.default("tuned") == read_info(made[0]).default("tuned")
    assert info.proposal_weight == 0.5
    assert "trigger router, tau 0.2" in (selector / "README.md").read_text()
    [again], [before] = (read_runs([path]) for path in (run_dev(selector, tmp_path / "again"), made[1][1]))
    assert again.settings.tau == 0.2 and again.settings.proposal_weight == 0.5
    assert again.scored["output_hash"].tolist() == before.scored["output_hash"].tolist()
    # Runs made before the change are still this selector's; of equal ones the cheaper is taken.
    main(["choose", "--selector", str(selector), *given_values(made[1], tmp_path / "b", 6, 6, 5)])
    assert read_info(selector).default("base").tau == 0.01
    main(["choose", "--selector", str(selector), *given_values(made[1], tmp_path / "c", 6, 6, 7)])
    info = read_info(selector)
    assert (info.default("base").trigger, info.default("base").tau) == ("always", None)
    assert info.proposal_weight == 0.0


def test_of_an_error_rate_the_smallest_is_chosen(made: tuple[Path, list[Path]], tmp_path: Path) -> None:
    """The setting with the largest loss became the default."""
    selector = Path(shutil.copytree(made[0], tmp_path / "selector"))
    folders = given_values(made[1], tmp_path / "a", 3, 5, 4)
    for path in map(results_file, map(Path, folders)):
        edited(path, path, lambda c: c["higher_is_better"][DEV_TASK].update(exact_match=False))
    main(["choose", "--selector", str(selector), *folders])
    assert read_info(selector).default("base").tau == 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["config"]["s2t_eval"].update(selector="0" * 16), "got 1 (and 1 of other selectors)"),
        (lambda c: c["config"]["s2t_eval"].update(tau=None), "cannot become a default"),
        (
            lambda c: c["config"]["s2t_eval"]["policy"].update(
                trigger={"name": "kl", "direction": "teacher_student"}
            ),
            "it takes a trigger that needs no teacher",
        ),
        (lambda c: c["config"]["s2t_eval"]["policy"].update(top_k=4), "ran with K 4, the selector's is 8"),
        (lambda c: c["configs"][DEV_TASK]["generation_kwargs"].update(max_gen_toks=7), "decoding limits"),
        (lambda c: c["config"]["model_args"].update(calibration="c.json"), "it ran with calibration, which"),
        (lambda c: c["config"]["model_args"].update(warmup_tokens=3), "it ran with warmup_tokens, which"),
        (lambda c: c["config"]["s2t_eval"].update(adapter_scale=0.5), "it ran with adapter_scale, which"),
        (lambda c: c["config"]["s2t_eval"].update(tau=0.03), "has no threshold of router at that rate"),
    ],
)
def test_what_cannot_be_chosen_from(
    change: Change,
    message: str,
    made: tuple[Path, list[Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    selector = Path(shutil.copytree(made[0], tmp_path / "selector"))
    before = read_info(selector)
    other = changed(made[1][1], tmp_path / "changed", change)
    with pytest.raises(SystemExit):
        main(["choose", "--selector", str(selector), str(made[1][0]), str(other)])
    assert message in capsys.readouterr().err
    assert read_info(selector) == before


def test_a_weight_that_the_default_would_lack_is_refused(
    made: tuple[Path, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A selector has a weight of the proposal for proposer `base` alone. Of runs of `s2t_local` with one the
    best became the default, which then decoded without it."""

    def of_s2t_local(content: dict[str, Any]) -> None:
        content["config"]["s2t_eval"]["proposer"] = "tuned"
        content["config"]["s2t_eval"]["policy"]["score"] = "residual"

    selector = Path(shutil.copytree(made[0], tmp_path / "selector"))
    runs = [changed(run, tmp_path / str(i), of_s2t_local) for i, run in enumerate(made[1][:2])]
    with pytest.raises(SystemExit):
        main(["choose", "--selector", str(selector), "--proposer", "tuned", *map(str, runs)])
    assert "cannot become a default: it ran with proposal_weight, which" in capsys.readouterr().err
    assert read_info(selector) == read_info(made[0])


def test_a_test_set_is_not_chosen_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    selector = fresh_selector(tmp_path / "selector")
    for tau in (0.01, 0.05):
        arguments = {"selector": str(selector), "trigger": "router", "tau": tau}
        save(evaluate("pps_local", arguments, limit=2), tmp_path / f"tau{tau}")
    with pytest.raises(SystemExit):
        main(["choose", "--selector", str(selector), *(str(tmp_path / f"tau{tau}") for tau in (0.01, 0.05))])
    assert "settings are chosen on development problems alone" in capsys.readouterr().err


def test_development_problems_are_in_no_other_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of GSM8k the end of the training split, at most a tenth; of s2t_arith problems of their own."""
    rows = Dataset.from_list([{"question": f"q{i}", "answer": "#### 1"} for i in range(100)])
    monkeypatch.setattr(benchmark_data, "load", lambda *_: DatasetDict(train=rows, test=rows.select([0])))
    splits = benchmark_data.gsm8k()
    assert splits["train"]["question"] == [f"q{i}" for i in range(90)]
    assert splits["dev"]["question"] == [f"q{i}" for i in range(90, 100)]
    task = task_manager().load([DEV_TASK])["tasks"][DEV_TASK]
    assert [doc["question"] for doc in task.eval_docs] == [p.question for p in make_split("dev")]
    assert len(list(task.training_docs())) == 4_000


def test_a_development_task_stands_in_no_benchmark_s_column() -> None:
    assert benchmark_of("s2t_gsm8k_dev").title == "s2t_gsm8k_dev"
    assert benchmark_of("s2t_gsm8k").title == "GSM8k"
