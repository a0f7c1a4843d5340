"""`--model_args` that say two things, or what the model or the machine does not have: refused at once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.methods.tah.settings import TahError
from s2t_eval.model_wrappers.arguments import SelectionArguments, TeacherArguments
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.local_arguments import LocalArguments
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.model_wrappers.s2t_local import PPSLocal, S2TLocal
from s2t_eval.model_wrappers.specreason import SpecReason, SpecReasonArguments
from s2t_eval.model_wrappers.splitting import split_arguments
from s2t_eval.model_wrappers.stock_arguments import context_of, flags_without_arguments, require_stock
from s2t_eval.model_wrappers.tah import TahArguments
from s2t_eval.model_wrappers.tot import TreeArguments
from tests.harness_helpers import STUDENT, TEACHER, evaluate, generation, model, texts, tiny_folder

NAN, INF = math.nan, math.inf

# ---------------------------------------------------------------- model arguments


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trigger": "always", "threshold": 3}, "trigger=always does not depend on threshold, got thres"),
        ({"trigger": "always", "tau": 0.5}, "trigger=always does not depend on tau, got tau=0.5"),
        ({"trigger": "never", "tau": 0.5}, "trigger=never does not depend on tau"),
        ({"trigger": "never", "tau": 1}, "trigger=never does not depend on tau"),
        ({"trigger": "never", "threshold": 0}, "trigger=never does not depend on threshold"),
        ({"trigger": "never", "warmup_tokens": 5}, "warmup_tokens: under trigger=never no step fires anyway"),
        ({"trigger": "never", "calibration": "c.json"}, "calibration=c.json: trigger=never has no thresh"),
        ({"trigger": "always", "calibration": "c.json"}, "calibration=c.json: trigger=always has no thr"),
        ({"trigger": "random", "threshold": 5}, "threshold of trigger=random: expected a share from 0"),
        ({"trigger": "random", "threshold": -1}, "threshold of trigger=random: expected a share from 0"),
        ({"trigger": "random", "threshold": INF}, "threshold of trigger=random: expected a share from"),
        ({"trigger": "margin", "threshold": 1.5}, "threshold of trigger=margin: expected a share from 0"),
        ({"trigger": "kl", "threshold": -0.5}, "threshold of trigger=kl: expected a divergence of 0 or"),
        ({"trigger": "entropy", "threshold": -1}, "threshold of trigger=entropy: expected an entropy"),
        ({"trigger": "entropy", "threshold": 1, "kl_direction": "teacher_student"}, "kl_direction: trigg"),
        ({"threshold": 1, "calibration": "c.json"}, "calibration=c.json: it is not used with threshold=1"),
        ({"tau": 1, "kl_direction": "teacher_student"}, "kl_direction: trigger=kl with tau=1 .every step"),
    ],
)  # fmt: skip
def test_arguments_that_say_two_things(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{message}"):
        SelectionArguments(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"trigger": "always"},
        {"trigger": "always", "tau": 1},
        {"trigger": "never"},
        {"trigger": "random", "tau": 0.1},
        {"trigger": "random", "threshold": 0.9},
        {"trigger": "kl", "threshold": INF},
        {"trigger": "entropy", "threshold": 0},
        {"tau": 1, "calibration": "c.json"},
        {"threshold": 1, "kl_direction": "teacher_student"},
    ],
)
def test_arguments_that_agree(given: dict[str, Any]) -> None:
    SelectionArguments(**given)


def test_compile_is_one_of_three_words() -> None:
    with pytest.raises(ValueError, match="compile: expected never, auto or always, got 'yes'"):
        SelectionArguments(compile="yes")  # type: ignore[arg-type]


def test_compiled_layers_are_refused_where_there_are_none() -> None:
    """`tah` took compile=always, and nothing happened; auto is the default and fits every method."""
    message = "^compile: --model tah does not compile its passes, got always, .*leave it out$"
    with pytest.raises(TahError, match=message):
        TahArguments(tah="x", compile="always")
    assert [made.compile for made in (TahArguments(tah="x"), TreeArguments())] == ["auto", "auto"]
    assert SpecReasonArguments(teacher="x", compile="always").compile == "always"


def test_models_are_compiled_if_asked_for() -> None:
    pair = SelectToThink(STUDENT, teacher=TEACHER, threshold=1.0, compile="always")
    assert pair.teacher is not None
    assert [runner._compile_layers for runner in (pair.student, pair.teacher)] == [True, True]
    assert not Greedy(STUDENT, device="cpu").student._compile_layers
    assert pair.identity() != SelectToThink(STUDENT, teacher=TEACHER, threshold=1.0).identity()


@pytest.mark.parametrize("verify", ["auto", 1, 32])
def test_lengths_of_a_chunk(verify: int | str) -> None:
    assert TeacherArguments(threshold=1, verify=verify).verify == verify


@pytest.mark.parametrize("verify", [0, -3, 2.5, True, "fast", None])
def test_lengths_that_are_none(verify: Any) -> None:
    with pytest.raises(ValueError, match=r"^verify: expected 'auto' or a whole number of at least 1, got "):
        TeacherArguments(threshold=1, verify=verify)


def test_a_local_trigger_verifies_nothing() -> None:
    with pytest.raises(ValueError, match=r"^verify: under trigger=entropy the teacher reads a text only wh"):
        TeacherArguments(trigger="entropy", threshold=1, verify=8)
    with pytest.raises(ValueError, match=r"^--model s2t_local: unknown argument 'verify'"):
        split_arguments("s2t_local", LocalArguments, {"verify": 8})


def test_at_the_rate_1_nothing_is_verified() -> None:
    """Every step fires, whatever the trigger, and a length of chunks had no effect."""
    with pytest.raises(
        ValueError, match=r"^verify: under trigger=kl with tau=1 \(every step fires\) the tea"
    ):
        TeacherArguments(tau=1, verify=8)
    assert not TeacherArguments(tau=1).needs_rows
    assert TeacherArguments(threshold=1).needs_rows and TeacherArguments(trigger="never").needs_rows


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kl_direction": "teacher_student"}, "kl_direction=teacher_student: only trigger=kl uses it; name"),
        (
            {"trigger": "entropy", "threshold": 1, "kl_direction": "teacher_student"},
            "kl_direction: trigger=e",
        ),
        ({"teacher": "x"}, "teacher=x: the selector's default trigger does not read it, and it would be lo"),
        ({"teacher": "x", "tau": 0.1}, "teacher=x: the selector's default trigger does not read it"),
        ({"teacher": "x", "trigger": "entropy", "threshold": 1}, "teacher=x: trigger=entropy does not read"),
        ({"teacher": "x", "trigger": "kl", "tau": 1}, "teacher=x: trigger=kl with tau=1 .every step fires."),
        ({"trigger": "kl", "threshold": 1}, "trigger=kl needs teacher=MODEL"),
    ],
)
def test_a_local_method_refuses_what_only_kl_reads(given: dict[str, Any], message: str) -> None:
    """A whole teacher was loaded for nothing, and the direction of a divergence had no effect."""
    with pytest.raises(ValueError, match=rf"^{message}"):
        LocalArguments(selector="x", **given)


def test_a_local_method_takes_a_teacher_for_kl() -> None:
    LocalArguments(selector="x", teacher="x", trigger="kl", threshold=1, kl_direction="teacher_student")
    LocalArguments(selector="x", trigger="kl", tau=1)


@pytest.mark.parametrize("backend", [S2TLocal, PPSLocal])
def test_a_local_backend_names_itself(backend: type[S2TLocal]) -> None:
    """`pps_local` spoke of `s2t_local`."""
    with pytest.raises(ValueError, match=rf"^--model {backend.METHOD}: it needs selector=FOLDER"):
        backend(STUDENT, selector=None)
    with pytest.raises(ValueError, match=rf"^--model {backend.METHOD}: unknown argument 'selektor'"):
        backend(STUDENT, selektor="x")


def test_an_oracle_has_no_threshold() -> None:
    with pytest.raises(ValueError, match=r"^threshold: an oracle replaces the decider"):
        TahArguments(tah="x", oracle="trace.jsonl", threshold=0.5)


@pytest.mark.parametrize(
    ("stock", "message"),
    [
        ({"batch_size": 0}, r"^batch_size: expected a whole number of at least 1, or auto, got 0$"),
        ({"batch_size": "0"}, r"^batch_size: .* got '0'$"),
        ({"batch_size": -3}, r"^batch_size: .* got -3$"),
        ({"batch_size": "auto:x"}, r"^batch_size: .* got 'auto:x'$"),
        ({"batch_size": "many"}, r"^batch_size: .* got 'many'$"),
        ({"batch_size": 1.5}, r"^batch_size: .* got 1\.5$"),
        ({"max_batch_size": 0}, r"^max_batch_size: expected a whole number of at least 1, got 0$"),
        ({"device": "quux"}, r"^device: expected a device of this machine \(cpu.*\), got 'quux'$"),
        ({"device": "cuda:99"}, r"^device: expected a device of this machine"),
        ({"device": 0}, r"^device: expected a device of this machine"),
        ({"max_length": 0}, r"^max_length: expected a whole number of at least 1, got 0$"),
        ({"device_map": "auto"}, r"^device_map: the model is only spread over devices with parallelize=True"),
        ({"max_cpu_memory": "1GB"}, r"^max_cpu_memory: .* got '1GB' without it; add it, or leave max_cpu_m"),
        ({"load_in_4bit": True, "gguf_file": "x"}, r"^load_in_4bit, gguf_file: expected one way of quanti"),
        ({"bnb_4bit_quant_type": "nf4"}, r"^bnb_4bit_quant_type: it belongs to load_in_4bit=True; add that"),
        ({"quantization_config": "int8"}, r"^quantization_config: expected a dictionary with quant_method"),
        ({"quantization_config": {"weights": "int8"}}, r"^quantization_config: .* got \{'weights': 'in"),
    ],
)  # fmt: skip
def test_stock_arguments_are_refused_before_anything_is_loaded(stock: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Greedy("/no/folder", **stock)


def test_stock_arguments_that_are_right() -> None:
    for stock in ({"batch_size": "auto"}, {"batch_size": "auto:4"}, {"batch_size": "8"}, {"device": "cpu"}):
        require_stock(stock)


def test_max_length_above_the_model_s(tmp_path: Path) -> None:
    message = r"^max_length: expected at most the model's context of 1024 tokens, got 100000$"
    with pytest.raises(ValueError, match=message):
        Greedy(STUDENT, max_length=100000)
    Greedy(STUDENT, max_length=1024)
    short = tiny_folder(tmp_path / "short", max_position_embeddings=128)
    message = r"^max_length: expected at most the teacher's context of 128 tokens, got 512$"
    with pytest.raises(ValueError, match=message):
        SelectToThink(STUDENT, teacher=str(short), threshold=1, max_length=512)


def test_scaled_positions_count() -> None:
    config = model(STUDENT).config
    before = config.rope_parameters
    try:
        config.rope_parameters = {**before, "rope_type": "yarn", "factor": 4.0}
        assert context_of(config) == 4096
        config.rope_parameters = {**before, "factor": 8.0, "original_max_position_embeddings": 64}
        assert context_of(config) == 1024
    finally:
        config.rope_parameters = before
    assert context_of(config) == 1024


SCALED = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0}


def test_a_teacher_s_scaled_positions_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Prompts were cut to the positions before scaling, though `max_length` had passed the same check."""
    student, teacher = (
        str(tiny_folder(tmp_path / name, seed, rope_parameters=SCALED))
        for seed, name in enumerate(("student", "teacher"))
    )
    lm = SelectToThink(student, teacher=teacher, trigger="always", max_length=1024)
    assert lm.max_length == 1024
    long = "Tom has 3 apples. " * 60
    [request] = lm.engine_requests([generation(long, max_gen_toks=8)])
    assert 256 < len(request.prompt_ids) == len(lm.tok_encode(long))
    assert not caplog.records and not lm.telemetry.truncated_prompts
    speculative = SpecReason(student, teacher=teacher, score="logprob", max_length=1024)
    assert speculative.max_length == 1024
    digits = SpecReason(student, teacher=teacher, max_length=1024)
    question = digits._make_score(digits.has_chat_template).question
    assert digits.max_length == 1024 - len(question) < 1024


