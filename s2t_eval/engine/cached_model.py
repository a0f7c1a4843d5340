"""One causal language model with its KV cache: memory, head, and a pass over packed tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import PreTrainedModel

from s2t_eval.engine.attention import Pass, slot_attention_enabled
from s2t_eval.engine.compiled_layers import Compile, compiled_forms
from s2t_eval.engine.kv_cache import KVCache
from s2t_eval.engine.layer_forms import Forms, forms_enabled, forms_of
from s2t_eval.engine.layer_split import LayerSplit
from s2t_eval.engine.out_of_memory import is_out_of_memory
from s2t_eval.engine.packing import Packed, merged, pack_uncached
from s2t_eval.engine.pass_results import Counters
from s2t_eval.engine.prefix_cache import PrefixCache
from s2t_eval.engine.step_graphs import StepGraphs, can_record, should_record
from s2t_eval.engine.step_positions import StepPositions
from s2t_eval.engine.support import (
    UnsupportedModelError,
    check_supported,
    has_dynamic_rope,
    require_length,
)
from s2t_eval.engine.transfer import to_device
from s2t_eval.models.attention_kernels import without_cudnn_attention
from s2t_eval.models.cpu_linear import Packed as PackedWeights
from s2t_eval.models.cpu_linear import fast_products, pack, worthwhile
from s2t_eval.models.layer_masks import SLIDING
from s2t_eval.models.lm_head import Best, LMHead, input_device
from s2t_eval.models.loading import first_line

logger = logging.getLogger(__name__)

CHECKED_TOKENS = 8
"""Length of the text on which a model is compared with its own forward pass."""
NARROW_WINDOW = 2
"""A window in which that text does not lie, by which it is found whether a model's masks have one."""
FOREIGN_ERRORS = (
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
)
"""What a model's own code raises in the first pass of the engine where it expects other inputs. Of the
`RuntimeError`s only those of torch's operators are meant, which have no type of their own (`_is_foreign`)."""


