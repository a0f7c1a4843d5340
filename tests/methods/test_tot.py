"""Tree of Thoughts: its limits, a slow twin without caches, its budget and its costs."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from transformers import PreTrainedModel

from s2t_eval.engine import ModelRunner, Request
from s2t_eval.engine.request import Finish, Result
from s2t_eval.engine.stop import StopRule
from s2t_eval.methods.questions import QuestionError, reply_ids
from s2t_eval.methods.tot.make_value import ValueSettings, make_value
from s2t_eval.methods.tot.node import Node
from s2t_eval.methods.tot.search import BreadthFirst, DepthFirst, TreeSettings
from s2t_eval.methods.tot.tree import Tree
from s2t_eval.methods.tot.values import StateValue, Values, YesNoValue, verdict_value
from s2t_eval.methods.tot.vote import Ballot, VoteValue, voted
from s2t_eval.model_wrappers.tot import TreeOfThoughts
from tests.harness_helpers import (
    STUDENT,
    arith_docs,
    counts,
    evaluate,
    inline_task,
    ours,
    plain_run,
    texts,
    tokenizer,
)
from tests.methods.test_specreason import ENDS, spell
from tests.tot_twins import (
    MOST_SHOWN,
    NUM_REPLIES,
    QUESTIONS,
    REPLIES,
    SEARCH,
    VALUES,
    list_ids,
    run,
    slow_tot,
)
from tests.twins import generate_greedy, outputs, requests

DEEP = replace(SEARCH, search="dfs", depth=4, min_value=0.2)
"""A depth-first search in which solutions are abandoned, by their value and at the greatest depth."""
SEARCHES = {"bfs": SEARCH, "dfs": DEEP}
SEEDS = {"bfs": 1, "dfs": 3}
"""Of a first level in which no vote is for any of the lines."""
QUICK = {("yes_no", "bfs"), ("loglik", "dfs"), ("words", "bfs"), ("vote", "dfs")}
"""Each value and each search; `make slow` runs the other combinations."""
COMBINATIONS = [
    pytest.param(name, search, marks=[] if (name, search) in QUICK else pytest.mark.slow)
    for name in VALUES
    for search in SEARCHES
]


@pytest.mark.parametrize(("name", "search"), COMBINATIONS)
@pytest.mark.parametrize("family", ["gemma3"], indirect=True)
def test_it_is_its_slow_twin(student: PreTrainedModel, name: str, search: str) -> None:
    asked = [replace(request, seed=i) for i, request in enumerate(requests(2))]
    settings = SEARCHES[search]
    for request, result in zip(asked, run(student, asked, settings, VALUES[name]), strict=True):
        output, spent = slow_tot(student, request, settings, name)
        assert result.output_ids == output
        assert result.usage.tokens + result.usage.discarded_tokens == spent


@pytest.mark.parametrize("name", ["yes_no", "words", "vote"])
@pytest.mark.parametrize("family", ["gemma3"], indirect=True)
def test_a_solution_is_evaluated_without_the_stop_string_that_ends_it(
    student: PreTrainedModel, name: str
) -> None:
    """The question whether the solution is right so far followed the `Question:` of the next problem."""
    asked = [replace(request, seed=i) for i, request in enumerate(requests(2, stop_strings=("x\nx",)))]
    results = run(student, asked, SEARCH, VALUES[name])
    assert any(result.finish is Finish.STOP_STRING for result in results)
    for request, result in zip(asked, results, strict=True):
        output, spent = slow_tot(student, request, SEARCH, name)
        assert result.output_ids == output
        assert result.usage.tokens + result.usage.discarded_tokens == spent


# ---------------------------------------------------------------- limits and costs


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("family", ["llama"], indirect=True)
def test_one_branch_at_temperature_zero_is_greedy(student: PreTrainedModel, name: str, search: str) -> None:
    asked = requests(5)
    single = TreeSettings(1, 1, budget=10_000, depth=100, sampling=None, search=search)  # type: ignore[arg-type]
    results = run(student, asked, single, VALUES[name])
    assert outputs(results) == [generate_greedy(student, request) for request in asked]
    assert all(result.usage.rejected_steps == 0 for result in results)
    if name != "words":  # its replies are generated tokens
        assert all(result.usage.discarded_tokens == 0 for result in results)


@pytest.mark.parametrize("family", ["qwen2"], indirect=True)
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


@pytest.mark.parametrize(("name", "search"), COMBINATIONS)
@pytest.mark.parametrize("family", ["gemma3"], indirect=True)
def test_batch_size_and_refilling_change_no_text(student: PreTrainedModel, name: str, search: str) -> None:
    """One row decodes the branches of a level one after the other, in the row of the one before."""
    asked = [replace(request, seed=i) for i, request in enumerate(requests(4))]
    one_by_one = run(student, asked, SEARCHES[search], VALUES[name], rows=1)
    together = run(student, asked, SEARCHES[search], VALUES[name], rows=7)
    assert outputs(together) == outputs(one_by_one)
    for a, b in zip(together, one_by_one, strict=True):
        for cost in ("tokens", "discarded_tokens", "drafted_steps", "rejected_steps"):
            assert getattr(a.usage, cost) == getattr(b.usage, cost), cost


@pytest.mark.parametrize("name", ["words", "vote"])
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("family", ["qwen2"], indirect=True)
def test_rows_that_had_other_texts_before_change_no_text(
    student: PreTrainedModel, name: str, search: str
) -> None:
    """A search that follows others in the same rows finds their keys and values there."""
    asked = [replace(request, seed=i) for i, request in enumerate(requests(3))]
    fresh = [run(student, [request], SEARCHES[search], VALUES[name])[0] for request in asked]
    refilled = run(student, [*asked, *asked], SEARCHES[search], VALUES[name], rows=6)
    assert outputs(refilled) == 2 * outputs(fresh)


@pytest.mark.parametrize("name", ["loglik", "words", "vote"])
@pytest.mark.parametrize("budget", [6, 20, 50, 120])
@pytest.mark.parametrize("search", SEARCHES)
def test_the_budget_is_exceeded_by_at_most_a_line_and_its_replies(
    budget: int, name: str, search: str
) -> None:
    """With lines and replies of any length, at every level; a budget that allows one line has one branch."""
    settings = replace(SEARCHES[search], budget=budget, depth=1000, min_value=0.0)
    tree, most_sampled = Tree(0, Request((1,), 10_000), settings), VALUES[name].most_sampled
    lengths = random.Random(budget)
    while not tree.is_done:
        left = budget - tree.spent
        branches = tree.branches(lambda request: StopRule(request, None), ENDS.max_tokens, most_sampled)
        count = len(branches)
        assert count == 1 or count * ENDS.max_tokens + most_sampled(count) <= left
        more = count + 1
        assert count == len(tree.search.parents) * settings.branch or (
            more * ENDS.max_tokens + most_sampled(more) > left
        )
        for branch in branches:
            for _ in range(lengths.randint(1, ENDS.max_tokens)):
                branch.append(lengths.randrange(100))
            branch.node.value = lengths.random()
        tree.grow([branch.node for branch in branches], lengths.randint(0, most_sampled(count)))
    assert budget <= tree.spent < budget + ENDS.max_tokens + most_sampled(1)


@pytest.mark.parametrize("family", ["qwen2"], indirect=True)
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


def test_the_last_line_without_a_rival_does_not_win_a_vote() -> None:
    """It had the share 1 of a ballot of its own, and beat the solution that won the common one."""
    search = BreadthFirst(2, 10)
    tree = Tree(0, Request((1,), 100), replace(SEARCH, search="bfs"))
    tree.search = search
    assert tree.value_at_stake == 1.0
    winner = node(2 / 3, 1, 2, finish=Finish.STOP_ID)
    tree.grow([winner, node(1 / 3, 1, 3)])
    assert tree.value_at_stake == pytest.approx(1 / 3)
    tree.grow([node(1.0 * tree.value_at_stake, 1, 3, 4, finish=Finish.STOP_ID)])
    assert search.best is winner


def test_a_vote_that_is_decided_ends_the_search() -> None:
    """The rest of it was paid for although no line could have more votes than the complete solution."""
    tree = Tree(0, Request((1,), 100), replace(SEARCH, search="bfs"), is_vote=True)
    tree.grow([node(1 / 3, 1, 2, finish=Finish.STOP_ID), node(2 / 3, 1, 3)])
    assert not tree.is_done
    tree.grow([node(1 / 3, 1, 3, 4), node(1 / 3, 1, 3, 5)])
    assert tree.is_done and tree.search.best.output == [1, 2]
    evaluated = Tree(0, Request((1,), 100), replace(SEARCH, search="bfs"))
    evaluated.grow([node(0.9, 1, 2, finish=Finish.STOP_ID), node(0.0, 1, 3)])
    assert not evaluated.is_done  # a value of its own may be higher later


def test_a_line_that_was_cut_off_with_all_votes_leaves_the_others_a_vote() -> None:
    tree = Tree(0, Request((1,), 100), replace(SEARCH, search="bfs"), is_vote=True)
    tree.grow([node(1.0, 1, 2, finish=Finish.LENGTH), node(0.0, 1, 3)])
    assert not tree.is_done and tree.value_at_stake == 1.0


class WatchedVote(VoteValue):
    """Keeps the shares of each ballot."""

    ballots: ClassVar[list[list[float]]] = []

    def __call__(self, runner: ModelRunner, ballots: Sequence[Ballot]) -> list[Values]:
        all_values = super().__call__(runner, ballots)
        self.ballots.extend(values.values for values in all_values)
        return all_values


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("family", ["gemma3"], indirect=True)
def test_a_search_recovers_from_a_level_without_a_valid_vote(student: PreTrainedModel, search: str) -> None:
    """Every later line had the value 0 whatever its votes, which were paid for, and a depth-first search
    with a smallest value abandoned all lines at once."""
    vote = WatchedVote(list_ids, spell, QUESTIONS[1].ids, REPLIES, 6, MOST_SHOWN)
    settings, request = SEARCHES[search], replace(requests(1)[0], seed=SEEDS[search])
    vote.ballots.clear()
    [result] = run(student, [request], settings, vote)
    first, *later = vote.ballots
    assert first == [1 / len(first)] * len(first)
    assert any(len(set(shares)) > 1 for shares in later)
    assert result.output_ids == slow_tot(student, request, settings, "vote")[0]


def run_watched(
    student: PreTrainedModel, settings: TreeSettings, value: StateValue | VoteValue, rows: int
) -> tuple[Result, list[int]]:
    """The result of one request, and the number of tokens in each pass of the model for it."""
    seen: list[int] = []
    hook = student.get_input_embeddings().register_forward_hook(
        lambda module, ids, states: seen.append(ids[0].numel())
    )
    ModelRunner(student, "student").allocate(1, 8)  # compares a few passes with transformers' own, once
    num_compared = len(seen)
    [result] = run(student, [requests(1)[0]], settings, value, rows)
    hook.remove()
    return result, seen[2 * num_compared :]


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("family", ["llama"], indirect=True)
def test_costs_are_the_tokens_and_passes_that_the_model_sees(student: PreTrainedModel, name: str) -> None:
    """Passes that evaluate were not counted, and each line's last token was counted twice."""
    single = TreeSettings(1, 1, budget=10_000, depth=100, sampling=None)
    result, seen = run_watched(student, single, VALUES[name], rows=1)
    usage = result.usage
    assert usage.forwards == len(seen)
    if name != "words":  # the last token of a reply is generated, and in no pass
        generated = usage.tokens + usage.discarded_tokens
        is_last_read = name == "yes_no" and result.finish is Finish.LENGTH  # the question follows it
        assert usage.prefill_tokens + usage.evaluation_tokens + generated - 1 + is_last_read == sum(seen)
        assert usage.drafted_steps > 1


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("family", ["qwen2"], indirect=True)
def test_costs_of_a_tree_are_at_most_what_the_model_sees(student: PreTrainedModel, name: str) -> None:
    """Tokens that were generated and in no pass, the last ones of lines that are not continued, count."""
    result, seen = run_watched(student, SEARCH, VALUES[name], rows=12)
    usage = result.usage
    counted = usage.prefill_tokens + usage.evaluation_tokens + usage.tokens + usage.discarded_tokens
    replies = 2 * usage.drafted_steps * NUM_REPLIES if name in ("words", "vote") else 0
    assert 0 <= counted - sum(seen) <= usage.drafted_steps + replies


