"""`--model tah` and `s2t-eval tah`, from the command line to the results file, on the embedded student."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from s2t_eval import cli
from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.embedded import embedded_path
from s2t_eval.model_wrappers.tah import ThinkAtHard
from s2t_eval.models.vocabulary import vocabulary_hash
from s2t_eval.training.labels import LabelManifest, write_labels
from s2t_eval.training.tah.labels import TahLabels
from tests.harness_helpers import (
    LIMIT,
    STUDENT,
    TEACHER,
    counts,
    evaluate,
    model,
    only_built_in_task,
    ours,
    plain_run,
    read_trace,
    texts,
    tiny_folder,
    tokenizer,
)

# peft asks for it; to be removed once peft does not.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SHORT = "--epochs 1 --batch_size 8 --accumulate 1 --evaluations 1 --device cpu".split()


def command(*arguments: str | Path) -> None:
    cli.main([*map(str, arguments)])


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    with only_built_in_task(folder / "tasks"):
        command("tah", "label", "--pretrained", STUDENT, "--task", "s2t_arith", "--limit", 40,
                "--device", "cpu", "--out", folder / "labels")  # fmt: skip
    return folder / "labels"


@pytest.fixture(scope="module")
def half_trained(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stage_1") / "tah"
    command("tah", "train", "--pretrained", STUDENT, "--labels", labels, "--stage", 1, "--out", out,
            "--easy_fraction", 0.1, "--rank", 4, "--lr", 5e-3, *SHORT)  # fmt: skip
    return out


@pytest.fixture(scope="module")
def folder(labels: Path, half_trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder trained for seconds: some tokens take part in a second pass, with poor results."""
    out = Path(shutil.copytree(half_trained, tmp_path_factory.mktemp("stage_2") / "tah"))
    command("tah", "train", "--pretrained", STUDENT, "--labels", labels, "--stage", 2, "--out", out,
            "--width", 16, "--blocks", 1, "--lr", 5e-3, "--decoding_threshold", 0.5, *SHORT)  # fmt: skip
    return out


def run(folder: Path, **model_args: Any) -> dict[str, Any]:
    return evaluate("tah", {"tah": str(folder), **model_args})


# ---------------------------------------------------------------- labels


def test_labels_are_of_the_tasks_own_prompts_and_solutions(labels: Path) -> None:
    found = TahLabels.load(labels)
    assert len(found) == 40
    assert found.manifest.labeller == model_fingerprint(model(STUDENT))
    assert found.manifest.data["source"] == "s2t_arith"
    text = tokenizer().decode([*found.texts[0].prompt_ids, *found.texts[0].output_ids])
    assert text.startswith("Question: ")
    assert "\nAnswer: " in text
    assert text.rstrip("<eos>").endswith(".")
    assert found.texts[0].output_ids[-1] == tokenizer().eos_token_id
    assert 0.01 < found.manifest.num_hard / found.manifest.num_steps < 0.2


CHAT = {"apply_chat_template": True, "num_fewshot": 0, "system_instruction": None}


