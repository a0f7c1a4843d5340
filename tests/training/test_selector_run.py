"""What a selector cannot be trained from is said before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2t_eval import cli
from tests.harness_helpers import STUDENT, TEACHER


def test_no_fired_step_among_the_held_out_problems_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Few labels ended in `KeyError: 'agree@1'`: there was no held-out step to measure agreement at."""
    student = ["--pretrained", STUDENT, "--device", "cpu", "--dtype", "float32"]
    few = ["--task", "s2t_arith", "--limit", "20", "--skip", "8", "--tau", "0.002", "--max_gen_toks", "16"]
    labels = str(tmp_path / "labels")
    cli.main(["collect", *student, "--teacher", TEACHER, *few, "--out", labels])
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", *student, "--labels", labels, "--out", str(tmp_path / "selector")])
    said = capsys.readouterr().err.splitlines()[-1]
    assert caught.value.code == 2
    assert "labels: none of the 1 problems that are held out to choose by has a step above KL " in said
    assert said.endswith("collect more problems, or change --held_out")
