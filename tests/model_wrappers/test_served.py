"""Backends whose models are on servers, against a fake with the embedded pair's vocabulary."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLConfig, Qwen3NextConfig

from s2t_eval.artifacts.fingerprint import checkpoint_fingerprint, model_fingerprint
from s2t_eval.cli import main
from s2t_eval.embedded import embedded_path
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.model_wrappers.served_identity import unloaded_fingerprint, unloaded_model
from s2t_eval.model_wrappers.specreason import SpecReason
from s2t_eval.model_wrappers.usable_arguments import require_usable_arguments
from s2t_eval.models.loading import ModelLoadError, load_model
from s2t_eval.models.vocabulary import VocabularyMismatchError
from s2t_eval.remote.settings import ServerError, ServersUnavailableError
from tests.harness_helpers import STUDENT, TEACHER, evaluate, generation, ours, read_trace, texts
from tests.remote.fake_server import RECORDED, FakeServer, serving

VOCAB = 443


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    student, teacher = FakeServer(seed=0, vocab=VOCAB), FakeServer(seed=1, vocab=VOCAB)
    with serving(student, teacher):
        yield {"student_url": student.url, "teacher_url": teacher.url}


def test_a_run_on_servers_has_trace_and_telemetry(urls: dict[str, str], tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    arguments = {"pretrained": STUDENT, "teacher": TEACHER, "threshold": 2.0, "trace": str(trace), **urls}
    results = evaluate("s2t", arguments)
    entry, lines = ours(results), read_trace(trace)
    telemetry = entry["telemetry"]
    assert telemetry["texts"] == len(lines) > 0
    assert telemetry["triggers"] == sum(len(line["steps"]) for line in lines) > 0
    assert telemetry["server_requests"] > telemetry["teacher_calls"] > 0
    assert telemetry["discarded_tokens"] > 0
    root = RECORDED["models"]["data"][0]["root"]
    assert entry["servers"]["teacher"] == {"model": "teacher", "roots": [root], "versions": ["0.32.0"]}
    assert entry["dtype"] == "of the server"


def test_a_run_whose_server_died_resumes_from_its_cache(tmp_path: Path) -> None:
    """What was finished when the last server died is not generated again, and its costs are counted."""
    server = FakeServer(vocab=VOCAB)
    with serving(server):
        arguments = {"student_url": server.url, "concurrency": 1, "patience_s": 0.3}
        expected = evaluate("greedy", arguments)
        total = len(server.requests)
        probes = total - ours(expected)["telemetry"]["server_requests"]
        server.dies_after = total + probes + 2
        with pytest.raises(ServersUnavailableError, match="with --use_cache finished texts are not repeated"):
            evaluate("greedy", arguments, use_cache=str(tmp_path / "cache"))
        server.dies_after, server.is_dead = None, False
        resumed = evaluate("greedy", arguments, use_cache=str(tmp_path / "cache"))
    telemetry = ours(resumed)["telemetry"]
    assert telemetry["cached_texts"] == 2
    assert telemetry["server_requests"] == ours(expected)["telemetry"]["server_requests"]
    assert texts(resumed) == texts(expected)


def test_thresholds_of_a_selector_hold_for_the_served_checkpoints(urls: dict[str, str]) -> None:
    """The weights are on this machine, so both fingerprints are compared without loading the models."""
    model = SelectToThink(STUDENT, teacher=TEACHER, selector="embedded/selector", tau=0.05, **urls)
    assert model.model.device.type == "meta"
    local = SelectToThink(STUDENT, teacher=TEACHER, selector="embedded/selector", tau=0.05)
    assert model.policy() == local.policy()
    assert (model.student_fingerprint, model.teacher_fingerprint) == (
        local.student_fingerprint,
        local.teacher_fingerprint,
    )


def test_weights_elsewhere_have_no_fingerprint(urls: dict[str, str], tmp_path: Path) -> None:
    model, _ = load_model("student", STUDENT, "float32", "cpu", False)
    empty = unloaded_model(model.config, False)
    save_file({"model.norm.weight": torch.ones(4)}, tmp_path / "part.safetensors")
    assert checkpoint_fingerprint(empty, [tmp_path / "part.safetensors"]) is None
    assert unloaded_fingerprint("nobody/nothing", empty) is None
    assert unloaded_fingerprint(STUDENT, empty) == model_fingerprint(model)


def in_the_hub_cache(cache: Path, revisions: dict[str, float]) -> None:
    """`org/student` as downloaded: at each revision the student with its weights times a number."""
    for commit, (revision, factor) in zip("ab", revisions.items(), strict=True):
        repository = cache / "models--org--student"
        snapshot = shutil.copytree(embedded_path(STUDENT), repository / "snapshots" / (commit * 40))
        [weights] = snapshot.glob("*.safetensors")
        scaled = {name: tensor * factor for name, tensor in load_file(weights).items()}
        save_file(scaled, weights, metadata={"format": "pt"})
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit * 40)


def test_the_fingerprint_of_a_served_student_is_that_of_its_revision(
    urls: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `student_url` it was that of the main branch, whatever `revision=` named."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    in_the_hub_cache(tmp_path, {"main": 1.0, "step1000": 1.5})
    for revision in ("main", "step1000"):
        arguments = {"pretrained": "org/student", "revision": revision}
        served = Greedy(**arguments, student_url=urls["student_url"])
        assert served.student_fingerprint == Greedy(**arguments, device="cpu").student_fingerprint


def test_a_served_student_ends_at_the_stop_tokens_of_its_generation_config(
    urls: dict[str, str], tmp_path: Path
) -> None:
    """Texts ran on behind tokens that only `generation_config.json` names, as those of many chat models."""
    folder = shutil.copytree(embedded_path(STUDENT), tmp_path / "student")
    named = Greedy(STUDENT, student_url=urls["student_url"]).stop_ids
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**settings, "eos_token_id": [*sorted(named), 20]}))
    served = Greedy(str(folder), student_url=urls["student_url"])
    assert served.stop_ids == {*named, 20} == Greedy(str(folder), device="cpu").stop_ids
    path.unlink()
    assert Greedy(str(folder), student_url=urls["student_url"]).stop_ids == named


def test_a_served_student_may_have_layers_that_the_engine_has_not(
    urls: dict[str, str], tmp_path: Path
) -> None:
    """No pass of the engine is run for it, and a server decodes models whose layers have a state."""
    folder = shutil.copytree(embedded_path(STUDENT), tmp_path / "hybrid")
    shape = {"vocab_size": VOCAB, "hidden_size": 64, "num_hidden_layers": 4, "head_dim": 16, "num_experts": 2}
    Qwen3NextConfig(**shape, num_attention_heads=4, num_key_value_heads=2).save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    student = FakeServer(seed=0, vocab=VOCAB, root=str(folder))
    with serving(student):
        assert (
            len(texts(evaluate("greedy", {"pretrained": str(folder), "student_url": student.url}, limit=2)))
            == 2
        )


def of_an_unknown_class(folder: Path, weights: Path | None) -> str:
    """A model that servers serve and transformers does not know as a causal one, with weights or without."""
    shutil.copytree(embedded_path(TEACHER), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    Qwen2_5_VLConfig().save_pretrained(folder)
    if weights is not None:
        shutil.copy(next(weights.glob("*.safetensors")), folder)
    return str(folder)


@pytest.mark.parametrize("is_here", [False, True])
def test_a_teacher_of_a_class_that_transformers_does_not_know(
    is_here: bool, urls: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It ended in a traceback of transformers, although nothing of it is loaded here."""
    folder = of_an_unknown_class(tmp_path / "teacher", Path(embedded_path(TEACHER)) if is_here else None)
    with caplog.at_level(logging.WARNING):
        model = SelectToThink(STUDENT, teacher=folder, threshold=1.0, **urls)
    assert model.teacher_fingerprint is None
    lines = [line for line in caplog.messages if "cannot be read here" in line]
    assert len(lines) == is_here and all("Unrecognized configuration class" in line for line in lines)
    assert not any("\n" in line for line in lines)