def node(value: float, *output: int, finish: Finish | None = None, depth: int = 1) -> Node:
    return Node(list(output), value=value, finish=finish, depth=depth)


def test_breadth_first_the_best_value_wins_and_complete_solutions_leave_the_beam() -> None:
    search = BreadthFirst(beam=2, depth=9)
    assert search.add([node(0.2, 4), node(0.9, 5, 9, finish=Finish.STOP_ID), node(0.5, 6)]) == 2
    assert [one.output for one in search.complete] == [[5, 9]]
    assert [one.output for one in search.parents] == [[6]]
    assert search.best.output == [5, 9]
    search.add([node(0.95, 6, 1, finish=Finish.STOP_ID)])
    assert not search.parents and search.best.output == [6, 1]


def test_depth_first_goes_back_to_the_next_best() -> None:
    search = DepthFirst(depth=2, min_value=0.3)
    assert search.add([node(0.4, 4), node(0.9, 5), node(0.2, 6), node(0.4, 7)]) == 3  # 6 is abandoned
    assert [one.output for one in search.parents] == [[5]]
    assert search.add([node(0.1, 5, 1, depth=2), node(0.8, 5, 2, depth=2)]) == 0  # too low, too deep
    assert [one.output for one in search.parents] == [[4]]  # the first of equal values
    # The best continuation is unfinished, so the complete one has to wait until the search comes back.
    assert search.add([node(0.5, 4, 3, finish=Finish.STOP_ID, depth=2), node(0.6, 4, 4, depth=1)]) == 2
    assert search.best.output == [4, 3]  # if the budget ended here
    search.add([node(0.0, 4, 4, 4, depth=2)])
    assert not search.parents and search.best.output == [4, 3]


