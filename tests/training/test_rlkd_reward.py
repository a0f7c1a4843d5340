"""RLKD's structure reward: steps of texts, their comparison, and rewards worked out by hand."""

from __future__ import annotations

import itertools

import pytest
import torch

from s2t_eval.embedded.arith import make_split
from s2t_eval.engine import ModelRunner
from s2t_eval.training.rlkd.alignment import RuleAligner, StepAgreement
from s2t_eval.training.rlkd.llm import LlmAligner, LlmStructurer, parse_steps
from s2t_eval.training.rlkd.problems import RlkdProblem, Text, prepare
from s2t_eval.training.rlkd.reward import aggregated, step_rewards, structure_rewards
from s2t_eval.training.rlkd.rewarder import Reward, Rewarder
from s2t_eval.training.rlkd.settings import RlkdSettings
from s2t_eval.training.rlkd.structure import RuleStructurer, SolutionStep, equation_steps
from s2t_eval.training.rlkd.train import held_out_metrics
from tests.harness_helpers import TEACHER, model, tokenizer

REFERENCE = (
    "First Tom has 12 + 5 = 17 apples. So Tom has 17 - 4 = 13 apples. Now 13 * 2 = 26. The answer is 26."
)


def reward(text: str, reference: str = REFERENCE, aggregate: str = "mean") -> float | None:
    """The structure reward of one text by the rules."""
    steps, expected = equation_steps(text), equation_steps(reference)
    [value] = structure_rewards([steps], [expected], RuleAligner(), aggregate)  # type: ignore[arg-type]
    return value


# ---------------------------------------------------------------- steps of a text


def test_each_equation_is_a_step() -> None:
    assert equation_steps(REFERENCE) == [
        SolutionStep("first tom has", "12 + 5", "17", "12 + 5"),
        SolutionStep("apples. so tom has", "17 - 4", "13", "#1 - 4"),
        SolutionStep("apples. now", "13 * 2", "26", "#2 * 2"),
    ]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("She sold 48/2 = <<48/2=24>>24 clips in May.", [("48/2", "24")]),
        ("Total: $1,200 + $300 = $1,500.", [("$1,200 + $300", "1,500")]),
        (r"\( 3 \times 4 = 12 \)", [("3 * 4", "12")]),
        ("12 eggs - 3 eggs = 9 eggs", [("12 eggs - 3 eggs", "9")]),
        ("5 x 2 + 1 = 11", [("5 x 2 + 1", "11")]),
        ("(3 + 4) * 2 = 14", [("(3 + 4) * 2", "14")]),
        ("x = 5, and 7 is odd.", []),
        ("4 - 9 = -5", [("4 - 9", "-5")]),
        ("1 + 1 = 2\n2 + 2 = 4", [("1 + 1", "2"), ("2 + 2", "4")]),
        (r"\( 9 \times \$2 = \$18 \)", [("9 * $2", "18")]),
        ("1 + 1 = 2</think>2 + 2 = 4", [("1 + 1", "2")]),
        ("", []),
    ],
)
def test_equations_in_many_spellings(text: str, steps: list[tuple[str, str]]) -> None:
    assert [(step.query, step.answer) for step in equation_steps(text)] == steps


def test_solutions_of_the_embedded_task_have_all_their_steps() -> None:
    for problem in make_split("dev"):
        steps = equation_steps(problem.solution)
        assert len(steps) == problem.num_steps
        assert int(steps[-1].answer) == problem.answer


# ---------------------------------------------------------------- comparison of steps


@pytest.mark.parametrize(
    ("student", "reference", "query", "answer"),
    [
        (("12 + 5", "17"), ("5 + 12", "17.0"), True, True),
        (("12 + 5", "18"), ("12 + 5", "17"), True, False),
        (("12 + 5", "17"), ("20 - 3", "17"), False, True),
        (("12 - 5", "7"), ("12 + 5", "17"), False, False),
        (("3 x 4", "12"), ("3 * 4", "12"), True, True),
        (("1,200 / 2", "600"), ("1200/2", "600"), True, True),
        (("2 + 2", "4"), ("2 + 2 + 2", "6"), False, False),
        (("4 - 9", "-5"), ("9 - 4", "5"), True, False),
        (("How many?", "none"), ("how  many?", "None"), True, True),
        (("How many?", "none"), ("How old?", "all"), False, False),
        (("How many?", "3"), ("How old?", "none"), False, False),
    ],
)
def test_rule_compares_numbers_and_operators(
    student: tuple[str, str], reference: tuple[str, str], query: bool, answer: bool
) -> None:
    [agreement] = RuleAligner().align([(SolutionStep("we", *student), SolutionStep("they", *reference))])
    assert agreement == StepAgreement(query or answer, query, answer)


