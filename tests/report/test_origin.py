"""A table holds runs of one commit, one dtype and one limit; methods are named for what they do."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.report.blocks import arrange
from s2t_eval.report.comparable import NotComparableError
from s2t_eval.report.costs import costs, cut_off, tokens_per_correct, work
from s2t_eval.report.origin import commit_of, origin_note, require_one_origin
from s2t_eval.report.runs import read_runs
from tests.commands import exit_code
from tests.report_helpers import BASELINES, EMBEDDED, edited, other_limit

GREEDY, VOTE = EMBEDDED / "greedy.json", EMBEDDED / "maj8.json"
Change = Callable[[dict[str, Any]], object]


def info(content: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = content["config"]["s2t_eval"]
    return entry


def come_from(content: dict[str, Any], origin: dict[str, Any]) -> None:
    """Give a run another commit, and no hash of the code unless the new origin has one."""
    info(content).pop("code", None)
    info(content).update(origin)


MIXTURES: dict[str, tuple[Change, str]] = {
    "commit": (
        lambda c: come_from(c, {"commit": "f" * 40}),
        r"unknown commits: \w{10} \(greedy\), f{10} \(odd\)",
    ),
    "dirty": (lambda c: come_from(c, {"commit": f"{'f' * 40}-dirty"}), r"f{10}-dirty \(odd\)"),
    "wheel": (lambda c: come_from(c, {"commit": None}), r"version 0\.1\.0, installed \(odd\)"),
    "changed code": (
        lambda c: info(c).update(code=f"{'f' * 40}-dirty-{'a' * 16}"),
        r"f{10}-dirty-a{8} \(odd\)",
    ),
    "installed code": (
        lambda c: info(c).update(commit=None, code=f"files-{'b' * 16}"),
        r"version 0\.1\.0, files-b{8} \(odd\)",
    ),
    "unknown": (lambda c: (come_from(c, {}), info(c).pop("commit")), r"unknown \(odd\)"),
    "dtype": (
        lambda c: info(c).update(dtype="torch.bfloat16"),
        r"dtypes: bfloat16 \(odd\), float32 \(greedy\)",
    ),
    "limit": (other_limit, r"Arith \(embedded\) limits: 512 \(odd\), 96 \(greedy\)"),
}


@pytest.mark.parametrize("name", ["max_new_tokens", "max_tokens"])
def test_a_limit_has_any_of_the_names_that_lm_eval_takes(name: str, tmp_path: Path) -> None:
    """`max_tokens: 512` of a task was an unknown limit, and --mixed did not put it beside another one."""

    def limited(number: int) -> Change:
        return lambda c: c["configs"]["s2t_arith"].update(generation_kwargs={"until": ["x"], name: number})

    paths = [edited(path, tmp_path / path.name, limited(512 + at)) for at, path in enumerate((GREEDY, VOTE))]
    entries = arrange(read_runs(paths), other_limits=True)
    assert "Limit of new tokens: Arith (embedded) 512, 513." in origin_note(entries)
    with pytest.raises(NotComparableError, match=r"Arith \(embedded\) limits: 512 \(greedy\), 513 \(maj8\)"):
        require_one_origin(entries)


@pytest.mark.parametrize("name", MIXTURES)
def test_a_table_refuses_a_mixture_or_names_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = MIXTURES[name]
    odd = edited(VOTE, tmp_path / "odd.json", change)
    entries = arrange(read_runs([GREEDY, odd]), other_limits=True)
    with pytest.raises(NotComparableError, match=message):
        require_one_origin(entries)
    out = tmp_path / "out"
    assert exit_code("report", GREEDY, odd, "--format", "md", "--out", out) == 2
    assert "or give --mixed" in capsys.readouterr().err
    assert not out.exists()
    assert exit_code("report", GREEDY, odd, "--format", "md", "--mixed", "--out", out) == 0
    text = (out / "report.md").read_text()
    assert text.count("These runs are not known to share one") == text.count("\n## ") == 3


def test_runs_of_one_commit_are_accepted_and_named() -> None:
    entries = arrange(read_runs([EMBEDDED]))
    require_one_origin(entries)
    note = origin_note(entries)
    assert "not known" not in note
    assert note.endswith("Dtype: float32. Device: cpu. Limit of new tokens: Arith (embedded) 96.")


def test_the_teacher_s_dtype_and_device_are_a_run_s_own(tmp_path: Path) -> None:
    """Of two runs that differ in the teacher's dtype one was left out, as the older run of equal settings."""
    other = {"teacher_dtype": "torch.bfloat16", "teacher_device": "cuda:1 (GPU)"}
    s2t = EMBEDDED / "s2t_kl_tau5.json"
    odd = edited(s2t, tmp_path / "odd.json", lambda c: info(c).update(other))
    both = read_runs([GREEDY, s2t, odd])
    assert len({run.identity for run in both}) == 3
    with pytest.raises(
        NotComparableError, match=r"different teacher dtypes: bfloat16 \(odd\), float32 \(s2t_k"
    ):
        require_one_origin(arrange(both))
    alone = arrange(read_runs([GREEDY, odd]))  # greedy decoding has no teacher
    require_one_origin(alone)
    assert "Dtype: float32; of teachers bfloat16. Device: cpu; of teachers cuda:1 (GPU). " in origin_note(
        alone
    )
    moved = edited(s2t, tmp_path / "moved.json", lambda c: info(c).update(teacher_device="cuda:1 (GPU)"))
    assert read_runs([moved])[0].identity == read_runs([s2t])[0].identity


