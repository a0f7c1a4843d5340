"""`--model r2r` and its router under other methods: limits, a slow twin, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from s2t_eval.methods.r2r_error import R2RError
from s2t_eval.model_wrappers.arguments import SelectionArguments
from s2t_eval.model_wrappers.local_arguments import LocalArguments
from s2t_eval.model_wrappers.r2r import R2RArguments
from s2t_eval.model_wrappers.s2t import SelectToThink
from s2t_eval.pipelines.prompts import task_prompts
from s2t_eval.pipelines.settings import Prompting
from s2t_eval.selection.calibration import Calibration
from s2t_eval.selection.divergence_router import DivergenceTrigger
from s2t_eval.selection.step import Step
from tests.harness_helpers import (
    STUDENT,
    TEACHER,
    counts,
    evaluate,
    logits_after,
    model,
    ours,
    read_trace,
    texts,
    tiny_folder,
    tokenizer,
)
from tests.learning import main, selector
from tests.r2r_learning import router
from tests.training.test_r2r_training import load

SELECTOR = "embedded/selector"


def pair(**more: Any) -> dict[str, Any]:
    return {"teacher": TEACHER, "router": str(router()), **more}


# ---------------------------------------------------------------- limits and twins


def test_a_threshold_above_one_is_greedy_and_one_below_zero_is_the_teacher() -> None:
    greedy, teacher = evaluate("greedy"), evaluate("greedy", {"pretrained": TEACHER})
    never, always = evaluate("r2r", pair(threshold=1.5)), evaluate("r2r", pair(threshold=-0.5))
    assert texts(never) == texts(greedy) != texts(teacher)
    assert texts(always) == texts(teacher)
    assert counts(never)["teacher_calls"] == counts(never)["teacher_tokens"] == 0
    assert counts(always)["teacher_generated"] == counts(always)["tokens"]
    # It read the prompts in chunks, and said 0.
    assert "teacher_prefilled" in counts(never) and "teacher_prefilled" not in counts(always)
    assert texts(evaluate("r2r", pair(trigger="never"))) == texts(greedy)
    assert texts(evaluate("r2r", pair(trigger="always"))) == texts(teacher)


@torch.no_grad()
def test_texts_and_costs_are_their_slow_twin(tmp_path: Path) -> None:
    """Every step from the whole text; at each call the teacher reads what was written since its last."""
    trace = tmp_path / "trace.jsonl"
    threshold = load(router()).info.thresholds["0.2"]
    results = evaluate("r2r", pair(threshold=threshold, trace=str(trace)), limit=4)
    student: Any = model(STUDENT)
    trigger = DivergenceTrigger(load(router()).router, student.get_input_embeddings())
    for line in read_trace(trace):
        ids, fired, read, generated = list(line["prompt_ids"]), [], 0, 0
        for t in range(len(line["output_ids"])):
            logits = logits_after(student, ids).float()
            state = student.get_decoder()(torch.tensor([ids])).last_hidden_state[0, -1:]
            value = float(trigger.divergence(Step(logits[None], None, lambda: torch.zeros(1), state))[0])
            token = int(logits.argmax())
            if value > threshold:
                fired.append((t, pytest.approx(value, abs=1e-4)))
                read = len(ids)
                token = int(logits_after(model(TEACHER), ids).argmax())
                generated += 1
            ids.append(token)
        assert line["output_ids"] == ids[len(line["prompt_ids"]) :]
        assert [(step["t"], step["divergence"]) for step in line["steps"]] == fired
        assert line["usage"]["teacher_generated"] == line["usage"]["teacher_calls"] == generated
        assert line["usage"]["teacher_tokens"] == read
    assert counts(results)["triggers"] == counts(results)["teacher_generated"] > 4


def test_the_teacher_reads_only_what_it_lacks(tmp_path: Path) -> None:
    """One text alone: prompt and text up to the last call once, no token twice."""
    trace = tmp_path / "trace.jsonl"
    evaluate("r2r", pair(tau=0.2, trace=str(trace)), limit=1, batch_size=1)
    [line] = read_trace(trace)
    last = line["steps"][-1]["t"]
    assert line["usage"]["teacher_tokens"] == len(line["prompt_ids"]) + last


def test_batches_and_refilling_change_no_text() -> None:
    one_by_one = evaluate("r2r", pair(tau=0.1), batch_size=1)
    for rows in (4, 16):  # four rows are refilled as texts end, sixteen are not
        batched = evaluate("r2r", pair(tau=0.1), batch_size=rows)
        assert texts(batched) == texts(one_by_one)
        assert counts(batched)["triggers"] == counts(one_by_one)["triggers"]


# ---------------------------------------------------------------- thresholds


def test_where_it_fires_by_default_by_rate_and_by_threshold() -> None:
    info = load(router()).info
    for given, threshold in (({}, info.threshold), ({"tau": 0.05}, info.thresholds["0.05"])):
        entry = ours(evaluate("r2r", pair(**given), limit=1))
        assert entry["policy"]["threshold"] == threshold
        assert entry["policy"]["trigger"]["name"] == "r2r" and entry["policy"]["method"] == "r2r"
        assert entry["router"] == load(router()).hash
    assert ours(evaluate("r2r", pair(tau=1), limit=1))["policy"]["trigger"]["name"] == "always"
    with pytest.raises(
        ValueError, match=r"router: it has no threshold for trigger r2r:\w+ at tau=0.33 \(it has"
    ):
        evaluate("r2r", pair(tau=0.33), limit=1)


def test_a_calibration_measures_the_router_on_the_student_s_own_texts(tmp_path: Path) -> None:
    """The rate of r2r.json holds for the teacher's texts. With one candidate the same steps come again."""
    out = tmp_path / "calibration.json"
    given = [
        "--pretrained",
        STUDENT,
        "--task",
        "s2t_arith",
        "--limit",
        "12",
        "--tau",
        "0.1",
        "--device",
        "cpu",
    ]
    main(["calibrate", *given, "--router", str(router()), "--out", str(out)])
    thresholds = Calibration.load(out).thresholds
    assert thresholds.keys() > {f"r2r:{load(router()).hash}"}
    lm = SelectToThink(
        STUDENT, **pair(trigger="router", tau=0.1, calibration=str(out), top_k=1, batch_size=8)
    )
    lm.generate_until(task_prompts(lm, "s2t_arith", 12, Prompting()).instances)
    report = lm.telemetry.report()
    assert report["triggers"] == pytest.approx(0.1 * report["tokens"], abs=1)


