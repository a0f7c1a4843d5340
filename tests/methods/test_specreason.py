"""SpecReason: its limits, a slow twin without caches, and what its costs count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from s2t_eval.engine import ModelRunner, Request, Result, Sampling
from s2t_eval.engine.request import Finish
from s2t_eval.engine.stop import StopRule
from s2t_eval.methods.questions import QuestionError, question_ids, reply_ids
from s2t_eval.methods.reasoning_steps import Delimiter, StepEnds
from s2t_eval.methods.specreason.scores import LikelihoodScore, MarkScore, StepScore, make_score
from s2t_eval.methods.specreason.stepper import SpecReasonDecoder
from s2t_eval.model_wrappers.specreason import SpecReason
from s2t_eval.selection.policy import greedy
from tests.harness_helpers import STUDENT, TEACHER, counts, evaluate, ours, plain_run, texts, tokenizer
from tests.twins import decode, generate_greedy, logits_after, outputs, requests

QUESTION = (7, 9, 11, 13)
MARKS = tuple(tuple(range(mark * 12, mark * 12 + 12)) for mark in range(10))
SCORES: dict[str, StepScore] = {
    "digit": MarkScore(QUESTION, MARKS, is_expected=False),
    "expected": MarkScore(QUESTION, MARKS, is_expected=True),
    "logprob": LikelihoodScore(),
}
MIDDLE = {"digit": 0.5, "expected": 0.5, "logprob": 0.0015}
"""Thresholds at which some steps of the random pair are accepted and some are not."""


def spell(ids: Sequence[int]) -> str:
    """A text in which every fifth token ends a line."""
    return "".join("\n" if token % 5 == 0 else "x" for token in ids)


ENDS = StepEnds(spell, "line", 6)
PARAGRAPHS = StepEnds(lambda ids: spell(ids).replace("\n", "\n\n"), "paragraph", 6)


def run(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    asked: Sequence[Request],
    score: StepScore,
    accept: float,
    rows: int = 4,
    ends: StepEnds = ENDS,
) -> list[Result]:
    models = ModelRunner(student, "student"), ModelRunner(teacher, "teacher")
    decoder = SpecReasonDecoder(*models, ends, score, accept, rows, spell)
    results = {result.index: result for result in decoder.run(asked)}
    return [results[i] for i in range(len(asked))]


def slow_score(
    teacher: PreTrainedModel, name: str, text: list[int], step: list[int], content: list[int]
) -> float:
    if name == "logprob":
        log_probs = [
            float(logits_after(teacher, text + step[:i]).log_softmax(-1)[token])
            for i, token in enumerate(step)
        ]
        return math.exp(sum(log_probs) / len(log_probs))
    probabilities = logits_after(teacher, [*text, *content, *QUESTION]).softmax(-1)
    if name == "digit":
        best = int(probabilities.argmax())
        return next((mark / 9 for mark, ids in enumerate(MARKS) if best in ids), 0.0)
    masses = torch.stack([probabilities[list(ids)].sum() for ids in MARKS])
    return float((masses / masses.sum() * torch.arange(10)).sum()) / 9


def slow_content(output: list[int], step: list[int], request: Request) -> list[int]:
    """A step without the stop token or stop string that ends the text; a character is a token here."""
    if step[-1] in request.stop_ids:
        return step[:-1]
    text = spell([*output, *step])
    for stop in request.stop_strings:
        if stop in text:
            return step[: max(0, len(text[: text.index(stop)].rstrip()) - len(output))]
    return step


def slow_specreason(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    request: Request,
    name: str,
    accept: float,
    ends: StepEnds = ENDS,
) -> tuple[list[int], list[float], int, int]:
    """One text, every token computed from the whole text; with its scores, and drafted and rejected steps."""
    stop = StopRule(request, spell)
    output: list[int] = []
    scores: list[float] = []
    drafted = rejected = 0

    def step_of(model: PreTrainedModel) -> list[int]:
        step: list[int] = []
        while not (step and (ends.is_end(step) or stop.would_finish([*output, *step]))):
            step.append(int(logits_after(model, [*request.prompt_ids, *output, *step]).argmax()))
        return step

    while not (output and stop.would_finish(output)):
        step = step_of(student)
        drafted += 1
        content = slow_content(output, step, request)
        if name == "logprob" or "x" in spell(content):
            scores.append(slow_score(teacher, name, [*request.prompt_ids, *output], step, content))
        if (scores[-1] if scores else 0) < accept:
            rejected += 1
            step = step_of(teacher)
        output += step
    return output, scores, drafted, rejected


@pytest.mark.parametrize(
    ("family", "name", "ends"),
    [
        *((family, name, ENDS) for family in ("qwen2", "gemma3") for name in SCORES),
        ("qwen2", "logprob", PARAGRAPHS),
    ],
    indirect=["family"],
)
def test_it_is_its_slow_twin(
    student: PreTrainedModel, teacher: PreTrainedModel, name: str, ends: StepEnds
) -> None:
    asked = requests(6, stop_ids=frozenset({3}))
    results = run(student, teacher, asked, SCORES[name], MIDDLE[name], ends=ends)
    for request, result in zip(asked, results, strict=True):
        expected, scores, drafted, rejected = slow_specreason(
            student, teacher, request, name, MIDDLE[name], ends
        )
        assert result.output_ids == expected
        assert result.observed[0] == pytest.approx(scores, abs=1e-5)
        assert (result.usage.drafted_steps, result.usage.rejected_steps) == (drafted, rejected)
    assert sum(result.usage.rejected_steps for result in results) > 0
    assert sum(r.usage.rejected_steps for r in results) < sum(r.usage.drafted_steps for r in results)


@pytest.mark.parametrize("stop", ["\nx", "xx\n"])
@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("family", ["gemma3"], indirect=True)
def test_an_end_is_no_step_of_reasoning(
    student: PreTrainedModel, teacher: PreTrainedModel, name: str, stop: str
) -> None:
    """The teacher gave a mark to `Question:` as a step, and to the step before an end for a second time."""
    asked = requests(6, stop_strings=(stop,))
    results = run(student, teacher, asked, SCORES[name], MIDDLE[name])
    num_unscored = 0
    for request, result in zip(asked, results, strict=True):
        expected, scores, drafted, rejected = slow_specreason(student, teacher, request, name, MIDDLE[name])
        assert result.output_ids == expected
        assert result.observed[0] == pytest.approx(scores, abs=1e-5)
        assert (result.usage.drafted_steps, result.usage.rejected_steps) == (drafted, rejected)
        num_unscored += drafted - len(scores)
        assert result.usage.evaluation_tokens == len(SCORES[name].question) * len(scores)
    assert any(result.finish is Finish.STOP_STRING for result in results)
    assert (num_unscored > 0) == (name != "logprob")


@pytest.mark.parametrize("family", ["llama"], indirect=True)
def test_above_the_highest_score_the_teacher_decides_where_a_text_ends(
    student: PreTrainedModel, teacher: PreTrainedModel
) -> None:
    """Drafts that only end a text would otherwise be accepted at every threshold."""
    asked = requests(6, stop_strings=("\nx",))
    written = [generate_greedy(teacher, request) for request in requests(6)]
    for text, result in zip(written, run(student, teacher, asked, SCORES["expected"], 1.1), strict=True):
        assert text[: len(result.output_ids)] == result.output_ids
        assert result.usage.rejected_steps == result.usage.drafted_steps


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("family", ["qwen2"], indirect=True)
def test_a_question_follows_the_text_and_no_stop_token(
    student: PreTrainedModel, teacher: PreTrainedModel, name: str
) -> None:
    """The step with the final answer was marked behind <|im_end|>, in a turn that had ended."""
    texts = outputs(run(student, teacher, requests(6), SCORES[name], 0))
    asked = [replace(r, stop_ids=frozenset(text[4:])) for r, text in zip(requests(6), texts, strict=True)]
    for request, result in zip(asked, run(student, teacher, asked, SCORES[name], 0), strict=True):
        assert result.finish is Finish.STOP_ID
        _, scores, _, _ = slow_specreason(student, teacher, request, name, 0)
        assert result.observed[0] == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("stops", [(), ("\nx",), ("xx\n",)])
@pytest.mark.parametrize("family", ["qwen2"], indirect=True)
def test_further_scores_are_those_of_runs_of_their_own(
    student: PreTrainedModel, teacher: PreTrainedModel, stops: tuple[str, ...]
) -> None:
    """A calibration of three scores wrote the same greedy texts three times."""
    asked = requests(4, stop_strings=stops)
    models = ModelRunner(student, "student"), ModelRunner(teacher, "teacher")
    first, *others = SCORES.values()
    decoder = SpecReasonDecoder(*models, ENDS, first, 0.0, 3, spell, also=others)
    together = {result.index: result for result in decoder.run(asked)}
    for place, score in enumerate(SCORES.values()):
        for index, alone in enumerate(run(student, teacher, asked, score, 0.0)):
            assert together[index].output_ids == alone.output_ids
            assert together[index].observed[place] == pytest.approx(alone.observed[0], abs=1e-5)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("family", ["llama", "gemma3"], indirect=True)
def test_the_lowest_threshold_is_greedy_and_none_above_the_highest(
    student: PreTrainedModel, teacher: PreTrainedModel, name: str
) -> None:
    """All drafts are accepted at 0; above 1 the teacher writes everything."""
    asked = requests(6)
    everything = run(student, teacher, asked, SCORES[name], 0)
    assert outputs(everything) == [generate_greedy(student, request) for request in asked]
    assert all(r.usage.teacher_generated == r.usage.rejected_steps == 0 for r in everything)
    nothing = run(student, teacher, asked, SCORES[name], 1.01)
    assert outputs(nothing) == [generate_greedy(teacher, request) for request in asked]
    for result in nothing:
        assert result.usage.teacher_generated == result.usage.tokens
        assert result.usage.rejected_steps == result.usage.drafted_steps > 0


@pytest.mark.parametrize("name", ["digit", "logprob"])
@pytest.mark.parametrize("sampling", [None, Sampling(0.8, 0.9, 10)])
@pytest.mark.parametrize("family", ["gemma3"], indirect=True)
def test_batch_size_and_refilling_change_no_text(
    student: PreTrainedModel, teacher: PreTrainedModel, name: str, sampling: Sampling | None
) -> None:
    asked = [replace(r, sampling=sampling, seed=i) for i, r in enumerate(requests(6))]
    one_by_one = run(student, teacher, asked, SCORES[name], MIDDLE[name], rows=1)
    together = run(student, teacher, asked, SCORES[name], MIDDLE[name], rows=4)
    assert outputs(together) == outputs(one_by_one)
    for a, b in zip(together, one_by_one, strict=True):
        for cost in ("tokens", "teacher_generated", "discarded_tokens", "evaluation_tokens"):
            assert getattr(a.usage, cost) == getattr(b.usage, cost), cost


@pytest.mark.parametrize("family", ["llama"], indirect=True)
def test_what_the_teacher_reads_and_writes_is_counted_apart(
    student: PreTrainedModel, teacher: PreTrainedModel
) -> None:
    """One by one without shared prompts, so that the counts follow from the text."""
    for request in requests(5):
        [result] = run(student, teacher, [request], SCORES["digit"], MIDDLE["digit"], rows=1)
        usage = result.usage
        drafted = usage.tokens - usage.teacher_generated + usage.discarded_tokens
        # The teacher reads a draft in one chunk, with the last token that it wrote itself before that.
        assert usage.evaluation_tokens == usage.drafted_steps * len(QUESTION)
        own_reads = usage.teacher_tokens - usage.teacher_prefilled
        last_tokens = usage.teacher_generated - own_reads
        ended_by_teacher = usage.teacher_prefilled - (
            len(request.prompt_ids) + drafted + usage.evaluation_tokens + last_tokens
        )
        assert ended_by_teacher in (0, -1)  # the last token of a text is read by nobody
        # The student computes each token of text and drafts once, but for the last.
        assert usage.forwards <= drafted + 1


@pytest.mark.parametrize("family", ["llama", "gemma3"], indirect=True)
def test_greedy_decoding_of_the_same_pair_differs(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Without this the limits could agree because the models do."""
    asked = requests(4)
    assert outputs(decode(student, greedy(), asked)) != outputs(decode(teacher, greedy(), asked))


