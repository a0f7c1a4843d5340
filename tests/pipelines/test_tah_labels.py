"""Labels of hard tokens: the token that ends a solution, and progress while texts are labelled."""

from __future__ import annotations

import copy
import re

import pytest

from s2t_eval.methods.tah.settings import TahError
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.pipelines.tah_labels import end_of_answer, label_texts
from s2t_eval.training.tah.labels import LabelledText
from tests.harness_helpers import STUDENT, prompts, tokenizer


def test_the_progress_bar_shows_tokens_and_texts(capsys: pytest.CaptureFixture[str]) -> None:
    lm = Greedy(STUDENT, device="cpu")
    encoded = [tokenizer()(prompt)["input_ids"] for prompt in prompts(3)]
    texts = [LabelledText(f"made/{i}", f"q{i}", ids[:4], ids[4:]) for i, ids in enumerate(encoded)]
    labels = label_texts(lm, texts, {"source": "made"}, {})
    num_tokens = sum(len(text.output_ids) for text in texts)
    assert labels.manifest.num_steps == num_tokens
    assert re.search(rf"Labelling: 100%.* 3/3 .*{num_tokens:,} tokens \([\d,]+/s\)", capsys.readouterr().err)


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
