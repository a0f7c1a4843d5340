"""Stock `hf` with the checks and the loading that every backend of ours needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch

from s2t_eval.artifacts.files import require_new_trace
from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.engine import ModelRunner
from s2t_eval.model_wrappers.arguments import CommonArguments, split_arguments
from s2t_eval.model_wrappers.processes import SharedWork
from s2t_eval.model_wrappers.served import UNKNOWN_WEIGHTS, Served, unloaded_fingerprint, unloaded_model
from s2t_eval.model_wrappers.stock_arguments import require_context, require_stock
from s2t_eval.models.loading import (
    WholeCheckpoints,
    load_adapter,
    loading,
    require_finite,
    require_safetensors,
    resolve_model,
)
from s2t_eval.models.vocabulary import stop_ids, text_vocabulary


class LoadedStudent(SharedWork):
    """Stock `hf`'s model and tokenizer, loaded whole or refused, and the engine's runner over them.

    Args:
        pretrained: the student: a hub name, a folder, `embedded/...`, or a loaded model.
        kwargs: our arguments and stock `hf`'s, as `--model_args` gives them.

    Raises:
        ValueError: unknown or unusable arguments.
        ModelLoadError: a model that is missing or unreadable.
    """

    METHOD: ClassVar[str]
    ARGUMENTS: ClassVar[type[CommonArguments]] = CommonArguments

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        self.arguments, stock = split_arguments(self.METHOD, self.ARGUMENTS, kwargs)
        self.model_args = kwargs
        require_stock(stock)
        if self.arguments.trace:
            require_new_trace(Path(str(self.arguments.trace)))
        self.served = Served.of(self.arguments, kwargs)
        if self.is_student_served or (not torch.cuda.is_available() and stock.get("device") is None):
            stock["device"] = "cpu"  # stock's default is "cuda" even where there is none
        path = resolve_model(pretrained) if isinstance(pretrained, str) else pretrained
        self.student_name = pretrained if isinstance(pretrained, str) else pretrained.name_or_path
        super().__init__(path, **stock)
        if self.backend != "causal":
            raise ValueError(
                f"pretrained={self.student_name}: expected a decoder-only model, got an encoder-decoder"
            )
        require_finite("pretrained", self.student_name, self.model)
        require_context("model", stock.get("max_length"), self.model.config)
        self.join_processes()
        self.student = ModelRunner(self.model, self.student_name, text_vocabulary(self.tokenizer))
        self.student_fingerprint = self._fingerprint() or UNKNOWN_WEIGHTS
        self.stop_ids = stop_ids(self.tokenizer, getattr(self.model, "generation_config", None))

    def _get_config(self, *args: Any, **kwargs: Any) -> None:
        with loading("pretrained", self.student_name):
            super()._get_config(*args, **kwargs)

    def _create_tokenizer(self, *args: Any, **kwargs: Any) -> None:
        with loading("pretrained", self.student_name):
            super()._create_tokenizer(*args, **kwargs)

    @property
    def is_student_served(self) -> bool:
        """Whether the student is on servers, so that no weights are loaded here."""
        return self.served is not None and self.served.has_student

    def _fingerprint(self) -> str | None:
        """Of the student; None where it is on servers and its weights are not on this machine."""
        if not self.is_student_served:
            return model_fingerprint(self.model)
        return unloaded_fingerprint(self.student_name, self.model)

    def _create_model(self, pretrained: str, *args: Any, **kwargs: Any) -> None:
        """Stock loading with two corrections: GGUF blocks are unpacked, and `peft=` keeps the embeddings.

        Stock `peft=` resizes the embeddings to the tokenizer's size, which would cut off the rows
        that pad the vocabulary of Qwen and others.
        """
        if self.is_student_served:
            unloaded: Any = unloaded_model(self.config, bool(kwargs.get("trust_remote_code")))
            self._model = unloaded
            return
        peft = kwargs.pop("peft", None)
        if kwargs.get("gguf_file"):
            from transformers import GgufConfig

            kwargs["quantization_config"] = GgufConfig(dequantize=True)
        elif not kwargs.get("autogptq") and not kwargs.get("gptqmodel"):
            require_safetensors("pretrained", pretrained)
            kwargs["use_safetensors"] = True
        auto: Any = self.AUTO_MODEL_CLASS  # type: ignore[has-type]
        try:
            self.AUTO_MODEL_CLASS = WholeCheckpoints(auto, "pretrained", self.student_name)
            with loading("pretrained", self.student_name):
                super()._create_model(pretrained, *args, **kwargs)
        finally:
            self.AUTO_MODEL_CLASS = auto
        if peft:
            self._attach_adapter(peft, kwargs.get("revision"))

    def _attach_adapter(self, peft: str, revision: str | None) -> None:
        """Attach an adapter to the loaded model."""
        base: Any = self._model
        if len(self.tokenizer) > base.get_input_embeddings().weight.shape[0]:
            base.resize_token_embeddings(len(self.tokenizer))
        self._model = load_adapter("peft", peft, base, revision=revision)