# ---------------------------------------------------------------- steps and questions


@pytest.mark.parametrize(
    ("pieces", "num_kept"),
    [
        (["x = 4", ".", "<end>"], 2),
        (["x = 4", ".", "\n", "\n", "Quest", "ion:"], 2),
        (["x = 4", ".\nQuest", "ion:"], 2),  # a token with both
        (["Quest", "ion:"], 0),
        (["x = 4", "."], 2),
    ],
)
def test_what_is_in_front_of_an_end(pieces: list[str], num_kept: int) -> None:
    def decode(ids: Sequence[int]) -> str:
        return "".join(pieces[i] for i in ids)

    ends = frozenset(i for i, piece in enumerate(pieces) if piece == "<end>")
    rule = StopRule(Request((1,), 99, ends, ("Question:",)), decode)
    assert list(rule.before_end(range(len(pieces)))) == list(range(num_kept))


@pytest.mark.parametrize(
    ("delimiter", "pieces", "end"),
    [
        ("line", ["\n", "a", "\n"], 3),
        ("line", ["a", "\n\n"], 2),
        ("paragraph", ["a", "\n", "b", ".\n", "\n"], 5),
        ("paragraph", ["\n\n", "a", " ", "\n\n"], 4),
        ("sentence", ["It", " costs", " 3", ".", "5", " or", " more", "."], 8),
        ("sentence", ["So", "?"], 2),
        ("sentence", ["x", " is", " 3", ".", "\n"], 5),
    ],
)
def test_where_a_step_ends(delimiter: Delimiter, pieces: list[str], end: int) -> None:
    ends = StepEnds(lambda ids: "".join(pieces[i] for i in ids), delimiter, 100)
    found = [n for n in range(1, len(pieces) + 1) if ends.is_end(range(n))]
    assert found[0] == end


