"""`s2t-eval r2r label`: labels against plain loops, their costs, resuming, and what is refused."""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

from s2t_eval.embedded import embedded_path
from s2t_eval.embedded.arith import format_prompt, make_split
from s2t_eval.engine import ModelRunner, Request
from s2t_eval.engine.stop import StopRule
from s2t_eval.methods.r2r_error import R2RError
from s2t_eval.model_wrappers.thoughts import Thoughts
from s2t_eval.training.contamination import question_hash
from s2t_eval.training.r2r import collect
from s2t_eval.training.r2r.collect import agreement
from s2t_eval.training.r2r.judge import digit_ids, turns
from s2t_eval.training.r2r.labels import LabelledText, R2RLabels
from s2t_eval.training.r2r.mismatches import Continuer, Mismatch, TeacherText
from s2t_eval.training.r2r.rules import DIVERGENT, IDENTICAL, NEUTRAL, UNSCORED
from s2t_eval.training.r2r.verdicts import Judge, both_sides, by_answer, by_judge
from tests.forked import start_forked
from tests.harness_helpers import STUDENT, TEACHER, generate, logits_after, model, tokenizer
from tests.learning import main
from tests.r2r_learning import COUNT, label_arguments, labels, refusal
from tests.training.test_r2r_rules import slow_is_neutral


@pytest.fixture(scope="module")
def found() -> R2RLabels:
    return R2RLabels.load(labels())


def decode(ids: Sequence[int]) -> str:
    text: str = tokenizer().decode(list(ids), skip_special_tokens=True)
    return text


def written_by_teacher(ids: list[int], count: int) -> list[int]:
    return generate(model(TEACHER), ids, count, eos_token_id=tokenizer().eos_token_id)


# ---------------------------------------------------------------- against plain loops


def test_texts_and_steps_are_their_slow_twin(found: R2RLabels) -> None:
    """The teacher's own greedy text; the student's token, logits and state at each step, encoded afresh."""
    assert len(found) == COUNT and found.manifest.num_unfinished == 0
    for number in (0, 7):
        text = found.texts[number]
        prompt = tokenizer()(format_prompt(make_split("train")[number].question))["input_ids"]
        assert text.prompt_ids.tolist() == prompt
        assert text.output_ids.tolist() == written_by_teacher(prompt, 96)
        for t in range(len(text.output_ids)):
            ids = prompt + text.output_ids[:t].tolist()
            logits = logits_after(model(STUDENT), ids)
            assert int(text.student_ids[t]) == int(logits.argmax())
            top = logits.topk(100).values.float()
            torch.testing.assert_close(text.top_logits[t].float(), top, atol=2e-2, rtol=2e-3)
            with torch.no_grad():
                state = model(STUDENT).get_decoder()(torch.tensor([ids])).last_hidden_state[0, -1]
            torch.testing.assert_close(text.hidden[t].float(), state, atol=1e-2, rtol=5e-3)


def slow_sentence(ids: list[int], position: int) -> tuple[str, int]:
    """The arithmetic task's sentence around a token, and the token behind it: a full stop ends one."""
    shown = [decode([i]) for i in ids]
    begin = max((i + 1 for i in range(position) if shown[i] == "."), default=0)
    end = next((i + 1 for i in range(position, len(ids)) if shown[i] == "."), len(ids))
    following = ids[end] if end < len(ids) and ids[end] != tokenizer().eos_token_id else -1
    return decode(ids[begin:end]), following


def test_verdicts_are_their_slow_twin(found: R2RLabels) -> None:
    """Every mismatch continued alone, from its whole prefix, by transformers."""
    counted = {NEUTRAL: 0, DIVERGENT: 0}
    for text in found.texts[:8]:
        prompt, output = text.prompt_ids.tolist(), text.output_ids.tolist()
        for t, student in enumerate(text.student_ids.tolist()):
            if student == output[t]:
                assert int(text.verdicts[t]) == IDENTICAL
                continue
            other = [*output[:t], student]
            if student != tokenizer().eos_token_id:
                other += written_by_teacher(prompt + other, 96)
            mine, theirs = slow_sentence(output, t), slow_sentence(other, t)
            neutral = slow_is_neutral(mine[0], theirs[0], (mine[1], theirs[1]), 0.3)
            assert int(text.verdicts[t]) == (NEUTRAL if neutral else DIVERGENT), (text.problem_id, t)
            counted[int(text.verdicts[t])] += 1
    assert min(counted.values()) > 2


