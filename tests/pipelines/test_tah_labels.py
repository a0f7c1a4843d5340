"""Labels of hard tokens: the token that ends a solution, and progress while texts are labelled."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
from torch import Tensor

from s2t_eval.methods.tah.settings import TahError
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.pipelines.tah_labels import end_of_answer, label_texts, open_work
from s2t_eval.training.label_collection import CollectionFolder
from s2t_eval.training.labels import LabelError
from s2t_eval.training.tah.labels import LabelledText
from tests.harness_helpers import STUDENT, prompts, tokenizer


def made_texts(count: int) -> list[LabelledText]:
    encoded = [tokenizer()(prompt)["input_ids"] for prompt in prompts(count)]
    return [LabelledText(f"made/{i}", f"q{i}", ids[:4], ids[4:]) for i, ids in enumerate(encoded)]


def test_the_progress_bar_shows_tokens_and_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lm, texts = Greedy(STUDENT, device="cpu"), made_texts(3)
    labels = label_texts(lm, texts, {"source": "made"}, {}, open_work(tmp_path / "labels", lm, texts))
    num_tokens = sum(len(text.output_ids) for text in texts)
    assert labels.manifest.num_steps == num_tokens
    assert re.search(rf"Labelling: 100%.* 3/3 .*{num_tokens:,} tokens \([\d,]+/s\)", capsys.readouterr().err)


def test_an_interrupted_labelling_goes_on_behind_its_finished_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept nothing until its end: interrupted at the last text, it began at the first."""
    lm, texts, out = Greedy(STUDENT, device="cpu"), made_texts(20), tmp_path / "labels"
    whole = label_texts(lm, texts, {}, {}, open_work(tmp_path / "whole", lm, texts))
    save = CollectionFolder.save

    def save_until_killed(self: CollectionFolder, kind: str, index: int, tensors: dict[str, Tensor]) -> None:
        if index == 10:
            raise KeyboardInterrupt
        save(self, kind, index, tensors)

    with monkeypatch.context() as patched:
        patched.setattr(CollectionFolder, "save", save_until_killed)
        with pytest.raises(KeyboardInterrupt):
            label_texts(lm, texts, {}, {}, open_work(out, lm, texts))
    labelled: list[int] = []

    def save_and_count(self: CollectionFolder, kind: str, index: int, tensors: dict[str, Tensor]) -> None:
        labelled.append(index)
        save(self, kind, index, tensors)

    monkeypatch.setattr(CollectionFolder, "save", save_and_count)
    resumed = label_texts(lm, texts, {}, {}, open_work(out, lm, texts))
    assert labelled == list(range(8, 20))  # the batch that was interrupted, and those behind it
    assert resumed.texts == whole.texts and resumed.manifest == whole.manifest
    with pytest.raises(LabelError, match=r"the unfinished work of another run \(its texts differ\)"):
        open_work(out, lm, texts[:19])


def test_a_tokenizer_without_an_end_is_named() -> None:
    """`s2t-eval tah label` ended in a TypeError about None."""
    without_end = copy.deepcopy(tokenizer())
    without_end.eos_token = None
    with pytest.raises(TahError, match=r"with an end-of-sequence token, .* eos_token in"):
        end_of_answer(without_end, has_chat_template=False)
    without_end.chat_template = "{{ messages[0].content }}<eos>"  # names no end of a turn
    with pytest.raises(TahError, match="end-of-sequence token"):
        end_of_answer(without_end, has_chat_template=True)
    assert end_of_answer(tokenizer(), has_chat_template=False) == tokenizer().eos_token_id