def test_a_step_ends_at_its_limit() -> None:
    assert StepEnds(lambda ids: "x" * len(ids), "line", 3).is_end([1, 1, 1])
    assert not StepEnds(lambda ids: "x" * len(ids), "line", 3).is_end([1, 1])


def test_a_question_continues_the_conversation() -> None:
    """In the form of the prompts: as the next turn of a chat, or as lines."""
    ids = question_ids(tokenizer(), "Right?", "Mark:", has_chat_template=True)
    assert tokenizer().decode(ids) == "\n\nRight?Mark:"  # this template adds no roles
    assert tokenizer().decode(question_ids(tokenizer(), "Right?", "Mark:", False)) == "\n\nRight?\nMark:"


def test_a_question_has_the_template_arguments_of_the_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `enable_thinking=False` the prompts closed the thought, and the question left it open."""
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if not think %} (closed){% endif %}"
    monkeypatch.setattr(tokenizer(), "chat_template", template)
    for think, ending in ((True, "Right?Mark:"), (False, "Right? (closed)Mark:")):
        ids = question_ids(tokenizer(), "Right?", "Mark:", True, {"think": think})
        assert tokenizer().decode(ids) == ending


def test_a_template_that_drops_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer(), "chat_template", "{{ messages[-1]['content'] }}")
    with pytest.raises(QuestionError, match="keeps the answers of earlier turns"):
        question_ids(tokenizer(), "Right?", "Mark:", has_chat_template=True)


def test_replies_are_single_tokens_with_or_without_a_space() -> None:
    assert [tokenizer().decode(i) for i in reply_ids(tokenizer(), ["7"])] in (["7", " 7"], [" 7", "7"])
    with pytest.raises(QuestionError, match="to be a single token"):
        reply_ids(tokenizer(), ["perhaps"])


class Characters:
    """A tokenizer whose digits have no space, as those of Qwen and Llama."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [ord(character) for character in text]


