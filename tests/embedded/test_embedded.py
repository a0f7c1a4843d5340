"""The embedded pair: its problems, tokenizer, task and the phenomenon it was made to show."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lm_eval.tasks import TaskManager
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from s2t_eval.embedded import arith, embedded_path
from s2t_eval.embedded.tokenizer import build_tokenizer
from scripts.measure_embedded_pair import Decoded, Pair, final_number

TASKS = Path(__file__).parents[2] / "tasks"
NAMES = ("embedded/student", "embedded/teacher")
NUM_ITEMS = 60

Splits = dict[str, list[arith.Problem]]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return {name: arith.make_split(name) for name in arith.SPLIT_SEEDS}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(embedded_path("embedded/student"))


@pytest.fixture(scope="module")
def pair() -> Pair:
    torch.set_num_threads(1)
    return Pair(embedded_path("embedded/student"), embedded_path("embedded/teacher"))


@pytest.fixture(scope="module")
def greedy(pair: Pair, splits: Splits) -> Decoded:
    return pair.greedy(splits["dev"][:NUM_ITEMS])


def solve(solution: str) -> int:
    """Check every equation of a solution by hand and return the last result."""
    equations = re.findall(r"(\d+) ([-+*]) (\d+) = (\d+)", solution)
    for left, op, right, result in equations:
        a, b = int(left), int(right)
        assert {"+": a + b, "-": a - b, "*": a * b}[op] == int(result), solution
    return int(equations[-1][3])


# The problems


def test_splits_share_no_problem(splits: Splits) -> None:
    keys = {name: [arith.question_key(p.question) for p in split] for name, split in splits.items()}
    assert {name: len(set(k)) for name, k in keys.items()} == arith.SPLIT_SIZES
    assert len(set().union(*keys.values())) == sum(arith.SPLIT_SIZES.values())


def test_same_problem_with_other_names_has_the_same_key() -> None:
    one = "Tom has 3 apples.  Mia gives Tom 4 apples."
    assert arith.question_key(one) == arith.question_key("ZOE has 3 pens. Ben gives Zoe 4 pens.")
    assert arith.question_key(one) != arith.question_key("Zoe has 3 pens. Zoe gives Ben 4 pens.")


def test_training_stream_starts_with_the_train_split_and_avoids_held_out(splits: Splits) -> None:
    stream = arith.training_stream()
    drawn = [next(stream) for _ in range(5_000)]
    assert drawn[: len(splits["train"])] == splits["train"]
    held_out = {arith.question_key(p.question) for p in splits["dev"] + splits["test"]}
    assert held_out.isdisjoint(arith.question_key(p.question) for p in drawn)


def test_generator_is_deterministic() -> None:
    one, two = ([arith.make_problem(rng) for _ in range(50)] for rng in (random.Random(7), random.Random(7)))
    assert one == two


def test_generator_is_pinned(splits: Splits) -> None:
    """The shipped weights and published figures belong to exactly these problems."""
    assert splits["test"][0] == arith.Problem(
        question="Leo has 54 shells. Leo is given 16 shells by Max. Leo gets 16 shells from Max. "
        "How many shells does Leo have now?",
        solution="First Leo has 54 + 16 = 70 shells. Now Leo has 70 + 16 = 86 shells. The answer is 86.",
        answer=86,
        num_steps=2,
    )


def test_solutions_are_right(splits: Splits) -> None:
    for problem in [p for split in splits.values() for p in split]:
        assert solve(problem.solution) == problem.answer == final_number(problem.solution)
        assert 2 <= problem.num_steps <= 4


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match="unknown split 'valid'; known: train, dev, test"):
        arith.make_split("valid")


# Paths and folders


def test_unknown_name() -> None:
    with pytest.raises(
        ValueError,
        match="'embedded/x'; known: embedded/distilled, embedded/r2r, embedded/rlkd, embedded/selector",
    ):
        embedded_path("embedded/x")


def test_import_is_light() -> None:
    code = "import sys, s2t_eval.embedded; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_sizes_on_disk() -> None:
    size = sum(f.stat().st_size for name in NAMES for f in embedded_path(name).iterdir())
    assert size < 5_000_000


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("embedded/student", 2e5, 4e5), ("embedded/teacher", 1e6, 2e6)],
)
def test_model_computes_in_float32(name: str, least: float, most: float) -> None:
    model = AutoModelForCausalLM.from_pretrained(embedded_path(name), dtype="auto")
    assert model.dtype == torch.float32
    assert least < model.num_parameters() < most
    assert model.config.max_position_embeddings >= 512
    assert model.generation_config.eos_token_id == model.config.eos_token_id
    assert model.generation_config.pad_token_id == model.config.pad_token_id


# The tokenizer


def test_tokenizers_are_identical() -> None:
    files = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    student, teacher = (embedded_path(name) for name in NAMES)
    for file in files:
        assert (student / file).read_bytes() == (teacher / file).read_bytes()


def test_shipped_tokenizer_is_the_built_one(tokenizer: PreTrainedTokenizerBase, splits: Splits) -> None:
    texts = [f"{arith.format_prompt(p.question)} {p.solution}" for p in splits["train"]]
    assert tokenizer.get_vocab() == build_tokenizer(texts, 1024).get_vocab()


def test_vocabulary_makes_top_8_a_restriction(tokenizer: PreTrainedTokenizerBase) -> None:
    assert 300 <= len(tokenizer) <= 2_000
    for name in NAMES:
        assert AutoConfig.from_pretrained(embedded_path(name)).vocab_size == len(tokenizer)


def test_round_trip(tokenizer: PreTrainedTokenizerBase, splits: Splits) -> None:
    texts = [f"{arith.format_prompt(p.question)} {p.solution}" for p in splits["test"]]
    texts += ["", " ", "Tom  has\n\n 1234 unknown wörds; isn't it ?", "Answer: 日本語 🙂\t"]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_words_and_numbers_are_single_tokens(tokenizer: PreTrainedTokenizerBase, splits: Splits) -> None:
    """Regression: as a Qwen2 folder, transformers 5 rebuilt the tokenizer and split into bytes."""
    for problem in splits["test"]:
        assert len(tokenizer.encode(" " + problem.solution)) == len(
            re.findall(r"\w+|[^\w\s]", problem.solution)
        )


def test_solutions_take_20_to_60_tokens(tokenizer: PreTrainedTokenizerBase, splits: Splits) -> None:
    lengths = [len(tokenizer.encode(" " + p.solution)) for s in splits.values() for p in s]
    assert min(lengths) >= 20
    assert max(lengths) <= 60


def test_special_tokens_are_skipped(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    ids = [tokenizer.pad_token_id, *tokenizer.encode("Tom has"), tokenizer.eos_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Tom has"


def test_chat_template_is_the_plain_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = arith.format_prompt("How many?")
    one = [{"role": "user", "content": prompt}]
    assert tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True) == prompt
    shots = [*one, {"role": "assistant", "content": "The answer is 3."}, *one]
    chat = tokenizer.apply_chat_template(shots, tokenize=False, add_generation_prompt=True)
    assert chat == f"{prompt} The answer is 3.\n\n{prompt}"


# The task


def test_task_in_the_stock_harness(splits: Splits) -> None:
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    task = manager.load(["s2t_arith"])["tasks"]["s2t_arith"]
    test, train = list(task.test_docs()), list(task.training_docs())
    assert [doc["question"] for doc in test] == [p.question for p in splits["test"]]
    assert [doc["question"] for doc in train] == [p.question for p in splits["train"]]
    problem = splits["test"][0]
    assert task.doc_to_text(test[0]) == arith.format_prompt(problem.question)
    assert task.doc_to_target(test[0]) in (str(problem.answer), problem.answer)


# The phenomenon


def test_student_is_weak_but_not_lost(pair: Pair, greedy: Decoded, splits: Splits) -> None:
    problems = splits["dev"][:NUM_ITEMS]
    student = greedy.accuracy(problems)
    assert 0.30 <= student <= 0.70
    assert pair.teacher_greedy(problems).accuracy(problems) >= student + 0.2


def test_teacher_token_is_among_the_students_first_8(greedy: Decoded) -> None:
    rank = greedy.teacher_rank[greedy.kl >= greedy.kl.quantile(0.9)]
    assert (rank < 1).float().mean() < 0.9
    assert (rank < 8).float().mean() > 0.95


def test_selection_at_a_tenth_of_the_steps_beats_greedy(pair: Pair, greedy: Decoded, splits: Splits) -> None:
    problems = splits["dev"][:NUM_ITEMS]
    threshold = pair.greedy(splits["train"][:NUM_ITEMS]).kl.quantile(0.9).item()
    selected = pair.select(problems, threshold=threshold)
    assert selected.accuracy(problems) >= greedy.accuracy(problems) + 0.15


def test_one_candidate_is_greedy(pair: Pair, greedy: Decoded, splits: Splits) -> None:
    assert pair.select(splits["dev"][:NUM_ITEMS], threshold=0.0, k=1).texts == greedy.texts


def test_greedy_is_the_models_own(pair: Pair, splits: Splits) -> None:
    """The batched, cached, padded loop against `generate` on single rows."""
    problems = splits["dev"][:6]
    for problem, text in zip(problems, pair.greedy(problems).texts, strict=True):
        prompt = pair.tokenizer(arith.format_prompt(problem.question), return_tensors="pt")
        output = pair.student.generate(**prompt, max_new_tokens=64)
        new = output[0, prompt["input_ids"].shape[1] :]
        assert pair.tokenizer.decode(new, skip_special_tokens=True) == text


def test_final_number() -> None:
    assert final_number("The answer is 3. The answer is 42.") == 42
    assert final_number("The answer is many.") is None