def test_counts_shares_and_costs_are_what_is_there(found: R2RLabels) -> None:
    manifest = found.manifest
    every = torch.cat([text.verdicts for text in found])
    counts = (manifest.num_identical, manifest.num_neutral, manifest.num_divergent)
    assert counts == tuple(int((every == v).sum()) for v in (IDENTICAL, NEUTRAL, DIVERGENT))
    assert sum(manifest.shares) == pytest.approx(100) and manifest.num_unscored == 0
    cost = manifest.cost
    assert cost["teacher_generated"] == len(every)
    assert cost["student_prefilled"] == sum(len(t.prompt_ids) + len(t.output_ids) - 1 for t in found)
    mismatches = int((every != IDENTICAL).sum())
    # Prompts and texts once, and no prefix twice: the engine's rows copy what mismatches share.
    once = cost["student_prefilled"]
    assert mismatches <= cost["continuations_prefilled"] <= once + 4 * mismatches
    assert cost["continuations_generated"] <= 51 * mismatches


def test_the_teacher_s_own_side_needs_no_continuation(found: R2RLabels) -> None:
    """Behind its own token the teacher writes what stands there: no token is spent on it."""
    text = found.texts[2]
    prompt, output = text.prompt_ids.tolist(), text.output_ids.tolist()
    for t in (0, 4, 11):
        assert written_by_teacher(prompt + output[: t + 1], 96) == output[t + 1 :]


# ---------------------------------------------------------------- other rules


def test_validation_by_answers_is_its_definition(found: R2RLabels, tmp_path: Path) -> None:
    """`answer` as a rule of its own gives what `reconverge` was checked with."""
    main(label_arguments(tmp_path / "answer", "--rule", "answer"))
    by_answer = R2RLabels.load(tmp_path / "answer")
    pairs = [
        (int(a), int(b))
        for one, other in zip(found, by_answer, strict=True)
        for a, b in zip(one.verdicts, other.verdicts, strict=True)
        if int(a) != IDENTICAL and int(b) != UNSCORED
    ]
    validation = found.manifest.validation
    assert validation is not None and validation["mismatches"] == len(pairs)
    assert validation["agreement"] == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    share = {v: (sum(a == v for a, _ in pairs), sum(b == v for _, b in pairs)) for v in (NEUTRAL, DIVERGENT)}
    chance = sum(a * b for a, b in share.values()) / len(pairs) ** 2
    assert validation["kappa"] == pytest.approx((validation["agreement"] - chance) / (1 - chance))
    assert by_answer.manifest.validation is None
    text = by_answer.texts[0]  # one problem by hand: the last number of each text
    prompt, output = text.prompt_ids.tolist(), text.output_ids.tolist()
    for t in (t for t, s in enumerate(text.student_ids.tolist()) if s != output[t]):
        other = [*output[:t], int(text.student_ids[t])]
        other += written_by_teacher(prompt + other, 96)
        same = decode(other).split("The answer is")[-1] == decode(output).split("The answer is")[-1]
        assert int(text.verdicts[t]) == (NEUTRAL if same else DIVERGENT)


def first_text(max_new_tokens: int = 96, **settings: Any) -> tuple[Request, list[int]]:
    """A request and the teacher's greedy text."""
    prompt = tokenizer()(format_prompt(make_split("train")[0].question))["input_ids"]
    stop_ids = frozenset({tokenizer().eos_token_id})
    return Request(tuple(prompt), max_new_tokens, stop_ids, **settings), written_by_teacher(prompt, 96)


def answers_of(number: int, texts: Sequence[Sequence[int]]) -> list[str | None]:
    """What follows "The answer is"."""
    parts = [decode(list(ids)).split("The answer is ") for ids in texts]
    return [part[1] if len(part) > 1 else None for part in parts]


