"""A teacher is loaded as stock `hf` loads a model: every argument of loading, with `teacher_` in front."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from lm_eval.models.huggingface import HFLM

from s2t_eval import cli
from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.embedded import embedded_path
from s2t_eval.method_table import BACKENDS
from s2t_eval.model_wrappers.arguments import TeacherArguments
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.local_arguments import LocalArguments
from s2t_eval.model_wrappers.r2r import RoadsToRome
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.model_wrappers.s2t_local import PPSLocal
from s2t_eval.model_wrappers.specreason import SpecReason
from s2t_eval.model_wrappers.splitting import (
    ABOUT_REQUESTS,
    LOADING_ARGS,
    STOCK_ARGS,
    TEACHER_ARGS,
    parse_model_args,
    split_arguments,
)
from s2t_eval.model_wrappers.takeover import Takeover
from s2t_eval.model_wrappers.teacher import device_of_teacher, teacher_options
from s2t_eval.models.loading import ModelLoadError
from s2t_eval.pipelines.calibrate import load_lm
from tests.harness_helpers import STUDENT, TEACHER, generation, model, prompts, tiny_folder, tokenizer

REPOSITORY_NAME = "tests/pair"
HASHES = {"main": "0" * 39 + "1", "older": "0" * 39 + "2"}

WITH_TEACHER: dict[type[EngineLM], dict[str, Any]] = {
    SelectToThink: {"threshold": 0.5},
    Takeover: {"threshold": 0.5},
    RoadsToRome: {"router": "embedded/r2r"},
    SpecReason: {"score": "logprob", "delimiter": "sentence"},
    PPSLocal: {"selector": "embedded/selector", "trigger": "kl", "threshold": 0.5},
}


def load(backend: type[EngineLM] = SelectToThink, **arguments: Any) -> Any:
    defaults = {"teacher": TEACHER, "device": "cpu", "dtype": "float32", **WITH_TEACHER[backend]}
    return backend(STUDENT, **{**defaults, **arguments})


def written(lm: EngineLM) -> list[str]:
    requests = [generation(prompt, doc_id=i) for i, prompt in enumerate(prompts(3))]
    return lm.generate_until(requests, disable_tqdm=True)


@pytest.mark.parametrize(("has_gpu", "expected"), [(True, "cuda"), (False, "cpu")])
def test_a_command_without_a_device_takes_the_gpu_where_there_is_one(
    has_gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands pass `device=None`, which stock `hf` refuses: on the first GPU none of them ran."""
    devices = []

    def init(self: HFLM, pretrained: str, device: str | None = "cuda", **arguments: Any) -> None:
        devices.append(device)
        raise InterruptedError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(HFLM, "__init__", init)
    for arguments in ({"device": None}, {}):
        with pytest.raises(InterruptedError):
            Greedy(STUDENT, **arguments)
    assert devices == [expected, expected]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A repository in the hub's own cache, of two revisions: `older` holds the embedded teacher."""
    folder = tmp_path / ("models--" + REPOSITORY_NAME.replace("/", "--"))
    (folder / "refs").mkdir(parents=True)
    for revision, commit in HASHES.items():
        (folder / "refs" / revision).write_text(commit)
    (folder / "snapshots").mkdir()
    tiny_folder(folder / "snapshots" / HASHES["main"])
    shutil.copytree(embedded_path(TEACHER), folder / "snapshots" / HASHES["older"])
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return REPOSITORY_NAME


# ---------------------------------------------------------------- names


def test_every_argument_of_loading_has_a_teacher_s() -> None:
    """Those of the methods with which stock `hf` loads config, tokenizer and model."""
    methods = (HFLM._get_config, HFLM._create_tokenizer, HFLM._create_model)
    names = {name for method in methods for name in inspect.signature(method).parameters}
    names -= {"self", "kwargs", "pretrained", "gpus", "add_bos_token"}  # `teacher` names it; gpus are counted
    assert {f"teacher_{name}" for name in names | LOADING_ARGS | {"device"}} == TEACHER_ARGS
    assert STOCK_ARGS >= ABOUT_REQUESTS


@pytest.mark.parametrize("own", [TeacherArguments, LocalArguments])
def test_arguments_are_split(own: Any) -> None:
    given = {"threshold": 0.5, "trigger": "kl", "teacher": "x", "teacher_revision": "r", "revision": "s"}
    split = split_arguments("s2t", own, {**given, "teacher_load_in_4bit": True, "teacher_dtype": None})
    assert split.own == own(threshold=0.5, trigger="kl", teacher="x")
    assert split.stock == {"revision": "s"}
    assert split.teacher == {"revision": "r", "load_in_4bit": True}


def test_a_method_without_a_teacher_has_no_arguments_of_one() -> None:
    with pytest.raises(ValueError, match=r"^--model greedy: unknown argument 'teacher_revision'; did you m"):
        Greedy(STUDENT, teacher_revision="x")


