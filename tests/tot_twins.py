"""A slow tree search: every token is computed from its whole text, without caches, rows or batches."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from transformers import PreTrainedModel

from s2t_eval.engine import ModelRunner, Request, Result, Sampling, derive_seed
from s2t_eval.engine.request import Finish
from s2t_eval.engine.sampling import sample
from s2t_eval.engine.stop import StopRule
from s2t_eval.methods.tot.decoder import TreeDecoder
from s2t_eval.methods.tot.replies import ReplySampler
from s2t_eval.methods.tot.search import TreeSettings
from s2t_eval.methods.tot.values import (
    VERDICTS,
    LikelihoodValue,
    Question,
    StateValue,
    WordsValue,
    YesNoValue,
)
from s2t_eval.methods.tot.vote import VoteValue
from tests.methods.test_specreason import ENDS, slow_content, spell
from tests.twins import logits_after

QUESTIONS = (Question((7, 9, 11), (1, 2, 31), (3, 4, 32)), Question((13, 17), (3, 33), (1, 2, 34)))
NUM_REPLIES, MAX_REPLY = 3, 4
REPLY_SAMPLING = Sampling(0.8, 0.9, 10)
SEARCH = TreeSettings(beam=2, branch=3, budget=120, depth=5, sampling=Sampling(0.8, 0.9, 10))
MOST_SHOWN = 5
STOP = 97
"""A token that ends a reply."""


def say(ids: Sequence[int]) -> str:
    """A reply's text: most tokens are no verdict, some are a word, some are one with a number."""
    words = ["certain", "doubtful", "hopeless", "1", "2", "3", "4", "5", "6", "\n", "not"]
    return " ".join(words[token % 20] if token % 20 < len(words) else "x" for token in ids)


def list_ids(text: str) -> list[int]:
    """Token ids of a list of continuations."""
    return [ord(character) % 100 for character in text]


REPLIES = ReplySampler(say, NUM_REPLIES, MAX_REPLY, REPLY_SAMPLING, frozenset({STOP}))
EACH: dict[str, StateValue] = {
    "yes_no": YesNoValue(QUESTIONS),
    "loglik": LikelihoodValue(),
    "words": WordsValue(QUESTIONS[0].ids, REPLIES),
}
VALUES: dict[str, StateValue | VoteValue] = {
    **EACH,
    "vote": VoteValue(list_ids, spell, QUESTIONS[1].ids, REPLIES, 6, MOST_SHOWN),
}


def run(
    student: PreTrainedModel,
    asked: Sequence[Request],
    settings: TreeSettings,
    value: StateValue | VoteValue,
    rows: int = 12,
) -> list[Result]:
    """The engine's texts in the order of the requests."""
    decoder = TreeDecoder(ModelRunner(student, "student"), settings, ENDS, value, rows, spell)
    results = {result.index: result for result in decoder.run(asked)}
    return [results[i] for i in range(len(asked))]


class Solution(NamedTuple):
    """A solution of the slow search."""

    output: list[int]
    parent: list[int]
    depth: int
    value: float = 0.0


@torch.no_grad()
def log_likelihood(model: PreTrainedModel, prompt: list[int], output: list[int]) -> float:
    """Sum of the log-probabilities of an output."""
    log_probs = model(torch.tensor([[*prompt, *output]])).logits[0].float().log_softmax(-1)
    return sum(float(log_probs[len(prompt) - 1 + i, token]) for i, token in enumerate(output))


def slow_replies(model: PreTrainedModel, question: list[int], seed: int) -> list[list[int]]:
    """All replies behind a question."""
    replies = []
    for number in range(NUM_REPLIES):
        numbers = random.Random(derive_seed(seed, number))
        reply: list[int] = []
        while len(reply) < MAX_REPLY and STOP not in reply and "\n" not in say(reply).lstrip():
            if slow_verdict(reply) is not None if question[-1] == 11 else re.search(r"\d", say(reply)):
                break
            logits = logits_after(model, [*question, *reply])
            reply.append(int(sample(logits[None], REPLY_SAMPLING, [numbers.random()])[0]))
        replies.append(reply)
    return replies