def test_a_text_that_ends_without_an_answer_has_another_one_than_the_teacher_s() -> None:
    """The docstring said that a text without an answer has no verdict: this holds for the teacher's."""
    request, output = first_text()
    student = [*output[:3], tokenizer().eos_token_id, *output[4:]]
    continuer = Continuer(ModelRunner(model(TEACHER)), 2, decode)
    whole, without_answer = (
        TeacherText(0, request, ids, student[: len(ids)]) for ids in (output, output[:9])
    )
    assert by_answer(continuer, [Mismatch(whole, 3)], answers_of) == [DIVERGENT]
    assert by_answer(continuer, [Mismatch(without_answer, 3)], answers_of) == [UNSCORED]
    short = TeacherText(0, first_text(6)[0], output, [*output[:3], output[5], *output[4:]])
    assert by_answer(continuer, [Mismatch(short, 3)], answers_of) == [UNSCORED]


@functools.cache
def thoughts() -> Thoughts:
    """As if a sentence was a thought."""
    return Thoughts(tokenizer(), decode, end=".")


def stopped(request: Request, output: list[int]) -> list[int]:
    """A text up to its end by the engine's rule, token by token."""
    rule = StopRule(request, decode, thoughts().answer_of)
    return output[: next(n for n in range(1, len(output) + 1) if rule.finish(output[:n]))]


def test_a_stop_string_ends_a_continuation_whose_prefix_has_closed_the_thought() -> None:
    """Every continuation began in the thought that its text began in, so stop strings had no effect."""
    request, whole = first_text(stop_strings=("=",), in_thought=True)
    output = stopped(request, whole)
    shown = [decode([i]) for i in output]
    assert (shown.count("."), shown.count(" =")) == (1, 2)
    full_stop = shown.index(".")
    text = TeacherText(0, request, output, [output[1]] * len(output))
    mismatches = [Mismatch(text, t) for t in (2, full_stop - 2, full_stop + 1, full_stop + 2)]
    continuer = Continuer(ModelRunner(model(TEACHER)), 2, decode, thoughts().answer_of)
    for mismatch, result in zip(mismatches, continuer.to_end_of_text(mismatches), strict=True):
        prefix = list(mismatch.prefix_ids)
        limit = request.max_new_tokens - mismatch.t - 1
        written = [*mismatch.student_output_ids, *written_by_teacher(prefix, limit)]
        assert result is not None
        assert [*mismatch.student_output_ids, *result.output_ids] == stopped(request, written), mismatch.t


def test_a_token_that_completes_a_stop_string_is_not_continued() -> None:
    """The teacher wrote a whole text behind it, which the grading then cut off."""
    request, output = first_text(stop_strings=("Next",), in_thought=True)
    shown = [decode([i]) for i in output]
    full_stop, stop_id = shown.index("."), tokenizer()(" Next")["input_ids"][0]
    text = TeacherText(0, request, output, [stop_id] * len(output))
    continuer = Continuer(ModelRunner(model(TEACHER)), 2, decode, thoughts().answer_of)
    inside, outside = Mismatch(text, 3), Mismatch(text, full_stop + 2)
    assert continuer.to_end_of_text([outside]) == continuer.to_end_of_sentence([outside], 48) == [None]
    assert continuer.cost.generated == 0
    assert by_answer(continuer, [outside], answers_of) == [DIVERGENT]
    [continued] = continuer.to_end_of_text([inside])  # the thought is still open
    assert continued is not None and continued.output_ids


def test_regret_is_its_definition(tmp_path: Path) -> None:
    main(label_arguments(tmp_path / "regret", "--rule", "regret", "--min_regret", "2", count=4))
    for text in R2RLabels.load(tmp_path / "regret"):
        prompt, output = text.prompt_ids.tolist(), text.output_ids.tolist()
        for t, student in enumerate(text.student_ids.tolist()):
            log_probs = logits_after(model(TEACHER), prompt + output[:t]).log_softmax(-1)
            regret = float(log_probs[output[t]] - log_probs[student])
            expected = IDENTICAL if student == output[t] else DIVERGENT if regret > 2 else NEUTRAL
            assert int(text.verdicts[t]) == expected


