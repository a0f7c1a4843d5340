"""Mistakes and mishaps: one clear error each, saying what was expected, what came and what to do."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.engine import ModelRunner, NonFiniteLogitsError, UnsupportedModelError
from s2t_eval.engine.out_of_memory import is_out_of_memory
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.maj8 import MajorityVote
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.model_wrappers.takeover import Takeover
from s2t_eval.models.loading import ModelLoadError
from s2t_eval.selection.calibration import Calibration, CalibrationError
from s2t_eval.selection.thresholds import ThresholdError
from tests.harness_helpers import (
    LIMIT,
    STUDENT,
    TEACHER,
    counts,
    evaluate,
    generate,
    generation,
    logits_after,
    model,
    ours,
    plain_run,
    prompts,
    student_copy,
    texts,
    tiny_folder,
    tokenizer,
)

# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("model_args", "message"),
    [
        ({}, r"^trigger=kl needs either threshold=NUMBER or tau=RATE with calibration=FILE; got "
             r"threshold=None and tau=None$"),
        ({"threshold": 1, "tau": 0.1}, r"either threshold=NUMBER or tau=RATE.*got threshold=1 and tau"),
        ({"threshold": "high"}, r"^threshold: expected a number, got 'high'$"),
        ({"threshold": float("nan")}, r"^threshold: expected a number, got nan$"),
        ({"threshold": True}, r"^threshold: expected a number, got True$"),
        ({"tau": 0.1}, r"^tau=0\.1 needs calibration=FILE: .* with `s2t-eval calibrate`$"),
        ({"tau": 1.5, "calibration": "x"}, r"^tau: expected a rate above 0, at most 1 .*got 1\.5$"),
        ({"tau": "often", "calibration": "x"}, r"^tau: expected a number, got 'often'$"),
        ({"threshold": 1, "top_k": 0}, r"^top_k: expected a whole number of at least 1, got 0$"),
        ({"threshold": 1, "top_k": 2.5}, r"^top_k: expected a whole number of at least 1, got 2\.5$"),
        ({"threshold": 1, "top_k": "8"}, r"^top_k: expected a whole number of at least 1, got '8'$"),
        ({"threshold": 1, "top_k": 1000}, r"^top_k: expected at most the vocabulary of \d+ tokens, got"),
        ({"threshold": 1, "warmup_tokens": -1}, r"^warmup_tokens: expected a whole number of at least 0"),
        ({"threshold": 1, "warmup": 3}, r"^--model s2t: the argument warmup is now called warmup_tokens; "
             r"give warmup_tokens=3$"),
        ({"threshold": 1, "seed": -1}, r"^seed: expected a whole number of at least 0, got -1$"),
        ({"trigger": "entropi"}, r"^trigger: expected one of kl, entropy, entropy64, margin, router, "
                                 r"line_entropy, position, random, always, never, got 'entropi'$"),
        ({"threshold": 1, "kl_direction": "up"}, r"^kl_direction: expected 'student_teacher' or "
                                                 r"'teacher_student', got 'up'$"),
        ({"trigger": "entropy", "threshold": 1, "kl_direction": "up"}, r"^kl_direction: expected"),
        ({"treshold": 1}, r"^--model s2t: unknown argument 'treshold'; did you mean 'threshold'\?$"),
        ({"threshold": 1, "teacher": None, "techer": "x"}, r"'techer'; did you mean 'teacher'\?$"),
        ({"threshold": 1, "dtype": "float99"}, r"^dtype: expected auto, float32, bfloat16 .* got 'float99'$"),
        ({"threshold": 1, "teacher_dtype": "int8"}, r"^teacher_dtype: expected auto.* got 'int8'$"),
        ({"threshold": 1, "teacher_revison": "x"}, r"'teacher_revison'; did you mean 'teacher_revision'\?$"),
        ({"threshold": 1, "dtyp": "float32"}, r"unknown argument 'dtyp'; did you mean 'dtype'\?$"),
        ({"threshold": 1, "zzz": 1}, r"unknown argument 'zzz'; its own are calibration, chunk, compile"),
        ({"threshold": 1, "teacher": None}, r"^--model s2t: it needs teacher=MODEL \(a hub name"),
        ({"threshold": 1, "pretrained": "embedded/studnet"}, r"unknown embedded model 'embedded/studn"),
        ({"threshold": 1, "teacher": "/no/folder"}, r"^teacher=/no/folder: the model cannot be loaded"),
    ],
)  # fmt: skip
def test_arguments_of_selection(model_args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelectToThink(**{"pretrained": STUDENT, "teacher": TEACHER, **model_args})


@pytest.mark.parametrize(
    ("model_args", "message"),
    [
        ({"num_smaples": 4}, r"^--model maj8: unknown argument 'num_smaples'; did you mean 'num_samples'"),
        ({"num_samples": 0}, r"^num_samples: expected a whole number of at least 1, got 0$"),
        ({"temperature": "hot"}, r"^temperature: expected a number, got 'hot'$"),
        ({"temperature": 0}, r"^temperature: expected above 0 to sample, got 0$"),
        ({"top_p": 1.5}, r"^top_p: expected in \(0, 1\], got 1\.5$"),
        ({"sample_top_k": -1}, r"^sample_top_k: expected a whole number of at least 0, got -1$"),
    ],
)  # fmt: skip
def test_arguments_of_maj8(model_args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MajorityVote(STUDENT, **model_args)


@pytest.mark.parametrize("name", ["teacher", "threshold", "calibration", "selector", "top_k"])
def test_an_argument_of_other_methods_is_no_misspelling(name: str) -> None:
    """`--model greedy` with `teacher=` asked whether `trace` was meant."""
    message = rf"^--model greedy: unknown argument '{name}'; methods that select have it \(s2t_local, "
    with pytest.raises(ValueError, match=message):
        Greedy(STUDENT, **{name: "x"})


@pytest.mark.parametrize(
    ("backend", "name", "hint"),
    [
        (Greedy, "max_gen_toks", r"it is decided by the task and by --gen_kwargs max_gen_toks=VALUE"),
        (SelectToThink, "temperature", r"it is decided by the task and by --gen_kwargs temperature=VALUE"),
        (SelectToThink, "top_p", r"it is decided by the task and by --gen_kwargs top_p=VALUE"),
        (MajorityVote, "do_sample", r"it is decided by the task and by --gen_kwargs do_sample=VALUE"),
        (MajorityVote, "top_k", r"did you mean 'sample_top_k'\?"),
        (SelectToThink, "apply_chat_template", r"it is an option of lm_eval, --apply_chat_template"),
        (Greedy, "system_instruction", r"it is an option of lm_eval, --system_instruction"),
        (SelectToThink, "torch_dtype", r"did you mean 'dtype'\?"),
    ],
)
def test_an_argument_that_belongs_elsewhere_is_no_misspelling(
    backend: type[Greedy], name: str, hint: str
) -> None:
    """`max_gen_toks=1024`, which `--model vllm` takes, asked whether `max_length` was meant.

    As the context that would have cut off prompts. `top_p` asked for `top_k`, the number of candidates, and
    `torch_dtype` for the teacher's.
    """
    with pytest.raises(ValueError, match=rf"^--model {backend.METHOD}: unknown argument '{name}'; {hint}$"):
        backend(STUDENT, **{name: 1})


def test_arguments_come_through_the_command_line_s_text() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'threshold'\?"):
        evaluate("s2t", f"pretrained={STUDENT},teacher={TEACHER},treshold=0.5", limit=1)
    results = evaluate("s2t", f"pretrained={STUDENT},teacher={TEACHER},threshold=0.5")
    assert texts(results) == texts(plain_run("s2t", threshold=0.5))


def test_takeover_names_itself() -> None:
    with pytest.raises(ValueError, match=r"^--model takeover: it needs teacher=MODEL"):
        Takeover(STUDENT, threshold=1)


# ---------------------------------------------------------------- models


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:200_000])


def other_shape(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "intermediate_size": 100}))


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "truncated weights": cut_weights,
    "empty weights": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "weights of another shape": other_shape,
    "broken config": lambda folder: (folder / "config.json").write_text("{broken"),
    "empty config": lambda folder: (folder / "config.json").write_text("{}"),
    "no config": lambda folder: (folder / "config.json").unlink(),
    "broken tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{"),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
}


@pytest.mark.parametrize("role", ["pretrained", "teacher"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_unreadable_model(damage: str, role: str, tmp_path: Path) -> None:
    folder = student_copy(tmp_path / "model")
    DAMAGES[damage](folder)
    models = {"pretrained": STUDENT, "teacher": TEACHER, role: str(folder)}
    with pytest.raises(ModelLoadError) as caught:
        SelectToThink(**models, threshold=0.5)
    message = str(caught.value)
    assert re.match(rf"{role}={folder}: the model cannot be loaded \(.+\); expected a hub", message)
    assert "\n" not in message


def test_missing_model() -> None:
    message = r"^pretrained=/no/folder: the model cannot be loaded \(.+\); expected a hub name, a folder"
    with pytest.raises(ModelLoadError, match=message):
        evaluate("greedy", {"pretrained": "/no/folder"})


def test_layers_that_the_engine_does_not_know(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    path = folder / "config.json"
    layers = ["linear_attention", "full_attention"]
    path.write_text(json.dumps({**json.loads(path.read_text()), "layer_types": layers}))
    loaded = Greedy(STUDENT).model
    loaded.config.layer_types = layers
    with pytest.raises(UnsupportedModelError, match=r"^m: llama has linear_attention; .* --model hf"):
        ModelRunner(loaded, "m")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_fingerprint_is_that_of_the_checkpoint_in_any_dtype(dtype: str) -> None:
    """A bfloat16 tensor read in steps was not contiguous, and no model ran in that dtype."""
    loaded = AutoModelForCausalLM.from_pretrained(Greedy(STUDENT).pretrained, dtype=dtype)
    if dtype != "float16":  # which rounds otherwise
        assert model_fingerprint(loaded) == model_fingerprint(model(STUDENT))
    assert model_fingerprint(loaded) != model_fingerprint(model(TEACHER))


def test_low_precision_runs() -> None:
    """The whole way in bfloat16: most tokens are those of float32."""
    results = evaluate("greedy", {"dtype": "bfloat16"}, limit=4)
    assert ours(results)["student"] == ours(plain_run("greedy"))["student"]
    assert counts(results)["tokens"] > 40


# ---------------------------------------------------------------- calibration files


def calibration(**changes: Any) -> Calibration:
    content: dict[str, Any] = {
        "thresholds": {"kl:student_teacher": {"0.05": 0.5}, "entropy": {"0.05": 0.7}},
        "num_steps": 100,
        "num_texts": 4,
        "warmup": 0,
        "data": {"source": "s2t_arith", "split": "train", "hash": "0" * 16},
        "prompt": {},
        "student": model_fingerprint(model(STUDENT)),
        "teacher": model_fingerprint(model(TEACHER)),
    }
    return Calibration(**{**content, **changes})


def use(path: Path, **model_args: Any) -> SelectToThink:
    arguments = {"teacher": TEACHER, "tau": 0.05, "calibration": str(path), **model_args}
    return SelectToThink(STUDENT, **arguments)


def test_calibration_gives_its_threshold(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    calibration().save(path)
    assert use(path).policy().trigger_threshold == 0.5
    assert use(path, trigger="entropy").policy().trigger_threshold == 0.7
    described = use(path).describe()
    assert described["calibration"] == calibration().hash == Calibration.load(path).hash
    assert described["tau"] == 0.05


@pytest.mark.parametrize(
    ("changes", "model_args", "message"),
    [
        ({"student": "f" * 16}, {}, r"^calibration: it was made for another student \(expected f{16}, "
                                    r"got [0-9a-f]{16}\); calibrate with this student$"),
        ({"teacher": "f" * 16}, {}, r"^calibration: it was made for another teacher \(expected f{16}, got"),
        ({"teacher": None}, {}, r"^calibration: it was made for another teacher \(expected None, got"),
        ({"warmup": 4}, {}, r"^calibration: it was made for another warmup_tokens \(expected 4, got 0\); "
                         r"give warmup_tokens=4$"),
        ({"format": 2}, {}, r"calibration\.json: it has format 2, expected 1; make it again with "),
    ],
)  # fmt: skip
def test_calibration_that_does_not_fit(
    changes: dict[str, Any], model_args: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "calibration.json"
    calibration(**changes).save(path)
    with pytest.raises(CalibrationError, match=message):
        use(path, **model_args)


@pytest.mark.parametrize(
    ("model_args", "asked"),
    [
        ({"tau": 0.07}, "kl:student_teacher at tau=0.07"),
        ({"trigger": "margin"}, "margin at tau=0.05"),
        ({"kl_direction": "teacher_student"}, "kl:teacher_student at tau=0.05"),
    ],
)
def test_calibration_without_the_threshold(model_args: dict[str, Any], asked: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    calibration().save(path)
    with pytest.raises(ThresholdError) as caught:
        use(path, **model_args)
    known = "(it has entropy: 0.05; kl:student_teacher: 0.05)"  # as the file has them, sorted
    assert str(caught.value).startswith(f"calibration: it has no threshold for trigger {asked} {known}; ")
    measured = "0.05 0.07" if "tau" in model_args else "0.05"
    assert str(caught.value).endswith(f"`s2t-eval calibrate --tau {measured}`")


def test_local_trigger_takes_a_calibration_with_another_teacher(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    calibration(teacher="f" * 16).save(path)
    assert use(path, trigger="entropy").policy().trigger_threshold == 0.7


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"format": 1}', '{"tau": 1}', "null"])
def test_file_that_is_no_calibration(content: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(content)
    message = rf"^calibration={path}: expected a file of `s2t-eval calibrate`, it cannot be read \(.+\); make"
    with pytest.raises(CalibrationError, match=message):
        use(path)


def test_missing_calibration(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    message = rf"^calibration={path}: expected a file of `s2t-eval calibrate`, there is none; make one with"
    with pytest.raises(CalibrationError, match=message):
        use(path)


def test_folder_for_a_calibration(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=rf"^calibration={tmp_path}: .*Is a directory"):
        use(tmp_path)


# ---------------------------------------------------------------- requests


@pytest.fixture(scope="module")
def lm() -> Greedy:
    return Greedy(STUDENT, batch_size=4)


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("", {}, r"prompt: expected at least one token, got an empty prompt; .*add_bos_token=True"),
        ("Question:", {"max_gen_toks": 0}, r"max_gen_toks: expected at least 1, got 0$"),
        ("Question:", {"max_gen_toks": 1024}, r"max_gen_toks: expected less than the model's context of "
                                              r"1024 tokens, got 1024$"),
        ("Question:", {"num_beams": 4}, r"generation_kwargs: num_beams=4 is not supported by the "
                                        r"engine \(supported are until, .*top_k\); leave it out"),
        ("Question:", {"repetition_penalty": 1.1}, r"generation_kwargs: repetition_penalty=1\.1 is not"),
        ("Question:", {"num_return_sequences": 2}, r"generation_kwargs: num_return_sequences=2 is not"),
        ("Question:", {"min_p": 0.1}, r"generation_kwargs: min_p=0\.1 is not supported"),
        ("Question:", {"do_sample": True, "temperature": -1}, r"temperature: expected above 0 to sample"),
        ("Question:", {"do_sample": True, "temperature": 1, "top_p": 0}, r"top_p: expected in \(0, 1\]"),
    ],
)  # fmt: skip
def test_request_that_cannot_be_answered(
    prompt: str, options: dict[str, Any], message: str, lm: Greedy
) -> None:
    """The message says which of a task's thousands it is."""
    asked = [generation("Question: 1", doc_id=16), generation(prompt, doc_id=17, **options)]
    texts_before = lm.telemetry.texts
    with pytest.raises(ValueError, match=r"^task asked, document 17: " + message):
        lm.generate_until(asked)
    assert lm.telemetry.texts == texts_before


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 1},
        {"repetition_penalty": 1.0},
        {"use_cache": True},
        {"use_cache": False},
        {"num_return_sequences": 1},
        {"do_sample": False, "temperature": 0.0},
        {"do_sample": False, "temperature": 0.7, "top_p": 0.9, "top_k": 40},
    ],
)
def test_harmless_generation_arguments(options: dict[str, Any], lm: Greedy) -> None:
    plain = lm.generate_until([generation(prompts(1)[0], max_gen_toks=16)])
    assert lm.generate_until([generation(prompts(1)[0], max_gen_toks=16, **options)]) == plain