def test_the_same_solution_in_latex_has_the_largest_reward() -> None:
    """Its first line was no step, so every later step was compared with another one: the reward was 0."""
    reference = (
        r"\[ 8 \text{ ounces/glass} \times 2 \text{ glasses} = 16 \text{ ounces} \] \[ 16 \times 3 = 48 \]"
    )
    [steps] = RuleStructurer().structure([""], [reference])
    [own] = RuleStructurer().structure([""], ["8 * 2 = 16. Then 16 * 3 = 48."])
    assert steps is not None and own is not None
    assert step_rewards(RuleAligner().align(list(zip(own, steps, strict=True)))) == [1.0, 1.0]


@pytest.mark.parametrize("reference", ["1/2 + 1/4 = 3/4", r"\(\frac{1}{2} + \frac{1}{4} = \frac{3}{4}\)"])
def test_a_result_that_is_a_fraction_is_compared_by_its_value(reference: str) -> None:
    """Only its numerator was kept: `= 3/8` had the whole reward, and the right `= 0.75` half of it."""
    for right in ("3/4", "0.75", "75%", "6/8", r"\frac{3}{4}", "3/4 = 0.75"):
        assert reward(f"1/2 + 1/4 = {right}", reference) == 1.0, right
    for wrong in ("3/8", "3", r"\frac{3}{8}", "4/3", "3/4 = 0.7"):
        assert reward(f"1/2 + 1/4 = {wrong}", reference) == 0.5, wrong


def test_a_query_names_the_earlier_answer_and_not_a_part_of_another_number() -> None:
    """The 50 of `50%` passed for an earlier answer 50, and the 3 of 3/4 for 3/4."""
    forms = [step.form for step in equation_steps("20 + 30 = 50. 50 * 50% = 25. 50/25 = 2.")]
    assert forms == ["20 + 30", "#1 * 50%", "#1/#2"]
    forms = [
        step.form for step in equation_steps("1/2 + 1/4 = 3/4. 3/4 * 100 = 75. 0.75 * 4 = 3. 75% of 12 = 9.")
    ]
    assert forms == ["1/2 + 1/4", "#1 * 100", "#1 * 4", "#1 * 12"]
    forms = [step.form for step in equation_steps("20 + 4 = 24. 48/2 = 24. 6 + 24 = 30.")]
    assert forms == ["20 + 4", "48/2", "6 + #2"]


def test_after_a_wrong_fraction_later_steps_count() -> None:
    carried_on = reward("1/2 + 1/4 = 3/8. 3/8 * 100 = 37.5", "1/2 + 1/4 = 3/4. 3/4 * 100 = 75")
    recalculated = reward("1/2 + 1/4 = 3/8. 3/5 * 100 = 60", "1/2 + 1/4 = 3/4. 3/4 * 100 = 75")
    assert (carried_on, recalculated) == (0.75, 0.25)


def test_a_percentage_is_not_the_number_before_its_sign() -> None:
    [agreement] = RuleAligner().align(
        [(SolutionStep("", "50 * 20%", "10"), SolutionStep("", "50 * 20", "10"))]
    )
    assert not agreement.query and agreement.answer


def test_a_second_error_is_not_better_than_right_steps_after_the_first() -> None:
    """After one wrong answer, later rewards were 0 unless a second one was the reference's number: training
    taught wrong arithmetic, and the held-out reward fell at every learning rate."""
    carried_on = reward("12 + 5 = 18. 18 - 4 = 14. 14 * 2 = 28.")
    led_back = reward("12 + 5 = 18. 18 - 4 = 13. 13 * 2 = 26.")
    assert carried_on is not None and led_back is not None and carried_on > led_back


# ---------------------------------------------------------------- rewards by hand


def test_reward_of_a_step_is_halved_for_each_part_that_differs() -> None:
    cases = itertools.product([True], [True, False], [True, False])
    assert [step_rewards([StepAgreement(*case)]) for case in cases] == [[1.0], [0.5], [0.5], [0.25]]


def test_rewards_are_zero_from_the_first_step_on_another_sub_problem() -> None:
    same, other = StepAgreement(True, True, True), StepAgreement(False, True, True)
    assert step_rewards([same, other, same, same]) == [1.0, 0.0, 0.0, 0.0]
    assert step_rewards([]) == []