def slow_verdict(reply: list[int]) -> float | None:
    """The value of the first verdict, unless a `not` is before it."""
    for word in say(reply).split():
        if word == "not":
            return None
        if word in VERDICTS:
            return VERDICTS[word]
    return None


def slow_value(model: PreTrainedModel, name: str, request: Request, solution: Solution) -> tuple[float, int]:
    """Value of one solution, and the tokens sampled for it."""
    prompt, output = list(request.prompt_ids), solution.output
    if name == "loglik":
        return float(torch.tensor(log_likelihood(model, prompt, output) / len(output)).exp()), 0
    solved = slow_content([], output, request)
    if name == "words":
        seed = derive_seed(request.seed, "value", *output)
        replies = slow_replies(model, [*prompt, *solved, *QUESTIONS[0].ids], seed)
        return sum(slow_verdict(reply) or 0.0 for reply in replies) / NUM_REPLIES, sum(map(len, replies))
    shares = []
    for question in QUESTIONS:
        p = logits_after(model, [*prompt, *solved, *question.ids]).softmax(-1)
        good, bad = float(p[list(question.good)].sum()), float(p[list(question.bad)].sum())
        shares.append(good / (good + bad))
    return sum(shares) / len(shares), 0


def slow_vote(model: PreTrainedModel, request: Request, solutions: list[Solution]) -> tuple[list[float], int]:
    """Shares of the votes for all solutions of a level, and the tokens sampled for them."""
    if len(solutions) == 1:
        return [1.0], 0
    parents = [solution.parent for solution in solutions]
    shared = 0
    while all(len(p) > shared and p[shared] == parents[0][shared] for p in parents):
        shared += 1
    listed = ["\n\nFrom here the solution can go on in one of these ways."]
    for number, solution in enumerate(solutions, 1):
        listed.append(
            f"{number}.\n{spell(slow_content([], solution.output, request)[shared:][-MOST_SHOWN:]).strip()}"
        )
    beginning = [*request.prompt_ids, *parents[0][:shared]]
    seed = derive_seed(request.seed, "vote", *(t for s in solutions for t in s.output))
    question = [*beginning, *list_ids("\n\n".join(listed)), *QUESTIONS[1].ids]
    replies = slow_replies(model, question, seed)
    found = [re.search(r"\d", say(reply)) for reply in replies]
    numbers = [int(match[0]) for match in found if match]
    votes = [number for number in numbers if number in range(1, len(solutions) + 1)]
    num_sampled = sum(len(reply) for reply in replies)
    if not votes:
        return [1 / len(solutions) for _ in solutions], num_sampled
    return [votes.count(i + 1) / NUM_REPLIES for i in range(len(solutions))], num_sampled


def slow_children(
    model: PreTrainedModel,
    request: Request,
    settings: TreeSettings,
    parents: list[Solution],
    place: list[int],
) -> tuple[list[Solution], int]:
    """The continuations of some solutions in order, equal ones once; and their tokens."""
    assert settings.sampling is not None
    stop, (affordable, level) = StopRule(request, spell), place
    places = [(parent, k) for k in range(settings.branch) for parent in range(len(parents))][:affordable]
    children: dict[tuple[int, ...], Solution] = {}
    num_tokens = 0
    for parent, k in sorted(places):
        numbers = random.Random(derive_seed(request.seed, level, parent, k))
        begin, line = parents[parent], list[int]()
        while not (line and (ENDS.is_end(line) or stop.would_finish([*begin.output, *line]))):
            logits = logits_after(model, [*request.prompt_ids, *begin.output, *line])
            line.append(int(sample(logits[None], settings.sampling, [numbers.random()])[0]))
        num_tokens += len(line)
        output = [*begin.output, *line]
        children.setdefault(tuple(output), Solution(output, begin.output, begin.depth + 1))
    return list(children.values()), num_tokens


