"""The progress bar moves while texts are being written, and changes none of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tqdm import tqdm

from s2t_eval.cli import main
from s2t_eval.engine import Request, Round
from s2t_eval.engine.progress import GenerationProgress
from s2t_eval.engine.scheduler import Scheduler
from s2t_eval.model_wrappers.greedy import Greedy
from tests.engine.test_scheduler import Counting
from tests.harness_helpers import STUDENT, TEACHER, generation, prompts

SHOWN = re.compile(r"(\d+)/(\d+) \[[^\]]*, ([\d,]+) tokens \(([\d,?]+)/s\), (\d+) rows\]")


def ticking(step: float) -> Iterator[float]:
    return itertools.count(100.0, step)


def postfixes(err: str) -> list[tuple[str, ...]]:
    """Texts done, all texts, tokens, tokens per second and rows of every state that was drawn."""
    return [match.groups() for match in SHOWN.finditer(err)]


def test_tokens_rows_and_rate_before_any_text_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    """A batch of 64 stood at 0 % for five minutes, for only finished texts counted."""
    clock = ticking(2.0)
    with GenerationProgress(3, "Writing", seconds=1.0, clock=lambda: next(clock)) as progress:
        decoder = Scheduler(Counting(itertools.repeat(1)), rows=2)
        for _ in decoder.run([Request((1,), 3)] * 3, progress.on_round):
            progress.update()
    found = postfixes(capsys.readouterr().err)
    # Two rows are admitted, write three tokens each in rounds of two seconds; then the third text alone.
    assert found[0] == ("0", "3", "0", "?", "2")
    assert found[1] == ("0", "3", "2", "1", "2")
    assert found[2] == ("0", "3", "4", "1", "2")
    assert found[3] == ("0", "3", "6", "1", "0")
    assert found[-1][:3] == ("3", "3", "9")
    assert found[-1][4] == "0"


def test_it_is_drawn_no_more_often_than_it_should_be(capsys: pytest.CaptureFixture[str]) -> None:
    clock = ticking(0.01)
    with GenerationProgress(1, "Writing", seconds=1.0, clock=lambda: next(clock)) as progress:
        [_] = Scheduler(Counting(itertools.repeat(1)), rows=1).run([Request((1,), 350)], progress.on_round)
    found = postfixes(capsys.readouterr().err)
    tokens = list(dict.fromkeys(int(state[2]) for state in found))
    assert len(tokens) == 5  # after 0, 1, 2 and 3 seconds of 350 hundredths, and at the end
    assert tokens[-1] == 350


def test_nothing_is_observed_where_nothing_is_shown() -> None:
    with GenerationProgress(1, "Writing", disable=True) as progress:
        assert progress.on_round is None


def test_texts_are_the_same_with_and_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    lm = Greedy(STUDENT, device="cpu", batch_size=3)
    asked = [generation(prompt, i) for i, prompt in enumerate(prompts())]
    capsys.readouterr()
    shown = lm.generate_until(asked)
    found = postfixes(capsys.readouterr().err)
    assert found[0][0] == "0"
    assert found[0][4] == "3"
    assert int(found[-1][2].replace(",", "")) == lm.telemetry.usage.tokens
    assert found[-1][:2] == (str(len(asked)), str(len(asked)))
    assert lm.generate_until(asked, disable_tqdm=True) == shown
    assert " tokens (" not in capsys.readouterr().err


def test_an_observer_sees_the_engine_s_own_sequences() -> None:
    """Between admission and the last token."""
    lm = Greedy(STUDENT, device="cpu", batch_size=2)
    requests = lm.engine_requests([generation(prompt, i) for i, prompt in enumerate(prompts(3))])
    written: dict[int, list[int]] = {}
    admitted: list[int] = []

    def see(state: Round) -> None:
        admitted.extend(seq.index for seq in state.active if not seq.output)
        for row, _ in state.finished:
            written[state.active[row].index] = list(state.active[row].output)

    results = {result.index: result.output_ids for result in lm.decoder().run(requests, see)}
    assert written == results
    assert set(admitted) == {0, 1, 2}


def test_it_fits_into_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """tqdm cuts off at the right, where the tokens are."""
    with GenerationProgress(1319, "pps_local") as progress:
        state = {"ncols": 80, "n": 64, "elapsed": 3000, "postfix": "123,456 tokens (410/s), 64 rows"}
        line = tqdm.format_meter(**{**progress.bar.format_dict, **state})
    capsys.readouterr()
    assert len(line) <= 80
    assert line.endswith(", 123,456 tokens (410/s), 64 rows]")


def test_pipelines_show_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(f'{{"question": "{{}} has {n} pens."}}\n' for n in range(3)))
    given = ["--pretrained", STUDENT, "--teacher", TEACHER, "--device", "cpu", "--max_gen_toks", "8"]
    given += ["--data", str(data)]
    capsys.readouterr()
    main(["calibrate", *given, "--out", str(tmp_path / "calibration.json")])
    err = capsys.readouterr().err
    assert "Calibrating:" in err
    assert postfixes(err)[0] == ("0", "3", "0", "?", "3")
    main(["collect", *given, "--limit", "3", "--out", str(tmp_path / "labels")])
    err = capsys.readouterr().err
    assert "Generating rollouts:" in err
    assert postfixes(err)[0] == ("0", "3", "0", "?", "3")
    assert postfixes(err)[-1][:3:2] == ("3", "24")