def test_generation_arguments_from_the_command_line() -> None:
    with pytest.raises(ValueError, match=r"^task s2t_arith, document 0: generation_kwargs: num_beams=4"):
        evaluate("greedy", limit=1, gen_kwargs="num_beams=4")
    results = evaluate("greedy", limit=1, gen_kwargs="num_beams=1,max_gen_toks=8")
    assert counts(results)["tokens"] == 8


@pytest.mark.parametrize(("name", "model_args"), [("maj8", {}), ("tot", {"value": "loglik"})])
def test_a_method_that_draws_by_its_own_arguments_refuses_others(
    name: str, model_args: dict[str, Any]
) -> None:
    """`--model maj8 --gen_kwargs do_sample=true,temperature=0.5` drew at 0.7 without a word."""
    message = r"document 0: generation_kwargs: do_sample=true, temperature=0\.5 would have no effect"
    with pytest.raises(ValueError, match=message):
        evaluate(name, model_args, limit=1, gen_kwargs="do_sample=true,temperature=0.5")


def test_long_prompts_lose_their_beginning(caplog: pytest.LogCaptureFixture) -> None:
    """As in stock: room for the answer is kept, the system prompt goes first. It is said once."""
    lm = Greedy(STUDENT, max_length=128, batch_size=4)
    long = [f"Tom has {i} apples. " * 40 + prompts(1)[0] for i in range(2)]
    asked = [generation(prompt, i, max_gen_toks=28) for i, prompt in enumerate([*long, "Question:"])]
    with caplog.at_level(logging.WARNING):
        found = lm.generate_until(asked)
    said = [record for record in caplog.records if "its beginning is cut off" in record.getMessage()]
    assert len(said) == 1
    message = r"a prompt of \d+ tokens leaves no room for 28 new ones in a context of 128: its beginning"
    assert re.match(message, said[0].getMessage())
    assert lm.telemetry.truncated_prompts == 2
    for prompt, text in zip(long, found[:2], strict=True):
        ids = generate(model(STUDENT), tokenizer()(prompt)["input_ids"][-100:], 28)
        assert text == tokenizer().decode(ids, skip_special_tokens=True)
    assert lm.get_model_info()["s2t_eval"]["telemetry"]["truncated_prompts"] == 2