def test_labels_of_collected_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A label set whose texts a teacher wrote; the student's own, and another tokenizer's, are refused.

    How its prompts were made was not recorded, so that a folder trained on it ran behind any other prompt.
    """
    row = {
        "problem_id": "x/train/0", "question_hash": "q", "prompt_ids": [10, 11], "teacher_prompt_ids": [10],
        "output_ids": [12, 13, 14], "teacher_argmax": [12, 13, 14], "top_log_probs": [[0.0, 0.0]] * 3,
        **{name: [0.0] * 3 for name in ("kl_student_teacher", "kl_teacher_student", "margin")},
        **{name: [0.0] * 3 for name in ("entropy", "entropy64")},
        "kept": [], "candidates": [], "student_log_probs": [], "teacher_log_probs": [], "teacher_mass": [],
    }  # fmt: skip

    def label_set(name: str, student: str, vocabulary: str) -> Path:
        (tmp_path / name).mkdir()
        manifest = LabelManifest(student, "t", "big", "big", vocabulary, {"source": "x"}, CHAT, 0, None,
                                 "top", 0.1, 0.0, 3, 0, 0, {}, {})  # fmt: skip
        write_labels(tmp_path / name, manifest, [row])
        return tmp_path / name

    def label(texts: Path, out: str) -> None:
        command(
            "tah",
            "label",
            "--pretrained",
            STUDENT,
            "--texts",
            texts,
            "--device",
            "cpu",
            "--out",
            tmp_path / out,
        )

    words = vocabulary_hash(tokenizer())
    label(label_set("teachers", "another", words), "out")
    found_labels = TahLabels.load(tmp_path / "out")
    assert found_labels.manifest.prompt == CHAT
    [found] = found_labels
    assert (found.prompt_ids, found.output_ids) == ([10, 11], [12, 13, 14])
    for name, student, vocabulary, message in (
        (
            "own",
            model_fingerprint(model(STUDENT)),
            words,
            "generated these texts itself, so none of their tokens",
        ),
        (
            "foreign",
            "another",
            "letters",
            "it was made for another tokenizer (expected letters, of big, got ",
        ),
    ):
        with pytest.raises(SystemExit):
            label(label_set(name, student, vocabulary), f"out-{name}")
        assert message in capsys.readouterr().err


# ---------------------------------------------------------------- the backend


def test_it_thinks_again_and_says_how_often(folder: Path) -> None:
    results = run(folder)
    report = counts(results)
    assert 0 < report["continued"] == report["deeper_passes"] < report["tokens"]
    assert report["mean_depth"] == pytest.approx(1 + report["deeper_passes"] / report["tokens"])
    assert report["continued_rate"] == pytest.approx(report["continued"] / report["tokens"])
    assert report["forwards_per_token"] == pytest.approx(report["mean_depth"])
    entry = ours(results)
    assert (entry["method"], entry["threshold"], entry["max_depth"]) == ("tah", 0.5, 2)
    assert len(entry["tah_hash"]) == 16
    assert len(texts(results)) == LIMIT


@pytest.mark.parametrize("model_args", [{"threshold": 1}, {"max_depth": 1}])
def test_it_is_greedy_where_nothing_continues(folder: Path, model_args: dict[str, Any]) -> None:
    results = run(folder, **model_args)
    assert texts(results) == texts(plain_run("greedy"))
    assert counts(results)["mean_depth"] == 1
    assert counts(results)["forwards"] == counts(plain_run("greedy"))["forwards"]


def test_batch_size_changes_no_text(folder: Path) -> None:
    together = run(folder, threshold=0.3)
    alone = evaluate("tah", {"tah": str(folder), "threshold": 0.3}, batch_size=1)
    assert texts(alone) == texts(together)
    assert counts(alone)["deeper_passes"] == counts(together)["deeper_passes"] > 0


def test_oracle_decides_by_a_reference_run(half_trained: Path, tmp_path: Path) -> None:
    """The teacher's trace says where to think again; no decider is needed."""
    evaluate("greedy", {"pretrained": TEACHER, "trace": str(tmp_path / "teacher.jsonl")})
    results = run(half_trained, oracle=str(tmp_path / "teacher.jsonl"), trace=str(tmp_path / "tah.jsonl"))
    greedy = evaluate("greedy", {"trace": str(tmp_path / "greedy.jsonl")})
    assert ours(results)["oracle"]
    assert counts(results)["continued"] > 0
    rows = {
        name: {r["doc_id"]: r for r in read_trace(tmp_path / f"{name}.jsonl")}
        for name in ("teacher", "tah", "greedy")
    }
    alike = {i for i in rows["tah"] if rows["greedy"][i]["output_ids"] == rows["teacher"][i]["output_ids"]}
    assert alike and alike != set(rows["tah"]), "both kinds of text are needed"
    for doc_id, row in rows["tah"].items():
        # Where the student says what the teacher says, it never thought again, and is greedy.
        assert (row["usage"]["continued"] == 0) == (doc_id in alike)
        if doc_id in alike:
            assert row["output_ids"] == rows["greedy"][doc_id]["output_ids"]
    own = run(half_trained, oracle=str(tmp_path / "greedy.jsonl"))
    assert counts(own)["continued"] == 0
    assert texts(own) == texts(greedy)