def test_a_teacher_s_scaled_positions_count_without_max_length(tmp_path: Path) -> None:
    student = str(tiny_folder(tmp_path / "student"))
    scaled = str(tiny_folder(tmp_path / "scaled", max_position_embeddings=128, rope_parameters=SCALED))
    short = str(tiny_folder(tmp_path / "short", max_position_embeddings=128))
    for teacher, expected in ((scaled, 256), (short, 128)):
        assert SelectToThink(student, teacher=teacher, trigger="always").max_length == expected
        assert SpecReason(student, teacher=teacher, score="logprob").max_length == expected


@pytest.mark.parametrize("device", [None, "cpu"])
def test_device_among_the_model_arguments(device: str | None) -> None:
    """The harness handed both over, which was a TypeError."""
    arguments = f"pretrained={STUDENT},device=cpu,batch_size=2"
    found = evaluate("greedy", arguments, limit=2, batch_size=1, device=device)
    assert texts(found) == texts(evaluate("greedy", limit=2))


def test_flags_and_arguments_that_differ() -> None:
    with pytest.raises(ValueError, match=r"^device: --device cuda and device=cpu of --model_args differ"):
        flags_without_arguments({"device": "cpu"}, {"device": "cuda", "batch_size": 1})
    with pytest.raises(ValueError, match=r"^batch_size: --batch_size 4 and batch_size=2 of"):
        flags_without_arguments({"batch_size": 2}, {"batch_size": 4})
    assert flags_without_arguments({"batch_size": 2}, {"batch_size": 1, "device": None}) == {}
    # The flag is a text where `auto` is possible, and --batch_size 8 and batch_size=8 once differed.
    assert flags_without_arguments({"batch_size": 8}, {"batch_size": "8"}) == {}