def test_the_judge_reads_both_sentences_and_answers_by_probability() -> None:
    """One forward pass a mismatch: P(1) against P(0) behind the prompt, the parting token in brackets."""
    prompt = tokenizer()(format_prompt(make_split("train")[0].question))["input_ids"]
    output = written_by_teacher(prompt, 96)
    student = list(output)
    student[3] = output[5]
    text = TeacherText(0, Request(tuple(prompt), 96, frozenset({tokenizer().eos_token_id})), output, student)
    one = Mismatch(text, 3)
    assert text.mismatches == [3]
    continuer = Continuer(ModelRunner(model(TEACHER)), 2, decode)
    written = continuer.to_end_of_sentence([one], 48)
    sides = both_sides(one, written[0], decode, 48)
    prompts: list[str] = []

    def encode(shown: Sequence[dict[str, str]]) -> list[int]:
        prompts.append(shown[1]["content"])
        ids: list[int] = tokenizer()(shown[1]["content"])["input_ids"]
        return ids[-200:]

    digits = (tokenizer()(" 5")["input_ids"][0], tokenizer()(" 7")["input_ids"][0])
    [verdict] = by_judge(continuer, [one], [sides], Judge(encode, digits))
    logits = logits_after(model(TEACHER), tokenizer()(prompts[0])["input_ids"][-200:])
    assert verdict == (DIVERGENT if logits[digits[1]] > logits[digits[0]] else NEUTRAL)
    for token in (output[3], student[3]):
        assert f"[[{decode([token]).strip()}]]" in prompts[0]
    assert [turn["role"] for turn in turns("", "a", "b")] == ["system", "user"]


def test_a_judge_without_digits_is_refused() -> None:
    assert digit_ids(lambda text: [int(text)], None) == (0, 1)
    with pytest.raises(R2RError, match="rule=judge: the teacher's tokenizer has no single token for the dig"):
        digit_ids(lambda text: [5, int(text)], None)
    with pytest.raises(R2RError, match="rule=judge"):
        digit_ids(lambda text: [3], unknown=3)


def test_agreement_on_a_lopsided_sample() -> None:
    mine, answer = [1, 1, 2, 2, 2, 1, 0, 1], [1, 2, 2, 2, 1, 3, 0, 1]
    figures = agreement(torch.tensor([mine, answer], dtype=torch.uint8))
    assert figures["mismatches"] == 6 and figures["agreement"] == pytest.approx(4 / 6)
    assert figures["kappa"] == pytest.approx((4 / 6 - 1 / 2) / (1 - 1 / 2))
    assert (figures["divergent_by_rule"], figures["divergent_by_answer"]) == (0.5, 0.5)
    assert agreement(torch.zeros(2, 3, dtype=torch.uint8)) == {"mismatches": 0.0}
    assert agreement(torch.tensor([[1, 1], [1, 1]], dtype=torch.uint8))["kappa"] == 0


# ---------------------------------------------------------------- resuming, refusing


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(
    found: R2RLabels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "killed"
    arguments = label_arguments(out, "--validate", "1")
    process = start_forked("-m", "tests.r2r_learning", *arguments, folder=Path(__file__).parents[2])
    deadline = time.monotonic() + 500
    while not list(out.glob("work/steps/*.safetensors")) and time.monotonic() < deadline:
        assert process.is_alive(), "the command ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.join()
    assert not (out / "manifest.json").exists()
    with pytest.raises(R2RError, match="its labelling was interrupted; run the same command again"):
        R2RLabels.load(out)
    with pytest.raises(SystemExit):  # mixed both into one set
        main([value.replace("float32", "bfloat16") for value in arguments])
    message = capsys.readouterr().err
    assert "another run (its student_dtype, teacher_dtype, dtype differ): expected student_dtype" in message
    main(arguments)
    again = R2RLabels.load(out)
    assert again.manifest == found.manifest and not (out / "work").exists()
    for name in found.manifest.shards:
        mine, other = load_file(out / name), load_file(labels() / name)
        assert mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine)


