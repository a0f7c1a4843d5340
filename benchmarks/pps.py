"""PPS relative to greedy, end to end: seconds per token with all prefills, by the layers that are adapted.

    python -m benchmarks.speed pps --student FOLDER --data gsm8k.jsonl --last-layers 12 8 4

The scorer reads each text again where a step fires, prompts included. With an adapter on the last layers
alone it computes only these. The selector scores by its own logits (form `direct`); a router is evaluated at
every step, and steps fire at random at the given rate.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from benchmarks.branch import with_rate
from benchmarks.decoding import ClockedModel, Run, compare, decode, make_requests, warm_up
from benchmarks.local import routed_at_random
from benchmarks.ratios import Ratio, Target, alternate
from benchmarks.workload import Settings, load_model, load_tokenizer
from s2t_eval.engine import Decoder
from s2t_eval.engine.upper_scorer import make_scorer
from s2t_eval.methods.selector_adapter import AdapterSwitch
from s2t_eval.models.lora import first_adapted_layer, with_lora
from s2t_eval.models.lora_settings import LoraSettings
from s2t_eval.models.vocabulary import text_vocabulary
from s2t_eval.selection import policy
from s2t_eval.selection.policy import greedy
from s2t_eval.selection.scores import DirectScore

NEW_TOKENS = 160
TARGET = Target(1.5)
TARGET_TAU, TARGET_BATCH = 0.05, 32


def measure(settings: Settings) -> list[Ratio]:
    """Return one ratio per rate and number of adapted layers; greedy is measured in the same rounds."""
    tokenizer = load_tokenizer(settings)
    model, vocab = load_model(settings.student, settings), text_vocabulary(tokenizer)
    batch, ratios = settings.batch, []
    num = settings.requests or batch
    requests = make_requests(settings, tokenizer, num, settings.new_tokens or NEW_TOKENS)
    for tau in settings.taus or (TARGET_TAU,):
        fired = with_rate(requests, tau)
        plain = Decoder(ClockedModel(model, "student", vocab), greedy(), rows=batch)
        decoders = {"greedy": plain}
        for layers in (None, *(settings.last_layers or _a_third(model))):
            decoders[name_of(layers)] = decoder_of(settings, model, vocab, tau, layers)
        for decoder in decoders.values():
            warm_up(decoder, fired)
        sides: dict[str, Callable[[], Run]] = {
            side: partial(decode, decoder, requests if side == "greedy" else fired)
            for side, decoder in decoders.items()
        }
        runs = alternate(sides, settings.repeats)
        base = runs.pop("greedy")
        is_target = tau == TARGET_TAU and batch == TARGET_BATCH
        ratios += [
            compare(
                f"pps_local, {side}, tau {tau:g}, batch {batch}, end to end",
                over,
                base,
                TARGET if is_target else None,
                whole=True,
            )
            for side, over in runs.items()
        ]
    return ratios


def name_of(last_layers: int | None) -> str:
    """A side's name."""
    return "all layers adapted" if last_layers is None else f"last {last_layers} layers adapted"


def decoder_of(
    settings: Settings, model: PreTrainedModel, vocab: int, tau: float, last_layers: int | None
) -> Decoder:
    """PPS with an untrained adapter on the last layers, over the weights of `model`."""
    peft = with_lora(sharing_weights(model), LoraSettings(), last_layers).eval().to(model.dtype)
    layers: Any = peft.base_model
    layers.disable_adapter_layers()
    base: Any = peft.get_base_model()
    student = ClockedModel(base, "student", vocab)
    scorer = make_scorer(student, first_adapted_layer(peft), "scorer", AdapterSwitch(peft))
    chosen = policy.s2t_local(routed_at_random(student), 1 - tau, DirectScore(), settings.top_k)
    return Decoder(student, chosen, rows=settings.batch, scorer=scorer)


def sharing_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A copy with modules of its own and the same weights in memory."""
    shared = {id(weight): weight for weight in model.parameters()}
    return copy.deepcopy(model, shared)


def _a_third(model: PreTrainedModel) -> tuple[int]:
    return (max(1, model.config.get_text_config(decoder=True).num_hidden_layers // 3),)
