"""`s2t-eval rlkd` on the embedded pair: what is learnt, the folder, resuming, and what is refused."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import torch
from datasets import Dataset
from lm_eval.tasks import TaskManager
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from s2t_eval import cli
from s2t_eval.artifacts.files import WriteError
from s2t_eval.embedded import embedded_path
from s2t_eval.engine.selection_step import SelectionStepper
from s2t_eval.methods.distilled import DistilInfo, read_distilled
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.pipelines import rlkd as pipeline
from s2t_eval.pipelines.prompts import task_problems, task_prompts
from s2t_eval.pipelines.settings import Prompting
from s2t_eval.training.contamination import question_hash
from s2t_eval.training.distil.teacher_rollouts import RolloutCost
from s2t_eval.training.labels import LabelManifest, LabelSet, write_labels
from s2t_eval.training.rlkd import train as training
from s2t_eval.training.rlkd.cost import JudgeCost
from s2t_eval.training.rlkd.llm import LlmStructurer
from s2t_eval.training.rlkd.problems import RlkdProblem, Text, prepare
from s2t_eval.training.rlkd.sampling import TextLimits
from s2t_eval.training.rlkd.structure import RuleStructurer, SolutionStep
from s2t_eval.training.rlkd.train import TrainingData
from tests.commands import error_line
from tests.harness_helpers import (
    STUDENT,
    TEACHER,
    evaluate,
    inline_task,
    ours,
    task_manager,
    tiny_folder,
    tokenizer,
)
from tests.learning import labels as shared_labels

pytestmark = pytest.mark.usefixtures("small_task_index")

FEW = ("--limit", "4", "--max-held-out", "2", "--no-teacher")
"""For what does not depend on the number of problems."""
LOOP = ("--batch-size", "4", "--lr", "2e-3", "--evaluations", "2", "--held-out", "0.25")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of 16 training problems."""
    folder = tmp_path_factory.mktemp("rlkd") / "labels"
    whole = LabelSet.load(shared_labels())
    rows = [{**vars(row)} for row in whole.trajectories[:16]]
    folder.mkdir()
    write_labels(folder, LabelManifest(**{**vars(whole.manifest), "shards": {}}), rows)
    return folder


def rlkd(labels: Path, out: Path, *arguments: str, student: str = STUDENT) -> DistilInfo:
    """Run the command with the teacher's texts as references; returns the manifest."""
    flags = ["--pretrained", student, "--labels", str(labels), "--out", str(out), "--device", "cpu"]
    teacher = [] if "--teacher" in arguments else ["--teacher", TEACHER]
    chosen = [name for name in arguments if name != "--no-teacher"]
    cli.main(["rlkd", *flags, *([] if "--no-teacher" in arguments else teacher), *LOOP, *chosen])
    return read_distilled("peft", str(out))


class PreparedError(Exception):
    """Ends a run where training would begin."""


def prepared(labels: Path, out: Path, *arguments: str) -> TrainingData:
    """What the command would train on."""
    read: list[TrainingData] = []

    def note(student: Any, tokenizer: Any, data: TrainingData, *others: Any) -> None:
        read.append(data)
        raise PreparedError

    with patch.object(pipeline, "train_rlkd", note), pytest.raises(PreparedError):
        rlkd(labels, out, *arguments)
    return read[0]


class Run(NamedTuple):
    """A run that several tests read."""

    out: Path
    info: DistilInfo
    sampled: list[Text]
    printed: list[str]