@pytest.mark.parametrize(
    ("options", "differing"), [(("--apply_chat_template",), "texts"), (("--rule", "judge"), "judge")]
)
def test_unfinished_work_of_another_chat_template_is_refused(
    options: tuple[str, ...], differing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Texts of the old template were labelled beside prompts of the new one, in part by another judge.

    The judge's prompts have the template of the tokenizer, whatever the problems' prompts have.
    """
    student = Path(shutil.copytree(embedded_path(STUDENT), tmp_path / "student"))
    arguments = label_arguments(tmp_path / "out", "--validate", "0", *options, count=2)
    arguments = [str(student) if word == STUDENT else word for word in arguments]
    with patch.object(collect, "finish", side_effect=KeyboardInterrupt), pytest.raises(SystemExit):
        main(arguments)
    template = student / "chat_template.jinja"
    template.write_text("Solve it. " + template.read_text())
    line = refusal(capsys, arguments)
    assert (
        f"holds the unfinished work of another run (its {differing} differ): expected {differing} '" in line
    )
    assert line.endswith("'; remove it or name another --out")


def test_work_of_another_run_and_finished_sets_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, label_arguments(labels()))
    assert line == f"s2t-eval r2r label: --out {labels()}: it holds a finished label set; name another folder"
    shutil.copytree(labels(), tmp_path / "copy")
    (tmp_path / "copy" / "shards" / "shard-00000.safetensors").write_bytes(b"cut off")
    with pytest.raises(R2RError, match=r"shard .*shard-00000.safetensors is missing or damaged"):
        R2RLabels.load(tmp_path / "copy")


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(labels(), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["hidden_size"] = 63
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(R2RError, match=r"text 0 \(s2t_arith/train/0\): hidden do not fit; label anew"):
        R2RLabels.load(folder)


def test_evaluation_problems_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """GSM8k's first test question, which is public and whose record is shipped."""
    question = (
        "Janet’s ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins for "
        "her friends every day with four. She sells the remainder at the farmers' market daily for $2 per "
        "fresh duck egg. How much in dollars does she make every day at the farmers' market?"
    )
    data = tmp_path / "mine.jsonl"
    data.write_text(json.dumps({"question": question}) + "\n")
    pair = ["--pretrained", STUDENT, "--teacher", TEACHER, "--device", "cpu"]
    line = refusal(capsys, ["r2r", "label", *pair, "--data", data, "--out", tmp_path / "out"])
    assert "1 of 1 problems are also evaluation problems of gsm8k" in line


def test_development_problems_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`collect` and `tah label` refused them, `r2r label` trained on the problems that choose settings."""
    pair = ["--pretrained", STUDENT, "--teacher", TEACHER, "--device", "cpu"]
    out = tmp_path / "out"
    line = refusal(capsys, ["r2r", "label", *pair, "--task", "s2t_arith_dev", "--limit", 2, "--out", out])
    assert line.endswith("nothing is trained on them; name s2t_arith") and not out.exists()


def test_answers_need_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "mine.jsonl"
    data.write_text(json.dumps({"question": "Tom has 3 apples. How many?"}) + "\n")
    pair = ["--pretrained", STUDENT, "--teacher", TEACHER, "--device", "cpu", "--rule", "answer"]
    line = refusal(capsys, ["r2r", "label", *pair, "--data", data, "--out", tmp_path / "out"])
    assert "rule=answer: only a task (--task NAME) has a rule by which two answers are equal" in line


def test_texts_that_do_not_end_are_left_out_and_a_set_of_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(label_arguments(tmp_path / "some", "--max_gen_toks", "30", "--rule", "regret", count=8))
    manifest = R2RLabels.load(tmp_path / "some").manifest
    assert 0 < manifest.num_unfinished < 8 and manifest.num_texts == 8 - manifest.num_unfinished
    line = refusal(capsys, label_arguments(tmp_path / "none", "--max_gen_toks", "3", count=2))
    assert "none of the teacher's 2 texts ended within its limit" in line


def test_a_question_is_never_on_both_sides(found: R2RLabels) -> None:
    train, held_out = found.split(0.3)
    hashes: list[set[str]] = [{text.question_hash for text in part} for part in (train, held_out)]
    assert not hashes[0] & hashes[1] and len(train) + len(held_out) == COUNT
    first: LabelledText = found.texts[0]
    assert first.question_hash == question_hash(make_split("train")[0].question)