def test_a_student_in_bfloat16_thinks_again(folder: Path) -> None:
    """At the tokens at which it does in float32, but for those that rounding decides."""
    low = evaluate("tah", {"tah": str(folder), "dtype": "bfloat16"})
    full = evaluate("tah", {"tah": str(folder)})
    assert ours(low)["dtype"] == "torch.bfloat16" and ours(full)["dtype"] == "torch.float32"
    passes = {name: counts(of)["deeper_passes"] for name, of in (("low", low), ("full", full))}
    assert passes["low"] == pytest.approx(passes["full"], rel=0.2) and passes["low"] > 0
    same = [a == b for a, b in zip(texts(low), texts(full), strict=True)]
    assert sum(same) >= len(same) / 2


def test_the_control_is_an_adapter_that_greedy_takes(labels: Path, tmp_path: Path) -> None:
    """It learns texts that the student would not write: its solutions backwards."""
    out, texts_backwards = tmp_path / "plain", tmp_path / "backwards"
    known = TahLabels.load(labels)
    backwards = [replace(text, output_ids=text.output_ids[::-1]) for text in known]
    TahLabels(known.manifest, backwards).save(texts_backwards)
    given = ("--pretrained", STUDENT, "--labels", texts_backwards, "--out", out)
    command("tah", "plain", *given, "--rank", 4, "--lr", 3e-3, *SHORT)
    figures = json.loads((out / "plain.json").read_text())
    begin, end = (figures["history"][i]["nll"] for i in (0, -1))
    assert end < begin and figures["held_out"]["nll"] == end
    tuned = PeftModel.from_pretrained(copy.deepcopy(model(STUDENT)), str(out))
    nll, tokens = 0.0, 0
    for text in TahLabels.load(texts_backwards).split(0.1)[1]:  # one text at a time, through transformers
        ids = torch.tensor([[*text.prompt_ids, *text.output_ids]])
        with torch.no_grad():
            logits = tuned(ids).logits[0, len(text.prompt_ids) - 1 : -1]
        nll += float(torch.nn.functional.cross_entropy(logits, ids[0, -len(logits) :], reduction="sum"))
        tokens += len(logits)
    assert end == pytest.approx(nll / tokens, rel=1e-4)
    assert figures["held_out"]["tokens"] == tokens
    assert texts(evaluate("greedy", {"peft": str(out)})) != texts(evaluate("greedy"))
    assert not out.with_name("plain.training").exists()


def test_low_precision_trains_both_stages(labels: Path, tmp_path: Path) -> None:
    """Autocast gives votes in bfloat16, which numpy cannot read."""
    given = ("--pretrained", STUDENT, "--labels", labels, "--out", tmp_path / "tah", "--precision", "bf16")
    command("tah", "train", *given, "--stage", 1, "--rank", 4, *SHORT)
    command("tah", "train", *given, "--stage", 2, "--width", 16, "--blocks", 1, *SHORT)
    stages = json.loads((tmp_path / "tah" / "tah.json").read_text())["training"]
    assert 0 <= stages["stage-2"]["held_out"]["auroc"] <= 1


def test_log_likelihoods_are_the_students(folder: Path) -> None:
    from lm_eval.api.instance import Instance

    from s2t_eval.model_wrappers.greedy import Greedy

    asked = [Instance("loglikelihood", {}, ("Question: 1", " 2 apples"), 0)]
    lm = ThinkAtHard(STUDENT, tah=str(folder), device="cpu")
    assert lm.loglikelihood(asked) == Greedy(STUDENT, device="cpu").loglikelihood(asked)
    assert lm.scoring_student == "plain"
    own_weights = replace(lm.folder.info.looped, train_base=True)
    lm.folder = replace(lm.folder, info=replace(lm.folder.info, looped=own_weights))
    assert lm.scoring_student == "adapted"