def test_depth_first_without_a_complete_solution() -> None:
    search = DepthFirst(depth=9, min_value=0.3)
    search.add([node(0.4, 4), node(0.5, 5)])
    assert search.best.output == [5]  # what would be continued next
    search.add([node(0.1, 5, 1), node(0.2, 5, 2)])
    search.add([node(0.15, 4, 1)])
    assert not search.parents and search.best.output == [5, 2]  # all are abandoned: the best of them


def test_breadth_first_a_text_that_was_cut_off_is_no_complete_solution() -> None:
    """It beat a solution that had ended, and took one of the places of the beam."""
    search = BreadthFirst(beam=1, depth=9)
    search.add([node(0.99, 5, 5, finish=Finish.LENGTH), node(0.5, 4)])
    assert [one.output for one in search.parents] == [[4]]
    assert search.best.output == [5, 5]  # if the budget ended here
    search.add([node(0.4, 4, 3, finish=Finish.STOP_STRING)])
    assert not search.parents and search.best.output == [4, 3]


def test_depth_first_goes_on_behind_a_text_that_was_cut_off() -> None:
    """The search ended with it, although budget and other continuations were left."""
    search = DepthFirst(depth=9, min_value=0.3)
    search.add([node(0.9, 5, 5, finish=Finish.LENGTH), node(0.5, 4)])
    assert [one.output for one in search.parents] == [[4]]
    search.add([node(0.4, 4, 3, finish=Finish.STOP_ID)])
    assert not search.parents and search.best.output == [4, 3]
    only = DepthFirst(depth=9, min_value=0.3)
    assert only.add([node(0.9, 5, 5, finish=Finish.LENGTH)]) == 1
    assert not only.parents and only.best.output == [5, 5]


