"""Labels of hard tokens: progress while texts are labelled."""

from __future__ import annotations

import re

import pytest

from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.pipelines.tah_labels import label_texts
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
