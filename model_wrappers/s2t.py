"""`--model s2t`: the teacher selects among the student's candidates where the trigger fires."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from s2t_eval import policy
from s2t_eval.calibration import Calibration
from s2t_eval.engine import SlotModel
from s2t_eval.fingerprint import model_fingerprint
from s2t_eval.loading import load_model
from s2t_eval.model_wrappers.arguments import SelectionArguments, split_arguments
from s2t_eval.model_wrappers.engine_lm import EngineLM
from s2t_eval.policy import Policy
from s2t_eval.triggers import KlDirection, make_trigger
from s2t_eval.vocabulary import require_same_vocabulary, text_vocabulary


class SelectToThink(EngineLM):
    """S2T: with the KL trigger the teacher runs in lockstep, with a local one it catches up when asked.

    Raises:
        ValueError: no teacher, or arguments that do not fit.
        VocabularyMismatchError: the teacher's tokens are not the student's.
        CalibrationError: a calibration of other models, triggers or rates.
    """

    METHOD = "s2t"
    ARGUMENTS = SelectionArguments
    PRESET = staticmethod(policy.s2t)

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        split_arguments(self.METHOD, self.ARGUMENTS, kwargs)  # a misspelt name is said first
        if not kwargs.get("teacher"):
            raise ValueError(
                f"--model {self.METHOD}: it needs teacher=MODEL (a hub name or a folder), the larger "
                "model that selects"
            )
        super().__init__(pretrained, **kwargs)
        arguments = self.selection
        assert arguments.teacher is not None
        dtype = arguments.teacher_dtype or kwargs.get("dtype", "auto")
        device = arguments.teacher_device or self.device
        trust = bool(kwargs.get("trust_remote_code", False))
        model, tokenizer = load_model("teacher", arguments.teacher, dtype, device, trust)
        require_same_vocabulary(self.tokenizer, tokenizer)
        self.teacher = SlotModel(model, arguments.teacher, text_vocabulary(tokenizer))
        self.teacher_fingerprint = model_fingerprint(model)
        self.calibration = self._load_calibration()
        self._policy = self._make_policy()

    @property
    def selection(self) -> SelectionArguments:
        """Our arguments."""
        return cast(SelectionArguments, self.arguments)

    @property
    def max_length(self) -> int:
        """Context in tokens: what student and teacher can both see."""
        own = super().max_length
        if self.teacher is None:
            return own
        return min(own, getattr(self.teacher.config, "max_position_embeddings", own))

    def policy(self) -> Policy:
        """S2T with the arguments' trigger and threshold."""
        return self._policy

    def _load_calibration(self) -> Calibration | None:
        arguments = self.selection
        if arguments.calibration is None:
            return None
        calibration = Calibration.load(Path(arguments.calibration))
        # A local trigger's threshold does not depend on the teacher.
        teacher = self.teacher_fingerprint if arguments.trigger == "kl" else None
        calibration.require(self.student_fingerprint, teacher, arguments.warmup)
        return calibration

    def _make_policy(self) -> Policy:
        arguments = self.selection
        trigger = make_trigger(arguments.trigger, cast(KlDirection, arguments.kl_direction))
        threshold = 0.0 if arguments.threshold is None else float(arguments.threshold)
        if arguments.tau is not None and arguments.trigger == "random":
            threshold = 1 - arguments.tau
        elif arguments.tau is not None and arguments.trigger not in ("always", "never"):
            assert self.calibration is not None
            threshold = self.calibration.threshold(trigger, arguments.tau)
        if arguments.top_k > self.student.text_vocab:
            raise ValueError(
                f"top_k: expected at most the vocabulary of {self.student.text_vocab} tokens, got "
                f"{arguments.top_k}"
            )
        return type(self).PRESET(trigger, threshold, arguments.top_k, arguments.warmup)

    def describe(self) -> dict[str, Any]:
        """Models, policy, calibration and seed."""
        calibration = self.calibration.hash if self.calibration else None
        return {
            **super().describe(),
            "teacher_name": self.selection.teacher,
            "teacher": self.teacher_fingerprint,
            "tau": self.selection.tau,
            "calibration": calibration,
        }
