"""Slow reference implementations: one text at a time, no cache, one sequence per candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from s2t_eval.engine import Decoder, ModelRunner, Request, Result
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.readout import Readout
from s2t_eval.selection.step import Step, TextPositions

VOCAB = 120
WINDOW = 8


def tiny_model(family: str, seed: int, hidden_size: int = 64) -> PreTrainedModel:
    """A random model of three layers, with weights large enough that texts do not repeat themselves."""
    shape = {
        "vocab_size": VOCAB,
        "hidden_size": hidden_size,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.25,
    }
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    # Tied, Gemma's scaled embeddings make a random model repeat its last token for ever.
    windowed = dict(shape, head_dim=16, sliding_window=WINDOW, layer_types=layers)
    windowed["tie_word_embeddings"] = False
    torch.manual_seed(seed)
    match family:
        case "qwen2":
            model = Qwen2ForCausalLM(Qwen2Config(**shape))
        case "llama":
            model = LlamaForCausalLM(LlamaConfig(**shape))
        case "gemma3":
            model = Gemma3ForCausalLM(Gemma3TextConfig(**windowed))
        case "gemma2":
            capped = {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 8.0}
            model = Gemma2ForCausalLM(Gemma2Config(**windowed, **capped, attn_implementation="eager"))
        case _:
            raise ValueError(family)
    model.generation_config.eos_token_id = None
    return model.eval()


def prompts(count: int = 7, longest: int = 60, seed: int = 1) -> list[tuple[int, ...]]:
    """Random prompts of different lengths; the shortest has one token."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [1, *torch.randint(2, longest, (count - 1,), generator=generator).tolist()]
    return [tuple(torch.randint(0, VOCAB, (n,), generator=generator).tolist()) for n in lengths]


def requests(count: int = 7, **options: object) -> list[Request]:
    """Requests with different length limits, so that sequences end at different steps."""
    return [Request(p, 8 + 4 * (i % 4), **options) for i, p in enumerate(prompts(count))]  # type: ignore[arg-type]


def decode(
    model: PreTrainedModel,
    policy: Policy,
    asked: Sequence[Request],
    teacher: PreTrainedModel | None = None,
    rows: int = 4,
    **options: object,
) -> list[Result]:
    """The engine's results in the order of the requests."""
    slots = ModelRunner(teacher, "teacher") if teacher is not None else None
    decoder = Decoder(ModelRunner(model, "student"), policy, slots, rows, **options)  # type: ignore[arg-type]
    results = {result.index: result for result in decoder.run(asked)}
    return [results[i] for i in range(len(asked))]


def outputs(results: Sequence[Result]) -> list[list[int]]:
    return [result.output_ids for result in results]


@torch.no_grad()
def logits_after(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    """Logits [vocab] after a text, computed without a cache."""
    logits: Tensor = model(torch.tensor([list(ids)]), use_cache=False).logits[0, -1].float()
    return logits


def hidden_after(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    """Last hidden state [hidden] at the last token of a text, computed without a cache."""
    return hidden_after_each(model, ids[:-1], ids[-1:])[0]


@torch.no_grad()
def hidden_after_each(model: PreTrainedModel, ids: Sequence[int], candidates: Sequence[int]) -> Tensor:
    """States [candidates, hidden] at the end of the text with each candidate: every one a whole text."""
    texts = torch.tensor([[*ids, candidate] for candidate in candidates])
    hidden: Tensor = model.get_decoder()(texts, use_cache=False).last_hidden_state[:, -1]
    return hidden


Pick = Callable[[list[int], list[int]], int]
"""(text so far, candidates) -> token"""


def slow_decode(
    model: PreTrainedModel,
    policy: Policy,
    asked: Sequence[Request],
    pick: Pick,
    teacher: PreTrainedModel | None = None,
) -> list[list[int]]:
    """Recompute every step from the whole text: `pick` if the step fires, otherwise the argmax."""
    texts = []
    for request in asked:
        ids, output = list(request.prompt_ids), []
        while len(output) < request.max_new_tokens:
            logits = logits_after(model, ids)
            teacher_at = None
            if teacher is not None:  # read by the triggers of both models alone
                teacher_at = lambda at, ids=tuple(ids): logits_after(teacher, ids)[at]  # noqa: E731
            positions = TextPositions(torch.tensor(ids[-1:]), torch.tensor([len(output)]))
            step = Step(logits[None], teacher_at, lambda: torch.zeros(1), positions=lambda at=positions: at)
            fires = policy.trigger.divergence(step)[0] > policy.trigger_threshold
            token = int(logits.argmax())
            if fires and len(output) >= policy.warmup_tokens:
                token = pick(ids, logits.topk(policy.top_k).indices.tolist())
            ids.append(token)
            output.append(token)
            if token in request.stop_ids:
                break
        texts.append(output)
    return texts


def teacher_pick(teacher: PreTrainedModel) -> Pick:
    """Select the candidate with the highest probability under the teacher."""

    def pick(ids: list[int], candidates: list[int]) -> int:
        scores = logits_after(teacher, ids)[candidates]
        return candidates[int(scores.argmax())]

    return pick


def takeover_pick(teacher: PreTrainedModel) -> Pick:
    """Select the teacher's argmax over the whole vocabulary."""
    return lambda ids, candidates: int(logits_after(teacher, ids).argmax())


def readout_pick(model: PreTrainedModel, readout: Readout) -> Pick:
    """Select the candidate with the highest readout, encoding each with its whole prefix."""

    def pick(ids: list[int], candidates: list[int]) -> int:
        return candidates[int(readout.score(hidden_after_each(model, ids, candidates)).argmax())]

    return pick


@torch.no_grad()
def generate_greedy(model: PreTrainedModel, request: Request) -> list[int]:
    """Greedy generation with transformers."""
    ids = torch.tensor([request.prompt_ids])
    eos = sorted(request.stop_ids) or None
    generated = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=request.max_new_tokens,
        do_sample=False,
        eos_token_id=eos,
        pad_token_id=0,
    )
    output: list[int] = generated[0, ids.shape[1] :].tolist()
    return output
