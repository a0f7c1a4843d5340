"""Tree of Thoughts (arXiv 2305.10601) over lines, on the engine's cache rows.

In each level every solution that is continued gets several continuations by one line, in cache rows that copy
the keys and values of their common beginning. Their values decide which of them are continued, in the order
of the search (`search.py`). The requests of a run share the passes of their levels. What differs from the
paper: a thought is a line, the value is read from logits by default, and all branches of a request share a
budget of generated tokens.
"""

from __future__ import annotations

import logging
from collections import abc, deque

import numpy as np
import torch
from torch import Tensor

from s2t_eval.engine.out_of_memory import is_out_of_memory
from s2t_eval.engine.prefix_cache import common_prefix
from s2t_eval.engine.request import Request, Result, longest_text
from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.sampling import derive_seed
from s2t_eval.engine.scheduler import Scheduler
from s2t_eval.engine.selection_step import SelectionStepper
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import OnRound, Round, greedy_tokens, sampled_tokens
from s2t_eval.engine.stop import AnswerOf, Decode, StopRule
from s2t_eval.methods.reasoning_steps import StepEnds
from s2t_eval.methods.tot.node import Branch, distinct
from s2t_eval.methods.tot.search import TreeSettings
from s2t_eval.methods.tot.tree import Tree
from s2t_eval.methods.tot.values import StateValue
from s2t_eval.methods.tot.vote import Ballot, VoteValue
from s2t_eval.selection.policy import Policy

logger = logging.getLogger(__name__)

TOT = Policy("tot")
"""Its description in results: no trigger and no selector."""


