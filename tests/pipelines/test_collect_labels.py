"""Label collection through a backend: rollouts end where the backend's own texts end."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest

from s2t_eval.embedded import embedded_path
from s2t_eval.engine import Request
from s2t_eval.methods.selector_info import read_info
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.s2t_local import PPSLocal
from s2t_eval.pipelines import collect_labels
from s2t_eval.pipelines.prompts import task_prompts
from s2t_eval.pipelines.settings import Prompting
from s2t_eval.pipelines.unfinished import unfinished_labels
from s2t_eval.training.label_collection import KINDS, CollectionFolder, LabelledProblem, generate_rollouts
from s2t_eval.training.labels import LabelError, LabelSet
from tests import learning
from tests.commands import error_line
from tests.harness_helpers import STUDENT, generation, logits_after, model, prompts


def test_a_stop_string_in_a_thought_does_not_end_a_rollout(tmp_path: Path) -> None:
    """Rollouts of reasoning models once ended at the first stop string of their thoughts."""
    lm = Greedy(STUDENT, device="cpu", think_end_token="answer")
    [request] = lm.engine_requests([generation(prompts(1)[0], until=["."], max_gen_toks=96)])
    work = CollectionFolder(tmp_path / "labels", {})
    problem = LabelledProblem("made/0", "q", request, request.prompt_ids)
    finished: list[int] = []
    generate_rollouts(lm.student, [problem], work, 1, lm.tok_decode, lm.thoughts.answer_of, finished.append)
    [expected] = lm.decoder().run([request])
    output_ids = work.load("rollouts", 0)["output_ids"].tolist()
    assert output_ids == expected.output_ids
    text = lm.tok_decode(output_ids)
    assert text.count(".") > 1, "the thought has sentences of its own"
    assert text.endswith(".") and " answer is " in text
    assert finished == [1]


def collect_with(folder: Path, *more: str) -> LabelSet:
    learning.main(learning.collect_arguments(folder, 6, "--steps", "all", *more))
    return LabelSet.load(folder)


def test_texts_of_a_second_round_are_those_that_the_selector_decodes(tmp_path: Path) -> None:
    """The labels are of the selector's own texts; the candidates are still the plain student's."""
    rule = {"trigger": "entropy", "tau": 0.2}
    flags = ("--selector", "embedded/selector", "--selector_trigger", "entropy", "--selector_tau", "0.2")
    second, first = collect_with(tmp_path / "second", *flags), collect_with(tmp_path / "first")
    lm = PPSLocal(STUDENT, device="cpu", batch_size=8, selector="embedded/selector", **rule)
    assert lm.selector is not None and second.manifest.rollouts is not None
    assert second.manifest.rollouts["selector"] == lm.selector.hash
    assert second.manifest.rollouts["policy"] == json.loads(json.dumps(lm.policy().describe()))
    assert first.manifest.rollouts is None
    rows = list(second)
    prompts_of_rows = [Request(tuple(row.prompt_ids.tolist()), 96, lm.stop_ids) for row in rows]
    expected = {result.index: result.output_ids for result in lm.decoder().run(prompts_of_rows)}
    for i, row in enumerate(rows):
        decoded = expected[i][: len(row.output_ids)]  # the task's stop strings may end a text before that
        assert row.output_ids.tolist() == decoded
    plain = model(STUDENT)
    differing = 0
    for row, greedy_row in zip(rows, first, strict=True):
        assert row.prompt_ids.tolist() == greedy_row.prompt_ids.tolist()
        differing += row.output_ids.tolist() != greedy_row.output_ids.tolist()
        for number, step in enumerate(row.kept.tolist()):
            ids = row.text_ids[: len(row.prompt_ids) + step].tolist()
            top = logits_after(plain, ids).topk(3)
            assert row.candidates[number][:3].tolist() == top.indices.tolist()
    assert differing > 0


def test_a_second_round_trains_on_from_the_first_with_the_same_problems_held_out(tmp_path: Path) -> None:
    flags = ("--selector", str(learning.selector("direct")), "--selector_trigger", "entropy")
    folder = tmp_path / "second"
    learning.main(
        learning.collect_arguments(folder, learning.COUNT, "--steps", "all", *flags, "--selector_tau", "0.2")
    )
    start = ("--form", "direct", "--start", str(learning.selector("direct")))
    learning.main(learning.train_arguments(folder, tmp_path / "next", *start))
    first, second = (LabelSet.load(path).split(0.25)[1] for path in (learning.labels(), folder))
    assert [row.problem_id for row in first] == [row.problem_id for row in second]
    assert read_info(tmp_path / "next").labels["rollouts"]["tau"] == 0.2


def test_a_selector_that_does_not_fit_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, message in (
        (("--selector_tau", "0.2"), "selector_tau: there is no selector that it could be of"),
        (("--selector", "embedded/selector", "--max_gen_toks", "40"), "it was made with another prompt"),
        (("--selector", str(tmp_path / "none")), "expected a folder of `s2t-eval train` or a hub repository"),
    ):
        with pytest.raises(SystemExit):
            learning.main(learning.collect_arguments(tmp_path / "out", 4, *more))
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


@pytest.fixture
def own_student(tmp_path: Path) -> Path:
    """A copy of the student, whose chat template a test may change."""
    return Path(shutil.copytree(embedded_path(STUDENT), tmp_path / "student"))


def interrupted_collection(student: Path, out: Path, *more: str) -> list[str]:
    """The command line of a collection whose rollouts and labels are there, and its label set is not."""
    arguments = [str(student) if word == STUDENT else word for word in learning.collect_arguments(out, 3)]
    arguments += ["--apply_chat_template", "--max_gen_toks", "24", *more]
    interrupt = patch.object(collect_labels, "write_label_set", side_effect=KeyboardInterrupt)
    with interrupt, pytest.raises(SystemExit):
        learning.main(arguments)
    assert len(list((out / "work" / "labels").iterdir())) == 3
    return arguments


def test_unfinished_work_of_another_chat_template_is_refused(
    own_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A resumed `collect` wrote texts of the old template beside the prompts of the new one, without a word.

    With the old template in its place again, the work is used as it is.
    """
    out, template = tmp_path / "labels", own_student / "chat_template.jinja"
    arguments = interrupted_collection(own_student, out)
    before = template.read_text()
    template.write_text("Solve it. " + before)
    line = error_line(capsys, learning.main, arguments)
    assert re.fullmatch(
        rf"s2t-eval collect: --out {re.escape(str(out))} holds the unfinished work of another run "
        r"\(its texts differ\): expected texts '[0-9a-f]{16}', got texts '[0-9a-f]{16}'; "
        r"remove it or name another --out",
        line,
    )
    assert not (out / "manifest.json").exists()
    template.write_text(before)
    with patch.object(CollectionFolder, "save", side_effect=AssertionError("a text was made again")):
        learning.main(arguments)
    rows, [request, *_] = list(LabelSet.load(out)), chat_requests(own_student, 24)
    assert len(rows) == 3 and rows[0].prompt_ids.tolist() == list(request.prompt_ids)