def test_the_harness_s_own_default_is_no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm_eval's command hands over cuda:0 where nobody said so; stock takes the CPU then, and so do we."""
    monkeypatch.setattr("sys.argv", ["lm_eval", "--model", "greedy"])
    monkeypatch.setattr("s2t_eval.model_wrappers.stock_arguments.devices", lambda: ["cpu"])
    assert flags_without_arguments({}, {"device": "cuda:0"}) == {}
    assert flags_without_arguments({"device": "cpu"}, {"device": "cuda:0"}) == {}
    monkeypatch.setattr("s2t_eval.model_wrappers.stock_arguments.devices", lambda: ["cpu", "cuda", "cuda:0"])
    assert flags_without_arguments({}, {"device": "cuda:0"}) == {"device": "cuda:0"}
    assert flags_without_arguments({"device": "cpu"}, {"device": "cuda:0"}) == {}
    for given in (["--device", "cuda:0"], ["--device=cuda:0"]):
        monkeypatch.setattr("sys.argv", ["lm_eval", *given])
        assert flags_without_arguments({}, {"device": "cuda:0"}) == {"device": "cuda:0"}


def test_an_embedded_adapter_is_found_as_distil_finds_it() -> None:
    lm = Greedy(STUDENT, peft="embedded/distilled")
    assert lm.student_fingerprint != Greedy(STUDENT).student_fingerprint
    with pytest.raises(ValueError, match=r"unknown embedded model 'embedded/distiled'"):
        Greedy(STUDENT, peft="embedded/distiled")
