"""The student of a backend: a checked model of stock `hf`, and the engine's runner over it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from transformers import GenerationConfig

from s2t_eval.artifacts.files import require_new_trace
from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.artifacts.manifest import UNKNOWN_WEIGHTS
from s2t_eval.embedded import resolve_model
from s2t_eval.engine import ModelRunner
from s2t_eval.model_wrappers.arguments import CommonArguments, ServerArguments
from s2t_eval.model_wrappers.checked_model import CheckedModel
from s2t_eval.model_wrappers.processes import SharedWork
from s2t_eval.model_wrappers.served import Served, require_no_weights
from s2t_eval.model_wrappers.served_identity import require_served, unloaded_fingerprint, unloaded_model
from s2t_eval.model_wrappers.splitting import ModelArguments, split_arguments
from s2t_eval.model_wrappers.stock_arguments import require_context, require_stock
from s2t_eval.model_wrappers.teacher import device_of_teacher, require_teacher_options, teacher_options
from s2t_eval.models.loading import default_device, loading
from s2t_eval.models.vocabulary import stop_ids, text_vocabulary


class LoadedStudent(CheckedModel, SharedWork):
    """Stock `hf`'s model and tokenizer, loaded whole or refused, and the engine's runner over them.

    Args:
        pretrained: the student: a hub name, a folder, `embedded/...`, or a loaded model.
        kwargs: our arguments and stock `hf`'s, as `--model_args` gives them.

    Raises:
        ValueError: unknown or unusable arguments.
        ModelLoadError: a model that is missing or unreadable.
        ServerError: a server that loaded a folder of this machine with other weights.
    """

    METHOD: ClassVar[str]
    ARGUMENTS: ClassVar[type[CommonArguments]] = CommonArguments

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        checked = self.checked_arguments({"pretrained": pretrained, **kwargs})
        self.arguments, stock, teacher = checked.own, dict(checked.stock), checked.teacher
        del stock["pretrained"]
        self.model_args = kwargs
        if self.arguments.trace:
            require_new_trace(Path(str(self.arguments.trace)))
        self.served = Served.of(self.arguments)
        if self.is_student_served:
            stock["device"] = "cpu"
        elif stock.get("device") is None:  # stock refuses None, and takes "cuda" even where there is none
            stock["device"] = default_device()
        path = resolve_model(pretrained) if isinstance(pretrained, str) else pretrained
        self.student_name = pretrained if isinstance(pretrained, str) else pretrained.name_or_path
        super().__init__(path, model_name=self.student_name, **stock)
        require_context("model", stock.get("max_length"), self.model.config)
        device = device_of_teacher(self.device, self.is_student_served, kwargs.get("device"))
        self.teacher_options = teacher_options(teacher, stock, device)
        self.join_processes()
        self.student = ModelRunner(
            self.model,
            self.student_name,
            text_vocabulary(self.tokenizer),
            compile=self.arguments.compile,
        )
        self.student_fingerprint = self._fingerprint() or UNKNOWN_WEIGHTS
        self._require_served_student()
        self.stop_ids = stop_ids(self.tokenizer, getattr(self.model, "generation_config", None))

    @classmethod
    def checked_arguments(cls, model_args: Mapping[str, Any]) -> ModelArguments:
        """The arguments in three parts; they are checked as far as that needs no file.

        Args:
            model_args: as `--model_args` gives them, with `pretrained`.

        Raises:
            ValueError: an argument that the backend does not have, one that it needs and lacks, or a value
                that it refuses.
        """
        checked = split_arguments(cls.METHOD, cls.ARGUMENTS, model_args)
        cls.require_arguments(checked.own, model_args)
        require_stock(checked.stock)
        require_teacher_options(checked.teacher, checked.stock)
        if isinstance(checked.own, ServerArguments) and checked.own.student_url is not None:
            require_no_weights(model_args)
        return checked

    @classmethod
    def require_arguments(cls, own: CommonArguments, model_args: Mapping[str, Any]) -> None:
        """Raise `ValueError` for arguments that the method lacks, or that cannot be combined with it.

        Args:
            own: the backend's own arguments.
            model_args: all of them, as `--model_args` gives them, with `pretrained`.
        """

    @property
    def is_student_served(self) -> bool:
        """Whether the student is on servers, so that no weights are loaded here."""
        return self.served is not None and self.served.has_student

    def _fingerprint(self) -> str | None:
        """Of the student; None where it is on servers and its weights are not on this machine."""
        if not self.is_student_served:
            return model_fingerprint(self.model)
        return unloaded_fingerprint(self.student_name, self.model, self.model_args.get("revision"))

    def _require_served_student(self) -> None:
        """Compare what the servers of the student loaded with `pretrained`."""
        if not self.is_student_served:
            return
        assert self.served is not None
        fingerprint = None if self.student_fingerprint == UNKNOWN_WEIGHTS else self.student_fingerprint
        trust = bool(self.model_args.get("trust_remote_code"))
        servers = self.served.fleet.students
        require_served("student", servers, "pretrained", self.student_name, fingerprint, trust)

    def _create_model(self, pretrained: str, *args: Any, **kwargs: Any) -> None:
        """The model; one without weights where they are on servers."""
        if self.is_student_served:
            with loading("pretrained", pretrained):
                unloaded: Any = unloaded_model(self.config, bool(kwargs.get("trust_remote_code")))
            with suppress(OSError):  # a checkpoint without the file, as transformers loads it
                revision = str(kwargs.get("revision") or "main")
                unloaded.generation_config = GenerationConfig.from_pretrained(pretrained, revision=revision)
            self._model = unloaded
            return
        super()._create_model(pretrained, *args, **kwargs)