@pytest.fixture(scope="module")
def whole_run(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All problems, with two updates for each batch of samples."""
    sampled: list[Text] = []
    sample = training.Sampler.groups

    def note(self: Any, *arguments: Any) -> Any:
        groups = sample(self, *arguments)
        sampled.extend(text for group in groups for text in group)
        return groups

    out, printed = tmp_path_factory.mktemp("rlkd_run") / "out", io.StringIO()
    with patch.object(training.Sampler, "groups", note), contextlib.redirect_stdout(printed):
        info = rlkd(labels, out, "--updates", "2")
    return Run(out, info, sampled, printed.getvalue().splitlines())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = load_file(folder / "adapter_model.safetensors")
    return tensors


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in entry.items() if not k.startswith("seconds")} for entry in history]


# ---------------------------------------------------------------- what is learnt


@pytest.mark.slow
def test_samples_of_a_few_problems_get_better_rewards(labels: Path, tmp_path: Path) -> None:
    """It learns what is rewarded: eight problems are learnt by heart (held-out problems do not profit)."""
    size = ("--limit", "8", "--max-held-out", "1", "--group-size", "8", "--batch-size", "8")
    info = rlkd(
        labels,
        tmp_path / "out",
        "--no-teacher",
        *size,
        "--epochs",
        "20",
        "--lr",
        "1e-3",
        "--evaluations",
        "1",
    )
    rewards = [entry["reward_sum"] for entry in info.training["history"][1:]]
    assert sum(rewards[-5:]) > 1.15 * sum(rewards[:5])


def test_a_run_ends_with_an_adapter_for_the_backend_distil(whole_run: Run) -> None:
    out, info, _, lines = whole_run
    assert (info.kind, info.method, info.base_name, info.teacher_name) == (
        "adapter",
        "rlkd",
        STUDENT,
        TEACHER,
    )
    record = info.training
    assert record["problems"] + record["left_out"]["with a wrong or unfinished reference"] <= 16
    assert record["steps"] == 2 * -(-record["problems"] // 4)
    assert record["before"]["step"] == 0 and record["before"]["texts"] == record["held_out_problems"]
    assert not out.with_name("out.training").exists()
    assert re.search(rf"out: {record['problems']} problems.*, {record['steps']} steps, kept: step", lines[-3])
    assert f"(n = {record['held_out_problems']} problems)" in lines[-2]
    assert lines[-1].startswith(f"cost: {2 * 4 * record['problems']} text visits, ")
    card = (out / "README.md").read_text()
    assert f"{2 * 4 * record['problems']} text visits" in card and "pretrained=embedded/student" in card
    entry = ours(evaluate("distil", {"peft": str(out)}, limit=2))
    assert entry["distilled"]["method"] == "rlkd"


@pytest.mark.parametrize(
    ("ids", "text", "is_whole"),
    [
        ([5, 6, 7], "12 + 5 = 17", True),
        ([5, 6, 7, 8], "12 + 5 = 17. 17 * 2", False),
        ([5, 6, 7, 0], "12 + 5 = 17", True),
        ([5, 6, 7, 8], "12 + 5 = 17\n\n", True),
    ],
)
def test_a_reference_that_is_cut_off_is_none(ids: list[int], text: str, is_whole: bool) -> None:
    """A text that was cut off behind the right number passed as a right solution with too few steps."""
    assert TextLimits(4, frozenset({0}), ("\n\n",)).is_whole(ids, text) is is_whole
    problem = RlkdProblem("p", "q", (1,), text, {}, "row 0", is_whole=is_whole)
    prepared = prepare([problem], RuleStructurer(), lambda problem, texts: [1.0], True, None)
    assert (len(prepared.problems), prepared.num_wrong) == (int(is_whole), int(not is_whole))


def test_costs_are_those_of_the_whole_run(whole_run: Run) -> None:
    _, info, sampled, _ = whole_run
    cost, history = info.training["cost"], info.training["history"]
    assert cost["generated_tokens"] == sum(len(text.output_ids) for text in sampled) > 0
    assert cost["text_visits"] == 2 * len(sampled)
    assert cost["groups"] * 4 == len(sampled)
    assert cost["updates"] == info.training["steps"]
    assert cost["evaluation_tokens"] == sum(entry["tokens"] * entry["texts"] for entry in history)
    assert cost["prompt_tokens"] > 0
    assert cost["teacher_generated"] > 0 and cost["teacher_prefilled"] > 0
    parts = [cost[f"seconds_{name}"] for name in ("sampling", "reward", "evaluation")]
    assert 0 < sum(parts) < cost["seconds"]


def test_metrics_are_those_of_the_saved_adapter_in_the_harness(labels: Path, whole_run: Run) -> None:
    """The share of right answers is what lm_eval computes on the same problems with the saved folder."""
    problems = task_problems("s2t_arith")
    _, held_out = LabelSet.load(labels).split(0.25)
    from s2t_eval.model_wrappers.distil import Distil
    from tests.harness_helpers import generation

    lm = Distil(STUDENT, peft=str(whole_run.out), device="cpu", batch_size=3)
    docs = [problems.docs[int(row.problem_id.rpartition("/")[2])] for row in held_out]
    stops = ["\n\n", "Question:"]
    requests = [
        generation(problems.task.doc_to_text(d), i, until=stops, max_gen_toks=96) for i, d in enumerate(docs)
    ]
    right = [
        str(doc["answer"]) == (re.findall(r"The answer is (-?[0-9]+)", text) or ["none"])[-1]
        for doc, text in zip(docs, lm.generate_until(requests), strict=True)
    ]
    after = whole_run.info.training["after"]
    if after["texts"] == len(docs):  # no held-out problem was left out
        assert after["correct"] == pytest.approx(sum(right) / len(right))
    assert after["correct"] * after["texts"] <= sum(right) + 1e-6


def test_equal_rewards_leave_the_weights_as_they_are(labels: Path, tmp_path: Path) -> None:
    with patch.object(pipeline.TaskGrade, "__call__", lambda self, problem, texts: [1.0] * len(texts)):
        info = rlkd(labels, tmp_path / "out", "--structure-weight", "0", "--epochs", "2", *FEW)
    assert info.training["cost"]["equal_groups"] == info.training["cost"]["groups"] > 0
    assert all(not bool(value.any()) for name, value in weights(tmp_path / "out").items() if "lora_B" in name)


def test_the_last_weights_are_kept_on_request(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At such a rate the student forgets everything, so the untrained one would have been kept."""
    info = rlkd(labels, tmp_path / "out", "--keep", "last", "--lr", "0.1", *FEW)
    before, after = info.training["before"], info.training["after"]
    assert after["step"] == info.training["best_step"] == info.training["steps"] > 0
    assert after["reward"] < before["reward"]
    assert any(bool(value.any()) for name, value in weights(tmp_path / "out").items() if "lora_B" in name)
    assert (
        "The weights at the end of the training were kept, whatever"
        in (tmp_path / "out" / "README.md").read_text()
    )
    assert "held-out problems: right answers" in capsys.readouterr().out


def test_structure_of_weight_0_is_neither_printed_nor_recorded(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = rlkd(labels, tmp_path / "out", "--structure-weight", "0", *FEW)
    assert "structure" not in info.training["after"] and "unscored" not in info.training["after"]
    assert info.training["cost"]["unscored_texts"] == 0
    assert "%, structure reward not computed (its weight is 0) (n = " in capsys.readouterr().out
    assert "structure reward" not in (tmp_path / "out" / "README.md").read_text()


def test_what_the_prompted_teacher_costs_is_recorded(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tokens were counted, and no one read the counters."""
    judge: list[JudgeCost] = []

    class NotedStructurer(LlmStructurer):
        """Counts its tokens once more; a tiny model cannot write its replies, so they are the rule's."""

        def structure(
            self, questions: Sequence[str], texts: Sequence[str]
        ) -> list[list[SolutionStep] | None]:
            """Steps by the rule."""
            self.max_new_tokens = 16
            super().structure(questions, texts)
            judge.append(JudgeCost(self.cost.generated, self.cost.read))
            return RuleStructurer().structure(questions, texts)

    with patch.object(pipeline, "LlmStructurer", NotedStructurer):
        info = rlkd(labels, tmp_path / "out", "--structurer", "llm", "--limit", "2", "--max-held-out", "1")
    cost = info.training["cost"]
    taken = info.training["history"]
    assert sum(entry["judge_read"] for entry in taken) == cost["judge_read"] > 0
    assert taken[0]["judge_read"] >= judge[1].read > judge[0].read > 0  # the references of both sides
    assert cost["judge_generated"] > 0 and cost["seconds_judge"] > 0
    line = f"{cost['judge_generated']:,.0f} generated and {cost['judge_read']:,.0f} prompt tokens"
    assert line in capsys.readouterr().out.splitlines()[-1]


def test_references_are_the_problems_own_solutions_without_a_teacher(labels: Path, tmp_path: Path) -> None:
    data = prepared(labels, tmp_path / "out", "--no-teacher")
    assert (data.teacher, data.teacher_name) == ("", "the problems' own solutions")
    problems = [*data.train, *data.held_out]
    assert len(problems) == 16
    assert all(
        p.reference == p.document["solution"] and len(p.steps) == p.document["num_steps"] for p in problems
    )


def test_teachers_texts_are_references_only_where_they_are_right(labels: Path, tmp_path: Path) -> None:
    """And a teacher that has nothing more to do lies in no memory while the student is trained."""
    sizes: list[int] = []
    references = pipeline._prepared_sides

    def note(*arguments: Any) -> Any:
        teacher = arguments[-2]
        sizes.append(sum(tensor.numel() for tensor in teacher.model.parameters()))
        return references(*arguments)

    every = prepared(labels, tmp_path / "every", "--unverified")
    with patch.object(pipeline, "_prepared_sides", note):
        right = prepared(labels, tmp_path / "right")
    assert sizes == [0]
    texts = [len(data.train) + len(data.held_out) for data in (every, right)]
    assert texts[0] - texts[1] == right.left_out["with a wrong or unfinished reference"]
    assert every.left_out["with a wrong or unfinished reference"] == 0


def test_limits_leave_problems_out_of_each_side(labels: Path, tmp_path: Path) -> None:
    data = prepared(labels, tmp_path / "out", "--limit", "5", "--max-held-out", "2", "--no-teacher")
    assert (len(data.train), len(data.held_out)) == (5, 2)


@pytest.mark.parametrize(
    ("rows", "limits", "most"),
    [
        pytest.param("1", ("--limit", "3", "--max-held-out", "1"), 15, id="one by one"),
        pytest.param("2", ("--limit", "2", "--max-held-out", "2"), 15, id="two at once"),
        pytest.param("1", ("--limit", "2", "--unverified", "--max-held-out", "1"), 8, id="unverified"),
        pytest.param("1", ("--limit", "50", "--max-held-out", "50"), 16, id="limits above the problems"),
    ],
)
def test_teacher_writes_no_more_texts_than_the_limits_need(
    rows: str, limits: tuple[str, ...], most: int, labels: Path, tmp_path: Path
) -> None:
    """It wrote all labelled problems, with 6,973 of them and a limit of 384 about 15 times what was used.

    The problems and their references are those of the slow twin, which writes all texts first.
    """
    arguments = ("--rows", rows, *limits)
    data = prepared(labels, tmp_path / "out", *arguments)
    write = pipeline.generate_teacher_rollouts

    def write_all(*given: Any, cost: RolloutCost) -> dict[str, list[int]]:
        return write(*given[:-1], cost=cost)

    with patch.object(pipeline, "generate_teacher_rollouts", write_all):
        twin = prepared(labels, tmp_path / "twin", *arguments)
    assert (data.train, data.held_out, data.left_out) == (twin.train, twin.held_out, twin.left_out)
    texts = [list((tmp_path / f"{name}.training").rglob("0*.json")) for name in ("out", "twin")]
    assert len(texts[0]) <= most and len(texts[1]) == 16
    written = {path.name: path.read_text() for path in texts[1]}
    assert all(path.read_text() == written[path.name] for path in texts[0])


def test_abandoned_texts_of_the_teacher_count(labels: Path, tmp_path: Path) -> None:
    """With eight texts at once and a limit of two, 30 tokens were counted of 150 that were generated."""
    tokens: dict[int, tuple[int, int]] = {}
    emit = SelectionStepper.emit

    def note(self: Any, active: Any) -> Any:
        finished = emit(self, active)
        tokens.update((id(seq), (len(seq.output), len(seq.request.prompt_ids))) for seq in active)
        kept.extend(active)
        return finished

    kept: list[Any] = []  # so that no identity is used twice
    arguments = ("--rows", "8", "--limit", "1", "--max-held-out", "1", "--unverified")
    with patch.object(SelectionStepper, "emit", note):
        data = prepared(labels, tmp_path / "out", *arguments)
    expected = RolloutCost(*(sum(column) for column in zip(*tokens.values(), strict=True)))
    assert data.teacher_cost == expected
    texts = [json.loads(path.read_text()) for path in (tmp_path / "out.training").rglob("0*.json")]
    assert sum(map(len, texts)) < expected.generated
    again = prepared(labels, tmp_path / "out", *arguments)
    assert again.teacher_cost == expected


# ---------------------------------------------------------------- resume


class InterruptionError(Exception):
    """Interrupts a run."""


def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(labels: Path, tmp_path: Path) -> None:
    # At this rate no greedy text changes, and of equal evaluations the last is kept.
    size = ("--limit", "4", "--batch-size", "2", "--max-held-out", "1", "--epochs", "2", "--updates", "2")
    arguments = (*size, "--lr", "1e-5")
    whole = rlkd(labels, tmp_path / "whole", *arguments).training
    prepare, calls = training.RlkdTraining.prepare, 0

    def interrupted(self: Any, problems: Any, step: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise InterruptionError
        prepare(self, problems, step)

    with patch.object(training.RlkdTraining, "prepare", interrupted), pytest.raises(InterruptionError):
        rlkd(labels, tmp_path / "resumed", *arguments)
    assert not (tmp_path / "resumed").exists()
    done = sorted((tmp_path / "resumed.training" / "rlkd").glob("checkpoint-*"))
    assert [int(path.name[-6:]) for path in done] not in ([], [0])
    resumed = rlkd(labels, tmp_path / "resumed", *arguments).training
    assert without_seconds(whole["history"]) == without_seconds(resumed["history"])
    assert any(bool(v.any()) for n, v in weights(tmp_path / "whole").items() if "lora_B" in n)
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "resumed")[name]), name


def test_teachers_texts_are_resumed_up_to_the_limits(labels: Path, tmp_path: Path) -> None:
    """What an interrupted group has finished stays; where that is enough, no text is written."""
    arguments = ("--rows", "1", "--limit", "3", "--max-held-out", "1")
    whole = prepared(labels, tmp_path / "whole", *arguments)
    scope = pipeline.generate_teacher_rollouts.__globals__
    write, calls = scope["write_text"], 0

    def interrupt(path: Path, text: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:  # the settings and one text have been written
            raise WriteError(f"cannot write {path}: No space left on device")
        write(path, text)

    with patch.dict(scope, {"write_text": interrupt}), pytest.raises(SystemExit):
        rlkd(labels, tmp_path / "out", *arguments)
    folders = [tmp_path / f"{name}.training" / "teacher_texts" for name in ("out", "whole")]
    assert len(list(folders[0].glob("0*.json"))) == 1
    resumed = prepared(labels, tmp_path / "out", *arguments)
    assert (resumed.train, resumed.held_out) == (whole.train, whole.held_out)
    # the interrupted group was written again
    assert resumed.teacher_cost.generated > whole.teacher_cost.generated
    texts = [{path.name: path.read_text() for path in folder.glob("0*.json")} for folder in folders]
    assert texts[0] == texts[1]
    with patch.object(scope["Decoder"], "run", side_effect=AssertionError("a text is written again")):
        again = prepared(labels, tmp_path / "out", *arguments)
    assert (again.train, again.held_out) == (whole.train, whole.held_out)


def test_checkpoints_of_other_settings_are_refused(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        patch.object(training, "save_distilled", side_effect=WriteError("cannot write: no room")),
        pytest.raises(SystemExit),
    ):
        rlkd(labels, tmp_path / "out", *FEW)
    work = tmp_path / "out.training"
    assert not [path for path in work.rglob("*") if path.suffix in (".pt", ".pth", ".bin", ".pkl")]
    with pytest.raises(SystemExit):
        rlkd(labels, tmp_path / "out", *FEW, "--temperature", "1")
    assert "checkpoints of another run (its settings differ)" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # went on, since a fingerprint is the same in every dtype
        rlkd(labels, tmp_path / "out", *FEW, "--dtype", "bfloat16")
    assert "another run (its student_dtype differ)" in capsys.readouterr().err


# ---------------------------------------------------------------- what is refused


def refused(capsys: pytest.CaptureFixture[str], labels: Path, out: Path, *arguments: str, **more: str) -> str:
    """The last line of error output of a run that must end with exit code 2."""
    line = error_line(capsys, rlkd, labels, out, *arguments, **more)
    assert not out.exists()
    return line


def changed(labels: Path, folder: Path, **data: object) -> Path:
    """The labels with other values in their manifest's description of the problems."""
    manifest = json.loads((labels / "manifest.json").read_text())
    manifest["data"].update(data)
    (folder / "shards").mkdir(parents=True)
    for shard in (labels / "shards").iterdir():
        (folder / "shards" / shard.name).write_bytes(shard.read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_labels_of_another_student(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tiny_folder(tmp_path / "other")
    line = refused(capsys, labels, tmp_path / "out", "--no-teacher", student=str(other))
    assert "it was made for another" in line and "run `s2t-eval collect` with this student" in line


def test_labels_of_problems_without_a_task(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, changed(labels, tmp_path / "labels", source="mine.jsonl"), tmp_path / "out")
    assert "expected problems of a task (`s2t-eval collect --task NAME`)" in line
    assert "got those of mine.jsonl" in line


def test_problems_that_have_changed_since(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = task_problems("s2t_arith")
    first, *others = problems.docs
    docs = [*others, first]
    with patch.object(pipeline, "task_problems", lambda name: problems._replace(docs=docs)):
        line = refused(capsys, labels, tmp_path / "out", "--no-teacher")
    assert "is not that of the task s2t_arith any more" in line and "collect the labels anew" in line


def test_records_without_a_field_for_the_question(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`collect` identified such a problem by its whole prompt and `rlkd` by an empty text, so the data had
    always "changed"; and the structurer read an empty question."""
    docs = [
        {"text": doc["question"], "answer": doc["answer"], "solution": doc["solution"]}
        for doc in itertools.islice(task_problems("s2t_arith").docs, 16)
    ]
    given = {"doc_to_text": "Question: {{text}}\nAnswer:", "training_split": "train"}
    splits = {name: Dataset.from_list(docs) for name in ("train", "test")}
    task = inline_task("unnamed", docs, custom_dataset=lambda **_: splits, **given)
    loaded = task_manager().load([task])
    monkeypatch.setattr(TaskManager, "load", lambda self, names: loaded)
    prompts = task_prompts(Greedy(STUDENT), "unnamed", 16, Prompting())
    assert prompts.questions == [f"Question: {doc['text']}\nAnswer:" for doc in docs]
    whole = LabelSet.load(labels)
    rows = [
        {**vars(row), "problem_id": name, "question_hash": question_hash(question)}
        for row, name, question in zip(whole, prompts.names, prompts.questions, strict=True)
    ]
    (tmp_path / "labels").mkdir()
    data = {**whole.manifest.data, "source": "unnamed"}
    write_labels(
        tmp_path / "labels", LabelManifest(**{**vars(whole.manifest), "shards": {}, "data": data}), rows
    )
    read = prepared(tmp_path / "labels", tmp_path / "out", *FEW)
    assert read.train and {problem.question for problem in read.train} <= set(prompts.questions)


def test_references_without_steps(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problems = task_problems("s2t_arith")
    docs = [{**doc, "solution": f"The answer is {doc['answer']}."} for doc in problems.docs]
    with patch.object(pipeline, "task_problems", lambda name: problems._replace(docs=docs)):
        line = refused(capsys, labels, tmp_path / "out", "--no-teacher")
    assert "got 0 to train on and 0 held out" in line and "16 with a reference without steps" in line


def test_problems_without_solutions_need_a_teacher(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = task_problems("s2t_arith")
    docs = [{**doc, "solution": None} for doc in problems.docs]
    with patch.object(pipeline, "task_problems", lambda name: problems._replace(docs=docs)):
        line = refused(capsys, labels, tmp_path / "out", "--no-teacher")
    assert "has no solution (read from solution, rationale, answer); name a --teacher" in line


def test_llm_needs_a_teacher_and_a_vocabulary_with_yes_and_no(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, labels, tmp_path / "out", "--no-teacher", "--aligner", "llm")
    assert "--teacher: the structurer and the aligner llm prompt the teacher, and none is named" in line
    line = refused(capsys, labels, tmp_path / "out", "--aligner", "llm")
    assert "expected one of the replies yes, Yes to be a single token" in line


def test_an_evaluation_problem_among_the_labels(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = "Janet's ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes "
    question += "muffins for her friends every day with four. She sells the remainder at the farmers' market "
    question += (
        "daily for $2 per fresh duck egg. How much in dollars does she make every day at the farmers' "
    )
    question += "market?"
    whole = LabelSet.load(labels)
    rows = [{**vars(row)} for row in whole.trajectories]
    rows[3]["prompt_ids"] = torch.tensor(tokenizer().encode(question)).int().numpy()
    folder = tmp_path / "labels"
    folder.mkdir()
    write_labels(folder, LabelManifest(**{**vars(whole.manifest), "shards": {}}), rows)
    line = refused(capsys, folder, tmp_path / "out", "--no-teacher")
    assert "1 of 16 problems are also evaluation problems of gsm8k" in line


def test_teacher_whose_logits_are_no_numbers(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = AutoModelForCausalLM.from_pretrained(embedded_path(TEACHER), dtype=torch.float32)
    with torch.no_grad():
        broken.model.norm.weight.fill_(3e38)
    broken.save_pretrained(tmp_path / "broken")
    tokenizer().save_pretrained(tmp_path / "broken")
    with pytest.raises(RuntimeError, match=r"broken: logits are not finite at step 0 of request \d+"):
        rlkd(labels, tmp_path / "out", "--teacher", str(tmp_path / "broken"))
    capsys.readouterr()


def test_the_shipped_adapter_is_small_and_runs() -> None:
    folder = embedded_path("embedded/rlkd")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    info = read_distilled("peft", str(folder))
    assert info.method == "rlkd" and info.training["cost"]["text_visits"] > 0
    entry = ours(evaluate("distil", {"peft": "embedded/rlkd"}, limit=4))
    assert entry["distilled"]["method"] == "rlkd"