def test_the_shipped_folder_thinks_again() -> None:
    folder = embedded_path("embedded/tah")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    results = evaluate("tah", {"tah": "embedded/tah"}, limit=24, batch_size=24)
    assert 1 < counts(results)["mean_depth"] < 1.2
    assert ours(results)["threshold"] == 0.9


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("model_args", "message"),
    [
        ({"tah": None}, r"^--model tah: it needs tah=FOLDER, a folder of `s2t-eval tah train`$"),
        ({"tah": "/no/folder"}, r"^tah=/no/folder: expected a folder of `s2t-eval tah train` with tah\.json"),
        ({"threshold": 1.5}, r"^threshold: expected a probability from 0 to 1, got 1\.5$"),
        ({"threshold": "high"}, r"^threshold: expected a probability from 0 to 1, got 'high'$"),
        ({"max_depth": 0}, r"^max_depth: expected a whole number of at least 1, got 0$"),
        ({"treshold": 0.5}, r"^--model tah: unknown argument 'treshold'; did you mean 'threshold'\?$"),
        ({"peft": "x"}, r"^--model tah: peft= cannot be combined with tah="),
        ({"oracle": "/no/file"}, r"^oracle=/no/file: it cannot be read"),
        ({"pretrained": TEACHER}, r"^tah=.*: it was made for another hidden size \(expected 64, of e"),
    ],
)  # fmt: skip
def test_arguments(folder: Path, model_args: dict[str, Any], message: str) -> None:
    given = {"tah": str(folder), "device": "cpu", **model_args}
    with pytest.raises(ValueError, match=message):
        ThinkAtHard(given.pop("pretrained", STUDENT), **{k: v for k, v in given.items() if v is not None})


def test_a_folder_without_decider(half_trained: Path) -> None:
    with pytest.raises(ValueError, match=r"it has no decider yet; run `s2t-eval tah train --stage 2`"):
        ThinkAtHard(STUDENT, tah=str(half_trained), device="cpu")


def test_a_student_of_the_same_shape(folder: Path, tmp_path: Path) -> None:
    config = model(STUDENT).config
    shape = {
        name: getattr(config, name) for name in ("hidden_size", "intermediate_size", "num_hidden_layers")
    }
    other = tiny_folder(tmp_path / "other", seed=1, **shape)
    with pytest.raises(
        ValueError, match=r"made for another base model \(expected \w+, of embedded/student, got"
    ):
        ThinkAtHard(str(other), tah=str(folder), device="cpu")


def test_an_oracle_of_other_prompts(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text(json.dumps({"prompt_ids": [1], "output_ids": [2]}) + "\n")
    with pytest.raises(ValueError, match=rf"{LIMIT} of {LIMIT} prompts have no reference text in it"):
        run(folder, oracle=str(tmp_path / "other.jsonl"))
    (tmp_path / "other.jsonl").write_text('{"prompt_ids": [1], "output_ids": [2]}\n{"prompt": 1}\n')
    with pytest.raises(ValueError, match=r"line 2: expected one JSON object with prompt_ids and output_ids"):
        run(folder, oracle=str(tmp_path / "other.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["label", "--task", "s2t_arith", "--data", "x"], "expected one of --task NAME, --data FILE|"),
        (["label", "--data", "s2t:test"], "'test' is a split that models are scored on"),
        (["label", "--task", "s2t_arith", "--limit", "0"], "--limit: expected at least 1, got 0"),
        (["train", "--stage", "1", "--width", "8"], "--width: it belongs to stage 2, this is 1"),
        (["train", "--stage", "2", "--easy_fraction", "0.1"], "--easy_fraction: it belongs to stage 1"),
        (["train", "--stage", "1", "--max-depth", "0"], "max_depth: expected a whole number"),
        (["train", "--stage", "2", "--eval_threshold", "2"], "eval_threshold: expected a probab"),
        (["train", "--stage", "2"], "expected a folder of `s2t-eval tah train` with tah.json"),
    ],
)  # fmt: skip
def test_commands(
    arguments: list[str], message: str, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--labels", labels] if arguments[0] == "train" else []
    with pytest.raises(SystemExit):
        command(
            "tah", *arguments, *more, "--pretrained", STUDENT, "--device", "cpu", "--out", tmp_path / "out"
        )
    assert message in capsys.readouterr().err


def test_stage_1_does_not_overwrite(folder: Path, labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("tah", "train", "--pretrained", STUDENT, "--labels", labels, "--stage", 1, "--out", folder)
    assert "name another folder, or train its --stage 2" in capsys.readouterr().err
