"""`gguf_file=`: a GGUF file is unpacked and decoded like the folder that it was made of."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, GgufConfig

from s2t_eval.embedded import embedded_path
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.s2t import SelectToThink
from tests.harness_helpers import STUDENT, TEACHER, generation, model, prompts, tokenizer

TENSORS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def as_gguf(path: Path, name: str = STUDENT) -> None:
    """An embedded model as one GGUF file; weights that blocks of 32 can hold are Q8_0."""
    config, weights = model(name).config, model(name).state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_eos_token_id(config.eos_token_id)

    def add(name: str, value: torch.Tensor, pack: bool = True) -> None:
        values = value.float().numpy()
        if not pack or values.ndim == 1:
            writer.add_tensor(name, np.ascontiguousarray(values))
            return
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", weights["model.embed_tokens.weight"])
    add("output_norm.weight", weights["model.norm.weight"])
    for layer in range(config.num_hidden_layers):
        for name, ours in TENSORS.items():
            value = weights[f"model.layers.{layer}.{ours}.weight"]
            if name in ("attn_q", "attn_k"):  # llama.cpp keeps the halves of a rotation side by side
                heads = len(value) // config.head_dim
                value = value.view(heads, 2, config.head_dim // 2, -1).transpose(1, 2).reshape(value.shape)
            add(f"blk.{layer}.{name}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_unpacked_and_decoded(tmp_path: Path) -> None:
    as_gguf(tmp_path / "student.gguf")
    asked = [generation(prompt, doc_id=i) for i, prompt in enumerate(prompts(4))]
    folder = embedded_path(STUDENT)
    packed = Greedy(
        str(tmp_path), gguf_file="student.gguf", tokenizer=str(folder), dtype="float32", batch_size=4
    )
    linear = packed.model.model.layers[0].mlp.up_proj
    assert type(linear) is torch.nn.Linear and linear.weight.dtype == torch.float32
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    before, after = plain.state_dict(), packed.model.state_dict()
    for name, value in before.items():
        # Q8_0 keeps 8 bits of each block's largest weight, and its scale as float16
        assert (after[name] - value).abs().max() <= value.abs().max() / 230, name
    texts = packed.generate_until(asked, disable_tqdm=True)
    unpacked = Greedy(packed.model, tokenizer=packed.tokenizer, batch_size=1)
    assert texts == unpacked.generate_until(asked, disable_tqdm=True)
    assert all(text.strip() for text in texts)


def test_a_gguf_teacher_selects_what_its_unpacked_twin_selects(tmp_path: Path) -> None:
    as_gguf(tmp_path / "teacher.gguf", TEACHER)
    unpacked = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="teacher.gguf", quantization_config=GgufConfig(dequantize=True)
    )
    unpacked.save_pretrained(tmp_path / "unpacked")
    tokenizer().save_pretrained(tmp_path / "unpacked")
    common = {"threshold": 0.05, "dtype": "float32", "device": "cpu", "batch_size": 4, "verify": 1}
    packed_teacher = SelectToThink(
        STUDENT,
        teacher=str(tmp_path),
        teacher_gguf_file="teacher.gguf",
        teacher_tokenizer=str(embedded_path(TEACHER)),
        **common,
    )
    twin = SelectToThink(STUDENT, teacher=str(tmp_path / "unpacked"), **common)
    whole = SelectToThink(STUDENT, teacher=TEACHER, **common)
    assert packed_teacher.teacher_fingerprint == twin.teacher_fingerprint != whole.teacher_fingerprint
    asked = [generation(prompt, doc_id=i) for i, prompt in enumerate(prompts(6))]
    texts = packed_teacher.generate_until(asked, disable_tqdm=True)
    assert texts == twin.generate_until(asked, disable_tqdm=True)
    assert packed_teacher.telemetry.report()["triggers"] == twin.telemetry.report()["triggers"] > 0
