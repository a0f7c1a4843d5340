"""`--out` and `trace=` are checked before any work; an invalid path gives one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from s2t_eval.artifacts import output_paths
from s2t_eval.cli import main
from s2t_eval.model_wrappers.greedy import Greedy
from tests.commands import refused
from tests.harness_helpers import STUDENT, TEACHER, tiny_folder
from tests.report_helpers import EMBEDDED

PAIR = ("--pretrained", STUDENT, "--device", "cpu")
RESULTS = EMBEDDED / "greedy.json"
COMMANDS: dict[str, tuple[object, ...]] = {
    "report": ("report", RESULTS),
    "analyze": ("analyze", "--results", RESULTS),
    "scan": ("scan", "--model_args", "pretrained=a", "--tasks", "t", "--tau", "0.1"),
    "submit": ("submit", RESULTS, "--to", "model-index", "--allow_partial", "--model_id", "a/b"),
    "collect": ("collect", *PAIR, "--teacher", TEACHER, "--task", "s2t_arith"),
    "train": ("train", *PAIR, "--labels", "gone"),
    "distil": ("distil", *PAIR, "--teacher", TEACHER, "--labels", "gone"),
    "export": ("export", *PAIR, "--selector", "embedded/selector", "--to_reserved_rows"),
    "tah label": ("tah", "label", *PAIR, "--task", "s2t_arith"),
    "tah train": ("tah", "train", *PAIR, "--labels", "gone", "--stage", "1"),
    "tah stage 2": ("tah", "train", *PAIR, "--labels", "gone", "--stage", "2"),
    "tah plain": ("tah", "plain", *PAIR, "--labels", "gone"),
}


def file(folder: Path) -> Path:
    (folder / "file").write_text("mine\n")
    return folder / "file"


def model_folder(folder: Path) -> Path:
    return tiny_folder(folder / "model")


def below_a_file(folder: Path) -> Path:
    return file(folder) / "out"


def not_writable(_: Path) -> Path:
    """A path that even root cannot write to."""
    return Path("/proc/out")


PLACES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a file": (file, r"is a file; expected a folder to write"),
    "a model": (model_folder, r"exists; name another folder|holds other files; expected a new or empty"),
    "below a file": (below_a_file, r"is a file|there is no folder|Not a directory"),
    "no permission": (not_writable, r"cannot write to /proc/out: .+; name another place"),
}


CASES = [(command, "a file") for command in COMMANDS]
CASES += [(command, place) for command in ("collect", "report") for place in PLACES if place != "a file"]
"""Every command checks its folder; the two stand for those that want a new one and that reuse their own."""


@pytest.mark.parametrize(("command", "place"), CASES)
def test_invalid_output_folder_is_rejected(
    command: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = PLACES[place]
    out = make(tmp_path)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    capsys.readouterr()  # discard the output of saving the model
    line = refused(capsys, *COMMANDS[command], "--out", out)
    assert line.startswith(f"s2t-eval {command.replace('stage 2', 'train')}: --out: ")
    assert any(part in line for part in message.replace(".+", "").split("|")) or place == "no permission"
    if place == "no permission":
        assert "cannot write to /proc/out: " in line and line.endswith("; name another place")
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", [("collect",), ("r2r", "label")])
def test_a_finished_label_set_is_refused_before_models_are_loaded(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a teacher of 32 billion parameters the refusal took minutes."""
    (tmp_path / "manifest.json").write_text("{}")
    models = ("--pretrained", "/no/folder", "--teacher", "/no/folder", "--device", "cpu")
    line = refused(capsys, *command, *models, "--task", "s2t_arith", "--out", tmp_path)
    assert line == (
        f"s2t-eval {' '.join(command)}: --out {tmp_path}: it holds a finished label set; name another folder"
    )


def test_calibrate_overwrites_only_calibration_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("calibrate", *PAIR, "--task", "s2t_arith", "--out")
    assert refused(capsys, *arguments, tmp_path).endswith(
        f"--out: {tmp_path} is a folder; expected the name of a file to write"
    )
    other = file(tmp_path)
    assert "exists and is no calibration file" in refused(capsys, *arguments, other)
    assert other.read_text() == "mine\n"
    assert "cannot write to /proc/c.json" in refused(capsys, *arguments, "/proc/c.json")
    shutil.copy(EMBEDDED / "calibration.json", tmp_path / "known.json")
    missing = ("calibrate", "--pretrained", "/no/folder", "--device", "cpu", "--task", "s2t_arith", "--out")
    known = tmp_path / "known.json"
    assert "holds thresholds that would be lost (accept:logprob:" in refused(capsys, *missing, known)
    steps = ("--step_score", "logprob", "--delimiter", "sentence", "--accept_rate", 0.6, 0.7, 0.8, 0.9)
    assert "pretrained=/no/folder" in refused(capsys, *missing, known, "--teacher", TEACHER, *steps)