def test_arguments_of_a_teacher_need_one() -> None:
    for name in sorted(TEACHER_ARGS):
        message = rf"^{name}: there is no teacher .* give teacher=MODEL, or leave it"
        with pytest.raises(ValueError, match=message):
            split_arguments("pps_local", LocalArguments, {"selector": "x", name: "y"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"teacher_device": "quux"}, r"^teacher_device: expected a device of this machine \(cpu.*'quux'$"),
        ({"teacher_dtype": "int8"}, r"^teacher_dtype: expected auto, float32"),
        ({"teacher_device_map": "auto"}, r"^teacher_device_map: .* with teacher_parallelize=True, got 'aut"),
        ({"teacher_max_memory_per_gpu": 1}, r"^teacher_max_memory_per_gpu: .* leave teacher_max_memory_per_"),
        ({"teacher_tp_plan": "auto"}, r"^teacher_tp_plan: .* with tp_plan for the student too; give both"),
        ({"teacher_load_in_8bit": 1, "teacher_gguf_file": "x"}, r"^teacher_load_in_8bit, teacher_gguf_fi"),
        ({"teacher_bnb_4bit_quant_type": "nf4"}, r"^teacher_bnb_4bit_quant_type: .*teacher_load_in_4bit=Tru"),
        ({"teacher_quantization_config": "x"}, r"^teacher_quantization_config: expected a dictionary with q"),
        ({"teacher_max_memory": 1}, r"unknown argument 'teacher_max_memory'; did you mean 'teacher_max_cpu_"),
        ({"teacher_batch_size": 1}, r"unknown argument 'teacher_batch_size'; did you mean "),
    ],
)  # fmt: skip
def test_unusable_arguments_of_a_teacher_are_refused_before_anything_is_loaded(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SelectToThink("/no/folder", teacher="/no/folder", threshold=0.5, **given)


def test_a_teacher_beside_a_student_on_servers_has_the_machine_s_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was loaded on the CPU of a machine with a GPU: there lies what stands for a student on servers."""
    monkeypatch.setattr("s2t_eval.model_wrappers.teacher.default_device", lambda: "cuda")
    assert device_of_teacher("cpu", is_student_served=True, wanted=None) == "cuda"
    assert device_of_teacher("cpu", is_student_served=True, wanted="cuda:1") == "cuda:1"
    assert device_of_teacher("cpu", is_student_served=False, wanted=None) == "cpu"
    assert teacher_options({"device": "cpu"}, {}, "cuda")["device"] == "cpu"  # its own


# ---------------------------------------------------------------- what is loaded


@pytest.mark.parametrize("backend", WITH_TEACHER)
def test_a_revision_is_loaded(backend: type[EngineLM], hub: str) -> None:
    """The student keeps its own: `revision` is not a teacher's."""
    lm = load(backend, teacher=hub, teacher_revision="older")
    assert lm.teacher_fingerprint == model_fingerprint(model(TEACHER))
    assert lm.student_fingerprint == model_fingerprint(model(STUDENT))
    other = (
        lm.teacher_fingerprint if backend is RoadsToRome else load(backend, teacher=hub).teacher_fingerprint
    )
    assert (other == lm.teacher_fingerprint) == (backend is RoadsToRome)  # its router fits one teacher


def test_every_backend_with_a_teacher_is_tested() -> None:
    """`distil` and others have one in training alone."""
    loaded = {backend.METHOD for backend in WITH_TEACHER} | {"s2t_local"}
    assert loaded == {
        name
        for name in BACKENDS
        if name in ("s2t", "takeover", "r2r", "specreason", "s2t_local", "pps_local")
    }


def test_a_revision_that_is_not_there(hub: str) -> None:
    with pytest.raises(ModelLoadError, match=rf"^teacher={hub}: the model cannot be loaded"):
        load(teacher=hub, teacher_revision="newer")


def test_a_subfolder(tmp_path: Path) -> None:
    shutil.copytree(embedded_path(TEACHER), tmp_path / "weights")
    lm = load(teacher=str(tmp_path), teacher_subfolder="weights")
    assert lm.teacher_fingerprint == model_fingerprint(model(TEACHER))


def test_a_tokenizer_of_its_own(tmp_path: Path) -> None:
    folder = shutil.copytree(embedded_path(TEACHER), tmp_path / "teacher")
    for path in folder.glob("*token*"):
        path.unlink()
    lm = load(teacher=str(folder), teacher_tokenizer=str(embedded_path(TEACHER)))
    assert lm.teacher_fingerprint == model_fingerprint(model(TEACHER))


def test_dtype_and_attention_are_the_teacher_s_own() -> None:
    lm = load(teacher_dtype="bfloat16", teacher_attn_implementation="eager", attn_implementation="sdpa")
    assert (lm.teacher.base.dtype, lm.model.dtype) == (torch.bfloat16, torch.float32)
    assert lm.teacher.base.config._attn_implementation == "eager"
    assert lm.model.config._attn_implementation == "sdpa"
    assert load(dtype="bfloat16").teacher.base.dtype == torch.bfloat16  # the student's, without its own


def test_an_adapter_of_the_teacher() -> None:
    lm = load(teacher=STUDENT, teacher_peft="embedded/distilled")
    adapted = Greedy(STUDENT, peft="embedded/distilled", device="cpu", dtype="float32")
    assert lm.teacher_fingerprint == adapted.student_fingerprint != lm.student_fingerprint
    always = load(
        Takeover, teacher=STUDENT, teacher_peft="embedded/distilled", trigger="always", threshold=None
    )
    assert written(always) == written(adapted)
    with pytest.raises(ModelLoadError, match=r"^teacher_peft=/no/folder: "):
        load(teacher_peft="/no/folder")


def test_a_teacher_that_does_not_fit_into_memory_writes_the_same_texts(tmp_path: Path) -> None:
    """With one layer in memory at most, the others are read from files at every pass."""
    plain = load(threshold=0.05)
    offload = {"teacher_parallelize": True, "teacher_max_cpu_memory": 200_000}
    lm = load(threshold=0.05, **offload, teacher_offload_folder=str(tmp_path / "offload"))
    devices = set(lm.teacher.base.hf_device_map.values())
    assert "disk" in devices, devices
    assert lm.teacher_fingerprint == plain.teacher_fingerprint
    assert written(lm) == written(plain) != written(load(trigger="never", threshold=None))


def test_an_uninstalled_package_is_named() -> None:
    """`hqq` stands for any package: no environment of ours has it."""
    with pytest.raises(ModelLoadError, match=r"^teacher=.*needs a package that is not installed \(.*hqq"):
        load(teacher_quantization_config={"quant_method": "hqq"})
    with pytest.raises(ModelLoadError, match=r"^teacher=.*\(Unknown quantization type, got quux"):
        load(teacher_quantization_config={"quant_method": "quux"})


# ---------------------------------------------------------------- commands


def test_arguments_of_a_command() -> None:
    assert parse_model_args("revision=x,parallelize=True,max_cpu_memory=3") == {
        "revision": "x",
        "parallelize": True,
        "max_cpu_memory": 3,
    }
    config = {"quantization_config": {"quant_method": "quanto", "weights": "int8"}}
    assert parse_model_args(json.dumps(config)) == config
    for text in ("revision", '{"revision": '):
        with pytest.raises(ValueError, match="expected name=value pairs"):
            parse_model_args(text)


def test_the_pipelines_load_the_same_teacher(hub: str) -> None:
    lm: Any = load_lm(STUDENT, hub, "revision=older", device="cpu")
    assert lm.teacher_fingerprint == model_fingerprint(model(TEACHER))
    with pytest.raises(
        ValueError, match=r"^--teacher_args revision=older: there is no teacher; name it by --t"
    ):
        load_lm(STUDENT, None, "revision=older", device="cpu")
    with pytest.raises(
        ValueError, match=r"^--teacher_args: unknown argument 'revison'; did you mean 'revision'"
    ):
        load_lm(STUDENT, hub, "revison=older", device="cpu")


@pytest.mark.parametrize("command", [["collect"], ["calibrate"], ["r2r", "label"]])
def test_commands_give_the_teacher_its_arguments(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--pretrained", STUDENT, "--task", "s2t_arith", "--limit", "1", "--out", str(tmp_path / "out")]
    teacher = ["--teacher", TEACHER, "--teacher_args", "device_map=auto"]
    with pytest.raises(SystemExit):
        cli.main([*command, *source, *teacher])
    assert "teacher_device_map: the model is only spread over devices with" in capsys.readouterr().err


@pytest.mark.parametrize(("student_lacks", "teacher_lacks"), [(1, 0), (0, 1)])
def test_a_token_that_one_of_the_two_lacks_is_never_written(
    tmp_path: Path, student_lacks: int, teacher_lacks: int
) -> None:
    """Gemma 3's tokenizer has a token for images, for which its smallest models have no row and others have
    one: a teacher could write it, and the student has no embedding of it."""
    rows = len(tokenizer())
    student = tiny_folder(tmp_path / "student", 0, rows - student_lacks)
    teacher = tiny_folder(tmp_path / "teacher", 1, rows - teacher_lacks)
    lm = Takeover(str(student), teacher=str(teacher), trigger="always", device="cpu", dtype="float32")
    head = lm.teacher.base.lm_head
    head.bias = torch.nn.Parameter(torch.zeros(head.out_features))
    with torch.no_grad():
        head.bias[rows - 1 - teacher_lacks] = 1000.0
    lm.generate_until([generation(prompts(1)[0], max_gen_toks=4)], disable_tqdm=True)
    assert lm.student.text_vocab == lm.teacher.text_vocab == rows - 1
