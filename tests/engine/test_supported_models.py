"""Models that the engine cannot decode are refused by name, before a token is wrong."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    GraniteConfig,
    GraniteForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    Qwen3NextConfig,
    T5Config,
)

from s2t_eval.engine import Decoder, ModelRunner, Request, UnsupportedModelError
from s2t_eval.engine.attention import slot_attention_enabled
from s2t_eval.engine.support import check_supported
from s2t_eval.selection.policy import greedy
from tests.twins import tiny_model

SHAPE = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}


def test_recurrent_models() -> None:
    model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2))
    with pytest.raises(UnsupportedModelError, match=r"snake: mamba has .*full_attention or sliding"):
        ModelRunner(model, "snake")


def test_hybrid_models() -> None:
    config = Qwen3NextConfig(num_hidden_layers=4)
    with pytest.raises(UnsupportedModelError, match="mixed: qwen3_next has linear_attention"):
        check_supported(config, "mixed")


def test_encoder_decoder_models() -> None:
    with pytest.raises(UnsupportedModelError, match="expected a decoder-only one"):
        check_supported(T5Config(), "t5")


def test_a_scaling_that_the_engine_does_not_know() -> None:
    torch.manual_seed(0)
    model = GraniteForCausalLM(GraniteConfig(**SHAPE, **HEADS, logits_scaling=3.0)).eval()
    with pytest.raises(UnsupportedModelError, match="GraniteForCausalLM gives other logits"):
        list(Decoder(ModelRunner(model, "granite"), greedy()).run([Request((1, 2), 3)]))


def test_the_model_s_own_attention_is_back_after_a_pass() -> None:
    model: PreTrainedModel = tiny_model("llama", seed=0)
    before = model.config._attn_implementation
    with slot_attention_enabled(model):
        assert model.config._attn_implementation != before
    assert model.config._attn_implementation == before
    ids = torch.arange(9)[None]
    expected = model(ids).logits
    list(Decoder(ModelRunner(model), greedy()).run([Request((1, 2), 3)]))
    torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=0)