def test_compare_checks_output_files_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("compare", "/no/results", "/no/results")
    assert "--json: cannot write to /proc/c.json" in refused(capsys, *arguments, "--json", "/proc/c.json")
    line = refused(capsys, *arguments, "--markdown", tmp_path / "gone" / "c.md")
    assert f"--markdown: there is no folder {tmp_path / 'gone'} to write c.md to" in line
    both = ("--json", tmp_path / "c", "--markdown", tmp_path / "c")
    assert "--json, --markdown: expected two files" in refused(capsys, *arguments, *both)


def test_report_reuses_its_own_output_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "report"
    for formats in ("csv", "md", "csv"):
        main(["report", str(RESULTS), "--format", formats, "--out", str(out)])
    # A page of an earlier call kept its old numbers beside the new tables, and nothing said so.
    assert f"note: {out} also holds report.md, which this call did not write" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    main(["report", str(RESULTS), "--format", "md", "--out", str(tmp_path / "empty")])
    main(["analyze", "--results", str(RESULTS), "--out", str(tmp_path / "analysis")])
    main(["analyze", "--results", str(RESULTS), "--out", str(tmp_path / "analysis")])
    capsys.readouterr()
    assert "holds other files" in refused(capsys, "report", RESULTS, "--out", tmp_path / "analysis")


def test_reusable_folder_contains_a_known_file(tmp_path: Path) -> None:
    (tmp_path / "greedy").mkdir()
    output_paths.require_reusable_folder(tmp_path, "a scan", ["greedy/"])
    with pytest.raises(
        ValueError, match=r"^--out: .* holds other files; expected .* or a scan; name another$"
    ):
        output_paths.require_reusable_folder(tmp_path, "a scan", ["report.md"])
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"^--out: .*link is a file; expected a folder to write"):
        output_paths.require_reusable_folder(tmp_path / "link", "a scan", [])
    with pytest.raises(ValueError, match=r"^--out: cannot write to .*: File name too long"):
        output_paths.require_new_folder(tmp_path / ("x" * 300))


@pytest.mark.parametrize("given", [".", ""])
def test_a_folder_without_a_name_is_refused_before_the_work(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tah label --out "$UNSET"` in an empty folder labelled everything, and ended with `an empty name`."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^--out: \. has no name of its own; name a folder .* as out$"):
        output_paths.require_new_folder(Path(given))


@pytest.mark.parametrize("is_link", [False, True])
def test_an_empty_folder_is_tried_and_stays_as_it_is(is_link: bool, tmp_path: Path) -> None:
    (tmp_path / "disk" / "out").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "out")
    before = (tmp_path / "disk" / "out").stat()
    output_paths.require_new_folder(tmp_path / "link" if is_link else tmp_path / "disk" / "out")
    assert (tmp_path / "disk" / "out").stat().st_ino == before.st_ino
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["disk", "link", "out"]


MOUNTED = """
mount --bind "$1" "$1" || exit 77
exec "$2" -c '
import sys
from pathlib import Path
from s2t_eval.artifacts.output_paths import require_new_folder
require_new_folder(Path(sys.argv[1]) / "inside")
require_new_folder(Path(sys.argv[1]))' "$1"
"""


def test_a_mount_point_is_refused_before_the_work(tmp_path: Path) -> None:
    """`docker run -v $PWD/out:/out ... train --out /out` trained for hours, and could not replace it."""
    out = tmp_path / "out"
    out.mkdir()
    command = ("unshare", "--map-root-user", "--mount", "sh", "-c", MOUNTED, "sh", out, sys.executable)
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("this system has no unshare")
    if done.returncode == 77 or done.stderr.startswith("unshare: "):
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    assert done.stderr.splitlines()[-1] == (
        f"ValueError: --out: {out} cannot be replaced by the result (Device or resource busy), as a mount "
        f"point cannot; name a folder in it, such as {out / 'out'}"
    )


def test_trace_path_is_checked_before_the_model_is_loaded(tmp_path: Path) -> None:
    """A trace that could not be written failed after the first text."""
    with pytest.raises(ValueError, match=r"^trace: cannot write to /proc/t\.jsonl: .+; name another place$"):
        Greedy("/no/folder", trace="/proc/t.jsonl")
    with pytest.raises(ValueError, match=r"^trace: .* exists; move it away"):
        Greedy("/no/folder", trace=str(tmp_path))
    with pytest.raises(ValueError, match=r"^trace: there is no folder .*gone to write t\.jsonl"):
        Greedy("/no/folder", trace=str(tmp_path / "gone" / "t.jsonl"))
    assert list(tmp_path.iterdir()) == []


def test_operating_system_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder in place of a results file, and a missing trace, used to print tracebacks."""
    (tmp_path / "results_x.json").mkdir()
    assert "Is a directory" in refused(capsys, "report", tmp_path, "--out", tmp_path.parent / "new-report")
    assert "there is no such trace" in refused(
        capsys, "report", RESULTS, "--trace", tmp_path / "gone", "--out", tmp_path.parent / "new-report"
    )
