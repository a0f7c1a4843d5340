"""Mismatches of student and teacher, and the teacher's continuations behind the student's tokens.

The labelled texts are the teacher's greedy texts, so the teacher's continuation behind its own token is the
text itself and is not generated. The continuations behind the student's tokens are generated in one batch
for many mismatches: the longest prefix comes first, and all others of that text copy their keys and values
from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from s2t_eval.engine import Decoder, Finish, ModelRunner, OnRound, Request, Result
from s2t_eval.engine.stop import AnswerOf, StopRule
from s2t_eval.selection.policy import greedy
from s2t_eval.training.r2r.rules import Sentence
from s2t_eval.training.r2r.sentences import STOPS, Continued, Decode, sentence_begin, sentence_through

FOLLOWING = 3
"""Tokens generated to find the first one of the next sentence: some are blank."""
TEXT_ENDS = -1


@dataclass(frozen=True)
class TeacherText:
    """A greedy text of the teacher with the student's token at every step.

    Args:
        number: of its problem.
        request: with the prompt, the limit and the stop conditions of the text.
        output_ids: the text, its final stop token included.
        student_ids: the student's most likely token at each of its steps.
    """

    number: int
    request: Request
    output_ids: list[int]
    student_ids: list[int]

    @property
    def mismatches(self) -> list[int]:
        """Steps at which the student's most likely token is another, ascending."""
        pairs = zip(self.output_ids, self.student_ids, strict=True)
        return [t for t, (teacher_id, student_id) in enumerate(pairs) if teacher_id != student_id]


class Mismatch(NamedTuple):
    """One step at which the student's token is not the teacher's."""

    text: TeacherText
    t: int

    @property
    def student_output_ids(self) -> list[int]:
        """The text before the step and the student's token."""
        return [*self.text.output_ids[: self.t], self.student_id]

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """Prompt, text before the step and the student's token."""
        return (*self.text.request.prompt_ids, *self.student_output_ids)

    @property
    def student_id(self) -> int:
        """The student's token."""
        return self.text.student_ids[self.t]


@dataclass
class Cost:
    """Sums of the tokens that the teacher generated and prefilled."""

    generated: int = 0
    prefilled: int = 0

    def add(self, results: Sequence[Result]) -> None:
        """Add the tokens of these texts."""
        self.generated += sum(result.usage.tokens for result in results)
        self.prefilled += sum(result.usage.prefill_tokens for result in results)


@dataclass
class Continuer:
    """Continues prefixes greedily with the teacher.

    Args:
        teacher: the model.
        rows: sequences decoded at once.
        decode: token ids to text, without special tokens.
        answer_of: the part of a text outside of its thoughts, for requests of reasoning models.
        on_round: observer of the decoding, for a progress bar.
        cost: tokens of its continuations so far.
    """

    teacher: ModelRunner
    rows: int
    decode: Decode
    answer_of: AnswerOf | None = None
    on_round: OnRound | None = None
    cost: Cost = field(default_factory=Cost)

    def continue_all(self, requests: Sequence[Request]) -> list[Result]:
        """The texts of these requests, in their order; requests of one problem should be adjacent."""
        if not requests:
            return []
        decoder = Decoder(
            self.teacher, greedy(), rows=self.rows, decode=self.decode, answer_of=self.answer_of
        )
        results = sorted(decoder.run(requests, self.on_round), key=lambda result: result.index)
        self.cost.add(results)
        return results

    def to_end_of_sentence(self, mismatches: Sequence[Mismatch], limit: int) -> list[Result | None]:
        """Continuations behind the student's tokens; None where that token ends the text."""
        override = {"max_new_tokens": limit, "stop_strings": STOPS, "in_thought": None}
        return self._continuations(mismatches, [override] * len(mismatches))

    def to_end_of_text(self, mismatches: Sequence[Mismatch]) -> list[Result | None]:
        """The same up to the end of the text, within the text's own limit."""
        limits = [max(1, mismatch.text.request.max_new_tokens - mismatch.t - 1) for mismatch in mismatches]
        overrides = [
            {"max_new_tokens": limit, "in_thought": self._is_in_thought(mismatch)}
            for mismatch, limit in zip(mismatches, limits, strict=True)
        ]
        return self._continuations(mismatches, overrides)

    def _ends_text(self, mismatch: Mismatch) -> bool:
        """Whether the student's token ends the text, as a stop token or by completing a stop string."""
        rule = StopRule(mismatch.text.request, self.decode, self.answer_of)
        return rule.would_finish(mismatch.student_output_ids) in (Finish.STOP_ID, Finish.STOP_STRING)

    def _is_in_thought(self, mismatch: Mismatch) -> bool | None:
        """Whether a thought is open behind the student's token; None where thoughts are not distinguished."""
        in_thought = mismatch.text.request.in_thought
        if self.answer_of is None or in_thought is None:
            return in_thought
        return self.answer_of(mismatch.student_output_ids, in_thought) is None

    def _continuations(
        self, mismatches: Sequence[Mismatch], overrides: Sequence[Mapping[str, object]]
    ) -> list[Result | None]:
        order = sorted(range(len(mismatches)), key=lambda i: (mismatches[i].text.number, -mismatches[i].t))
        order = [i for i in order if not self._ends_text(mismatches[i])]
        requests = [
            replace(mismatches[i].text.request, prompt_ids=mismatches[i].prefix_ids, **overrides[i])  # type: ignore[arg-type]
            for i in order
        ]
        continuations: list[Result | None] = [None] * len(mismatches)
        for i, result in zip(order, self.continue_all(requests), strict=True):
            continuations[i] = result
        return continuations


