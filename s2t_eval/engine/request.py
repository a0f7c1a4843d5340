"""A request to the decoder, and the result that it returns."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import NamedTuple

from torch import Tensor

from s2t_eval.engine.sampling import Sampling


@dataclass(frozen=True)
class Request:
    """One text to generate.

    Args:
        prompt_ids: the prompt, at least one token.
        max_new_tokens: length limit of the answer, in tokens.
        stop_ids: tokens that end the answer; they count as generated and are not text.
        stop_strings: strings that end the answer as soon as its text contains one of them.
        sampling: None takes the most likely token.
        seed: of this request's own random numbers.
        in_thought: whether the answer begins inside a thought, where stop strings have no effect. None:
            thoughts are not distinguished from the answer.
        origin: the caller's own label of the request. The engine does not read it, and it is not part of
            the request's identity: requests that differ in it alone are equal.

    Raises:
        ValueError: an empty prompt or no token allowed.
    """

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    stop_ids: frozenset[int] = frozenset()
    stop_strings: tuple[str, ...] = ()
    sampling: Sampling | None = None
    seed: int = 0
    in_thought: bool | None = None
    origin: Hashable = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.prompt_ids:
            raise ValueError(
                "prompt: expected at least one token, got an empty prompt; put a text in front of it (a "
                "description, worked examples), or a token (add_bos_token=True, if the tokenizer has one)"
            )
        if self.max_new_tokens < 1:
            raise ValueError(f"max_gen_toks: expected at least 1, got {self.max_new_tokens}")

    @property
    def max_length(self) -> int:
        """Most tokens of the text, its prompt included."""
        return len(self.prompt_ids) + self.max_new_tokens

    @property
    def longest_first(self) -> tuple[int, tuple[int, ...]]:
        """Sort key of a batch: the longest prompts first, equal prompts together."""
        return -len(self.prompt_ids), self.prompt_ids


def longest_text(requests: Iterable[Request]) -> int:
    """Tokens of the longest text that may be generated, its prompt included; 0 without requests."""
    return max((request.max_length for request in requests), default=0)


class Finish(Enum):
    """Why a text ended."""

    STOP_ID = "stop_id"
    STOP_STRING = "stop_string"
    LENGTH = "length"


class FiredStep(NamedTuple):
    """A step at which the policy fired: the candidate set, its scores and the selected token."""

    t: int
    """index of the token in the answer, from 0"""
    divergence: float
    candidates: list[int]
    """the student's top-K, most likely first"""
    scores: list[float]
    greedy: int
    """the student's argmax token"""
    picked: int
    teacher: int | None = None
    """the teacher's argmax token over the whole vocabulary; None where no teacher selects"""


@dataclass
class Usage:
    """The cost of one text.

    `forwards` counts the student's forward passes over the sequence, the prefill included. `teacher_calls`
    counts the teacher's passes, `teacher_tokens` the tokens computed in them, and `teacher_generated` the
    tokens of the text that are the teacher's own (takeover). The scorer is the adapted
    model beside a base proposer (PPS), and `scorer_calls` counts its passes. Its tokens pass through the
    adapted layers and those above alone where the adapter is on the last layers. Where the adapted student
    scores branches of its own (S2T-Local), `scorer_tokens` counts the candidates that are not selected.
    `hits` and `misses` count the fired steps at which the teacher's argmax token was, or was not, among the
    candidates; where no teacher selects, neither is counted.
    Where models are on servers, `server_requests` counts the requests to all of them.
    For a looped model (Think-at-Hard), `continued` counts the tokens with further iterations, and
    `deeper_passes` those iterations.
    Where the teacher verifies in chunks, `discarded_tokens` counts the tokens drafted after a cut, and those
    that the student read behind the end of the text while the row waited for others. The cost of both is part
    of `forwards`, that of the former of `teacher_tokens` too.
    Where whole steps of reasoning are drafted or branched (SpecReason, Tree of Thoughts), `discarded_tokens`
    counts those of rejected steps and abandoned branches, `drafted_steps` the steps, `rejected_steps` those
    among them that were not kept when they were scored, and `evaluation_tokens` the tokens that a model read
    in order to score them: questions, and in a tree what they need of the solution. `teacher_generated`
    counts the tokens that the teacher wrote. Where it writes whole steps (SpecReason), `teacher_prefilled`
    counts those among `teacher_tokens` that it read as prompts and in chunks, apart from those that it read
    one by one as it wrote.
    """

    tokens: int = 0
    forwards: int = 0
    prefill_tokens: int = 0
    triggers: int = 0
    flips: int = 0
    hits: int = 0
    misses: int = 0
    teacher_calls: int = 0
    teacher_tokens: int = 0
    teacher_generated: int = 0
    teacher_prefilled: int = 0
    scorer_calls: int = 0
    scorer_tokens: int = 0
    continued: int = 0
    deeper_passes: int = 0
    server_requests: int = 0
    discarded_tokens: int = 0
    drafted_steps: int = 0
    rejected_steps: int = 0
    evaluation_tokens: int = 0
    seconds: float = 0.0

    def counts(self) -> dict[str, int | float]:
        """Every cost by its name, for results and traces.

        `teacher_prefilled` is left out where a teacher that read something did not count it: 0 would be
        wrong, since a teacher reads its prompt in one pass under every method.
        """
        counts = asdict(self)
        if self.teacher_tokens and not self.teacher_prefilled:
            del counts["teacher_prefilled"]
        return counts


@dataclass(frozen=True)
class Result:
    """One generated text.

    Args:
        request: what was decoded.
        index: position of its request in the list given to the decoder.
        output_ids: the generated tokens, a final stop token included.
        finish: why the text ended.
        steps: the steps that fired.
        usage: its cost.
        observed: divergences of every step, one list per observed trigger, [triggers][tokens]; of SpecReason
            one list, the scores of the drafted steps.
        top_ids: the student's most likely tokens at every step, int32 [tokens, m], if they were kept.
        top_log_probs: their log-probabilities over the whole text vocabulary, float32 [tokens, m].
    """

    request: Request
    index: int
    output_ids: list[int]
    finish: Finish
    steps: list[FiredStep]
    usage: Usage
    observed: list[list[float]] = field(default_factory=list)
    top_ids: Tensor | None = None
    top_log_probs: Tensor | None = None

    @property
    def text_ids(self) -> list[int]:
        """The generated tokens without a final stop token."""
        return self.output_ids[:-1] if self.finish is Finish.STOP_ID else self.output_ids