def test_the_dtype_of_a_teacher_on_a_server_is_the_user_s_word(tmp_path: Path) -> None:
    """A table of a recipe whose teacher alone is decoded by a server was refused."""
    stated = {"dtype": "float32, as stated"}
    teacher = EMBEDDED / "teacher.json"
    served = edited(teacher, tmp_path / "teacher.json", lambda c: info(c).update(stated))
    s2t = EMBEDDED / "s2t_kl_tau5.json"
    entries = arrange(read_runs([GREEDY, s2t, served]))
    require_one_origin(entries)
    assert "The teacher alone was decoded by a server, whose dtype is stated" in origin_note(entries)
    unknown = edited(teacher, tmp_path / "unknown.json", lambda c: info(c).update(dtype="of the server"))
    with pytest.raises(
        NotComparableError, match=r"dtypes: float32 \(greedy, s2t_.*of the server \(unknown\)"
    ):
        require_one_origin(arrange(read_runs([GREEDY, s2t, unknown])))


def test_two_engines_are_not_one_dtype(tmp_path: Path) -> None:
    """In bfloat16 they write different texts: gains over greedy would be those of the engine too."""
    served = edited(VOTE, tmp_path / "served.json", lambda c: info(c).update(dtype="float32, as stated"))
    with pytest.raises(
        NotComparableError, match=r"dtypes: float32 \(greedy\), float32, as stated \(served\)"
    ):
        require_one_origin(arrange(read_runs([GREEDY, served])))


def test_two_unknown_commits_are_not_one() -> None:
    with pytest.raises(NotComparableError, match=r"unknown \(greedy, s2t_tau1, s2t_tau5 and 2 more\)"):
        require_one_origin(arrange(read_runs([BASELINES / "gsm8k-qwen"])))
    require_one_origin(arrange(read_runs([BASELINES / "paper-qwen-40"])))  # one file is of one commit


TWO_TREES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "changed, without a hash": ({"commit": f"{'f' * 40}-dirty"},) * 2 + (False,),
    "installed, without a hash": ({"commit": None},) * 2 + (False,),
    "changed in two ways": (
        {"code": f"{'f' * 40}-dirty-{'a' * 16}"}, {"code": f"{'f' * 40}-dirty-{'b' * 16}"}, False
    ),
    "two installed versions": (
        {"commit": None, "code": f"files-{'a' * 16}"}, {"commit": None, "code": f"files-{'b' * 16}"}, False
    ),
    "changed alike": ({"commit": f"{'f' * 40}-dirty", "code": f"{'f' * 40}-dirty-{'a' * 16}"},) * 2 + (True,),
    "installed alike": ({"commit": None, "code": f"files-{'a' * 16}"},) * 2 + (True,),
    "one commit, before and since the code was recorded": (
        {"commit": "f" * 40}, {"commit": "f" * 40, "code": "f" * 40}, True
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TWO_TREES)
def test_two_versions_that_a_commit_does_not_tell_apart_are_two(name: str, tmp_path: Path) -> None:
    """Two changed trees on one commit, and two installed packages of one version, were one in a table."""
    one, other, is_same = TWO_TREES[name]
    runs = read_runs(
        [
            edited(path, tmp_path / f"{path.stem}.json", lambda c, entry=entry: come_from(c, entry))
            for path, entry in ((GREEDY, one), (VOTE, other))
        ]
    )
    with nullcontext() if is_same else pytest.raises(NotComparableError, match="or unknown commits: "):
        require_one_origin(arrange(runs))