# ---------------------------------------------------------------- values


class Words:
    """A tokenizer with two words and four replies."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        vocabulary = {"yes": 1, " yes": 2, "no": 3, " no": 4}
        return [vocabulary[text]] if text in vocabulary else [7, 8]


def value_settings(name: Any, most_branches: int = 8) -> ValueSettings:
    return ValueSettings(name, 3, 8, None, most_branches, 16)


def test_the_two_forms_of_the_question_agree_on_what_is_good() -> None:
    """`no` is the good reply to the form that asks for a mistake."""
    value = make_value(value_settings("yes_no"), Words(), spell, has_chat_template=False)
    assert isinstance(value, YesNoValue)
    assert [(q.good, q.bad) for q in value.questions] == [((1, 2), (3, 4)), ((3, 4), (1, 2))]


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("certain", 1.0),
        (" Doubtful.", 0.05),
        ("It is HOPELESS", 0.00005),
        ("uncertain", None),
        ("maybe", None),
        ("Not certain.", None),
        ("I am not hopeless", None),
        ("It isn't at all certain", None),
        ("That can’t be certain", None),
        ("never certain", None),
        ("far from hopeless", None),
        ("Hardly CERTAIN", None),
        ("neither certain nor doubtful", None),
        ("not certain, doubtful", 0.05),
        ("not certain but doubtful", 0.05),
        ("Nothing is wrong. certain", 1.0),
        ("It does not fail; certain", 1.0),
    ],
)
def test_the_value_of_a_verdict(reply: str, value: float | None) -> None:
    """`Not certain.` had the value of `certain`, the highest one."""
    assert verdict_value(reply, is_complete=True) == value


@pytest.mark.parametrize(
    ("count", "reply", "is_complete", "number"),
    [
        (8, " 3", False, 3),
        (8, "number 3.", False, 3),
        (8, "none", True, None),
        (8, "9", False, 0),
        (8, "0", False, 0),
        (12, "1", False, None),  # it may become 12
        (12, "1", True, 1),
        (12, "12", False, 12),
        (12, "1.", False, 1),
        (12, "2", False, 2),
    ],
)
def test_the_number_that_a_vote_names(count: int, reply: str, is_complete: bool, number: int | None) -> None:
    assert voted(count, reply, is_complete) == number


def test_a_ballot_shows_the_end_of_each_continuation_behind_what_they_share() -> None:
    value = VALUES["vote"]
    assert isinstance(value, VoteValue)
    long = [1, 5, *[2] * 20, 3]
    ids = value.ballot_ids(Ballot((50, 51), [[1, 5, 7, 10], long], 2, seed=0))
    shown = [f"{i}.\n{spell(part).strip()}" for i, part in ((1, [7, 10]), (2, long[-MOST_SHOWN:]))]
    listed = list_ids("\n\n".join(["\n\nFrom here the solution can go on in one of these ways.", *shown]))
    assert ids == [50, 51, 1, 5, *listed, *QUESTIONS[1].ids]
    assert len(ids) + REPLIES.max_tokens <= 4 + value.extra_slots


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


def test_no_number_of_lines_cuts_a_text_by_default() -> None:
    """The default was 24 lines: 62 of 200 solutions of GSM8k ended there; greedy has no such limit."""
    single = {**EMBEDDED, "beam": 1, "branch": 1, "temperature": 0, "max_line": 1}  # a token a line
    greedy_texts = texts(evaluate("greedy", {}, limit=3))
    assert texts(evaluate("tot", single, limit=3)) == greedy_texts
    cut_off = texts(evaluate("tot", {**single, "depth": 24}, limit=3))
    assert all(text.startswith(part) for text, part in zip(greedy_texts, cut_off, strict=True))
    assert cut_off != greedy_texts


@pytest.mark.parametrize("more", [{"value": "vote"}, {"search": "dfs", "min_value": 0.5}])
def test_the_backend_with_other_searches_and_values(more: dict[str, Any]) -> None:
    """With fewer rows than a level has; within the budget, and what is read is counted apart."""
    model_args = {**EMBEDDED, **more}
    one_by_one, together = (evaluate("tot", model_args, batch_size=size, limit=2) for size in (3, 16))
    assert texts(one_by_one) == texts(together)
    for results in (one_by_one, together):
        generated = counts(results)["tokens"] + counts(results)["discarded_tokens"]
        assert generated <= 2 * (EMBEDDED["budget"] + EMBEDDED["max_line"] - 1)  # type: ignore[operator]
        assert (counts(results)["evaluation_tokens"] > 0) == ("value" in more)
        described = ours(results)["search"]
        assert {name: described[name] for name in more} == more


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
        ({"value": "word"}, r"^value: expected one of yes_no, loglik, words, vote, got 'word'$"),
        ({"search": "best"}, r"^search: expected one of bfs, dfs, got 'best'$"),
        ({"search": "dfs", "beam": 3}, r"^beam: search=dfs does not use it, got beam=3; leave it out$"),
        ({"min_value": 0.1}, r"^min_value: search=bfs does not use it, got min_value=0\.1; leave it out$"),
        ({"search": "dfs", "min_value": 2}, r"^min_value: expected a share from 0 to 1, got 2$"),
        ({"replies": 5}, r"^replies: value=yes_no does not use it, got replies=5; leave it out$"),
        ({"temperature": 0, "top_p": 0.5}, r"^top_p: temperature=0 \(nothing is sampled\) does not use it"),
        ({"temperature": 0, "sample_top_k": 3}, r"^sample_top_k: temperature=0 \(nothing is sampled\) does"),
        ({"temperature": 0, "value": "words", "replies": 5}, r"^replies: temperature=0 \(nothing is sampled"),
        ({"value": "vote", "max_reply": 0}, r"^max_reply: expected a whole number of at least 1, got 0$"),
        ({"delimiter": "word"}, r"^delimiter: expected one of line, paragraph, sentence, got 'word'$"),
        ({"beem": 2}, r"^--model tot: unknown argument 'beem'; did you mean 'beam'\?$"),
        ({}, r"^value=yes_no: tokenizer: expected one of the replies yes, Yes, YES to be a single token"),
    ],
)
def test_bad_arguments_get_one_clear_line(model_args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TreeOfThoughts(STUDENT, **model_args)


@pytest.mark.parametrize(("name", "reply"), [("words", "certain"), ("vote", "1")])
def test_replies_that_a_tokenizer_cannot_write_are_refused(name: str, reply: str) -> None:
    with pytest.raises(QuestionError, match=f"expected the reply '{reply}' to be text that it can write"):
        make_value(value_settings(name), Words(), spell, has_chat_template=False)


def test_the_embedded_tokenizer_has_no_word_for_yes() -> None:
    """Its pair therefore has `value=loglik`; without this the message above could be another fault's."""
    assert "yes" not in tokenizer().get_vocab() and "Ġyes" not in tokenizer().get_vocab()
    assert reply_ids(tokenizer(), ["y"])