class TreeDecoder(Scheduler[Sequence]):
    """Decodes each request by a tree search of its own.

    Args:
        student: writes and evaluates the solutions.
        settings: the shape of the search.
        ends: when a line is complete.
        value: evaluates unfinished solutions.
        rows: branches decoded at once, of all requests together.
        decode: token ids to text, for requests with stop strings.
        answer_of: extracts the answer outside of a text's thoughts, for requests with thoughts.

    Raises:
        ValueError: fewer than one row.
    """

    def __init__(
        self,
        student: ModelRunner,
        settings: TreeSettings,
        ends: StepEnds,
        value: StateValue | VoteValue,
        rows: int = 32,
        decode: Decode | None = None,
        answer_of: AnswerOf | None = None,
    ) -> None:
        super().__init__(SelectionStepper(student, TOT), rows, decode, answer_of)
        self.student = student
        self.settings = settings
        self.ends = ends
        self.value = value

    def run(self, requests: abc.Sequence[Request], on_round: OnRound | None = None) -> abc.Iterator[Result]:
        """Generate; each result is yielded as soon as its search has ended.

        When memory runs out, the number of rows is halved and the level is generated again.

        Args:
            requests: the texts to generate.
            on_round: called with the texts whose search has just ended. Branches are not passed: tokens
                that an observer has received are never removed.

        Raises:
            NonFiniteLogitsError: the model's logits are NaN or infinite.
        """
        queue = deque(enumerate(requests))
        longest = longest_text(requests)
        per_tree = self.settings.most_branches
        rows, active = min(self.rows, per_tree * len(queue)), list[Tree]()
        while queue or active:
            while queue and (not active or (len(active) + 1) * per_tree <= rows):
                active.append(Tree(*queue.popleft(), self.settings, isinstance(self.value, VoteValue)))
            try:
                self.student.allocate(rows, longest, self.value.extra_slots + 1)
                self._expand_level(active, rows)
            except BaseException as error:  # Ctrl-C too, after which a session goes on with this model
                self.student.release()
                if not is_out_of_memory(error) or rows == 1:
                    raise
                rows //= 2
                logger.warning("out of memory: continuing with %d rows at once", rows)
            results = [tree.result() for tree in active if tree.is_done]
            if results and on_round is not None:
                on_round(self._final_round(results))
            yield from results
            active = [tree for tree in active if not tree.is_done]

    def _final_round(self, results: abc.Sequence[Result]) -> Round:
        """The round in which these texts end, for an observer."""
        seqs = [Sequence(result.index, result.request, self._stop_rule(result.request)) for result in results]
        for seq, result in zip(seqs, results, strict=True):
            seq.output = result.output_ids
        return Round(seqs, [(row, result.finish) for row, result in enumerate(results)])

    # ---------------------------------------------------------------- one level

    @torch.inference_mode()
    def _expand_level(self, trees: abc.Sequence[Tree], rows: int) -> None:
        """One level of these trees; the trees change only after all branches are complete."""
        max_line, most_sampled = self.ends.max_tokens, self.value.most_sampled
        tree_branches = [tree.branches(self._stop_rule, max_line, most_sampled) for tree in trees]
        branches = [branch for own in tree_branches for branch in own]
        known_values: dict[tuple[int, ...], float] = {}
        read = {id(branch.parent) for branch in branches if branch.parent.is_read}
        for start in range(0, len(branches), rows):
            batch = branches[start : start + rows]
            self._decode_lines(batch, read)
            if not isinstance(self.value, VoteValue):
                self._evaluate(batch, self.value, known_values)
        if isinstance(self.value, VoteValue):
            self._vote(trees, tree_branches, self.value, rows)
        for tree, own in zip(trees, tree_branches, strict=True):
            for name in ("forwards", "prefill_tokens", "evaluation_tokens"):
                total = sum(getattr(branch.usage, name) for branch in own)
                setattr(tree.usage, name, getattr(tree.usage, name) + total)
            tree.grow([branch.node for branch in own], sum(branch.num_sampled for branch in own))

    def _stop_rule(self, request: Request) -> StopRule:
        return StopRule(request, self.decode, self.answer_of)

    def _decode_lines(self, branches: abc.Sequence[Branch], read: set[int]) -> None:
        """Decode each branch's line, in the row of its index in the list.

        Args:
            branches: of one level.
            read: identities of the parents whose last token has been computed; those computed here are added.
        """
        hidden = self._prefill(branches, read)
        rows = self._append_tokens(branches, list(range(len(branches))), hidden)
        while rows:
            hidden = torch.cat(self.student.extend(rows, [[branches[row].ids[-1]] for row in rows]))
            for row in rows:
                branches[row].usage.forwards += 1
            rows = self._append_tokens(branches, rows, hidden)

    def _prefill(self, branches: abc.Sequence[Branch], read: set[int]) -> Tensor:
        """States at the ends of the branches' texts; prefixes that rows share are computed once.

        A parent's last token is computed here for the first time, unless it was computed in order to evaluate
        the parent. That counts as part of generating it; what is computed once more counts as prefilled.
        """
        texts = [branch.ids for branch in branches]
        hidden, computed = self.student.prefill(range(len(branches)), texts)
        for branch, tokens in zip(branches, computed, strict=True):
            branch.usage.forwards += 1
            is_first = bool(tokens and branch.parent.output) and id(branch.parent) not in read
            branch.usage.prefill_tokens += tokens - is_first
            read.add(id(branch.parent))
        return hidden

    def _append_tokens(self, branches: abc.Sequence[Branch], rows: list[int], hidden: Tensor) -> list[int]:
        """A token for each of these rows; returns the rows whose line is not complete."""
        active = [branches[row] for row in rows]
        logits = self.student.head(hidden)
        most_likely = logits.max(-1)
        greedy = greedy_tokens(self.student, active, most_likely.values, most_likely.indices)
        tokens = sampled_tokens(active, logits, greedy)
        unfinished = []
        log_probs = _log_probs_of(logits, tokens)
        for row, branch, token, log_prob in zip(rows, active, tokens, log_probs, strict=True):
            branch.node.finish = branch.append(token)
            branch.node.log_likelihood += log_prob
            if branch.node.finish is None and not self.ends.is_end(branch.node.line):
                unfinished.append(row)
        return unfinished

    def _evaluate(
        self, branches: abc.Sequence[Branch], value: StateValue, known_values: dict[tuple[int, ...], float]
    ) -> None:
        """Values of the different branches; equal ones of a level have the value of the first.

        Args:
            branches: in the rows of their indices in the list.
            value: evaluates them.
            known_values: request and output -> value, of the level's branches that have one.
        """
        keys = [(branch.index, *branch.output) for branch in branches]
        rows = [row for row in sorted(set(distinct(keys))) if keys[row] not in known_values]
        if rows:
            texts = [[*branches[row].request.prompt_ids, *branches[row].solution] for row in rows]
            values = value(self.student, rows, texts, [branches[row] for row in rows])
            for row, one, num_read, num_sampled, passes in zip(rows, *values, strict=True):
                known_values[keys[row]] = one
                branches[row].usage.evaluation_tokens += num_read
                branches[row].usage.forwards += passes
                branches[row].num_sampled = num_sampled
                branches[row].node.is_read = passes > 0
        for branch, key in zip(branches, keys, strict=True):
            branch.node.value = known_values[key]

    def _vote(
        self,
        trees: abc.Sequence[Tree],
        tree_branches: abc.Sequence[abc.Sequence[Branch]],
        value: VoteValue,
        rows: int,
    ) -> None:
        """Values of all branches by a vote over those of each tree.

        They share what their parents have (`Tree.value_at_stake`): shares of different ballots could not be
        compared with each other.
        """
        candidates = [_different(own) for own in tree_branches]
        for own in candidates:
            own[0].node.value = 1.0
        voting = [own for own in candidates if len(own) > 1]
        for start in range(0, len(voting), rows):
            batch = voting[start : start + rows]
            ballots = [_ballot(own) for own in batch]
            longest = max(len(value.ballot_ids(ballot)) for ballot in ballots)
            self.student.allocate(rows, longest, value.replies.max_tokens)
            for own, values in zip(batch, value(self.student, ballots), strict=True):
                for branch, one, num_read, num_sampled, passes in zip(own, *values, strict=True):
                    branch.node.value = one
                    branch.usage.evaluation_tokens += num_read
                    branch.usage.forwards += passes
                    branch.num_sampled = num_sampled
        for tree, own in zip(trees, candidates, strict=True):
            at_stake = tree.value_at_stake
            for branch in own:
                branch.node.value *= at_stake


def _different(branches: abc.Sequence[Branch]) -> list[Branch]:
    """The first branch of each output."""
    return [branches[i] for i in sorted(set(distinct([branch.output for branch in branches])))]


def _ballot(branches: abc.Sequence[Branch]) -> Ballot:
    """The ballot of one tree's branches; they share what their parents have in common."""
    first, *others = [np.asarray(branch.output[: branch.node.first]) for branch in branches]
    num_shared = min((common_prefix(first, other) for other in others), default=len(first))
    request = branches[0].request
    seed = derive_seed(request.seed, "vote", *(token for branch in branches for token in branch.output))
    return Ballot(request.prompt_ids, [branch.solution for branch in branches], num_shared, seed)


def _log_probs_of(logits: Tensor, tokens: abc.Sequence[int]) -> list[float]:
    """Log-probability of one token in each row of logits [n, vocab]."""
    token_ids = torch.tensor(tokens, device=logits.device)[:, None]
    log_probs: list[float] = (logits.gather(-1, token_ids)[:, 0] - logits.logsumexp(-1)).tolist()
    return log_probs
