"""Real checkpoints, where they are: the engine's greedy texts are transformers' own.

Run line: pytest -m slow tests/models/test_real_models.py   (S2T_MODELS or ~/.cache/s2t-models)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from s2t_eval.engine import Decoder, ModelRunner, Request
from s2t_eval.models.vocabulary import stop_ids, text_vocabulary
from s2t_eval.selection import policy

MODELS = Path(os.environ.get("S2T_MODELS") or Path.home() / ".cache" / "s2t-models")
TOKENS = 24
PROMPTS = (
    "The capital of France is",
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May? Let us think step by step.",
    "def fibonacci(n):\n",
)
STORY = "The old lighthouse keeper counted the ships that passed: {} of them carried salt. "


def load(name: str) -> tuple[Any, Any]:
    folder = MODELS / name
    if not (folder / "config.json").is_file():
        pytest.skip(f"{folder} is not there: set S2T_MODELS to a folder with {name}")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen-0.5b", "smollm2-135m", "gemma3-270m"])
def test_greedy_is_generate(name: str) -> None:
    model, tokenizer = load(name)
    texts = list(PROMPTS)
    prompts = [tuple(tokenizer(text)["input_ids"]) for text in texts]
    window = getattr(model.config, "sliding_window", None)
    if name.startswith("gemma"):
        assert window == 512
        story = "".join(STORY.format(i) for i in range(40))
        prompts[1] = tuple(tokenizer(story)["input_ids"])
        assert len(prompts[1]) > window + TOKENS
    stops = stop_ids(tokenizer, model.generation_config)
    size = text_vocabulary(tokenizer)
    decoder = Decoder(ModelRunner(model, name, size), policy.greedy(), rows=3)
    asked = [Request(prompt, TOKENS, stops) for prompt in prompts]
    found = {result.index: result.output_ids for result in decoder.run(asked)}
    model.generation_config.repetition_penalty = 1.0
    padding = list(range(size, decoder.stepper.runners[0].vocab))
    for i, prompt in enumerate(prompts):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            said = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=TOKENS,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                eos_token_id=sorted(stops),
                pad_token_id=min(stops),
                suppress_tokens=padding or None,
            )
        assert found[i] == said[0, len(prompt) :].tolist()