def test_identical_structure_has_the_largest_reward() -> None:
    assert reward(REFERENCE) == 1.0
    assert reward(REFERENCE, aggregate="sum") == 3.0
    assert reward("12 + 5 = 17, 17 - 4 = 13, 13 * 2 = 26, and 26 + 1 = 27.") == 1.0  # a step too many


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("12 + 5 = 17. 17 - 4 = 13.", 2.0),  # the last step left out
        ("17 - 4 = 13. 13 * 2 = 26.", 0.0),  # the first left out: every pair is another sub-problem
        ("17 - 4 = 13. 12 + 5 = 17. 13 * 2 = 26.", 0.0),  # permuted at the first step
        ("12 + 5 = 17. 13 * 2 = 26. 17 - 4 = 13.", 1.0),  # permuted behind it
        ("12 + 5 = 18. 18 - 4 = 14. 14 * 2 = 28.", 2.5),  # wrong result that the later steps go on with
        ("12 + 5 = 18. 18 - 4 = 13. 13 * 2 = 26.", 2.0),  # a second error that leads back to the reference
        ("12 + 5 = 18. 18 * 4 = 72. 72 * 2 = 144.", 0.5),  # goes on with another operation
        ("12 + 5 = 18. 17 - 4 = 13. 13 * 2 = 26.", 2.5),  # wrong result that is not used
        ("20 - 3 = 17. 17 - 4 = 13. 13 * 2 = 26.", 2.5),  # another query with the same answer
        ("The answer is 26.", 0.0),
    ],
)
def test_reward_of_other_structures(text: str, total: float) -> None:
    assert reward(text, aggregate="sum") == total
    assert reward(text) == pytest.approx(total / 3)


def test_no_permutation_or_omission_reaches_the_reward_of_the_reference() -> None:
    steps = equation_steps(REFERENCE)
    others = [list(order) for n in range(4) for order in itertools.permutations(steps, n)]
    assert len(others) == 16
    rewards = structure_rewards(others, [steps] * 16, RuleAligner(), "mean")
    assert [text for text, value in zip(others, rewards, strict=True) if value == 1.0] == [steps]


def test_texts_are_rewarded_one_by_one_as_together() -> None:
    texts = [equation_steps(text) for text in ("12 + 5 = 17.", REFERENCE, "", "17 - 4 = 13.")]
    reference = equation_steps(REFERENCE)
    together = structure_rewards([*texts, None], [reference] * 5, RuleAligner(), "sum")
    alone = [structure_rewards([text], [reference], RuleAligner(), "sum")[0] for text in texts]
    assert together == [*alone, None] == [1.0, 3.0, 0.0, 0.0, None]


def test_sum_favours_problems_with_many_steps_and_mean_does_not() -> None:
    assert [aggregated([1.0] * n, n, "sum") for n in (1, 4)] == [1.0, 4.0]
    assert [aggregated([1.0] * n, n, "mean") for n in (1, 4)] == [1.0, 1.0]


# ---------------------------------------------------------------- the reward altogether


def problem(reference: str = REFERENCE) -> RlkdProblem:
    return RlkdProblem("p", "How many?", (1,), reference, {"answer": 26}, "row 0", equation_steps(reference))


def grade(item: RlkdProblem, texts: object) -> list[float]:
    """The last number of a text is the answer."""
    assert isinstance(texts, list | tuple)
    return [float(text.content.rstrip(".").endswith(str(item.document["answer"]))) for text in texts]


def written(*contents: str) -> list[Text]:
    return [Text([1], content, False) for content in contents]


def test_structure_and_correctness_are_weighted() -> None:
    settings = RlkdSettings(structure_weight=0.5, correctness_weight=2.0)
    rewarder = Rewarder(RuleStructurer(), RuleAligner(), grade, settings)
    [group] = rewarder.rewards([problem()], [written(REFERENCE, "12 + 5 = 17. The answer is 26.", "17")])
    assert group == [Reward(1.0, 1.0), Reward(pytest.approx(1 / 3), 1.0), Reward(0.0, 0.0)]
    assert rewarder.totals(group) == pytest.approx([2.5, 2 + 1 / 6, 0.0])


def test_text_without_a_structure_reward_is_neither_preferred_nor_avoided() -> None:
    rewarder = Rewarder(RuleStructurer(), RuleAligner(), grade, RlkdSettings())
    group = [Reward(1.0, 0.0), Reward(None, 1.0), Reward(0.5, 0.0)]
    assert rewarder.totals(group) == [1.0, 1.75, 0.5]
    assert rewarder.totals([Reward(None, 1.0), Reward(None, 0.0)]) == [1.0, 0.0]


