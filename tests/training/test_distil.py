"""`s2t-eval distil` and `--model distil` on the embedded pair: training, folders, resuming and errors."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from s2t_eval import cli
from s2t_eval.artifacts.files import WriteError
from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.cli.distil import load_training_teacher
from s2t_eval.cli.source import StudentOptions
from s2t_eval.embedded import embedded_path
from s2t_eval.methods.distilled import DistilInfo, DistilledError, read_distilled
from s2t_eval.model_wrappers.distil import Distil
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.training.distil import distillation, texts
from s2t_eval.training.labels import LabelManifest, LabelSet, write_labels
from s2t_eval.training.loop import TrainingError
from tests.harness_helpers import (
    BIN,
    STUDENT,
    TEACHER,
    evaluate,
    generate,
    generation,
    model,
    ours,
    plain_run,
    prompts,
    run_command,
    tiny_folder,
    tokenizer,
)
from tests.harness_helpers import texts as written

pytestmark = pytest.mark.usefixtures("small_task_index")

PROBLEMS = 64


class InterruptionError(Exception):
    """Interrupts a run."""


LOOP = ("--epochs", "1", "--batch-size", "8", "--accumulate", "1", "--lr", "2e-3")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded student with noise on its weights, part of which a few dozen problems can undo.

    The student itself, trained on 50,000 problems, could learn nothing more from them.
    """
    folder = tmp_path_factory.mktemp("pair") / "noisy"
    student = AutoModelForCausalLM.from_pretrained(embedded_path(STUDENT))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in student.named_parameters():
            if "proj" in name:
                weight.mul_(1 + 0.6 * torch.randn(weight.shape, generator=generator))
    student.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def collect(student: str, folder: Path, problems: int) -> Path:
    pair = ["--pretrained", student, "--teacher", TEACHER, "--device", "cpu"]
    cli.main(["collect", *pair, "--task", "s2t_arith", "--limit", str(problems), "--out", str(folder)])
    return folder


@pytest.fixture(scope="module")
def labels(noisy: Path) -> Path:
    """Labels of the noisy student's texts on training problems, in a folder beside it."""
    return collect(str(noisy), noisy.with_name("labels"), PROBLEMS)


@pytest.fixture(scope="module")
def few(labels: Path) -> Path:
    """The same set with its first 12 problems alone."""
    folder = labels.with_name("few")
    folder.mkdir()
    whole = LabelSet.load(labels)
    rows = [{**vars(row)} for row in whole.trajectories[:12]]
    write_labels(folder, LabelManifest(**{**vars(whole.manifest), "shards": {}}), rows)
    return folder


def distil(
    labels: Path, out: Path, *arguments: str, student: str | None = None, teacher: str = TEACHER
) -> DistilInfo:
    """Run the command, by default with the noisy student of the labels; returns the manifest."""
    student = student or str(labels.with_name("noisy"))
    flags = ["--pretrained", student, "--teacher", teacher, "--labels", str(labels), "--out", str(out)]
    cli.main(["distil", *flags, "--device", "cpu", *LOOP, *arguments])
    return read_distilled("peft", str(out))


