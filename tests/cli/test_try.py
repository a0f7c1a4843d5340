"""`s2t-eval try`: the texts that the backends write, below or beside each other, with steps and costs."""

from __future__ import annotations

import importlib
import io
import os
import pty
import re
import shlex
import sys
import threading
from typing import Any

import pytest
from rich.console import Console

from s2t_eval.cli import main, try_text
from s2t_eval.cli.text_display import LiveDisplay
from s2t_eval.cli.transcript import Transcript
from s2t_eval.embedded import embedded_path
from s2t_eval.embedded.arith import format_prompt, make_split
from s2t_eval.method_table import BACKENDS
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.pipelines.settings import Prompting
from s2t_eval.pipelines.single_text import EMBEDDED_OPTIONS, EXAMPLE, load_backend, prepare_question
from tests.commands import refused
from tests.harness_helpers import STUDENT, TEACHER, arith_task, generation

METHODS = ("greedy", "s2t", "takeover", "specreason", "s2t_local", "pps_local", "distil", "tah", "tot")
PROBLEM = make_split("train")[EXAMPLE]
ENTROPY = "trigger=entropy,threshold=0.1"
COLOUR = re.compile(r"\x1b\[[\d;]*3\dm")


def tried(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command prints."""
    capsys.readouterr()
    main(["try", *map(str, arguments)])
    return capsys.readouterr().out


def text_under(out: str, title: str) -> str:
    """The text below a title."""
    return out.split(f"\n{title}:\n")[1].split("\n\n")[0]


def costs(out: str, title: str) -> dict[str, str]:
    """A column of the table of costs."""
    lines = out.split("\n\n")[-1].splitlines()
    column = lines[0].split().index(title)
    rows = [re.split(r" {2,}", line.strip()) for line in lines[1:]]
    return {row[0]: row[column] for row in rows}


def evaluated(model: str, question: str = PROBLEM.question, **arguments: Any) -> tuple[str, EngineLM]:
    """The text that the harness gets of this backend."""
    module, name = BACKENDS[model].split(":")
    lm: EngineLM = getattr(importlib.import_module(module), name).create_from_arg_obj(arguments)
    asked = generation(format_prompt(question), task="try", **EMBEDDED_OPTIONS)
    return lm.generate_until([asked], disable_tqdm=True)[0], lm


@pytest.mark.parametrize("model", METHODS)
def test_the_texts_and_costs_are_those_of_an_evaluation(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tried(capsys, "--model", model)
    assert out.startswith(f"question: {PROBLEM.question} (expected: {PROBLEM.answer})\n\n{model}:\n")
    text, lm = evaluated(model)
    assert text_under(out, model) == text.strip()
    assert text_under(out, "greedy") == evaluated("greedy")[0].strip()
    usage, shown = lm.telemetry.usage, costs(out, model)
    assert int(shown["tokens"]) == usage.tokens
    discarded = int(shown.get("discarded tokens", 0))  # how far a student runs ahead is measured
    assert int(shown["forwards"]) - discarded == usage.forwards - usage.discarded_tokens
    assert (int(shown["fired"]), int(shown["flips"])) == (usage.triggers, usage.flips)
    if usage.teacher_tokens:
        assert int(shown["teacher tokens"]) - discarded == usage.teacher_tokens - usage.discarded_tokens
    else:
        assert "teacher tokens" not in shown
    assert int(shown.get("written by teacher", 0)) == usage.teacher_generated
    assert int(shown.get("rejected steps", 0)) == usage.rejected_steps
    assert int(shown.get("scorer tokens", 0)) == usage.scorer_tokens
    assert int(shown.get("further passes", 0)) == usage.deeper_passes
    assert out.count("\ngreedy:\n") == 1
    assert "\x1b" not in out


def test_steps_stand_under_the_texts(capsys: pytest.CaptureFixture[str]) -> None:
    question = PROBLEM.question
    out = tried(capsys, question, "--model", "s2t", "--model_args", ENTROPY)
    fired = int(costs(out, "s2t")["fired"])
    flips = int(costs(out, "s2t")["flips"])
    assert fired > 0
    assert f"\n{fired} fired steps, {flips} flips\n" in out
    heads = re.findall(r"^token (\d+), value [\d.]+: \"", out, re.MULTILINE)
    assert len(heads) == fired
    assert heads == sorted(heads, key=int)
    assert out.count(" in place of ") == flips
    first = out[out.index("\ntoken ") :].split("\n\n")[0]
    one_step = re.split(r"\ntoken \d+", first)[1]
    assert len(re.findall(r'" \d+\.\d\d', one_step.split("\n", 1)[1])) == 8  # candidates with their scores
    short = tried(capsys, question, "--model", "s2t", "--model_args", ENTROPY, "--steps", 0)
    assert f"\n{fired} further steps (--steps {fired} shows all)\n" in short


def test_a_trigger_without_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    given = f"pretrained={STUDENT},teacher={TEACHER},trigger=always,top_k=2"
    out = tried(capsys, PROBLEM.question, "--model", "s2t", "--model_args", given, "--max_gen_toks", 3)
    assert "\n3 fired steps, " in out
    assert "\ntoken 1: " in out
    assert costs(out, "s2t")["ended by"] == "length limit"


def test_greedy_alone_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    out = tried(capsys, "--no_greedy")
    assert "greedy" not in out
    assert "\npps_local:\n" in out


def test_a_distilled_adapter_is_compared_with_its_student(capsys: pytest.CaptureFixture[str]) -> None:
    given = f"pretrained={STUDENT},peft=embedded/distilled"
    out = tried(capsys, PROBLEM.question, "--model", "distil", "--model_args", given)
    assert text_under(out, "greedy") == evaluated("greedy")[0].strip()
    assert text_under(out, "distil") != text_under(out, "greedy")


def test_how_the_embedded_models_write_is_the_task_s() -> None:
    options = dict(arith_task().config.generation_kwargs)
    assert options.pop("do_sample") is False
    assert options == EMBEDDED_OPTIONS


def test_prompts_are_put_as_an_evaluation_puts_them() -> None:
    backend = load_backend("greedy", f"pretrained={STUDENT}")
    decode = backend.lm.tok_decode
    prepared = prepare_question(backend, "How many?", Prompting("Think.", max_gen_toks=7))
    assert decode(prepared.request.prompt_ids) == "Think.\n\nQuestion: How many?\nAnswer:"
    assert prepared.request.max_new_tokens == 7
    assert prepared.answer is None
    chat = prepare_question(backend, "How many?", Prompting("Think.", apply_chat_template=True))
    assert decode(chat.request.prompt_ids) == "Think.\n\nQuestion: How many?\nAnswer:"
    own = load_backend("greedy", f"pretrained={embedded_path(STUDENT)}")
    prepared = prepare_question(own, "How many?", Prompting())
    assert decode(prepared.request.prompt_ids) == "How many?"
    assert prepared.request.stop_strings == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "maj8"), "--model maj8: it votes over answers that are extracted by a task's rule"),
        (("--model", "maj_at_k"), "--model maj_at_k: it votes over answers"),
        (("--model", "hf"), "--model: expected one of distil, greedy, "),
        (("--model_args", "pretrained"), "--model_args: expected name=value pairs, got 'pretrained'"),
        (("--model_args", "trace=x.jsonl"), "--model_args: a single text has no trace"),
        # A teacher's server was accepted, and the text failed without a teacher.
        (
            ("--model", "s2t", "--model_args", "teacher_url=http://a:1"),
            "--model_args: a single text is written by models loaded here, got teacher_url=",
        ),
        (("--steps", "-1"), "--steps: expected at least 0, got -1"),
        (("--max_gen_toks", "0"), "--max_gen_toks: expected at least 1, got 0"),
        (("--max_gen_toks", "5000", "--model", "greedy"), "max_gen_toks: expected less than the model's"),
        (("  ", "--model", "greedy"), "QUESTION: expected a text, got an empty one"),
        (("--model", "greedy", "--model_args", "topk=3"), "--model greedy: unknown argument 'topk'"),
        (
            ("--model", "greedy", "--model_args", f"pretrained={embedded_path(STUDENT)}"),
            "QUESTION: expected a question for this model",
        ),
    ],
)
def test_what_it_refuses(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["try", *arguments])
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err.splitlines()[-1]


def test_a_refusal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "try --model greedy" in refused(capsys, "try", "--model", "maj8")


def test_the_example_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(try_text.Try.EXAMPLE.replace("\\\n", " "))
    main(words[1:])
    out = capsys.readouterr().out
    assert text_under(out, "s2t").endswith("The answer is 11.")
    assert text_under(out, "greedy").endswith("The answer is 10.")


# ---------------------------------------------------------------- terminals


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, *arguments: str) -> str:
    """What the command writes to a terminal of this width."""
    master, slave = pty.openpty()
    read: list[bytes] = []

    def drain() -> None:
        while True:
            try:
                read.append(os.read(master, 4096))
            except OSError:  # the other end is closed
                return

    reader = threading.Thread(target=drain)
    with monkeypatch.context() as patch:
        for name, value in {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "40"}.items():
            patch.setenv(name, value)
        reader.start()
        with os.fdopen(slave, "w") as terminal:
            patch.setattr(sys, "stdout", terminal)
            main(["try", *arguments])
    reader.join(timeout=10)
    os.close(master)
    return b"".join(read).decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    """Without control codes."""
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text)


def test_a_wide_terminal_has_the_texts_side_by_side_and_in_colour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = on_terminal(monkeypatch, 200)
    final = out[out.rindex("pps_local", 0, out.index("fired steps")) :]
    assert re.search(r"First Ben .* {3,}First Ben ", plain(final))
    assert COLOUR.search(final)
    assert "\x1b[1;4;33m 48" in out  # a flip


def test_a_narrow_terminal_has_them_below_each_other_and_no_color_is_honoured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = on_terminal(monkeypatch, 60)
    assert not COLOUR.search(out)
    assert "\x1b[1;4m 48" in out  # a flip is still told apart
    final = plain(out[out.rindex("pps_local", 0, out.index("fired steps")) :])
    words = " ".join(final.split())
    assert re.search(r"pps_local First Ben has .*? The answer is 60\. greedy First Ben ", words)
    assert max(map(len, final.splitlines())) <= 60


@pytest.mark.parametrize("width", [60, 120])
def test_while_texts_grow_their_end_is_shown(width: int) -> None:
    """More lines than the terminal has could not be drawn again."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=12)
    display = LiveDisplay(console)
    for title in ("s2t", "greedy"):
        transcript = Transcript(lambda ids: "".join(f"word{token} " for token in ids))
        display.begin(title, transcript)
        transcript.update(range(400), [], None)
    for height in (10, None):
        lines = console.render_lines(display.layout(height), pad=False)
        shown = "\n".join("".join(part.text for part in line) for line in lines)
        assert (len(lines) <= 10) is (height is not None)
        assert shown.count("word399") == 2
        assert ("word0 " in shown) is (height is None)
    display.end()


def test_no_control_codes_where_the_output_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Continuous integration sets FORCE_COLOR for all programs."""
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.setenv(name, "1")
    assert "\x1b" not in tried(capsys, "Say \x1b[31mred\x1b[0m", "--model", "pps_local", "--max_gen_toks", 8)