# ---------------------------------------------------------------- numbers that are none


def nan_model(folder: Path) -> Path:
    """Its weights are finite, so it loads; what it computes of them overflows."""
    student_copy(folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], 3e38, dtype=torch.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("role", ["pretrained", "teacher"])
@pytest.mark.parametrize("trigger", ["kl", "always"])
def test_nan_logits_name_the_model_and_the_step(role: str, trigger: str, tmp_path: Path) -> None:
    folder = nan_model(tmp_path / "model")
    models = {"pretrained": STUDENT, "teacher": TEACHER, role: str(folder)}
    message = rf"^{folder}: logits are not finite at step 0 of request \d+; .*\(try dtype=bfloat16 or"
    fires = {"threshold": 0.5} if trigger == "kl" else {}
    with pytest.raises(NonFiniteLogitsError, match=message):
        evaluate("s2t", {**models, "trigger": trigger, **fires}, limit=2)


def test_nan_of_a_teacher_that_is_asked_late_names_the_step(tmp_path: Path) -> None:
    """Only some rows fire, at a step of their own."""
    models = {"teacher": str(nan_model(tmp_path / "model")), "trigger": "entropy", "threshold": 0.3}
    with pytest.raises(NonFiniteLogitsError, match=r"not finite at step [1-9]\d* of request \d+"):
        evaluate("s2t", models)


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_is_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize("name", ["greedy", "s2t"])
def test_memory_for_two_rows_alone(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forward = ModelRunner.forward

    def limited(self: ModelRunner, *args: Any) -> torch.Tensor:
        if self.cache.rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return forward(self, *args)

    model_args = {"threshold": 0.5} if name == "s2t" else {}
    expected = plain_run(name, **model_args)
    monkeypatch.setattr(ModelRunner, "forward", limited)
    teacher = {"teacher": TEACHER} if name == "s2t" else {}
    found = evaluate(name, {**model_args, **teacher}, batch_size=4)
    assert texts(found) == texts(expected)
    said = [r.getMessage() for r in caplog.records if "out of memory" in r.getMessage()]
    assert said == ["out of memory: continuing with 2 rows at once"]
    assert counts(found)["texts"] == LIMIT


def test_memory_that_runs_out_at_any_pass_loses_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that end in the very step in which memory runs out were lost."""
    forward = ModelRunner.forward
    state = {"pass": 0, "fails_at": -1}

    def failing(self: ModelRunner, *args: Any) -> torch.Tensor:
        state["pass"] += 1
        if state["pass"] == state["fails_at"]:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, *args)

    lm = Greedy(STUDENT, batch_size=3)
    asked = [generation(p, i, max_gen_toks=2 + i) for i, p in enumerate(prompts(5))]
    expected = lm.generate_until(asked)
    monkeypatch.setattr(ModelRunner, "forward", failing)
    lm.generate_until(asked)
    num_passes = state["pass"]
    assert 8 <= num_passes <= 20
    for fails_at in range(1, num_passes + 1):
        state.update({"pass": 0, "fails_at": fails_at})
        assert lm.generate_until(asked) == expected, f"memory ran out at pass {fails_at}"


# ---------------------------------------------------------------- adapters

peft_asks_the_old_name = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)


@pytest.fixture
def adapted(tmp_path: Path) -> tuple[Path, Path]:
    """A model whose vocabulary is padded to 512 rows, and an adapter that changes it."""
    base = tiny_folder(tmp_path / "base", vocab_size=512)
    torch.manual_seed(5)
    config = LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj", "v_proj", "down_proj"])
    adapter = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    adapter.save_pretrained(tmp_path / "adapter")
    return base, tmp_path / "adapter"


TIED_ADAPTERS: list[dict[str, Any]] = [
    {"target_modules": ["lm_head"]},
    {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
]


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning")
@pytest.mark.parametrize("changes", TIED_ADAPTERS, ids=["adapted head", "own head", "own embeddings"])
def test_an_adapter_of_a_tied_head_is_as_peft_loads_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Stock `hf` ties the weights again: a `KeyError`, or the head replaced by the adapter's embeddings."""
    base = tiny_folder(tmp_path / "base", tie_word_embeddings=True)
    torch.manual_seed(5)
    adapter = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, task_type="CAUSAL_LM", **changes)
    )
    for parameter in adapter.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    adapter.save_pretrained(tmp_path / "adapter")
    lm = Greedy(str(base), peft=str(tmp_path / "adapter"), device="cpu")
    twin = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter").eval()
    assert torch.equal(logits_after(lm.model, [3, 1, 4]), logits_after(twin, [3, 1, 4]))
    without = AutoModelForCausalLM.from_pretrained(base)
    assert not torch.equal(logits_after(without, [3, 1, 4]), logits_after(twin, [3, 1, 4]))