def test_the_mark_is_the_next_token_behind_the_question() -> None:
    """Behind "Mark:" such a model first writes a space, which counted as the mark 0 of every step."""
    spaced = make_score("digit", Characters(), has_chat_template=False)
    assert "".join(map(chr, spaced.question)).endswith("\nMark: ")
    assert tokenizer().decode(make_score("digit", tokenizer(), False).question).endswith("\nMark:")


# ---------------------------------------------------------------- the backend

PAIR = {"score": "logprob", "delimiter": "sentence"}


def test_the_backend_at_its_limits() -> None:
    assert texts(plain_run("specreason", accept=0, **PAIR)) == texts(plain_run("greedy"))
    alone = evaluate("greedy", {"pretrained": TEACHER})
    assert texts(plain_run("specreason", accept=1.01, **PAIR)) == texts(alone)
    between = plain_run("specreason", accept=0.7, **PAIR)
    assert 0 < counts(between)["rejected_steps"] < counts(between)["drafted_steps"]


def test_the_backend_one_by_one() -> None:
    one_by_one = plain_run("specreason", batch_size=1, **PAIR)
    together = plain_run("specreason", **PAIR)
    assert texts(one_by_one) == texts(together)
    for name in ("tokens", "forwards", "teacher_generated", "discarded_tokens", "rejected_steps"):
        assert counts(one_by_one)[name] == counts(together)[name], name