class Sides(NamedTuple):
    """Both sides of a mismatch up to the end of the sentence."""

    begin: int
    """step at which the sentence begins"""
    teacher: Continued
    student: Continued


def both_sides(
    mismatch: Mismatch,
    continuation: Result | None,
    decode: Decode,
    limit: int,
    known_lengths: Sequence[int] | None = None,
) -> Sides:
    """The sentence as the teacher wrote it, and as it goes on behind the student's token.

    Args:
        mismatch: where they differ.
        continuation: of the student's token; None where that ends the text.
        decode: token ids to text, without special tokens.
        limit: most tokens of the teacher's side behind the mismatch.
        known_lengths: `sentences.prefix_lengths` of the text, computed once for all of its mismatches.
    """
    text, t = mismatch.text, mismatch.t
    lengths = None if known_lengths is None else known_lengths[: t + 1]
    begin = sentence_begin(text.output_ids[:t], decode, lengths)
    shared_ids = text.output_ids[begin:t]
    continued_ids = [] if continuation is None else continuation.output_ids
    teacher_ids = text.output_ids[begin : t + 1 + limit]
    return Sides(
        begin,
        sentence_through(teacher_ids, len(shared_ids), decode),
        sentence_through([*shared_ids, mismatch.student_id, *continued_ids], len(shared_ids), decode),
    )


def teacher_sentence(mismatch: Mismatch, sides: Sides, decode: Decode) -> Sentence:
    """The teacher's side; the following token is the next one of its text."""
    end = sides.begin + len(sides.teacher.ids)
    output = mismatch.text.output_ids
    ends_text = end >= len(output) or output[end] in mismatch.text.request.stop_ids
    following = TEXT_ENDS if ends_text else output[end] if sides.teacher.is_whole else None
    return Sentence(decode(sides.teacher.ids), following)


def student_sentence(
    mismatch: Mismatch, continuation: Result | None, sides: Sides, decode: Decode
) -> Sentence:
    """The student's side; the following token is None where the continuation is too short for it."""
    continued_ids = [] if continuation is None else continuation.output_ids
    num_within = len(sides.student.ids) - (mismatch.t - sides.begin) - 1  # tokens of the continuation within
    text, request = decode(sides.student.ids), mismatch.text.request
    has_ended = continuation is None or continuation.finish is Finish.STOP_ID
    has_ended = has_ended or any(stop in text for stop in request.stop_strings)
    following: int | None = None
    if num_within < len(continued_ids) and continued_ids[num_within] not in request.stop_ids:
        following = continued_ids[num_within]
    elif has_ended:
        following = TEXT_ENDS
    return Sentence(text, following)


def following_request(mismatch: Mismatch, sides: Sides) -> Request:
    """A request for the first tokens behind the student's side."""
    prompt = (*mismatch.text.request.prompt_ids, *mismatch.text.output_ids[: sides.begin], *sides.student.ids)
    return replace(
        mismatch.text.request,
        prompt_ids=prompt,
        max_new_tokens=FOLLOWING,
        stop_strings=(),
        in_thought=None,
    )


def first_token(result: Result, stop_ids: frozenset[int], decode: Decode) -> int | None:
    """The first token that is not blank; None where all are."""
    for token in result.output_ids:
        if token in stop_ids:
            return TEXT_ENDS
        if decode([token]).strip():
            return token
    return None