def test_structure_of_weight_0_is_not_computed_and_not_a_reward_of_0() -> None:
    """Its held-out reward was printed as 0.000, as if no text followed its reference."""
    settings = RlkdSettings(structure_weight=0.0)
    rewarder = Rewarder(RuleStructurer(), RuleAligner(), grade, settings)
    [group] = rewarder.rewards([problem()], [written(REFERENCE, "17")])
    assert group == [Reward(None, 1.0), Reward(None, 0.0)]
    assert rewarder.totals(group) == [1.0, 0.0]
    metrics = held_out_metrics(group, written(REFERENCE, "17"), settings)
    assert metrics == {"reward": 0.5, "correct": 0.5, "tokens": 1.0, "texts": 2.0}


def test_references_that_are_wrong_or_have_no_step_are_left_out() -> None:
    texts = [REFERENCE, "12 + 5 = 17. The answer is 17.", "The answer is 26."]
    prepared = prepare([problem(text) for text in texts], RuleStructurer(), grade, verified=True, limit=None)
    assert [(len(p.steps), p.reference) for p in prepared.problems] == [(3, REFERENCE)]
    assert (prepared.num_wrong, prepared.num_without_steps) == (1, 1)
    unverified = prepare(
        [problem(text) for text in texts], RuleStructurer(), grade, verified=False, limit=None
    )
    assert (len(unverified.problems), unverified.num_wrong, unverified.num_without_steps) == (2, 0, 1)
    first = prepare([problem(text) for text in texts[::-1]], RuleStructurer(), grade, verified=True, limit=1)
    assert (len(first.problems), first.num_wrong, first.num_without_steps) == (0, 0, 1)


def test_without_a_structure_reward_references_need_no_steps() -> None:
    """A control that is rewarded for right answers alone lost the problems whose solution has no equation."""
    texts = [REFERENCE, "The answer is 26."]
    prepared = prepare([problem(text) for text in texts], None, grade, verified=True, limit=None)
    assert [p.reference for p in prepared.problems] == texts and prepared.num_without_steps == 0


# ---------------------------------------------------------------- llm


def test_reply_is_read_line_by_line() -> None:
    reply = """Here are the steps.
    Reason: count the apples
    Question: What is 12 + 5?
    Answer: 17

    2. **Reason**: take away
    - question: What is left?
    * Answer: 13
    Reason: a step without its question
    Answer: 3
    Reason: a step without an end"""
    assert parse_steps(reply) == [
        SolutionStep("count the apples", "What is 12 + 5?", "17"),
        SolutionStep("take away", "What is left?", "13"),
    ]
    assert parse_steps("I cannot do that.") is None
    assert parse_steps("Answer: 3\nQuestion: x\nReason: y") is None


def encode(prompt: str) -> list[int]:
    ids: list[int] = tokenizer().encode(prompt, add_special_tokens=False)
    return ids


def test_llm_structurer_is_a_greedy_reply_of_the_model() -> None:
    """The embedded teacher cannot follow the prompt: its texts are counted as unscored, not as wrong."""
    runner = ModelRunner(model(TEACHER))
    structurer = LlmStructurer(runner, encode, tokenizer().decode, frozenset({0}), 8, rows=2)
    assert structurer.structure(["How many?"] * 3, ["12 + 5 = 17", "7", ""]) == [None] * 3
    assert structurer.cost.read > 3 * 100 and structurer.cost.seconds > 0
    assert 3 <= structurer.cost.generated <= 24
    assert "12 + 5" in tokenizer().decode(structurer.prompt("How many?", "12 + 5 = 17</think>4 + 4 = 8"))
    assert "4 + 4" not in tokenizer().decode(structurer.prompt("How many?", "12 + 5 = 17</think>4 + 4 = 8"))


def test_llm_aligner_compares_probabilities_after_plain_forward_passes() -> None:
    runner, yes, no = ModelRunner(model(TEACHER)), (11, 12), (13,)
    aligner = LlmAligner(runner, encode, yes, no, batch=2)
    pairs = [
        (SolutionStep(*"abc"), SolutionStep(*"xbz")),
        (SolutionStep("we add", "1 + 1", "2"), SolutionStep("they add", "1 + 2", "3")),
    ]
    agreements = aligner.align(pairs)
    assert agreements[0].query, "equal texts agree without a question"
    for pair, agreement in zip(pairs, agreements, strict=True):
        for part, (left, right) in enumerate(zip(*pair, strict=True)):
            if left == right:
                continue
            ids = torch.tensor([aligner.prompt(part, left, right)])
            with torch.no_grad():
                probabilities = model(TEACHER)(ids).logits[0, -1].softmax(-1)
            assert agreement[part] == bool(probabilities[list(yes)].sum() > probabilities[list(no)].sum())
    assert aligner.cost.read == sum(
        len(aligner.prompt(part, a[part], b[part]))
        for a, b in pairs
        for part in range(3)
        if a[part] != b[part]
    )