def test_the_context_is_the_model_s_whatever_an_evaluation_needs() -> None:
    """It was shown and recorded as what an evaluation leaves of it: -1 tokens of 1024, for instance."""
    vote = {**EMBEDDED, "value": "vote"}
    model, plain = TreeOfThoughts(STUDENT, **vote), TreeOfThoughts(STUDENT, **EMBEDDED)
    assert model.max_length == model.describe()["max_length"] == plain.max_length
    ids = model._encode("2+3=" * 2000, 16)
    assert len(ids) == model.max_length - 16 - model.reserved_tokens
    described = {"beam": 2, "branch": 4, "max_line": 64, "max_reply": 8}
    shown = ", ".join(f"{name}={value}" for name, value in {"value": "vote", **described}.items())
    with pytest.raises(ValueError, match=f"document 0: max_gen_toks: .*{re.escape(shown)}") as got:
        evaluate("tot", {**vote, **described, "budget": 2000}, limit=1)
    assert "context of 1024 tokens, got an answer of " in str(got.value)
    assert "got -" not in str(got.value) and " -" not in str(got.value)


def test_an_answer_as_long_as_the_context_is_no_fault_of_an_evaluation() -> None:
    with pytest.raises(ValueError, match=r"^max_gen_toks: expected less than the model's context of 1024"):
        TreeOfThoughts(STUDENT, **EMBEDDED)._encode("2+3=", 1024)
