"""Stock `hf`'s way of loading, with the checks that students and teachers of ours need."""

from __future__ import annotations

from typing import Any, ClassVar

from lm_eval.models.huggingface import HFLM

from s2t_eval.model_wrappers.quantization import with_quantization_config
from s2t_eval.models.loading import (
    WholeCheckpoints,
    load_adapter,
    loading,
    require_finite,
    require_safetensors,
)


class CheckedModel(HFLM):
    """Stock `hf`'s model and tokenizer, loaded whole or refused.

    Args:
        pretrained: a hub name, a folder, or a loaded model.
        model_name: the model in messages.
        stock: arguments of stock `hf`, and `quantization_config`, which stock only reads from checkpoints.

    Raises:
        ModelLoadError: a model that is missing, unreadable, incomplete or no decoder.
    """

    ROLE: ClassVar[str] = "pretrained"
    """The argument that names the model, for messages."""
    PEFT: ClassVar[str] = "peft"
    """The argument that names its adapter."""
    _model: Any

    def __init__(self, pretrained: Any, *, model_name: str, **stock: Any) -> None:
        self.model_name = model_name
        self._quantization_config = stock.pop("quantization_config", None)
        super().__init__(pretrained, **stock)
        if self.backend != "causal":
            raise ValueError(
                f"{self.ROLE}={self.model_name}: expected a decoder-only model, got an encoder-decoder"
            )
        require_finite(self.ROLE, self.model_name, self.model)

    def _get_config(self, *args: Any, **kwargs: Any) -> None:
        with loading(self.ROLE, self.model_name):
            super()._get_config(*args, **kwargs)

    def _create_tokenizer(self, *args: Any, **kwargs: Any) -> None:
        with loading(self.ROLE, self.model_name):
            super()._create_tokenizer(*args, **kwargs)

    def _create_model(self, pretrained: str, *args: Any, **kwargs: Any) -> None:
        """Stock loading with three corrections.

        GGUF blocks are unpacked, arguments of quantization reach transformers 5 in the form that it takes,
        and `peft=` keeps the embeddings. Stock `peft=` resizes them to the tokenizer's size, which would cut
        off the rows that pad the vocabulary of Qwen and others.
        """
        peft = kwargs.pop("peft", None)
        if not (kwargs.get("gguf_file") or kwargs.get("autogptq") or kwargs.get("gptqmodel")):
            require_safetensors(self.ROLE, pretrained)
            kwargs["use_safetensors"] = True
        if self._quantization_config is not None:
            kwargs["quantization_config"] = self._quantization_config
        auto: Any = self.AUTO_MODEL_CLASS  # type: ignore[has-type]
        try:
            self.AUTO_MODEL_CLASS = WholeCheckpoints(auto, self.ROLE, self.model_name)
            with loading(self.ROLE, self.model_name):
                super()._create_model(pretrained, *args, **with_quantization_config(kwargs))
        finally:
            self.AUTO_MODEL_CLASS = auto
        if peft:
            self._attach_adapter(peft, kwargs.get("revision"))

    def _attach_adapter(self, peft: str, revision: str | None) -> None:
        """Attach an adapter to the loaded model."""
        base: Any = self._model
        if len(self.tokenizer) > base.get_input_embeddings().weight.shape[0]:
            base.resize_token_embeddings(len(self.tokenizer))
        self._model = load_adapter(self.PEFT, peft, base, revision=revision)
        # transformers tied head and embeddings when it loaded the model. Stock `hf` does it again: that fails
        # where the adapter wraps one of them, and would replace the head by embeddings of the adapter's own.
        base.tie_weights = lambda *args, **kwargs: None
