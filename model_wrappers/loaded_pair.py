"""The models of a backend: the student, and the teacher that some methods have beside it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from s2t_eval.artifacts.manifest import UNKNOWN_WEIGHTS
from s2t_eval.engine import ModelRunner
from s2t_eval.model_wrappers.requests import HarnessRequests
from s2t_eval.model_wrappers.teacher import load_teacher
from s2t_eval.selection.calibration import Calibration

logger = logging.getLogger(__name__)


class LoadedPair(HarnessRequests):
    """A loaded student, a teacher beside it once `find_teacher` has loaded one, and their calibration."""

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        super().__init__(pretrained, **kwargs)
        self.teacher: ModelRunner | None = None
        self.teacher_tokenizer: Any = None
        self.teacher_fingerprint: str | None = None

    def find_teacher(self, name: str | None, kwargs: Mapping[str, Any]) -> None:
        """Load the teacher, or only what is here of one on servers; without either nothing happens.

        Args:
            name: the argument `teacher`.
            kwargs: the backend's arguments.
        """
        if self.is_teacher_served:
            assert self.served is not None
            trust = bool(kwargs.get("trust_remote_code", False))
            served = self.served.teacher(self.tokenizer, name, trust)
            self.teacher_tokenizer, self.teacher_fingerprint = served
        elif name is not None:
            limit = kwargs.get("max_length")
            loaded = load_teacher(
                name, self.tokenizer, self.teacher_options, limit, compile=self.arguments.compile
            )
            self.teacher, self.teacher_fingerprint = loaded.runner, loaded.fingerprint
            self.teacher_tokenizer = loaded.tokenizer
            # Either may have fewer rows than their common tokenizer has tokens, as Gemma 3's smallest models.
            self.student.limit_text_vocab(loaded.runner.text_vocab)
            loaded.runner.limit_text_vocab(self.student.text_vocab)

    @property
    def is_teacher_served(self) -> bool:
        """Whether the teacher is on servers."""
        return self.served is not None and bool(self.served.fleet.teachers)

    def load_calibration(
        self, file: str | None, warmup_tokens: int | None, needs_teacher: bool
    ) -> Calibration | None:
        """A calibration of this run's models; a warning where the weights of one are not on this machine.

        Args:
            file: the argument `calibration`.
            warmup_tokens: those of the run; None: they do not matter.
            needs_teacher: whether the thresholds that are read depend on the teacher.

        Raises:
            CalibrationError: it was made for another model, or for other warm-up tokens.
        """
        if file is None:
            return None
        calibration = Calibration.load(Path(file))
        student = None if self.student_fingerprint == UNKNOWN_WEIGHTS else self.student_fingerprint
        teacher = self.teacher_fingerprint if needs_teacher else None
        calibration.require(student, teacher, calibration.warmup if warmup_tokens is None else warmup_tokens)
        is_unknown = calibration.student == UNKNOWN_WEIGHTS or student is None
        if needs_teacher:
            is_unknown |= calibration.teacher == UNKNOWN_WEIGHTS or teacher is None
        if is_unknown:
            logger.warning(
                "calibration=%s: not compared with a model on servers whose weights are not here", file
            )
        return calibration

    @functools.cached_property
    def devices(self) -> frozenset[torch.device]:
        """The devices that the models of this process are on; "meta" of one on servers."""
        models = [self.model] if self.teacher is None else [self.model, self.teacher.base]
        return frozenset(parameter.device for model in models for parameter in model.parameters())

    @property
    def rows(self) -> int:
        """Texts decoded at once. `auto` starts with max_batch_size, which is halved when memory runs out."""
        size = self.batch_size
        return int(self.max_batch_size) if isinstance(size, str) else int(size)