@pytest.fixture(scope="module")
def adapter(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kd adapter that is trained enough to change texts."""
    out = tmp_path_factory.mktemp("distilled") / "kd"
    distil(labels, out, "--epochs", "2", "--held-out", "0.2")
    return out


class Plain(NamedTuple):
    """A training on the few problems that several tests read."""

    out: Path
    info: DistilInfo
    printed: list[str]


@pytest.fixture(scope="module")
def plain(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Plain:
    """Nothing but defaults, and a quarter of the problems held out."""
    out, printed = tmp_path_factory.mktemp("plain") / "out", io.StringIO()
    with contextlib.redirect_stdout(printed):
        info = distil(few, out, "--held-out", "0.25")
    return Plain(out, info, printed.getvalue().splitlines())


def generation_requests(count: int = 8) -> list[Any]:
    return [generation(prompt, i, max_gen_toks=32) for i, prompt in enumerate(prompts(count))]


# ---------------------------------------------------------------- what is learnt


def test_kd_brings_the_student_nearer_to_the_teacher(adapter: Path) -> None:
    info = read_distilled("peft", str(adapter))
    before, after = info.training["before"], info.training["after"]
    assert before["step"] == 0
    assert after["forward_kl"] < 0.85 * before["forward_kl"]
    assert after["loss"] == pytest.approx(after["forward_kl"])
    assert before["steps_measured"] == after["steps_measured"] > 300
    assert (info.training["problems"], info.training["held_out_problems"]) == (51, 13)
    assert (info.kind, info.method, info.base_name) == ("adapter", "kd", "noisy")
    assert not adapter.with_name("kd.training").exists()


def test_metrics_are_those_of_the_saved_folder_on_held_out_problems(
    adapter: Path, labels: Path, noisy: Path
) -> None:
    """The slow twin loads the adapter with peft, splits the labels again and runs plain forward passes."""
    student = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(noisy), adapter)
    train, held_out = LabelSet.load(labels).split(0.2)
    assert not {t.question_hash for t in train} & {t.question_hash for t in held_out}
    kl, equal, steps = 0.0, 0, 0
    for row in held_out:
        ids, at = torch.tensor(row.text_ids).long()[None], slice(len(row.prompt_ids) - 1, -1)
        with torch.no_grad():
            s, t = (m(ids).logits[0, at].log_softmax(-1) for m in (student.eval(), model(TEACHER)))
        kl += float((t.exp() * (t - s)).sum())
        equal += int((s.argmax(-1) == t.argmax(-1)).sum())
        steps += len(s)
    after = read_distilled("peft", str(adapter)).training["after"]
    assert steps == after["steps_measured"]
    assert after["forward_kl"] == pytest.approx(kl / steps, rel=1e-4)
    assert after["agreement"] == pytest.approx(equal / steps)


@pytest.mark.parametrize("method", ["reverse_kl", "jsd", "tsd_kd"])
def test_other_methods_lower_their_own_loss(method: str, labels: Path, tmp_path: Path) -> None:
    info = distil(labels, tmp_path / "out", "--method", method, "--held-out", "0.2")
    assert info.method == method
    assert info.training["after"]["loss"] < info.training["before"]["loss"]


def test_the_command_prints_the_held_out_metrics(plain: Plain) -> None:
    out, info, lines = plain
    assert re.search(r"out: adapter, kd, 9 problems, 2 steps, the best at step \d", lines[-2])
    after = info.training["after"]
    assert f"-> {after['forward_kl']:.4f} nats, same most likely token " in lines[-1]
    assert f"(n = {after['steps_measured']:.0f} steps of 3 problems)" in lines[-1]
    card = (out / "README.md").read_text()
    assert f"{after['forward_kl']:.4f}" in card
    assert "pretrained=noisy,peft=THIS" in card
    agreement = 100 * after["agreement"]
    row = rf"\| same most likely token as the teacher \| [\d.]+ % \| {agreement:.1f} % \|"
    assert re.search(row, card)


def test_a_teacher_that_does_not_fit_into_memory_teaches_the_same(
    plain: Plain, few: Path, tmp_path: Path
) -> None:
    """Its weights could not be moved to the student's device; one on a GPU of its own was moved there."""
    offload = f"parallelize=True,max_cpu_memory=200000,offload_folder={tmp_path / 'offload'}"
    options = StudentOptions(pretrained=STUDENT, device="cpu")
    teacher: Any = load_training_teacher(TEACHER, None, offload, options, tokenizer()).model
    assert "disk" in teacher.hf_device_map.values()
    info = distil(few, tmp_path / "out", "--held-out", "0.25", "--teacher-args", offload)
    for entry, expected in zip(info.training["history"], plain.info.training["history"], strict=True):
        assert entry == pytest.approx(expected, rel=1e-4)


def test_limit_leaves_problems_out_of_training_alone(few: Path, tmp_path: Path) -> None:
    sides: list[int] = []

    def note(*arguments: Any) -> None:
        sides.extend(len(side) for side in arguments[4:6])
        raise InterruptionError

    with patch.object(distillation, "_fit", note), pytest.raises(InterruptionError):
        distil(few, tmp_path / "out", "--limit", "4", "--held-out", "0.5")
    assert sides == [4, 6]


# ---------------------------------------------------------------- seqkd: the teacher's texts


def test_seqkd_learns_the_teachers_own_greedy_texts(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While they are generated, tokens are counted: a bar of finished texts stands at 0 % for long."""
    calls: list[Any] = []

    def note(items: Any, outputs: Any = None) -> Any:
        calls.append(outputs)
        return texts.make_items(items, outputs)

    with patch.object(distillation, "make_items", note):
        info = distil(few, tmp_path / "out", "--method", "seqkd", "--epochs", "2", "--held-out", "0.25")
    states = re.findall(
        r"Teacher's texts: .*? (\d+)/12 .*?([\d,]+) tokens \(.*?/s\), (\d+) rows", capsys.readouterr().err
    )
    assert ("0", "0", "12") in states, "all rows are shown before the first token"
    assert states[-1][0] == "12" and int(states[-1][1].replace(",", "")) > 12
    outputs = next(argument for argument in calls if argument is not None)
    assert len(outputs) == 12
    for row in LabelSet.load(few).trajectories[:5]:
        expected = generate(model(TEACHER), row.teacher_prompt_ids.tolist(), 96)
        assert outputs[row.problem_id] == expected
        assert expected[-1] == tokenizer().eos_token_id
    assert info.training["after"]["loss"] < info.training["before"]["loss"]
    assert info.training["after"]["loss"] != info.training["after"]["forward_kl"]


def test_seqkd_resumes_with_the_texts_of_a_whole_run(few: Path, tmp_path: Path) -> None:
    """Texts that were missing were decoded beside others than before, which changes the rounding.

    A group that was interrupted is repeated, and a whole one is read.
    """
    calls = 0
    write = distillation.generate_teacher_rollouts.__globals__["write_text"]

    def interrupt(path: Path, text: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 11:  # the settings and nine texts have been written
            raise WriteError(f"cannot write {path}: No space left on device")
        write(path, text)

    options = ("--method", "seqkd", "--rows", "1")  # groups of eight problems
    with (
        patch.dict(distillation.generate_teacher_rollouts.__globals__, {"write_text": interrupt}),
        pytest.raises(SystemExit),
    ):
        distil(few, tmp_path / "out", *options)
    folder = tmp_path / "out.training" / "teacher_texts"
    assert len(list(folder.glob("0*.json"))) == 9
    assert not list(folder.glob("*.partial"))
    group = sorted(folder.glob("0*.json"))[:8]
    written_at = {path: path.stat().st_mtime_ns for path in group}
    seen_at: dict[Path, int] = {}
    texts: dict[str, dict[str, str]] = {}

    def note(*arguments: Any) -> None:
        seen_at.update({path: path.stat().st_mtime_ns for path in group if path.exists()})
        for name in ("out", "whole"):
            paths = (tmp_path / f"{name}.training" / "teacher_texts").glob("0*.json")
            texts.setdefault(name, {path.name: path.read_text() for path in paths})
        raise InterruptionError

    with patch.object(distillation, "Loop", {distillation.Item: note}):
        with pytest.raises(InterruptionError):
            distil(few, tmp_path / "out", *options)
        assert seen_at == written_at
        texts.pop("whole")
        with pytest.raises(InterruptionError):
            distil(few, tmp_path / "whole", *options)
    assert len(texts["whole"]) == 12 and texts["out"] == texts["whole"]


def test_texts_of_another_run_are_refused(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out.training" / "teacher_texts"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps({"labels": "others", "teacher": "x", "until": []}))
    with pytest.raises(SystemExit):
        distil(few, tmp_path / "out", "--method", "seqkd")
    differing = "its labels, teacher, teacher_dtype, problems differ"
    assert f"texts of another run ({differing}): expected labels '" in capsys.readouterr().err


# ---------------------------------------------------------------- resume


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(("--dropout", "0.2"), id="adapter"),
        pytest.param(("--full",), marks=pytest.mark.slow, id="full"),
    ],
)
def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    extra: tuple[str, ...], few: Path, tmp_path: Path
) -> None:
    arguments = ("--epochs", "2", "--batch-size", "2", *extra)
    distil(few, tmp_path / "whole", *arguments)
    calls = 0

    def collate(items: Any) -> texts.Batch:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise InterruptionError
        return texts.collate(items)

    with patch.object(distillation, "collate", collate), pytest.raises(InterruptionError):
        distil(few, tmp_path / "resumed", *arguments)
    assert not (tmp_path / "resumed").exists()
    done = sorted((tmp_path / "resumed.training" / "kd").glob("checkpoint-*"))
    assert [int(path.name[-6:]) for path in done] not in ([], [0])
    distil(few, tmp_path / "resumed", *arguments)
    name = "model.safetensors" if "--full" in extra else "adapter_model.safetensors"
    whole, resumed = (load_file(tmp_path / folder / name) for folder in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    histories = [read_distilled("peft", str(tmp_path / f)).training["history"] for f in ("whole", "resumed")]
    assert histories[0] == histories[1]


def test_checkpoints_of_other_settings_are_refused(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        patch.object(distillation, "save_distilled", side_effect=WriteError("cannot write: no room")),
        pytest.raises(SystemExit),
    ):
        distil(few, tmp_path / "out")
    assert not (tmp_path / "out").exists()  # a run without its end leaves nothing that calls itself final
    with pytest.raises(SystemExit):
        distil(few, tmp_path / "out", "--temperature", "2")
    assert "checkpoints of another run (its settings differ)" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # went on, since a fingerprint is the same in every dtype
        distil(few, tmp_path / "out", "--dtype", "bfloat16")
    assert "another run (its student_dtype, teacher_dtype differ)" in capsys.readouterr().err


def test_bfloat16_learns_about_the_same(plain: Plain, few: Path, tmp_path: Path) -> None:
    whole = plain.info.training
    half = distil(few, tmp_path / "half", "--held-out", "0.25", "--precision", "bf16").training
    assert half["history"] != whole["history"]
    assert half["after"]["loss"] == pytest.approx(whole["after"]["loss"], rel=0.05)
    assert half["after"]["loss"] < half["before"]["loss"]


@pytest.mark.slow
def test_two_processes_train_what_one_does(few: Path, tmp_path: Path) -> None:
    flags = ["--pretrained", few.with_name("noisy"), "--teacher", TEACHER, "--labels", few, "--device", "cpu"]
    loop = ["--epochs", "2", "--accumulate", "1", "--lr", "1e-3"]
    program = ["-m", "s2t_eval", "distil", *flags, *loop]
    one = ["python", *program, "--batch-size", "4", "--out", tmp_path / "one"]
    two = ["torchrun", "--nproc_per_node", "2", *program, "--batch-size", "2", "--out", tmp_path / "two"]
    for command, *arguments in (one, two):
        done = run_command(BIN / command, *arguments, folder=tmp_path, ACCELERATE_USE_CPU="1")
        assert done.returncode == 0, done.stderr
    first, second = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-5, msg=name)


# ---------------------------------------------------------------- the backend


def test_backend_writes_the_texts_of_the_adapted_student(adapter: Path, noisy: Path) -> None:
    lm = Distil(str(noisy), peft=str(adapter), device="cpu", batch_size=5)
    generated = lm.generate_until(generation_requests())
    base = AutoModelForCausalLM.from_pretrained(noisy)
    before = model_fingerprint(base)
    twin = PeftModel.from_pretrained(base, adapter).eval()
    for prompt, text in zip(prompts(8), generated, strict=True):
        ids = generate(twin, tokenizer()(prompt)["input_ids"], 32)
        assert text == tokenizer().decode(ids, skip_special_tokens=True)
    assert Greedy(str(noisy), device="cpu").generate_until(generation_requests()) != generated
    # The student's own weights under the adapter are what they were.
    assert model_fingerprint(twin.unload()) == before == read_distilled("peft", str(adapter)).base


def test_merged_adapter_writes_the_same_texts(adapter: Path, noisy: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(noisy)
    PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    merged = Greedy(str(tmp_path), device="cpu").generate_until(generation_requests())
    assert merged == Distil(str(noisy), peft=str(adapter), device="cpu").generate_until(generation_requests())


def test_full_checkpoint_runs_as_pretrained(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "full"
    info = distil(few, out, "--full", "--lr", "1e-3", "--epochs", "2", "--held-out", "0.25")
    assert info.kind == "checkpoint"
    assert info.training["after"]["forward_kl"] < info.training["before"]["forward_kl"]
    results = evaluate("distil", {"pretrained": str(out)}, limit=2)
    entry = ours(results)
    assert entry["method"] == "distil"
    assert entry["student"] == info.result != info.base
    assert model_fingerprint(AutoModelForCausalLM.from_pretrained(out)) == info.result
    for name in ("before", "after"):
        assert f"{info.training[name]['forward_kl']:.4f}" in (out / "README.md").read_text()


def test_embedded_pair_from_collect_to_lm_eval(tmp_path: Path) -> None:
    labels = collect(STUDENT, tmp_path / "labels", 24)
    adapter = tmp_path / "distilled"
    info = distil(labels, adapter, "--held-out", "0.25", student=STUDENT)
    assert (info.training["problems"], info.training["held_out_problems"]) == (18, 6)
    results = evaluate("distil", {"peft": str(adapter)}, limit=4)
    entry = ours(results)
    assert entry["method"] == "distil"
    assert entry["distilled"] == {
        "kind": "adapter",
        "method": "kd",
        "base": read_distilled("peft", str(adapter)).base,
        "base_name": STUDENT,
        "teacher": model_fingerprint(model(TEACHER)),
        "teacher_name": TEACHER,
    }
    assert entry["telemetry"]["teacher_tokens"] == entry["telemetry"]["triggers"] == 0
    assert entry["telemetry"]["tokens"] > 40
    greedy = plain_run("greedy")
    assert entry["student"] != ours(greedy)["student"]
    assert set(results["results"]["s2t_arith"]) == set(greedy["results"]["s2t_arith"])


# ---------------------------------------------------------------- what is refused


def test_labels_of_another_student(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tiny_folder(tmp_path / "other")
    with pytest.raises(SystemExit) as ended:
        distil(few, tmp_path / "out", student=str(other))
    assert ended.value.code == 2
    output = capsys.readouterr().err
    assert "s2t-eval distil: --labels: it was made for another student (expected " in output
    assert "run `s2t-eval collect` with this student" in output


def test_loss_that_is_no_number_names_shard_and_row(few: Path, tmp_path: Path) -> None:
    teacher = AutoModelForCausalLM.from_pretrained(embedded_path(TEACHER), dtype=torch.float32)
    with torch.no_grad():
        teacher.model.norm.weight.fill_(3e38)  # a number, so it loads; what is computed of it overflows
    teacher.save_pretrained(tmp_path / "nan")
    tokenizer().save_pretrained(tmp_path / "nan")
    message = (
        r"the loss is nan at step 0 on shard-00000.parquet, row \d+ \(s2t_arith/train/\d+\).*"
        "the last checkpoint is kept in"
    )
    with pytest.raises(SystemExit) as ended:
        distil(few, tmp_path / "out", "--batch-size", "1", teacher=str(tmp_path / "nan"))
    assert re.search(message, str(ended.value.__cause__))
    assert isinstance(ended.value.__cause__, TrainingError)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--full", "--rank", "4"), "--full: it trains all weights and has no rank"),
        (("--beta", "0.5"), "beta: only jsd and tsd_kd have one, kd has not"),
        (("--temperature", "0"), "temperature: expected a number above 0, got 0.0"),
        (("--rank", "0"), "rank: expected at least 1, got 0"),
        (("--limit", "0"), "--limit: expected at least 1, got 0"),
        (("--rows", "0"), "--rows: expected at least 1, got 0"),
        (("--held-out", "1"), "held_out: expected a share above 0 and below 1, got 1.0"),
        (("--held-out", "0.99"), "12 different questions cannot be split"),
        (("--lr", "0"), "lr: expected a rate above 0, got 0.0"),
    ],
)
def test_arguments_that_do_not_fit(
    arguments: tuple[str, ...], message: str, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        distil(few, tmp_path / "out", *arguments)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be_used(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for labels, out, message in (
        (tmp_path / "none", tmp_path / "out", ": expected a folder of `s2t-eval collect`"),
        (few, few, f"--out: {few} exists; name another folder"),
    ):
        with pytest.raises(SystemExit):
            distil(labels, out)
        assert message in capsys.readouterr().err


def test_backend_without_anything_distilled(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^--model distil: it needs peft=FOLDER .+ got pretrained=embedded/student"
    ):
        Distil(STUDENT)
    plain = tiny_folder(tmp_path / "plain")
    with pytest.raises(
        DistilledError, match=r"pretrained=.+ expected a folder of `s2t-eval distil` with distil.json"
    ):
        Distil(str(plain))
    with pytest.raises(DistilledError, match=r"peft=/no/adapter: expected a folder .+ hub repository"):
        Distil(STUDENT, peft="/no/adapter")
    with pytest.raises(ValueError, match="unknown argument 'pefft'; did you mean 'peft'"):
        Distil(STUDENT, pefft="x")


def test_adapter_of_another_base_is_refused(adapter: Path, tmp_path: Path) -> None:
    other = tiny_folder(tmp_path / "other")
    with pytest.raises(
        DistilledError,
        match=r"it was made for another base model \(expected \w{16}, of noisy, got \w{16}\); use that",
    ):
        Distil(str(other), peft=str(adapter))


def test_adapter_with_changed_weights_is_refused(adapter: Path, noisy: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(adapter, tmp_path / "changed")
    weights = load_file(changed / "adapter_model.safetensors")
    save_file({name: value * 2 for name, value in weights.items()}, changed / "adapter_model.safetensors")
    with pytest.raises(DistilledError, match=r"its weights are not those that its distil.json describes"):
        Distil(str(noisy), peft=str(changed))


def test_adapter_and_checkpoint_taken_for_each_other(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"give pretrained=noisy,peft={adapter}"):
        Distil(str(adapter))
    whole = shutil.copytree(adapter, tmp_path / "whole")
    path = whole / "distil.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "kind": "checkpoint"}))
    with pytest.raises(ValueError, match=r"holds a whole distilled checkpoint; name it as pretrained="):
        Distil(STUDENT, peft=str(whole))


def test_the_shipped_adapter_is_small_and_runs() -> None:
    folder = embedded_path("embedded/distilled")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    results = evaluate("distil", {"peft": "embedded/distilled"}, limit=8)
    assert ours(results)["distilled"]["method"] == "kd"
    assert written(results) != written(evaluate("greedy", limit=8))