def test_a_student_of_a_class_that_transformers_does_not_know_is_refused_in_one_line(
    urls: dict[str, str], tmp_path: Path
) -> None:
    folder = of_an_unknown_class(tmp_path / "student", None)
    with pytest.raises(ModelLoadError, match=r"^pretrained=.*Unrecognized configuration class [^\n]*$"):
        Greedy(folder, student_url=urls["student_url"])


def serve(role: str, root: str | Path) -> FakeServer:
    return FakeServer(seed=int(role == "teacher"), vocab=VOCAB, root=str(root))


def without_weights(folder: Path) -> str:
    """A copy of the student's folder as a machine has it whose servers alone have the weights."""
    shutil.copytree(embedded_path(STUDENT), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return str(folder)


@pytest.mark.parametrize("differing", ["pretrained", "student", "teacher"])
def test_a_cache_is_not_used_for_another_model_whose_weights_are_elsewhere(
    differing: str, tmp_path: Path
) -> None:
    """Servers under one alias: `--use_cache` gave the texts of the first model for the second one."""
    names = ("first", "second")
    folders = {name: without_weights(tmp_path / name) for name in names}
    roots = {name: {"student": "org/student", "teacher": "org/teacher"} for name in names}
    if differing != "pretrained":
        roots["second"][differing] = "org/other"
        folders["second"] = folders["first"]
    identities = []
    for name in (*names, "first"):
        servers = {role: serve(role, root) for role, root in roots[name].items()}
        with serving(*servers.values()):
            urls = {f"{role}_url": server.url for role, server in servers.items()}
            identities.append(SelectToThink(folders[name], threshold=1.0, **urls).identity())
    first, second, again = identities
    assert first == again != second


@pytest.mark.parametrize("wrong", ["student", "teacher"])
def test_a_server_of_other_weights_is_refused(tmp_path: Path, wrong: str) -> None:
    """With two addresses swapped, the named fingerprints were recorded over another model's texts."""
    names = {"student": STUDENT, "teacher": TEACHER}
    roots = {role: shutil.copytree(embedded_path(name), tmp_path / role) for role, name in names.items()}
    other = {"student": "teacher", "teacher": "student"}[wrong]
    servers = {role: serve(role, roots[other if role == wrong else role]) for role in names}
    argument = {"student": "pretrained", "teacher": "teacher"}[wrong]
    with serving(*servers.values()):
        urls = {f"{role}_url": server.url for role, server in servers.items()}
        with pytest.raises(ServerError) as caught:
            SelectToThink(STUDENT, teacher=TEACHER, threshold=1.0, **urls)
        message = str(caught.value)
        assert message.startswith(
            f"{wrong} server {servers[wrong].url}: it serves {roots[other]}, with other "
        )
        assert f"weights than {argument}={names[wrong]} (" in message
        assert message.endswith("correct the address, or name the model that it serves")


def test_a_copy_of_the_weights_may_have_another_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copied = shutil.copytree(embedded_path(STUDENT), tmp_path / "copied")
    servers = [serve("student", copied), serve("student", embedded_path(STUDENT))]
    with serving(*servers), caplog.at_level(logging.WARNING):
        Greedy(STUDENT, student_url="+".join(server.url for server in servers))
    assert "it serves" not in caplog.text


@pytest.mark.parametrize(
    ("root", "is_named"),
    [
        ("org/other-7B", False),
        ("/elsewhere/student-awq", False),
        ("org/student", True),
        ("/elsewhere/student", True),
        ("/cache/models--org--student/snapshots/0123abc", True),
        ("/cache/models--org--other/snapshots/0123abc", False),
    ],
)
def test_another_name_without_weights_is_a_warning(
    root: str, is_named: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Every server of a role is compared; a served copy may have a name of its own."""
    first, second = serve("student", "org/student"), serve("student", root)
    with serving(first, second), caplog.at_level(logging.WARNING):
        Greedy(STUDENT, student_url=f"{first.url}+{second.url}")
    lines = [record.getMessage() for record in caplog.records if "it serves" in record.getMessage()]
    expected = f"student server {second.url}: it serves {root}, and pretrained={STUDENT}; the weights are not"
    assert len(lines) == (not is_named)
    assert all(line.startswith(expected) for line in lines)


@pytest.mark.parametrize("backend", [Greedy, SpecReason])
def test_prompts_that_exceed_the_servers_length_are_refused(
    urls: dict[str, str], backend: type[EngineLM]
) -> None:
    """Their beginning was cut off, with the system turn and the first examples, in every command."""
    arguments = dict(urls) if backend is SpecReason else {"student_url": urls["student_url"]}
    if backend is SpecReason:
        arguments |= {"teacher": TEACHER, "score": "logprob"}
    requests = [generation("1 + 2 = 3\n" * 60, max_gen_toks=200), generation("1 + 1 =")]
    model = backend(STUDENT, **arguments)
    with pytest.raises(ValueError, match=r"and 200 new ones exceed the servers' 51\d; raise their --max"):
        model.generate_until(requests)
    assert model.telemetry.truncated_prompts == 0
    cut = backend(STUDENT, **arguments, max_length=256)
    assert len(cut.generate_until(requests)) == 2
    assert cut.telemetry.truncated_prompts == 1


def test_the_dtype_of_a_server_is_recorded_as_the_user_states_it(urls: dict[str, str]) -> None:
    """Servers do not report theirs: `--use_cache` gave a bfloat16 server's texts to a run in float32."""
    stated = [None, "auto", "bfloat16", "float32", torch.float32]
    url = urls["student_url"]
    models = [Greedy(STUDENT, student_url=url, **({"dtype": dtype} if dtype else {})) for dtype in stated]
    entries = [model.identity()["dtype"] for model in models]
    assert entries == ["of the server"] * 2 + ["bfloat16, as stated"] + ["float32, as stated"] * 2


@pytest.mark.parametrize("kind", ["loglikelihood", "loglikelihood_rolling"])
def test_log_likelihoods_are_refused(urls: dict[str, str], kind: str) -> None:
    model = Greedy(STUDENT, student_url=urls["student_url"])
    request = Instance("loglikelihood", {}, ("a", "b"), 0, metadata=("piqa", 0, 1))
    with pytest.raises(
        ValueError, match="task piqa: it needs log-likelihoods, which student_url does not serve"
    ):
        getattr(model, kind)([request])


def test_a_teacher_with_other_tokens_is_refused(urls: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(embedded_path(TEACHER), tmp_path / "other")
    path = tmp_path / "other" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocab = tokenizer["model"]["vocab"]
    first, second = [name for name, i in vocab.items() if i in (300, 301)]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(VocabularyMismatchError):
        SelectToThink(STUDENT, teacher=str(tmp_path / "other"), threshold=1.0, **urls)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"trigger": "entropy", "threshold": 1.0}, "use trigger=entropy64"),
        ({"threshold": 1.0, "teacher_url": None, "concurrency": 8}, "batch_size decides it, got 8"),
        ({"threshold": 1.0, "student_url": None, "concurrency": 8}, "batch_size decides it, got 8"),
        ({"threshold": 1.0, "teacher_url": None, "verify": 4}, "give chunk=TOKENS instead"),
        ({"threshold": 1.0, "student_url": "a:1"}, "student_url: expected URLs"),
        ({"threshold": 1.0, "chunk": 0}, "chunk: expected at least 1, got 0"),
        ({"threshold": 1.0, "compile": "always"}, "compile: every model is on a server"),
        (
            {"threshold": 1.0, "teacher_dtype": "float32"},
            "teacher_dtype: the server of teacher_url decides it",
        ),
        ({"threshold": 1.0, "peft": "x"}, "peft: with student_url the model is the server's"),
        ({"threshold": 1.0, "parallelize": True}, "parallelize: with student_url no weights are loaded here"),
        (
            {"threshold": 1.0, "attn_implementation": "eager"},
            "attn_implementation: with student_url no weights",
        ),
        (
            {"trigger": "margin", "threshold": 0.5, "student_url": None, "chunk": 4},
            "chunk: with trigger=margin a student in this process writes until a step fires, got 4",
        ),
        (
            {"threshold": 1.0, "student_url": None, "teacher_url": None, "chunk": 4},
            "chunk: it is a setting of",
        ),
    ],
)
def test_arguments_that_do_not_fit(urls: dict[str, str], more: dict[str, Any], message: str) -> None:
    """Arguments about loading, and a `chunk` that no trigger uses, were accepted and ignored."""
    arguments = {"teacher": TEACHER, **urls, **more}
    with pytest.raises(ValueError, match=message):
        SelectToThink(STUDENT, **arguments).generator()