def stock(content: dict[str, Any]) -> None:
    content["config"].pop("s2t_eval")
    content["config"]["model"] = "hf"
    content["lm_eval_version"] = "0.4.7"


def stock_with_adapter(content: dict[str, Any]) -> None:
    stock(content)
    content["config"]["model_args"] = {**content["config"]["model_args"], "peft": "adapter"}


def test_stock_runs_have_no_commit_of_ours_and_are_named_by_their_harness(tmp_path: Path) -> None:
    """A recipe with a row of stock hf never got its report: two such runs were of unknown commits."""
    plain = edited(GREEDY, tmp_path / "stock.json", stock)
    tuned = edited(GREEDY, tmp_path / "tuned.json", stock_with_adapter)
    entries = arrange(read_runs([VOTE, plain, tuned]))
    assert [entry.label for entry in entries] == ["Stock hf", "Tuned", "Maj@8"]
    require_one_origin(entries)
    note = origin_note(entries)
    [vote] = read_runs([VOTE])
    assert f"Commit: {commit_of(vote)}, stock hf of lm_eval 0.4.7. Dtype: float32. " in note
    assert "not known" not in note
    odd = edited(GREEDY, tmp_path / "odd.json", lambda c: come_from(c, {"commit": "f" * 40}))
    with pytest.raises(NotComparableError, match=r"f{10} \(odd\)") as caught:
        require_one_origin(arrange(read_runs([VOTE, plain, odd]), other_limits=True))
    assert "stock" not in str(caught.value)


def test_committed_embedded_runs_name_their_commit() -> None:
    assert len({commit_of(run) for run in read_runs([EMBEDDED])}) == 1


def test_the_harness_s_device_is_not_believed() -> None:
    """lm_eval records its argument, cuda:0 by default, also on a CPU."""
    [run] = read_runs([BASELINES / "gsm8k-qwen" / "greedy.json"])
    assert run.results["config"]["device"] == "cuda:0"
    assert "Device: unknown" in origin_note(arrange([run]))


# ---------------------------------------------------------------- costs


def test_texts_that_were_cut_off_are_a_share_of_all_samples(tmp_path: Path) -> None:
    def cut(content: dict[str, Any]) -> None:
        info(content)["telemetry"]["length_limited"] = 600

    [run] = read_runs([edited(VOTE, tmp_path / "vote.json", cut)])
    assert run.cost["texts"] == 2400 and cut_off([run]) == 0.25
    assert tokens_per_correct([run]) == pytest.approx(81_600 / 94)  # of all eight samples


def test_cut_off_by_task_where_a_file_has_several() -> None:
    runs = read_runs([BASELINES / "paper-qwen-40"])
    shares = {run.task: cut_off([run]) for run in runs}
    assert shares["s2t_gsm8k"] == 0.0 and shares["s2t_olympiadbench"] == 0.55
    total = sum(run.n * shares[run.task] for run in runs) / sum(run.n for run in runs)
    assert cut_off(runs) == pytest.approx(total)


def test_abandoned_branches_are_generated_tokens_too() -> None:
    """A tree's row showed the tokens of its final texts alone, a sixth of what it had generated."""
    [run] = read_runs([EMBEDDED / "tot.json"])
    assert (run.cost["tokens"], run.cost["discarded_tokens"]) == (10_200, 48_750)
    assert tokens_per_correct([run]) == pytest.approx(58_950 / 115)


def test_questions_that_a_student_reads_to_value_steps_are_work(tmp_path: Path) -> None:
    def asked(content: dict[str, Any]) -> None:
        info(content)["telemetry"]["evaluation_tokens"] = 1_000

    [plain] = read_runs([EMBEDDED / "tot.json"])
    [valued] = read_runs([edited(EMBEDDED / "tot.json", tmp_path / "tot.json", asked)])
    parameters = float(plain.results["config"]["model_num_parameters"])
    assert work(valued, {}) - work(plain, {}) == pytest.approx(1_000 * parameters)


