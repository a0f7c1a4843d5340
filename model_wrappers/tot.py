"""`--model tot`: Tree of Thoughts over lines, with values from the student's own logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from lm_eval.api.instance import Instance

from s2t_eval.engine import Sampling
from s2t_eval.method_table import DELIMITERS, Delimiter
from s2t_eval.methods.questions import QuestionError
from s2t_eval.methods.reasoning_steps import StepEnds
from s2t_eval.methods.tot.decoder import TOT, TreeDecoder
from s2t_eval.methods.tot.make_value import VALUES, ValueName, ValueSettings, make_value
from s2t_eval.methods.tot.search import SEARCHES, SearchName, TreeSettings
from s2t_eval.methods.tot.values import StateValue
from s2t_eval.methods.tot.vote import VoteValue
from s2t_eval.model_wrappers.argument_checks import (
    require_int,
    require_number,
)
from s2t_eval.model_wrappers.arguments import CommonArguments
from s2t_eval.model_wrappers.harness_tasks import built_task
from s2t_eval.model_wrappers.step_evaluation import StepEvaluationLM
from s2t_eval.ranges import NOT_NEGATIVE, SHARE, TOP_P, require_choice, require_unused
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.triggers import Trigger


@dataclass(frozen=True)
class TreeArguments(CommonArguments):
    """Arguments of `tot`.

    Args:
        search: `bfs`, level by level with a beam; `dfs`, the best continuation first, back to the next best
            where a solution is abandoned, up to the first complete one.
        beam: solutions that are continued from one level to the next, and complete ones that end the search;
            of `bfs` alone.
        branch: continuations of each by one line.
        budget: most generated tokens of a text, of all branches and sampled replies together; exceeded by at
            most one line and the replies about it. The default is eight texts of 255 tokens; the cost of
            `maj8` is eight times the mean length of the model's own greedy texts on training problems.
        depth: most lines of a solution. None: as many as the budget and the limit of new tokens allow.
        max_line: most tokens of a line.
        min_value: a continuation whose value is below this is abandoned; of `dfs` alone.
        delimiter: a level ends with a `line`, a `paragraph` (a blank line) or a `sentence`.
        value: `yes_no`, the probability of the reply that the solution is right so far; `loglik`, the
            geometric mean of the probabilities of its tokens; `words`, sampled verdicts on the solution;
            `vote`, sampled votes for one of a level's continuations.
        replies: sampled replies to a question, of `words` and `vote`; one at temperature 0.
        max_reply: most tokens of such a reply.
        temperature: of the continuations and replies; 0 takes the most likely tokens.
        top_p: smallest set of most likely tokens whose mass reaches this.
        sample_top_k: most likely tokens kept; 0 keeps all.
    """

    search: str = TreeSettings.search
    beam: int = TreeSettings.beam
    branch: int = TreeSettings.branch
    budget: int = TreeSettings.budget
    depth: int | None = TreeSettings.depth
    max_line: int = 64
    min_value: float = TreeSettings.min_value
    delimiter: str = "line"
    value: str = "yes_no"
    replies: int = 3
    max_reply: int = 8
    temperature: float = 0.7
    top_p: float = 0.8
    sample_top_k: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("beam", "branch", "budget", "max_line", "replies", "max_reply"):
            require_int(name, getattr(self, name), 1)
        if self.depth is not None:
            require_int("depth", self.depth, 1)
        if self.budget < self.max_line:
            raise ValueError(
                f"budget: expected at least max_line={self.max_line} tokens, got {self.budget}; give a "
                "larger budget, or a smaller max_line"
            )
        require_int("sample_top_k", self.sample_top_k, 0)
        NOT_NEGATIVE.require("temperature", self.temperature)
        require_number("top_p", self.top_p)
        TOP_P.require("top_p", self.top_p)
        SHARE.require("min_value", self.min_value)
        require_choice("search", self.search, SEARCHES)
        require_choice("delimiter", self.delimiter, DELIMITERS)
        require_choice("value", self.value, VALUES)
        self._check_unused()

    def _check_unused(self) -> None:
        """Refuse arguments that this search or value does not use."""
        unused = {"bfs": ("min_value",), "dfs": ("beam",)}[self.search]
        sampled = () if self.value in ("words", "vote") else ("replies", "max_reply")
        require_unused(self, unused, f"search={self.search}")
        require_unused(self, sampled, f"value={self.value}")
        if self.temperature == 0:
            require_unused(self, ("top_p", "sample_top_k", "replies"), "temperature=0 (nothing is sampled)")

    @property
    def sampling(self) -> Sampling | None:
        """How continuations are drawn; None takes the most likely tokens."""
        if self.temperature == 0:
            return None
        return Sampling(self.temperature, self.top_p, self.sample_top_k)


class TreeOfThoughts(StepEvaluationLM):
    """A tree search over lines, breadth-first or depth-first; tasks of code are an error, as for Maj@8.

    Raises:
        ValueError: arguments outside their ranges, a tokenizer without the value's replies, or a task whose
            answers are code.
    """

    METHOD = "tot"
    ARGUMENTS = TreeArguments
    DRAWS = True

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        super().__init__(pretrained, **kwargs)
        self._make_value(has_chat_template=False)  # an unusable value is reported before any text

    @property
    def tree(self) -> TreeArguments:
        """The arguments of `tot`."""
        return cast(TreeArguments, self.arguments)

    @property
    def reserved_tokens(self) -> int:
        """Tokens behind a text that its evaluation needs: a question, for a vote the list, and the reply."""
        return self._make_value(self.has_chat_template).extra_slots

    def _encode(self, context: str, limit: int) -> tuple[int, ...]:
        """As in every backend; the message names the arguments that decide how much an evaluation needs."""
        reserved = self.reserved_tokens
        if reserved and limit >= self.max_length - reserved:
            shown = ", ".join(f"{name}={getattr(self.tree, name)}" for name in self._names_of_reserved)
            raise ValueError(
                "max_gen_toks: expected room for prompt, answer and its evaluation in the model's context "
                f"of {self.max_length} tokens, got an answer of {limit} and an evaluation of {reserved} "
                f"({shown}); lower these numbers, or take value=loglik, which reads no further tokens"
            )
        return super()._encode(context, limit)

    @property
    def _names_of_reserved(self) -> list[str]:
        """The arguments that decide how many tokens are reserved, the value itself first."""
        if self.tree.value == "words":
            return ["value", "max_reply"]
        if self.tree.value != "vote":
            return ["value"]
        beam = ["beam"] if self.tree.search == "bfs" else []
        return ["value", *beam, "branch", "max_line", "max_reply"]

    def policy(self) -> Policy:
        """A policy without trigger or selector: a search selects lines, not tokens."""
        return TOT

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts for the harness's requests; tasks of code are an error before any token is generated."""
        for name in {str(instance.task_name) for instance in requests}:
            if getattr(built_task(name), "UNSAFE_CODE", False):
                raise ValueError(
                    f"{self.METHOD}: the answers of task {name} are code, whose lines are no steps of "
                    "reasoning with a value of their own; use --model greedy for it"
                )
        return super().generate_until(requests, disable_tqdm)

    def decoder(self, observe: Sequence[Trigger] = ()) -> TreeDecoder:
        """A decoder that searches."""
        assert not observe
        return TreeDecoder(
            self.student,
            self._settings,
            StepEnds(self.tok_decode, cast(Delimiter, self.tree.delimiter), self.tree.max_line),
            self._make_value(self.has_chat_template),
            self.rows,
            self.tok_decode,
            self.thoughts.answer_of,
        )

    @property
    def _settings(self) -> TreeSettings:
        tree = self.tree
        search = cast(SearchName, tree.search)
        shape = (tree.beam, tree.branch, tree.budget, tree.depth)
        return TreeSettings(*shape, tree.sampling, search, tree.min_value)

    def _make_value(self, has_chat_template: bool) -> StateValue | VoteValue:
        tree = self.tree
        settings = ValueSettings(
            cast(ValueName, tree.value),
            tree.replies,
            tree.max_reply,
            tree.sampling,
            self._settings.most_branches,
            tree.max_line,
        )
        try:
            how = has_chat_template, self.stop_ids, self.chat_template_args
            return make_value(settings, self.tokenizer, self.tok_decode, *how)
        except QuestionError as error:
            raise ValueError(f"value={tree.value}: {error} (value=loglik)") from error

    def describe(self) -> dict[str, Any]:
        """Model, search, sampling and seed."""
        names = ["search", "beam", "branch", "budget", "depth", "max_line", "delimiter", "value"]
        if self.tree.search == "dfs":
            names[1] = "min_value"
        if self.tree.value in ("words", "vote"):
            names += ["replies", "max_reply"]
        sampling = self.tree.sampling
        return {
            **super().describe(),
            "search": {name: getattr(self.tree, name) for name in names},
            "sampling": asdict(sampling) if sampling else None,
        }