def test_arguments_about_weights_are_refused_before_a_server_is_asked() -> None:
    """A recipe's row with one of them ended after all steps before it, and beside a dead server never."""
    with pytest.raises(ValueError, match="load_in_8bit: with student_url the model is the server's"):
        require_usable_arguments("greedy", "student_url=http://127.0.0.1:9,load_in_8bit=True")


@pytest.mark.parametrize(
    ("model", "more"), [("greedy", ""), ("pps_local", ", or load the teacher here by tea")]
)
def test_a_teacher_on_servers_beside_a_method_without_one(model: str, more: str) -> None:
    """The message said that the method's models run in this process only, and named it among the others."""
    message = rf"teacher_url: its student alone may be on servers \(student_url\); leave it out{more}"
    with pytest.raises(ValueError, match=message):
        require_usable_arguments(model, "student_url=http://a:1,teacher_url=http://b:1,selector=x")


def test_several_processes_are_refused(urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would have the whole of `concurrency`, and stock `hf` would move a model without weights."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="student_url: 4 processes were started together"):
        Greedy(STUDENT, student_url=urls["student_url"])


def test_servers_check_prints_what_is_missing(
    urls: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["servers", "check", "--student_url", urls["student_url"], "--teacher_url", urls["teacher_url"]])
    printed = capsys.readouterr().out
    assert printed.count("up to 512 tokens") == 2
    assert (
        "note   prefix cache  it reports no cached tokens; start it with --enable-prefix-caching" in printed
    )
    assert "ok     rows          scores a chunk in one request" in printed


def test_servers_check_ends_with_1_where_a_run_would_be_refused(capsys: pytest.CaptureFixture[str]) -> None:
    server = FakeServer(faults={0: "404"})
    with serving(server), pytest.raises(SystemExit) as ended:
        main(["servers", "check", "--student_url", server.url])
    assert ended.value.code == 1
    assert "failed endpoint      it has no /inference/v1/generate; start it with --enable-scale-out" in (
        capsys.readouterr().out
    )


def test_servers_check_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["servers", "check"])
    assert "expected --student_url URL, --teacher_url URL or both, got neither" in capsys.readouterr().err
