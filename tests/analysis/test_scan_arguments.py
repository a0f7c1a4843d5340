"""A scan takes no other scan's points for its own, and its control runs with the points' arguments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from s2t_eval.analysis.scan_arguments import (
    FILE,
    ScanArguments,
    control_arguments,
    require_same_scan,
    scan_arguments,
)
from tests.commands import refused
from tests.harness_helpers import STUDENT, TEACHER
from tests.report_helpers import EMBEDDED, edited


def given(*lm_eval: str, tasks: str = "s2t_arith", pretrained: str = "a", **model_args: str) -> ScanArguments:
    return scan_arguments(tasks, {"pretrained": pretrained, **model_args}, lm_eval)


def finished(folder: Path, **model_args: str) -> Path:
    """A scan with one finished point."""
    require_same_scan(folder, given("--limit", "8", **model_args))
    edited(EMBEDDED / "greedy.json", folder / "greedy" / "model" / "results_1.json", len)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (given("--limit", "16"), "--limit 8 against 16"),
        (given("-L", "16"), "--limit 8 against 16"),
        (given(), "--limit 8 against none"),
        (given("--limit", "8", "--apply_chat_template"), "--apply_chat_template none against given"),
        (given("--limit=8", "--gen_kwargs", "max_gen_toks=9"), "--gen_kwargs none against max_gen_toks=9"),
        (given("--limit", "8", tasks="s2t_gsm8k"), "--tasks s2t_arith against s2t_gsm8k"),
        (given("--limit", "8", pretrained="b"), "pretrained a against b"),
        (given("--limit", "8", selector="s"), "selector none against s"),
        (given("--limit", "8", trigger="entropy"), "trigger none against entropy"),
    ],
)
def test_other_arguments_are_refused(arguments: ScanArguments, message: str, tmp_path: Path) -> None:
    """Each printed "existed" and ran nothing."""
    folder = finished(tmp_path)
    with pytest.raises(ValueError, match=r"holds points of other arguments: .*name another folder") as caught:
        require_same_scan(folder, arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["calibration", "selector", "pretrained", "teacher_peft"])
def test_another_content_of_the_same_name_is_refused(name: str, tmp_path: Path) -> None:
    """A calibration, a selector or a model that was made again under its old name."""
    place = tmp_path / "made"
    file = place
    if name != "calibration":
        place.mkdir()
        file = place / "selector.json"
    file.write_text("{}")
    folder = tmp_path / "scan"
    require_same_scan(folder, given(**{name: str(place)}))
    edited(EMBEDDED / "greedy.json", folder / "greedy" / "m" / "results_1.json", len)
    require_same_scan(folder, given(**{name: str(place)}))
    file.write_text('{"other": 1}')
    with pytest.raises(ValueError, match=f"the content of {name} "):
        require_same_scan(folder, given(**{name: str(place)}))


@pytest.mark.parametrize(
    "arguments",
    [
        given("--limit", "8"),
        given("--limit=8"),
        given("-L", "8", "--batch_size", "4", "-b", "2", "--device", "cpu", device="cuda"),
        given("--limit", "8", tasks=" s2t_arith"),
    ],
)
def test_the_same_scan_on_another_machine_is_resumed(arguments: ScanArguments, tmp_path: Path) -> None:
    folder = finished(tmp_path)
    kept = (folder / FILE).read_bytes()
    require_same_scan(folder, arguments)
    assert (folder / FILE).read_bytes() == kept


MOVED = {"student_url": "http://n3:8001", "teacher_url": "http://n4:8002", "concurrency": "16", "chunk": "8"}


@pytest.mark.parametrize("is_of_an_earlier_version", [False, True])
def test_a_scan_whose_servers_have_moved_is_resumed(is_of_an_earlier_version: bool, tmp_path: Path) -> None:
    """After every change of nodes or of `concurrency` all finished points were run again."""
    servers = {"student_url": "http://n1:8001", "teacher_url": "http://n2:8002", "timeout_s": "60"}
    folder = finished(tmp_path, **servers)
    if is_of_an_earlier_version:
        content = json.loads((folder / FILE).read_text())
        content["model_args"] |= servers
        (folder / FILE).write_text(json.dumps(content))
    require_same_scan(folder, given("--limit", "8", **MOVED))
    with pytest.raises(ValueError, match="points of other arguments: student_url given against none; name"):
        require_same_scan(folder, given("--limit", "8", teacher_url="http://n4:8002"))


def test_a_folder_without_finished_points_takes_new_arguments(tmp_path: Path) -> None:
    """After a command that failed at its first point."""
    require_same_scan(tmp_path, given("--bogus"))
    require_same_scan(tmp_path, given("--limit", "2"))
    assert json.loads((tmp_path / FILE).read_text())["lm_eval"] == {"--limit": "2"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: path.unlink(),
            f"points of a scan without {FILE}, which earlier versions did not write",
        ),
        (lambda path: path.write_text("{"), "no arguments of a scan"),
        (lambda path: path.write_text('{"tasks": 1}'), "no arguments of a scan"),
    ],
)
def test_points_of_unknown_arguments_are_refused(damage: object, message: str, tmp_path: Path) -> None:
    folder = finished(tmp_path)
    assert callable(damage)
    damage(folder / FILE)
    with pytest.raises(ValueError, match=message):
        require_same_scan(folder, given("--limit", "8"))


def test_the_command_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ("--model_args", "pretrained=a,teacher=b")
    command = ("scan", *models, "--tau", "1", "--out", finished(tmp_path, teacher="b"))
    message = refused(capsys, *command, "--tasks", "s2t_arith", "--", "--limit", "16")
    assert "holds points of other arguments: --limit 8 against 16; name another folder" in message
    assert not (tmp_path / "s2t_k8_tau100").exists()


# ---------------------------------------------------------------- the control


@pytest.mark.parametrize(
    ("models", "firing"),
    [
        (["s2t"], "teacher=t,trigger=kl,calibration=c,warmup=3,teacher_dtype=float32,verify=1,compile=never"),
        (["pps_local"], "selector=s,trigger=margin,proposer=base,merge=False,adapter_scale=1"),
        (["takeover", "s2t_local"], "teacher=t,selector=s,kl_direction=student_teacher"),
        (["r2r"], "teacher=t,router=r,teacher_url=http://host,chunk=8"),
    ],
)
def test_the_control_has_every_argument_but_those_of_firing(models: Sequence[str], firing: str) -> None:
    """It kept seven names: a control in another precision, context or prompt than the points beside it."""
    shared = {
        "pretrained": "a",
        "dtype": "bfloat16",
        "load_in_4bit": "True",
        "max_length": "2048",
        "add_bos_token": "True",
        "think_end_token": "</think>",
        "attn_implementation": "eager",
        "seed": "3",
    }
    own = dict(part.split("=") for part in firing.split(","))
    kept = control_arguments(models, {**shared, **own})
    assert kept == {**shared, **({"compile": "never"} if "compile" in own else {})}


def test_a_served_student_serves_the_control_too() -> None:
    arguments = {"pretrained": "a", "student_url": "u", "teacher_url": "v", "teacher": "t", "chunk": "8"}
    assert control_arguments(["s2t"], arguments) == {"pretrained": "a", "student_url": "u", "chunk": "8"}


@pytest.mark.slow
def test_a_control_with_shared_arguments_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from s2t_eval.cli import main

    model_args = (
        f"pretrained={STUDENT},teacher={TEACHER},calibration={EMBEDDED / 'calibration.json'},max_length=512,"
        "teacher_dtype=float32,attn_implementation=eager"
    )
    command = ["scan", "--model_args", model_args, "--tasks", "s2t_arith", "--tau", "0.05"]
    main([*command, "--out", str(tmp_path), "--", "--limit", "2"])
    assert capsys.readouterr().out.splitlines() == ["s2t_k8_tau5: done", "greedy: done"]
    for name in ("greedy", "s2t_k8_tau5"):
        [path] = (tmp_path / name).rglob("results_*.json")
        assert json.loads(path.read_text())["config"]["s2t_eval"]["max_length"] == 512
