"""Which ids are text and which end it; teachers whose tokens are the student's, and those whose are not."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.models.vocabulary import (
    VocabularyMismatchError,
    require_same_vocabulary,
    stop_ids,
    text_entries,
    text_vocabulary,
    vocabulary_hash,
)
from tests.harness_helpers import (
    counts,
    evaluate,
    generate,
    generation,
    tiny_folder,
    tokenizer,
)

SIZE = len(tokenizer())


class FakeTokenizer:
    """As much of a tokenizer as this module looks at."""

    def __init__(self, vocab: dict[str, int], eos: str | None = None) -> None:
        self.vocab = vocab
        self.eos_token_id = None if eos is None else vocab[eos]

    def get_vocab(self) -> dict[str, int]:
        return dict(self.vocab)


def with_fillers(folder: Path, size: int) -> PreTrainedTokenizerBase:
    """The embedded tokenizer, filled up to `size` as a GGUF file does it."""
    filled = copy.deepcopy(tokenizer())
    filled.add_tokens([f"[PAD{i}]" for i in range(len(filled), size)])
    filled.save_pretrained(folder)
    return filled


def test_embedded_tokenizer_is_all_text() -> None:
    assert text_vocabulary(tokenizer()) == SIZE < 512


def test_fillers_are_not_text(tmp_path: Path) -> None:
    filled = with_fillers(tmp_path, 512)
    assert len(filled) == 512
    assert text_vocabulary(filled) == SIZE
    assert text_entries(filled) == text_entries(tokenizer())
    assert vocabulary_hash(filled) == vocabulary_hash(tokenizer())
    require_same_vocabulary(filled, tokenizer())
    require_same_vocabulary(tokenizer(), filled)


@pytest.mark.parametrize("name", ["[PAD]", "[PADx]", "[pad1]", "x[PAD1]", "<pad>", "[PAD1]s"])
def test_only_numbered_fillers_are_fillers(name: str) -> None:
    assert text_vocabulary(FakeTokenizer({"a": 0, name: 1, "[PAD2]": 2})) == 2


def test_hash_follows_every_entry() -> None:
    hashes = {
        vocabulary_hash(FakeTokenizer(vocab))
        for vocab in ({"a": 0, "b": 1}, {"a": 1, "b": 0}, {"a": 0}, {"a": 0, "c": 1})
    }
    assert len(hashes) == 4
    assert vocabulary_hash(FakeTokenizer({"b": 1, "a": 0})) in hashes


def test_first_differences_are_shown() -> None:
    ours = FakeTokenizer({"same": 0, "b": 1, "c": 2, "d": 3, "e": 4, "f": 5})
    theirs = FakeTokenizer({"same": 0, "c": 1, "b": 2, "d": 3, "E": 4})
    with pytest.raises(VocabularyMismatchError) as caught:
        require_same_vocabulary(ours, theirs)
    assert str(caught.value) == (
        "teacher: its tokenizer is not the student's (6 and 5 tokens; first differences, student and "
        "teacher: id 1: 'b' and 'c'; id 2: 'c' and 'b'; id 4: 'e' and 'E'); selection needs one "
        "vocabulary, so choose a teacher of the student's family"
    )


# ---------------------------------------------------------------- stop tokens


@pytest.mark.parametrize(
    ("configured", "expected"),
    [(None, {0, 3}), (2, {0, 2, 3}), ([1, 2], {0, 1, 2, 3}), ((2,), {0, 2, 3})],
)
def test_stop_ids_come_from_three_places(configured: Any, expected: set[int]) -> None:
    """The tokenizer's own, the generation config's, and tokens that end a turn by their name."""
    fake = FakeTokenizer({"</s>": 0, "a": 1, "b": 2, "<|im_end|>": 3}, eos="</s>")
    assert stop_ids(fake, SimpleNamespace(eos_token_id=configured)) == expected


@pytest.mark.parametrize(
    ("eos", "configured", "expected"),
    [
        # gpt-oss: <|end|> ended the message of its thoughts, and every answer was empty.
        (
            "<|return|>",
            ["<|return|>", "<|endoftext|>", "<|call|>"],
            {"<|return|>", "<|endoftext|>", "<|call|>"},
        ),
        ("<|return|>", None, {"<|return|>", "<|endoftext|>"}),
        ("<|endoftext|>", None, {"<|return|>", "<|endoftext|>"}),
    ],
)
def test_the_end_of_a_message_is_no_end_of_a_turn(
    eos: str, configured: list[str] | None, expected: set[str]
) -> None:
    vocab = {name: i for i, name in enumerate(("a", "<|endoftext|>", "<|return|>", "<|end|>", "<|call|>"))}
    ids = None if configured is None else [vocab[name] for name in configured]
    found = stop_ids(FakeTokenizer(vocab, eos), SimpleNamespace(eos_token_id=ids))
    assert found == {vocab[name] for name in expected}


@pytest.mark.parametrize(
    ("eos", "configured", "expected"),
    [
        ("<|im_end|>", ["<|im_end|>", "<|endoftext|>"], {"<|im_end|>", "<|endoftext|>"}),  # Qwen2.5-Instruct
        ("<|im_end|>", None, {"<|im_end|>", "<|endoftext|>"}),
        ("<|endoftext|>", ["<|endoftext|>"], {"<|im_end|>", "<|endoftext|>", "<|end|>"}),  # a base model
        ("<|endoftext|>", ["<|end|>"], {"<|end|>", "<|endoftext|>"}),  # Phi-3
    ],
)
def test_a_model_with_an_end_of_turn_gets_no_other(
    eos: str, configured: list[str] | None, expected: set[str]
) -> None:
    """`<|end|>` may be a part of another format's answer; a base model may be fine-tuned on either turn."""
    vocab = {name: i for i, name in enumerate(("a", "<|endoftext|>", "<|im_end|>", "<|end|>"))}
    ids = None if configured is None else [vocab[name] for name in configured]
    found = stop_ids(FakeTokenizer(vocab, eos), SimpleNamespace(eos_token_id=ids))
    assert found == {vocab[name] for name in expected}