@peft_asks_the_old_name
def test_adapter_changes_the_text_and_shrinks_nothing(adapted: tuple[Path, Path]) -> None:
    """Stock `hf` cuts the embeddings to the tokenizer's size here."""
    base, adapter = adapted
    lm = Greedy(str(base), peft=str(adapter), batch_size=3)
    assert lm.model.get_input_embeddings().weight.shape[0] == 512
    assert lm.student.vocab == 512
    assert lm.student.text_vocab == len(tokenizer())
    twin = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    asked = [generation(prompt, i, until=[], max_gen_toks=24) for i, prompt in enumerate(prompts(5))]
    found = lm.generate_until(asked)
    for prompt, text in zip(prompts(5), found, strict=True):
        ids = tokenizer()(prompt)["input_ids"]
        said = generate(twin, ids, 24, suppress_tokens=list(range(len(tokenizer()), 512)))
        assert text == tokenizer().decode(said, skip_special_tokens=True)
    without = Greedy(str(base))
    assert without.generate_until(asked) != found
    assert without.student_fingerprint != lm.student_fingerprint


@peft_asks_the_old_name
def test_missing_adapter() -> None:
    with pytest.raises(ModelLoadError, match=r"^peft=/no/adapter: the model cannot be loaded \(.+\)"):
        Greedy(STUDENT, peft="/no/adapter")


def test_mixed_precision_is_refused_for_texts() -> None:
    """Log-likelihoods followed it, and generated texts did not."""
    message = r"^mixed_precision_dtype=torch\.bfloat16: texts are generated in the model's own dtype"
    with pytest.raises(ValueError, match=message):
        evaluate("greedy", {"mixed_precision_dtype": "bfloat16"}, limit=1)
