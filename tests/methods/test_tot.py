"""Tree of Thoughts: its limits, a slow twin without caches, its budget and its costs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from s2t_eval.engine import ModelRunner, Request, Result, Sampling, derive_seed
from s2t_eval.engine.sampling import sample
from s2t_eval.engine.stop import StopRule
from s2t_eval.methods.questions import reply_ids
from s2t_eval.methods.tot.decoder import TreeDecoder
from s2t_eval.methods.tot.tree import Tree, TreeSettings
from s2t_eval.methods.tot.values import LikelihoodValue, Question, StateValue, YesNoValue, make_value
from s2t_eval.model_wrappers.tot import TreeOfThoughts
from tests.harness_helpers import (
    STUDENT,
    arith_docs,
    counts,
    evaluate,
    inline_task,
    plain_run,
    texts,
    tokenizer,
)
from tests.methods.test_specreason import ENDS, spell
from tests.twins import generate_greedy, logits_after, outputs, requests

QUESTIONS = (Question((7, 9, 11), (1, 2, 31), (3, 4, 32)), Question((13, 17), (3, 33), (1, 2, 34)))
VALUES: dict[str, StateValue] = {"yes_no": YesNoValue(QUESTIONS), "loglik": LikelihoodValue()}
SEARCH = TreeSettings(beam=2, branch=3, budget=120, depth=5, sampling=Sampling(0.8, 0.9, 10))


def run(
    student: PreTrainedModel,
    asked: Sequence[Request],
    settings: TreeSettings,
    value: StateValue,
    rows: int = 12,
) -> list[Result]:
    decoder = TreeDecoder(ModelRunner(student, "student"), settings, ENDS, value, rows, spell)
    results = {result.index: result for result in decoder.run(asked)}
    return [results[i] for i in range(len(asked))]


# ---------------------------------------------------------------- a slow twin


@torch.no_grad()
def log_likelihood(model: PreTrainedModel, prompt: list[int], output: list[int]) -> float:
    log_probs = model(torch.tensor([[*prompt, *output]])).logits[0].float().log_softmax(-1)
    return sum(float(log_probs[len(prompt) - 1 + i, token]) for i, token in enumerate(output))


def slow_value(model: PreTrainedModel, name: str, prompt: list[int], output: list[int]) -> float:
    if name == "loglik":
        return float(torch.tensor(log_likelihood(model, prompt, output) / len(output)).exp())
    shares = []
    for question in QUESTIONS:
        p = logits_after(model, [*prompt, *output, *question.ids]).softmax(-1)
        good, bad = float(p[list(question.good)].sum()), float(p[list(question.bad)].sum())
        shares.append(good / (good + bad))
    return sum(shares) / len(shares)


def slow_tot(
    model: PreTrainedModel, request: Request, settings: TreeSettings, name: str
) -> tuple[list[int], int]:
    """One text, every token computed from the whole text; with the generated tokens of all branches."""
    assert settings.sampling is not None
    stop, prompt = StopRule(request, spell), list(request.prompt_ids)
    beam: list[list[int]] = [[]]
    finished: list[tuple[float, list[int]]] = []
    last: list[tuple[float, list[int]]] = []
    spent = level = 0
    while beam and len(finished) < settings.beam and level < settings.depth and spent < settings.budget:
        affordable = max(1, (settings.budget - spent) // ENDS.max_tokens)
        # The first continuation of each solution, then the second of each.
        places = [(parent, k) for k in range(settings.branch) for parent in range(len(beam))][:affordable]
        children: list[list[int]] = []
        for parent, k in sorted(places):
            numbers = random.Random(derive_seed(request.seed, level, parent, k))
            line: list[int] = []
            while not (line and (ENDS.is_end(line) or stop.would_finish([*beam[parent], *line]))):
                logits = logits_after(model, [*prompt, *beam[parent], *line])
                line.append(int(sample(logits[None], settings.sampling, [numbers.random()])[0]))
            spent += len(line)
            if [*beam[parent], *line] not in children:
                children.append([*beam[parent], *line])
        valued = [(slow_value(model, name, prompt, child), child) for child in children]
        valued.sort(key=lambda pair: -pair[0])
        last = valued[: settings.beam - len(finished)]
        finished += [pair for pair in last if stop.would_finish(pair[1])]
        beam = [child for _, child in last if not stop.would_finish(child)]
        level += 1
    return max(finished or last, key=lambda pair: pair[0])[1], spent


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("family", ["qwen2", "gemma3"], scope="session")
def test_it_is_its_slow_twin(student: PreTrainedModel, name: str) -> None:
    asked = [replace(request, seed=i) for i, request in enumerate(requests(3))]
    for request, result in zip(asked, run(student, asked, SEARCH, VALUES[name]), strict=True):
        output, spent = slow_tot(student, request, SEARCH, name)
        assert result.output_ids == output
        assert result.usage.tokens + result.usage.discarded_tokens == spent


# ---------------------------------------------------------------- limits and costs


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("family", ["llama", "gemma3"], scope="session")
def test_one_branch_at_temperature_zero_is_greedy(student: PreTrainedModel, name: str) -> None:
    asked = requests(5)
    single = TreeSettings(beam=1, branch=1, budget=1000, depth=100, sampling=None)
    results = run(student, asked, single, VALUES[name])
    assert outputs(results) == [generate_greedy(student, request) for request in asked]
    assert all(result.usage.discarded_tokens == result.usage.rejected_steps == 0 for result in results)


@pytest.mark.parametrize("family", ["qwen2"], scope="session")
def test_equal_branches_are_one(student: PreTrainedModel) -> None:
    """At temperature 0 all branches agree: the text is greedy's, and each is paid for but valued once."""
    asked = requests(3)
    wide = TreeSettings(beam=1, branch=3, budget=10_000, depth=100, sampling=None)
    narrow = replace(wide, branch=1)
    many, one = run(student, asked, wide, VALUES["yes_no"]), run(student, asked, narrow, VALUES["yes_no"])
    assert outputs(many) == outputs(one)
    for a, b in zip(many, one, strict=True):
        assert a.usage.tokens + a.usage.discarded_tokens == 3 * b.usage.tokens
        assert a.usage.evaluation_tokens == b.usage.evaluation_tokens


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("family", ["gemma3"], scope="session")
def test_batch_size_and_refilling_change_no_text(student: PreTrainedModel, name: str) -> None:
    asked = [replace(request, seed=i) for i, request in enumerate(requests(6))]
    one_by_one = run(student, asked, SEARCH, VALUES[name], rows=1)
    for rows in (4, 12, 36):
        together = run(student, asked, SEARCH, VALUES[name], rows)
        assert outputs(together) == outputs(one_by_one)
        for a, b in zip(together, one_by_one, strict=True):
            for cost in ("tokens", "discarded_tokens", "drafted_steps", "rejected_steps"):
                assert getattr(a.usage, cost) == getattr(b.usage, cost), cost