def test_stop_ids_without_any() -> None:
    assert stop_ids(FakeTokenizer({"a": 0}), None) == frozenset()


def test_stop_string_that_is_a_special_token_stops(tmp_path: Path) -> None:
    """Special tokens vanish from decoded text, where a stop string would never match."""
    folder = tiny_folder(tmp_path / "model")
    free = Greedy(str(folder))
    free.stop_ids = frozenset()
    request = generation("Question: 1\nAnswer:", until=[], max_gen_toks=200)
    ids = free.engine_requests([request])[0].prompt_ids
    generated_ids = generate(free.model, ids, 200, eos_token_id=None)
    [text] = free.generate_until([request])
    assert text == tokenizer().decode(generated_ids, skip_special_tokens=True)
    stop = generated_ids[100]
    named = copy.deepcopy(free.tokenizer)
    named.add_special_tokens({"additional_special_tokens": [named.convert_ids_to_tokens(stop)]})
    special = shutil.copytree(folder, tmp_path / "special")
    named.save_pretrained(special)
    until = [named.convert_ids_to_tokens(stop)]
    [text] = Greedy(str(special)).generate_until([generation(request.args[0], until=until, max_gen_toks=200)])
    assert text == tokenizer().decode(generated_ids[: generated_ids.index(stop)], skip_special_tokens=True)


# ---------------------------------------------------------------- through the backends


def test_teacher_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "teacher")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"Ġapples"', '"Ġorchids"'))
    assert AutoTokenizer.from_pretrained(folder).get_vocab().keys() - tokenizer().get_vocab().keys()
    message = (
        rf"^teacher: its tokenizer is not the student's \({SIZE} and {SIZE} tokens; first differences, "
        r"student and teacher: id \d+: 'Ġapples' and 'Ġorchids'\); selection needs one vocabulary"
    )
    with pytest.raises(VocabularyMismatchError, match=message):
        evaluate("s2t", {"teacher": str(folder), "threshold": 0.5}, limit=1)


@pytest.mark.parametrize("role", ["pretrained", "teacher"])
@pytest.mark.parametrize("trigger", ["kl", "always"])
def test_padded_vocabulary_is_accepted_and_its_padding_never_said(
    role: str, trigger: str, tmp_path: Path
) -> None:
    """One of the two has a larger head, and fillers in its tokenizer, as from a GGUF file."""
    padded = tiny_folder(tmp_path / "padded", seed=1, vocab_size=512)
    with_fillers(padded, 512)
    other = tiny_folder(tmp_path / "other", seed=2)
    models = {"pretrained": str(other), "teacher": str(other), role: str(padded)}
    trace = tmp_path / "trace.jsonl"
    results = evaluate(
        "takeover",
        {**models, "trigger": trigger, "trace": str(trace)}
        | ({"threshold": 0.05} if trigger == "kl" else {}),
        limit=3,
    )
    assert counts(results)["triggers"] > 0
    for line in map(json.loads, trace.read_text().splitlines()):
        assert max(line["output_ids"]) < SIZE
        assert all(max(step["candidates"]) < SIZE for step in line["steps"])