def slow_tot(
    model: PreTrainedModel, request: Request, settings: TreeSettings, name: str
) -> tuple[list[int], int]:
    """One text; with the generated tokens of all branches and replies."""
    is_complete = partial(_is_complete, StopRule(request, spell))
    is_cut_off = partial(_is_cut_off, StopRule(request, spell))
    frontier, complete, abandoned = [Solution([], [], 0)], list[Solution](), list[Solution]()
    spent = level = 0
    stake = 1.0  # what the votes over the next level divide
    while frontier and spent < settings.budget:
        if settings.search == "bfs" and (len(complete) >= settings.beam or level >= settings.depth):
            break
        if settings.search == "dfs" and is_complete(frontier[-1]):
            return frontier[-1].output, spent
        parents = frontier if settings.search == "bfs" else [frontier.pop()]
        affordable = max(1, _affordable(settings, name, settings.budget - spent))
        children, num_tokens = slow_children(model, request, settings, parents, [affordable, level])
        spent, level = spent + num_tokens, level + 1
        if name == "vote":
            values, sampled = slow_vote(model, request, children)
            spent += sampled
            values = [stake * value for value in values]
        else:
            pairs = [slow_value(model, name, request, child) for child in children]
            values, spent = [value for value, _ in pairs], spent + sum(num for _, num in pairs)
        children = [c._replace(value=value) for c, value in zip(children, values, strict=True)]
        by_value = sorted(children, key=lambda child: -child.value)
        if settings.search == "bfs":
            abandoned += [child for child in children if is_cut_off(child)]
            kept = [child for child in by_value if not is_cut_off(child)][: settings.beam - len(complete)]
            complete += [child for child in kept if is_complete(child)]
            frontier = [child for child in kept if not is_complete(child)]
            left = sum(child.value for child in frontier)
            if name == "vote" and any(child.value >= left for child in complete):
                break  # not even all votes of all later levels beat that solution
            stake = left if left > 0 else 1.0
            continue
        at_end = [c for c in children if is_cut_off(c) or (c.depth >= settings.depth and not is_complete(c))]
        left_out = [c for c in children if c.value < settings.min_value or c in at_end]
        abandoned += left_out
        frontier += [child for child in reversed(by_value) if child not in left_out]
    return _answer(settings, frontier, complete, abandoned, is_complete), spent


def _is_complete(stop: StopRule, solution: Solution) -> bool:
    return bool(solution.output) and stop.would_finish(solution.output) not in (None, Finish.LENGTH)


def _is_cut_off(stop: StopRule, solution: Solution) -> bool:
    return bool(solution.output) and stop.would_finish(solution.output) is Finish.LENGTH


def _affordable(settings: TreeSettings, name: str, left: int) -> int:
    """Continuations that a level can have within the rest of the budget."""
    num = settings.most_branches
    replies = NUM_REPLIES * MAX_REPLY
    cost = {"words": lambda n: n * replies, "vote": lambda n: replies if n > 1 else 0}.get(name, lambda n: 0)
    while num > 0 and num * ENDS.max_tokens + cost(num) > left:
        num -= 1
    return num


def _answer(
    settings: TreeSettings,
    frontier: list[Solution],
    complete: list[Solution],
    abandoned: list[Solution],
    is_complete: Callable[[Solution], bool],
) -> list[int]:
    if settings.search == "bfs":
        return max(complete or [*frontier, *abandoned], key=lambda child: child.value).output
    if frontier and is_complete(frontier[-1]):
        return frontier[-1].output
    complete = [child for child in [*frontier, *abandoned] if is_complete(child)]
    return max(complete or frontier[-1:] or abandoned, key=lambda child: child.value).output
