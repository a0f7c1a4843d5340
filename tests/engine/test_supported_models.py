"""Models that the engine cannot decode are refused by name, before a token is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    Gemma3TextConfig,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    Qwen3NextConfig,
    RwkvConfig,
    RwkvForCausalLM,
    T5Config,
)

from s2t_eval.engine import Decoder, ModelRunner, Request, UnsupportedModelError
from s2t_eval.engine.attention import slot_attention_enabled
from s2t_eval.engine.support import check_supported, require_length
from s2t_eval.selection.policy import greedy
from tests.twins import generate_greedy, logits_after, outputs, prompts, tiny_model

SHAPE = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}


def test_recurrent_models() -> None:
    model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2))
    with pytest.raises(UnsupportedModelError, match=r"snake: mamba has .*full_attention or sliding"):
        ModelRunner(model, "snake")


def test_models_with_a_state_of_their_own() -> None:
    """RWKV's configuration names no state, and its layers ignore our cache: texts were garbage."""
    model = RwkvForCausalLM(RwkvConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2))
    with pytest.raises(UnsupportedModelError, match=r"^tall: rwkv has a recurrent state; the"):
        ModelRunner(model, "tall")


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


def test_attention_of_a_model_s_own() -> None:
    """GPT-Neo's has a causal mask of its own and keeps nothing in our cache. The check read its text in one
    pass, which such a model computes as always; later no row saw its prompt."""
    torch.manual_seed(0)
    config = GPTNeoConfig(
        vocab_size=64, hidden_size=32, num_layers=2, attention_types=[[["global"], 2]], num_heads=2
    )
    model = GPTNeoForCausalLM(config).eval()
    with pytest.raises(UnsupportedModelError, match=r"^neo: GPTNeoForCausalLM gives other logits"):
        list(Decoder(ModelRunner(model, "neo"), greedy()).run([Request((1, 2), 3)]))


def test_models_that_fail_in_the_engine_s_pass() -> None:
    """BLOOM makes its position biases from the mask, and ended in a traceback of transformers."""
    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=2)).eval()
    message = (
        r"^bloom: BloomForCausalLM cannot be decoded by the slot engine: .*\(too many values .*; use --model"
    )
    with pytest.raises(UnsupportedModelError, match=message):
        list(Decoder(ModelRunner(model, "bloom"), greedy()).run([Request((1, 2), 3)]))