# ---------------------------------------------------------------- crosses


def test_r2r_s_router_with_selection_fires_at_the_same_steps_and_takes_candidates(tmp_path: Path) -> None:
    """S2T's action under R2R's router: the cross that tells labels from actions."""
    trace = tmp_path / "trace.jsonl"
    cross = evaluate("s2t", pair(trigger="router", tau=0.1, top_k=1, trace=str(trace)))
    assert texts(cross) == texts(evaluate("greedy"))  # one candidate is the student's own token
    whole = evaluate("s2t", pair(trigger="router", tau=0.1, top_k=len(tokenizer())))
    assert texts(whole) == texts(evaluate("r2r", pair(tau=0.1)))
    assert counts(whole)["teacher_generated"] == 0 < counts(whole)["triggers"]
    assert {step["divergence"] <= 1 for line in read_trace(trace) for step in line["steps"]} == {True}


def test_a_router_of_either_kind_is_accepted() -> None:
    """The KL router of a selector folder, named as `router`, is the one of `selector`."""
    given = {"teacher": TEACHER, "trigger": "router", "tau": 0.05}
    by_router = evaluate("s2t", {**given, "router": SELECTOR})
    by_selector = evaluate("s2t", {**given, "selector": SELECTOR})
    assert texts(by_router) == texts(by_selector)
    as_r2r = evaluate("r2r", {"teacher": TEACHER, "router": SELECTOR, "tau": 0.05})
    takeover = evaluate("takeover", {**given, "selector": SELECTOR})
    assert texts(as_r2r) == texts(takeover)
    with pytest.raises(ValueError, match=r"a router of `s2t-eval train` has no threshold of its own"):
        evaluate("r2r", {"teacher": TEACHER, "router": SELECTOR}, limit=1)


def test_without_a_teacher_the_local_selector_takes_r2r_s_router() -> None:
    results = evaluate("pps_local", {"selector": SELECTOR, "trigger": "router", "router": str(router())})
    assert ours(results)["policy"]["trigger"]["name"] == "r2r" and counts(results)["triggers"] > 0
    assert counts(results)["teacher_tokens"] == 0
    with pytest.raises(R2RError, match="which writes with proposer=tuned; leave it out"):
        evaluate("s2t_local", {"selector": str(selector()), "trigger": "router", "router": str(router())})


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("owner", "given", "message"),
    [
        (R2RArguments, {}, "trigger=router needs selector=FOLDER, made by `s2t-eval train`, or router="),
        (R2RArguments, {"trigger": "kl"}, "--model r2r: its trigger is the router, got trigger=kl"),
        (R2RArguments, {"router": "x", "tau": 2}, "tau: expected a rate above 0, at most 1"),
        (R2RArguments, {"router": "x", "tau": 0.1, "threshold": 0.5}, "trigger=router needs either thresh"),
        (R2RArguments, {"router": "x", "calibration": "c"}, "calibration=c: without tau the router's own"),
        (R2RArguments, {"router": "x", "threshold": math.nan}, "threshold: expected a number, got nan"),
        (SelectionArguments, {"router": "x", "threshold": 1}, "router=x: trigger=kl does not read it"),
        (SelectionArguments, {"trigger": "position", "threshold": 2}, "threshold of trigger=position: ex"),
        (SelectionArguments, {"trigger": "line_entropy", "threshold": -1}, "threshold of trigger=line_ent"),
        (LocalArguments, {"selector": "x", "router": "x"}, "router=x: only trigger=router uses it"),
        (LocalArguments, {"selector": "x", "trigger": "entropy", "router": "x"}, "router=x: trigger=entr"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(owner: type, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{message}"):
        owner(**given)


def test_no_teacher_and_another_teacher_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--model r2r: it needs teacher=MODEL"):
        evaluate("r2r", {"router": str(router())}, limit=1)
    other = str(tiny_folder(tmp_path / "other"))
    with pytest.raises(R2RError, match=r"it was made for another teacher \(expected "):
        evaluate("r2r", {"teacher": other, "router": str(router())}, limit=1)
    with pytest.raises(
        R2RError, match=r"it was made for another hidden size \(expected 64, of embedded/stud"
    ):
        evaluate("r2r", {"pretrained": other, "teacher": TEACHER, "router": str(router())}, limit=1)
    with pytest.raises(
        R2RError, match=r"expected a folder of `s2t-eval r2r train` with r2r.json, there is n"
    ):
        evaluate("r2r", {"teacher": TEACHER, "router": str(tmp_path)}, limit=1)
