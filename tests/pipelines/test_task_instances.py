"""Prompts of training problems are those that an evaluation of the same problems would have."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset
from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.pipelines.prompts import PromptSet, TrainingDataError, requests_with_instructions, task_prompts
from s2t_eval.pipelines.settings import Prompting
from tests.harness_helpers import STUDENT, arith_docs, inline_task, task_manager

pytestmark = pytest.mark.usefixtures("small_task_index")

DOCS, OTHERS = arith_docs(6)[:4], arith_docs(6)[4:]
FEW = Prompting(num_fewshot=2)


@pytest.fixture(scope="module")
def lm() -> Greedy:
    return Greedy(STUDENT)


def shown(monkeypatch: pytest.MonkeyPatch, **config: Any) -> Task:
    """A task of which `task_prompts` reads the training split, and whose test split has the same problems."""
    splits = {"train": DOCS, "test": DOCS, "dev": OTHERS}
    given = {
        "custom_dataset": lambda **_: {name: Dataset.from_list(docs) for name, docs in splits.items()},
        "training_split": "train",
        "num_fewshot": 2,
        **config,
    }
    loaded = task_manager().load([inline_task("shown", DOCS, **given)])
    monkeypatch.setattr(TaskManager, "load", lambda self, names: loaded)
    task: Task = loaded["tasks"]["shown"]
    return task


def texts(prompts: PromptSet) -> list[str]:
    return [str(instance.args[0]) for instance in prompts.instances]


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_they_are_those_of_an_evaluation(
    lm: Greedy, chat: bool, system: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Examples as turns of their own and the beginning of the answer were left out of training prompts."""
    first = {"sampler": "first_n", "split": "dev"}
    task: Any = shown(monkeypatch, fewshot_config=first, gen_prefix="The result:")
    found = texts(task_prompts(lm, "shown", 4, Prompting(system, chat, 2)))
    task.build_all_requests(
        system_instruction=system,
        apply_chat_template=chat,
        fewshot_as_multiturn=True,  # as lm_eval's command and `simple_evaluate` have it
        chat_template=lm.apply_chat_template if chat else None,
    )
    assert found == [str(instance.args[0]) for instance in task.instances]
    assert all(text.rstrip().endswith("The result:") for text in found)


def test_no_problem_is_an_example_of_its_own(lm: Greedy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its solution would stand in its prompt: examples usually come from the training split."""
    shown(monkeypatch, fewshot_split="train")
    for text, doc in zip(texts(task_prompts(lm, "shown", 4, Prompting(num_fewshot=3))), DOCS, strict=True):
        assert text.count(doc["question"]) == 1 and text.count("Question:") == 4


def test_examples_do_not_depend_on_the_other_problems(lm: Greedy, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were drawn one after the other, so a problem that was left out gave its own to the next one."""
    shown(monkeypatch, fewshot_split="train")
    every = task_prompts(lm, "shown", 4, FEW)
    assert texts(task_prompts(lm, "shown", 2, FEW, skip=2)) == texts(every)[2:]
    told = requests_with_instructions(lm, every, FEW, ["Listen."] * 4)
    kept = requests_with_instructions(lm, every.without({0, 2}), FEW, ["Listen."] * 2)
    assert [request.prompt_ids for request in kept] == [told[1].prompt_ids, told[3].prompt_ids]
    for request, plain in zip(told, every.requests, strict=True):
        assert request.prompt_ids[-len(plain.prompt_ids) + 1 :] == plain.prompt_ids[1:]


def test_a_question_without_a_field_is_what_its_task_makes_of_the_record(
    lm: Greedy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was the whole prompt, so the same problem with other examples or in a chat counted as another."""
    splits = {"train": [{"text": doc["question"], "answer": doc["answer"]} for doc in DOCS]}
    data = {name: Dataset.from_list(splits["train"]) for name in ("train", "test")}
    shown(monkeypatch, custom_dataset=lambda **_: data, doc_to_text="Q: {{text}}", fewshot_split="train")
    for prompting in (Prompting(), FEW, Prompting("Be brief.", True)):
        questions = task_prompts(lm, "shown", 4, prompting).questions
        assert questions == [f"Q: {doc['question']}" for doc in DOCS]


def test_examples_that_no_evaluation_shows_are_refused(lm: Greedy, monkeypatch: pytest.MonkeyPatch) -> None:
    """lm_eval ignores `--num_fewshot` for a task that is defined with none."""
    shown(monkeypatch, num_fewshot=0)
    with pytest.raises(TrainingDataError, match=r"^--num_fewshot 2: shown is defined to have no examples"):
        task_prompts(lm, "shown", 2, FEW)
    assert len(texts(task_prompts(lm, "shown", 2, Prompting()))) == 2


@pytest.mark.parametrize("output_type", ["multiple_choice", "loglikelihood"])
def test_a_task_that_compares_log_likelihoods_is_refused(
    output_type: str, lm: Greedy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`s2t-eval collect --task arc_easy` ended in a traceback: such a task makes several requests a problem,
    and none of them names how a text ends."""
    choices = {"doc_to_choice": ["yes", "no"], "doc_to_target": 0, "metric_list": [{"metric": "acc"}]}
    shown(monkeypatch, output_type=output_type, **choices)
    message = rf"^--task shown: expected a task .* \(output_type: generate_until\), got .* {output_type}; "
    with pytest.raises(TrainingDataError, match=message):
        task_prompts(lm, "shown", 2, Prompting())