@pytest.mark.parametrize("score", ["digit", "expected"])
def test_marks_are_asked_for_in_chats_and_without(score: str) -> None:
    """The embedded teacher cannot judge, but its pair runs with every score."""
    plain = evaluate("specreason", {"teacher": TEACHER, "score": score, "delimiter": "sentence"})
    chat = evaluate(
        "specreason",
        {"teacher": TEACHER, "score": score, "delimiter": "sentence"},
        apply_chat_template=True,
    )
    for results in (plain, chat):
        assert counts(results)["evaluation_tokens"] > 0
        assert ours(results)["step_score"] == score
    # The question of a chat ends without the newline of plain lines.
    per_step = [counts(r)["evaluation_tokens"] / counts(r)["drafted_steps"] for r in (plain, chat)]
    assert per_step[0] == per_step[1] + 1


@pytest.mark.parametrize(
    ("model_args", "message"),
    [
        ({"teacher": None}, r"^--model specreason: it needs teacher=MODEL \(a hub name or a folder\)"),
        ({"accept": -0.1}, r"^accept: expected 0 or more, got -0\.1$"),
        ({"accept": "often"}, r"^accept: expected 0 or more, got 'often'$"),
        ({"score": "digits"}, r"^score: expected one of digit, expected, logprob, got 'digits'$"),
        ({"delimiter": "word"}, r"^delimiter: expected one of line, paragraph, sentence, got 'word'$"),
        ({"max_step": 0}, r"^max_step: expected a whole number of at least 1, got 0$"),
        ({"acept": 1}, r"^--model specreason: unknown argument 'acept'; did you mean 'accept'\?$"),
    ],
)
def test_bad_arguments_get_one_clear_line(model_args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpecReason(STUDENT, **{"teacher": TEACHER, **model_args})