def test_a_scorer_of_the_last_layers_counts_with_their_parameters(tmp_path: Path) -> None:
    """Its tokens pass through these layers alone, so a whole model's parameters would be too many."""

    def cut(content: dict[str, Any]) -> None:
        info(content)["scorer_parameters"] = 1_000

    [whole] = read_runs([EMBEDDED / "pps_local.json"])
    [last] = read_runs([edited(EMBEDDED / "pps_local.json", tmp_path / "pps_local.json", cut)])
    parameters = float(whole.results["config"]["model_num_parameters"])
    tokens = whole.cost["scorer_tokens"]
    assert tokens > 0
    assert work(whole, {}) - work(last, {}) == pytest.approx((parameters - 1_000) * tokens)


def test_the_lower_layers_of_candidates_are_computed_for_a_scorer_of_the_last_layers(tmp_path: Path) -> None:
    """A selector that looks ahead has the student read each candidate first, which was in no cost."""

    def look_ahead(content: dict[str, Any]) -> None:
        info(content)["scorer_parameters"] = 1_000
        info(content)["policy"]["score"] = "lookahead"

    def direct(content: dict[str, Any]) -> None:
        info(content)["scorer_parameters"] = 1_000

    path = EMBEDDED / "pps_local.json"
    [ahead] = read_runs([edited(path, tmp_path / "ahead.json", look_ahead)])
    [own] = read_runs([edited(path, tmp_path / "own.json", direct)])
    lower_layers = float(own.results["config"]["model_num_parameters"]) - 1_000
    assert work(ahead, {}) - work(own, {}) == pytest.approx(lower_layers * 8 * own.cost["triggers"])


def test_no_correct_answer_and_no_telemetry(tmp_path: Path) -> None:
    [run] = read_runs([edited(GREEDY, tmp_path / "a.json", lambda c: info(c).pop("telemetry"))])
    assert math.isnan(cut_off([run])) and math.isnan(tokens_per_correct([run]))

    def wrong(content: dict[str, Any]) -> None:
        content["results"]["s2t_arith"]["exact_match,answer"] = 0.0

    [run] = read_runs([edited(GREEDY, tmp_path / "b.json", wrong)])
    assert tokens_per_correct([run]) == float("inf")


def test_a_recorded_teacher_need_not_be_run_alone(tmp_path: Path) -> None:
    path = edited(
        EMBEDDED / "s2t_kl_tau5.json",
        tmp_path / "s2t.json",
        lambda c: info(c).update(teacher_parameters=10**9),
    )
    [alone] = costs(arrange(read_runs([path])))["billions_of_work"]
    [run] = read_runs([path])
    tokens = run.cost["tokens"] + run.cost["prefill_tokens"]
    expected = run.results["config"]["model_num_parameters"] * tokens + 10**9 * run.cost["teacher_tokens"]
    assert alone == pytest.approx(expected / 300 / 1e9)


def test_tokens_written_ahead_in_vain_are_work_of_the_student(tmp_path: Path) -> None:
    """The teacher's tokens count those that it verified in vain; the student's do not."""
    committed = EMBEDDED / "s2t_kl_tau5.json"
    path = edited(
        committed,
        tmp_path / "s2t.json",
        lambda c: info(c)["telemetry"].update(discarded_tokens=6000),
    )
    [plain], [ahead] = read_runs([committed]), read_runs([path])
    teacher = {str(plain.backend_info["teacher"]): 1e9}
    more = work(ahead, teacher) - work(plain, teacher)
    assert more == plain.results["config"]["model_num_parameters"] * 6000


# ---------------------------------------------------------------- names


def test_greedy_decoding_of_an_adapted_model_is_not_s2t_local() -> None:
    """With the form `direct` and the tuned proposer, trigger, K and tau have no effect on the text."""
    [run] = read_runs([EMBEDDED / "s2t_local.json"])
    assert run.label == "Top-K distilled, greedy"
    [row] = costs(arrange([run])).to_dict("records")
    assert row["fired"] != row["fired"] and row["method_key"] == "topk_distilled"


def test_other_forms_are_s2t_local(tmp_path: Path) -> None:
    def look_ahead(content: dict[str, Any]) -> None:
        always = {"name": "always", "needs_teacher": False}
        selecting = {"method": "s2t_local", "trigger": always, "selector": "LocalSelector"}
        info(content)["policy"].update(selecting, score="lookahead")

    [run] = read_runs([edited(EMBEDDED / "s2t_local.json", tmp_path / "a.json", look_ahead)])
    assert run.label == "S2T-Local, always, K 8"
    [run] = read_runs([EMBEDDED / "pps_local.json"])  # `direct`, but the untouched student proposes
    assert run.label.startswith("PPS-Local, margin")