@pytest.mark.parametrize("budget", [6, 20, 50, 120])
def test_the_budget_is_exceeded_by_at_most_a_line(budget: int) -> None:
    """With lines of any length, at every level; a budget that allows one line has one branch."""
    tree = Tree(0, Request((1,), 10_000), replace(SEARCH, budget=budget, depth=1000))
    lengths = random.Random(budget)
    while not tree.is_done:
        before = tree.spent
        branches = tree.branches(lambda request: StopRule(request, None), ENDS.max_tokens)
        most = max(1, (budget - before) // ENDS.max_tokens)
        assert len(branches) == min(len(tree.beam) * SEARCH.branch, most)
        for branch in branches:
            for token in range(lengths.randint(1, ENDS.max_tokens)):
                branch.append(token)
        tree.grow([branch.node for branch in branches])
    assert budget <= tree.spent <= budget + ENDS.max_tokens - 1


@pytest.mark.parametrize("family", ["qwen2"], scope="session")
def test_branches_share_what_their_parent_has_computed(student: PreTrainedModel) -> None:
    """A prompt is computed once for all branches; of a parent's line only a short piece is computed again."""
    request = Request(tuple(range(1, 61)), 30)
    settings = replace(SEARCH, branch=4)
    [result] = run(student, [request], settings, VALUES["loglik"], rows=8)
    usage = result.usage
    levels = SEARCH.depth
    assert usage.prefill_tokens <= 60 + usage.drafted_steps * 17 + levels
    [alone] = run(student, [request], settings, VALUES["loglik"], rows=1)
    assert alone.output_ids == result.output_ids


def test_the_best_value_wins_and_complete_solutions_leave_the_beam() -> None:
    tree = Tree(0, Request((1,), 50, stop_ids=frozenset({9})), TreeSettings(beam=2, branch=3))
    first, second, third = tree.branches(lambda request: StopRule(request, None), 8)
    for branch, line, value in ((first, [4], 0.2), (second, [5, 9], 0.9), (third, [6], 0.5)):
        for token in line:
            branch.node.finish = branch.append(token)
        branch.node.value = value
    tree.grow([first.node, second.node, third.node])
    assert [node.output for node in tree.finished] == [[5, 9]]
    assert [node.output for node in tree.beam] == [[6]]
    assert not tree.is_done and tree.spent == 4
    assert tree.result().output_ids == [5, 9]


def test_the_two_forms_of_the_question_agree_on_what_is_good() -> None:
    """`no` is the good reply to the form that asks for a mistake."""

    class Words:
        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            vocabulary = {"yes": 1, " yes": 2, "no": 3, " no": 4}
            return [vocabulary[text]] if text in vocabulary else [7, 8]

    value = make_value("yes_no", Words(), has_chat_template=False)
    assert isinstance(value, YesNoValue)
    assert [(q.good, q.bad) for q in value.questions] == [((1, 2), (3, 4)), ((3, 4), (1, 2))]


# ---------------------------------------------------------------- the backend

EMBEDDED = {"value": "loglik", "delimiter": "sentence", "max_line": 16, "budget": 272}


def test_the_backend_with_one_branch_is_greedy() -> None:
    single = evaluate("tot", {**EMBEDDED, "beam": 1, "branch": 1, "temperature": 0})
    assert texts(single) == texts(plain_run("greedy"))


def test_the_backend_one_by_one_and_its_budget() -> None:
    one_by_one, together = (evaluate("tot", EMBEDDED, batch_size=size, limit=4) for size in (1, 16))
    assert texts(one_by_one) == texts(together)
    for results in (one_by_one, together):
        generated = counts(results)["tokens"] + counts(results)["discarded_tokens"]
        assert generated <= 4 * (EMBEDDED["budget"] + EMBEDDED["max_line"] - 1)  # type: ignore[operator]
    other = evaluate("tot", {**EMBEDDED, "temperature": 1.5, "seed": 1}, limit=4)
    assert texts(other) != texts(together)


def test_code_is_refused() -> None:
    task = inline_task("programs", arith_docs(2), unsafe_code=True)
    with pytest.raises(ValueError, match=r"^tot: the answers of task programs are code"):
        evaluate("tot", EMBEDDED, tasks=[task], limit=2, confirm_run_unsafe_code=True)


@pytest.mark.parametrize(
    ("model_args", "message"),
    [
        ({"beam": 0}, r"^beam: expected a whole number of at least 1, got 0$"),
        ({"branch": 1.5}, r"^branch: expected a whole number of at least 1, got 1\.5$"),
        ({"budget": 10}, r"^budget: expected at least max_line=64 tokens, got 10; give a larger budget"),
        ({"temperature": -1}, r"^temperature: expected 0 or more, got -1$"),
        ({"top_p": 0}, r"^top_p: expected in \(0, 1\], got 0$"),
        ({"value": "words"}, r"^value: expected one of yes_no, loglik, got 'words'$"),
        ({"delimiter": "word"}, r"^delimiter: expected one of line, paragraph, sentence, got 'word'$"),
        ({"beem": 2}, r"^--model tot: unknown argument 'beem'; did you mean 'beam'\?$"),
        ({}, r"^value=yes_no: tokenizer: expected one of the replies yes, Yes, YES to be a single token"),
    ],
)
def test_bad_arguments_get_one_clear_line(model_args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TreeOfThoughts(STUDENT, **model_args)


def test_the_embedded_tokenizer_has_no_word_for_yes() -> None:
    """Its pair therefore has `value=loglik`; without this the message above could be another fault's."""
    assert "yes" not in tokenizer().get_vocab() and "Ġyes" not in tokenizer().get_vocab()
    assert reply_ids(tokenizer(), ["y"])