def chat_requests(student: Path, max_gen_toks: int) -> list[Request]:
    """The requests of training problems of the task with the student's chat template."""
    prompting = Prompting(apply_chat_template=True, max_gen_toks=max_gen_toks)
    return task_prompts(Greedy(str(student), device="cpu"), "s2t_arith", 1, prompting).requests


def test_unfinished_work_of_other_code_is_refused(
    own_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After `git pull` a resumed `collect` joined rollouts of the old code with labels of the new one."""
    out = tmp_path / "labels"
    arguments = interrupted_collection(own_student, out)
    settings = out / "work" / "settings.json"
    saved = json.loads(settings.read_text())
    settings.write_text(json.dumps({**saved, "code": "0123456789ab"}))
    line = error_line(capsys, learning.main, arguments)
    assert "of another run (its code differ): expected code '" in line
    assert line.endswith("', got code '0123456789ab'; remove it or name another --out")


def test_unfinished_work_of_another_teachers_prompt_is_refused(tmp_path: Path) -> None:
    """The teacher's prompts are no part of the requests, and the labels depend on them."""
    lm = Greedy(STUDENT, device="cpu")
    [request] = lm.engine_requests([generation(prompts(1)[0])])

    def open_work(*teacher_ids: int) -> CollectionFolder:
        problem = LabelledProblem("made/0", "q", request, teacher_ids)
        return unfinished_labels(tmp_path / "labels", lm, [problem], {}, KINDS)

    for _ in range(2):
        assert open_work(*request.prompt_ids).missing("labels", 1) == [0]
    with pytest.raises(LabelError, match=r"of another run \(its texts differ\)"):
        open_work(1, *request.prompt_ids)