def test_a_model_whose_operators_fail_in_the_engine_s_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's error has no type of its own, and ended in a traceback. Memory that runs out is none."""
    model = tiny_model("llama", seed=0)

    def reads_whole_texts(
        layer: torch.nn.Module, inputs: tuple[object, ...], more: dict[str, torch.Tensor]
    ) -> None:
        more["hidden_states"][0, :, 0] + torch.zeros(8)

    attention = model.model.layers[1].self_attn
    hook = attention.register_forward_pre_hook(reads_whole_texts, with_kwargs=True)
    message = r"^whole: LlamaForCausalLM cannot be decoded .*\(The size of tensor a \(4\) must match"
    with pytest.raises(UnsupportedModelError, match=message):
        ModelRunner(model, "whole").allocate(1, 8)
    hook.remove()

    def exhausts_memory(*arguments: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    runner = ModelRunner(model, "large")
    monkeypatch.setattr(runner, "forward", exhausts_memory)
    with pytest.raises(torch.OutOfMemoryError):
        runner.allocate(1, 8)


WINDOW = 8
MIXED = {**SHAPE, **HEADS, "num_hidden_layers": 4, "head_dim": 16, "sliding_window": WINDOW} | {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "use_sliding_window": True,
    "max_window_layers": 2,
    "initializer_range": 0.25,
}


@pytest.mark.parametrize("family", ["phimoe", "qwen2_moe", "afmoe", "mistral", "llama"])
def test_windows_of_masks_are_those_of_the_engine(family: str) -> None:
    """Layers of PhiMoE and Qwen2-MoE do not pass their window to attention: beyond it every token attended to
    the whole text, and texts were others without an error. A Llama has none, whatever its configuration says;
    layers of AFMoE view what attention returns, which failed."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **MIXED)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    requests = [Request(tuple(token % 64 for token in prompt), 16) for prompt in prompts(3)]
    results = sorted(Decoder(ModelRunner(model), greedy()).run(requests), key=lambda result: result.index)
    for result in results:
        prompt = result.request.prompt_ids
        texts = [[*prompt, *result.output_ids[:step]] for step in range(16)]
        assert result.output_ids == [int(logits_after(model, text).argmax()) for text in texts]
    assert max(len(request.prompt_ids) for request in requests) > 2 * WINDOW


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


ORIGINAL = 48
"""Original context of the models below, in tokens."""


def model_with_rope(rope_type: str) -> PreTrainedModel:
    """A model whose rotation depends on the longest text of a pass beyond the original context."""
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "factor": 4.0}
    by_type = {
        "longrope": {**factors, "original_max_position_embeddings": ORIGINAL},
        "dynamic": {"factor": 4.0},
    }
    rope = {"rope_type": rope_type, "rope_theta": 10_000.0, **by_type[rope_type]}
    positions = 4 * ORIGINAL if rope_type == "longrope" else ORIGINAL
    config = LlamaConfig(
        **SHAPE, **HEADS, max_position_embeddings=positions, rope_parameters=rope, initializer_range=0.25
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    model.generation_config.eos_token_id = None
    return model


@pytest.mark.parametrize("rope_type", ["longrope", "dynamic"])
def test_a_rotation_that_depends_on_the_longest_text_is_refused_beyond_the_original_context(
    rope_type: str,
) -> None:
    """A pass holds the tokens of all rows: a long text changed the rotation of shorter ones beside it, and
    their texts, without an error. Within the original context texts are those of `generate`."""
    model = model_with_rope(rope_type)
    short = Request((5, 9, 2), 20)
    fits, too_long = (Request(tuple(range(20)), ORIGINAL - 20 + more) for more in (0, 1))
    decoder = Decoder(ModelRunner(model, "roped"), greedy(), rows=2)
    extra = decoder.stepper.extra_slots
    fits = replace(fits, max_new_tokens=fits.max_new_tokens - extra)
    results = sorted(decoder.run([fits, short]), key=lambda result: result.index)
    assert outputs(results) == [generate_greedy(model, request) for request in (fits, short)]
    message = rf"^roped: beyond its original context of 48 tokens its RoPE \({rope_type}\) depends on .*"
    with pytest.raises(UnsupportedModelError, match=message + f"give max_length={ORIGINAL - extra} or less"):
        list(decoder.run([too_long, short]))


@pytest.mark.parametrize(("rope_type", "warnings"), [("longrope", 0), ("dynamic", 1)])
def test_a_rotation_that_waits_for_the_device_is_not_recorded(
    rope_type: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    """transformers compares the largest position on the host, which is no part of a CUDA graph: recording
    ended the run. Here steps are only rounded up."""
    runner = ModelRunner(model_with_rope(rope_type), "roped", step_graphs=True)
    runner.allocate(1, ORIGINAL)
    messages = [record.getMessage() for record in caplog.records]
    reason = "roped: its decode steps are not replayed as CUDA graphs: its RoPE (dynamic) waits for"
    assert [reason in message for message in messages] == [True] * warnings
    assert runner._use_graphs is (rope_type != "dynamic")


def test_every_layer_type_s_rotation_is_looked_at() -> None:
    """Gemma 3 has parameters for each type of layer."""
    plain = {"rope_type": "default", "rope_theta": 10_000.0}
    for rope in (plain, {"rope_type": "dynamic", "rope_theta": 1e6, "factor": 8.0}):
        config = Gemma3TextConfig(
            **SHAPE,
            **HEADS,
            max_position_embeddings=64,
            rope_parameters={"sliding_attention": plain, "full_attention": rope},
        )
        require_length(config, "gemma", 60, 4)
        if rope is plain:
            require_length(config, "gemma", 600, 4)
            continue
        with pytest.raises(UnsupportedModelError, match=r"RoPE \(dynamic\) .* give max_length=60 or less"):
            require_length(config, "gemma", 61, 4)
        with pytest.raises(UnsupportedModelError, match=r"and 64 further slots; use --model hf for it$"):
            require_length(config, "gemma", 1, 64)


def test_a_rotation_that_does_not_depend_on_other_texts_has_no_such_limit() -> None:
    rope = {
        "rope_type": "yarn",
        "rope_theta": 10_000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    config = LlamaConfig(**SHAPE, **HEADS, max_position_embeddings=64, rope_parameters=rope)
    require_length(config, "yarn", 64, 4)