class CachedModel:
    """A decoder-only model of transformers over a `KVCache`; body and head are called separately.

    `tokens[row]` are the ids whose keys and values are in the row. They stay after a sequence has ended,
    so that a later prompt with the same prefix copies them instead of computing them. Tokens are entered
    once their keys and values are computed, and removed before these are overwritten: a pass that an error
    or Ctrl-C interrupts leaves none behind whose keys and values are missing.

    Args:
        model: the causal model, with or without a PEFT adapter.
        name: its name in messages.
        text_vocab: rows of the head that are text; the rows above (padding, reserved rows) are never
            proposed. None takes the head's size.
        forward_context: a context manager around every forward, such as one that enables an adapter.
        fused_norms: compute norms in one kernel. None: on a GPU, which alone has that kernel.
        compile: "auto": on a GPU, replay decode steps as CUDA graphs (`step_graphs.py`). "always": also
            compile the decoder layers, on every device (`compiled_layers.py`). "never": neither. A warning
            names what is not possible for this model.
        step_graphs: round decode steps up and replay them; None: as `compile` says. On a CPU it changes
            their shapes and nothing else.
        merge_segments: let rows with similarly many new tokens attend together, padded. None: on a GPU, where
            each kernel has to be launched.

    Raises:
        UnsupportedModelError: recurrent, hybrid or other layers that cannot be branched.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        name: str = "model",
        text_vocab: int | None = None,
        forward_context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        fused_norms: bool | None = None,
        compile: Compile = "auto",
        step_graphs: bool | None = None,
        merge_segments: bool | None = None,
    ) -> None:
        # A PEFT model injects its adapters into the base model; generation does not need the wrapper.
        base: Any = model
        if hasattr(model, "get_base_model"):
            base = base.get_base_model()
        self.name = name
        self._forward_context = forward_context
        self.base: PreTrainedModel = base
        self.config = base.config.get_text_config(decoder=True)
        self.device = input_device(base)
        if self.device.type != "meta":  # a model on servers has no weights here, and no pass is run
            check_supported(self.config, name, getattr(base, "_is_stateful", False))
        self.body: nn.Module = base.get_decoder()
        self._lm_head = LMHead(base, text_vocab)
        self.counters = Counters()
        self.cache = KVCache(0, 0)
        self.prefixes = PrefixCache(0)
        self._is_checked = False
        self._mask_windows: dict[int, int] = {}
        self._kept_split: LayerSplit | None = None
        self._linears: list[nn.Linear] = []
        self._packed: dict[nn.Linear, PackedWeights] = {}
        self._forms: Forms = []
        self._fused_norms = self.device.type == "cuda" if fused_norms is None else fused_norms
        self._compile_layers = compile == "always"
        self._use_graphs = should_record(compile, self.device) if step_graphs is None else step_graphs
        self._graphs: StepGraphs | None = None
        self._merge_segments = self.device.type == "cuda" if merge_segments is None else merge_segments
        # transformers leaves a 4D mask unchanged; attention makes its own masks from the plan of a pass.
        self._no_mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.device)
        self._step_positions = StepPositions(self.device)

    @property
    def vocab(self) -> int:
        """Rows of the head, padding and reserved ones included."""
        return self._lm_head.vocab

    @property
    def text_vocab(self) -> int:
        """Size of the text vocabulary: ids below it can be proposed."""
        return self._lm_head.text_vocab

    def limit_text_vocab(self, size: int) -> None:
        """Never propose ids from `size` on, which the model beside this one does not have."""
        self._lm_head.text_vocab = min(self.text_vocab, size)

    @property
    def admission_steps(self) -> float:
        """Decode steps that take as long as the pass over a new prompt; 0 where its tokens decide it.

        On a GPU a pass takes the host as long as its kernels take to launch, and a replayed step a fraction
        of that (an H100 with 0.5 billion parameters: 16 to 24 ms and 6 ms).
        """
        if self.device.type != "cuda":
            return 0.0
        return 4.0 if self._graphs is not None else 1.0

    @property
    def tokens(self) -> list[list[int]]:
        """The cached token ids of each row."""
        return self.prefixes.tokens

    def allocate(self, rows: int, length: int, extra_slots: int = 0) -> None:
        """Make room for texts; a cache that is large enough is kept.

        Args:
            rows: texts at once.
            length: tokens of the longest text.
            extra_slots: slots behind it, such as for candidates or a question.

        Raises:
            UnsupportedModelError: the engine computes other logits than the model's own forward pass, or
                would do so at this length.
        """
        require_length(self.config, self.name, length, extra_slots)
        capacity = length + extra_slots
        self._pack_weights()
        if not self._is_checked:
            # Not earlier: an adapter may still be attached.
            self._forms = forms_of(self.body, self._fused_norms)
            self._apply_compile()
            self._check_forward()
        if self._graphs is not None and not self._graphs.read_present_weights():
            self._graphs = None
        if self.cache.rows != rows or self.cache.capacity < capacity:
            self._graphs = None  # they hold the cache that is replaced
            self.prefixes = PrefixCache(rows)
            self.cache = KVCache(rows, capacity)

    def _apply_compile(self) -> None:
        """Find the layers that are compiled, and whether decode steps are replayed."""
        if self._compile_layers:
            compiled = compiled_forms(self.body)
            self._forms += compiled
            if not compiled:
                logger.warning(
                    "%s: none of its layers is compiled: they are not of Llama's form, or their weights have "
                    "an adapter or are quantized or offloaded",
                    self.name,
                )
        if self._use_graphs and not can_record(self.body, self.config.num_hidden_layers):
            self._without_graphs("its layers are not of Llama's form, are offloaded or on several devices")
        elif self._use_graphs and has_dynamic_rope(self.config):
            self._without_graphs("its RoPE (dynamic) waits for the device in each pass")

    def _without_graphs(self, reason: str) -> None:
        """Compute decode steps as they are, with a warning where they were to be replayed."""
        if self._use_graphs:
            logger.warning("%s: its decode steps are not replayed as CUDA graphs: %s", self.name, reason)
        self._use_graphs = False

    def _pack_weights(self) -> None:
        """Copy weights for products of few rows, again where they have changed: an adapter was merged."""
        self._linears = worthwhile(self.body)
        self._packed = pack([*self._linears, *self._lm_head.worthwhile])
        self._lm_head.packed = self._packed

    def keep_states(self, split: LayerSplit) -> None:
        """Keep in the cache what enters the upper layers, for a scorer that computes these alone."""
        self.release()
        self._without_graphs("a scorer with an adapter on the last layers reads what enters these layers")
        self._kept_split = split

    def release(self) -> None:
        """Drop the cache and free its memory."""
        self.prefixes = PrefixCache(0)
        self.cache = KVCache(0, 0)
        self._graphs = None

    def forget(self) -> None:
        """Drop the texts of all rows and keep the memory."""
        self.prefixes = PrefixCache(self.cache.rows)

    # ---------------------------------------------------------------- head

    def head(self, hidden: Tensor) -> Tensor:
        """Logits of the text vocabulary, float32 [n, text_vocab], from hidden states [n, hidden]."""
        return self._lm_head.fast_logits(hidden)

    def best_tokens(self, hidden: Tensor) -> Best:
        """The argmax of `head` for hidden states [n, hidden], in the fastest form."""
        return self._lm_head.best(hidden)

    def head_at(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Logits of chosen ids only, float32 [n, m], for ids [n, m]; the head's other rows are not read."""
        return self._lm_head.logits_at(hidden, ids)

    # ---------------------------------------------------------------- a pass

    def forward(
        self, packed: Packed, positions: Tensor | None = None, embeds: Tensor | None = None
    ) -> Tensor:
        """One pass of the body over packed tokens -> hidden states [tokens, hidden].

        Args:
            packed: the tokens, their cache slots, and what each attends to.
            positions: of each token, [tokens]; None: the concatenated positions of the segments.
            embeds: inputs instead of the tokens' embeddings, [tokens, hidden].
        """
        if positions is None:
            positions = torch.cat([part.positions.flatten() for part in packed.segments])
        self.counters.passes += 1
        self.counters.tokens += len(packed.ids)
        if self._merge_segments:
            packed = replace(packed, segments=merged(packed.segments))
        with without_cudnn_attention():  # not within `_pass`: recorded steps have few shapes
            return self._pass(packed, positions, embeds)

    def _pass(self, packed: Packed, positions: Tensor, embeds: Tensor | None = None) -> Tensor:
        """`forward` without its counts."""
        for part in packed.segments:
            part.on(self.device)
        plan = Pass(self.cache, to_device(packed.index, self.device), packed.segments, self._mask_windows)
        inputs = (
            {"input_ids": to_device(packed.ids, self.device)[None]}
            if embeds is None
            else {"inputs_embeds": embeds[None]}
        )
        with (
            self._forward_context(),
            nullcontext() if self._kept_split is None else self._kept_split.keeping(plan),
            slot_attention_enabled(self.base),
            forms_enabled(self._forms),
            fast_products(self._linears, len(packed.ids), self._packed),
        ):
            output = self.body(
                **inputs,
                position_ids=to_device(positions, self.device)[None],
                attention_mask=self._no_mask,
                use_cache=False,
                slots=plan,
            )
        hidden: Tensor = output.last_hidden_state[0]
        return hidden

    def _step_graphs(self) -> StepGraphs | None:
        """The graphs over the present cache; None where steps are not replayed."""
        if not self._use_graphs:
            return None
        if self._graphs is None or self._graphs.cache is not self.cache:
            self._graphs = StepGraphs(self._pass, self.body, self.cache, self.device)
        return self._graphs

    def _checked_text(self) -> list[int]:
        return [i * 7 % self.text_vocab for i in range(CHECKED_TOKENS)]

    @torch.inference_mode()
    def _check_forward(self) -> None:
        """Refuse a model whose logits in this engine differ from its own (unknown layers, scalings)."""
        text = self._checked_text()
        expected = self._own_logits(text)
        self._mask_windows = self._windows_of_masks(text, expected)
        self.cache, self.prefixes = KVCache(1, CHECKED_TOKENS), PrefixCache(1)
        try:
            logits = self._checked_logits(text)
        finally:
            self.release()
            self.counters = Counters()
        scale = expected.float().abs().max()
        error = (logits - expected.float().to(logits.device)).abs().max()
        if not error <= _tolerance(expected) and bool(torch.isfinite(scale)):
            raise UnsupportedModelError(
                f"{self.name}: {type(self.base).__name__} gives other logits through the slot engine "
                f"(largest difference {error:.3g} at a scale of {scale:.3g}): it has layers or "
                "scalings that the engine does not implement; use --model hf for it"
            )
        self._is_checked = True

    def _own_logits(self, text: list[int]) -> Tensor:
        """The logits behind a text, [text_vocab], of the model's own forward pass."""
        ids = torch.tensor(text)
        with self._forward_context():
            logits: Tensor = self.base(input_ids=ids.to(self.device)[None]).logits
        return logits[0, -1, : self.text_vocab]

    def _windows_of_masks(self, text: list[int], expected: Tensor) -> dict[int, int]:
        """The window of each sliding layer, if the model's own masks have it.

        Most layers also pass their window to attention. Those of PhiMoE and Qwen2-MoE do not, so that every
        token attended to the whole text there. Whether masks have it, or it only stands in the configuration,
        a pass with a narrower one shows: the text of the check is shorter than a window.
        """
        window = getattr(self.config, "sliding_window", None)
        if not isinstance(window, int) or window < 1:
            return {}
        self.config.sliding_window = NARROW_WINDOW
        try:
            narrow = self._own_logits(text)
        finally:
            self.config.sliding_window = window
        if (narrow - expected).abs().max() <= _tolerance(expected):
            return {}
        kinds = getattr(self.config, "layer_types", None) or [SLIDING] * self.config.num_hidden_layers
        return {layer: window for layer, kind in enumerate(kinds) if kind == SLIDING}

    def _checked_logits(self, text: list[int]) -> Tensor:
        """The logits behind a text, [text_vocab], of a second pass that has half of it in the cache alone.

        In one pass a model with an attention or a state of its own computes a text as it always does. Later
        it would see neither a row's prompt nor where one text of a pass ends and the next begins.
        """
        hidden = torch.empty(0)
        try:
            for start, end in ((0, len(text) // 2), (len(text) // 2, len(text))):
                hidden = self.forward(pack_uncached([0], [text[:end]], [start], CHECKED_TOKENS))
        except FOREIGN_ERRORS as error:
            if not _is_foreign(error):
                raise
            raise UnsupportedModelError(
                f"{self.name}: {type(self.base).__name__} cannot be decoded by the slot engine: its layers "
                f"expect other inputs than transformers' attention interface has ({first_line(error)}); use "
                "--model hf for it"
            ) from error
        return self.head(hidden[-1:])[0]


def _tolerance(logits: Tensor) -> Tensor:
    """The largest difference by which rounding may change logits of a pass."""
    share = 1e-3 if logits.dtype == torch.float32 else 5e-2
    return share * logits.float().abs().max()


def _is_foreign(error: Exception) -> bool:
    """Whether an error of the first pass shows that a model expects other inputs than the engine's."""
    is_of_an_operator = type(error) is RuntimeError and not is_out_of_memory(error)
    return is_of_an_operator or not isinstance(error, RuntimeError) or isinstance(error, NotImplementedError)
