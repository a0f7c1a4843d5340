"""`--model s2t`: where the trigger fires, the teacher selects among the student's candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from lm_eval.api.instance import Instance

from s2t_eval.engine import Decoder
from s2t_eval.engine.chunk_schedule import Verify
from s2t_eval.methods.selector_folder import COMPLETE, Selector, load_selector
from s2t_eval.model_wrappers.arguments import SelectionArguments, TeacherArguments, split_arguments
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.harness_tasks import prompt_settings
from s2t_eval.model_wrappers.teacher import load_teacher
from s2t_eval.models.vocabulary import vocabulary_hash
from s2t_eval.selection import policy
from s2t_eval.selection.calibration import Calibration
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.thresholds import ThresholdTable
from s2t_eval.selection.triggers import KlDirection, Trigger, make_trigger


class SelectionLM(EngineLM):
    """The base of backends that select: a trigger, its threshold, and a teacher if there is one.

    Raises:
        ValueError: arguments that contradict each other.
        VocabularyMismatchError: teacher and student have different tokens.
        CalibrationError: a calibration of other models or prompts.
        ThresholdError: a trigger or rate without a threshold.
        SelectorError: a selector folder of another student or other prompts.
    """

    ARGUMENTS = SelectionArguments

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        super().__init__(pretrained, **kwargs)
        arguments = self.selection
        self.selector = self._load_selector()
        self.teacher_fingerprint: str | None = None
        if arguments.teacher is not None:
            self._load_teacher(kwargs)
        self.calibration = self._load_calibration()
        self._policy = self._make_policy()

    @property
    def proposer(self) -> str:
        """The proposer, `tuned` or `base`: a selector has a router and thresholds for each."""
        return "base"

    @property
    def selection(self) -> SelectionArguments:
        """The arguments of selection."""
        return cast(SelectionArguments, self.arguments)

    @property
    def max_length(self) -> int:
        """Context in tokens: the smaller one of student and teacher."""
        own = super().max_length
        if self.teacher is None:
            return own
        return min(own, getattr(self.teacher.config, "max_position_embeddings", own))

    def policy(self) -> Policy:
        """The policy with the arguments' trigger and threshold."""
        return self._policy

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts for the harness's requests; refuses prompts that calibration or selector do not fit."""
        if not self.selection.other_prompt:
            for task in {str(instance.task_name) for instance in requests}:
                self._require_prompt(task)
        return super().generate_until(requests, disable_tqdm)

    def _require_prompt(self, task: str) -> None:
        """Compare the prompt settings of a task's requests with those of calibration and selector."""
        settings = prompt_settings(task)
        if settings is None:  # requests made without a task of the harness have no settings
            return
        if self.calibration is not None:
            self.calibration.require_prompt(asdict(settings))
        if self.selector is not None:
            self.selector.info.require_prompt(asdict(settings))

    def _make_policy(self) -> Policy:
        raise TypeError(f"{type(self).__name__} defines no policy")

    def _load_teacher(self, kwargs: dict[str, Any]) -> None:
        arguments = self.selection
        assert arguments.teacher is not None
        device = arguments.teacher_device or self.device
        loaded = load_teacher(arguments.teacher, self.tokenizer, device, arguments.teacher_dtype, kwargs)
        self.teacher, self.teacher_fingerprint = loaded.runner, loaded.fingerprint

    def _load_selector(self) -> Selector | None:
        if self.selection.selector is None:
            return None
        hidden = int(self.student.config.hidden_size)
        vocabulary = vocabulary_hash(self.tokenizer)
        return load_selector(self.selection.selector, self.student_fingerprint, vocabulary, hidden)

    def _load_calibration(self) -> Calibration | None:
        arguments = self.selection
        if arguments.calibration is None:
            return None
        calibration = Calibration.load(Path(arguments.calibration))
        # The threshold of a trigger without a teacher does not depend on the teacher.
        teacher = self.teacher_fingerprint if arguments.trigger == "kl" else None
        calibration.require(self.student_fingerprint, teacher, arguments.warmup_tokens)
        return calibration

    def _firing(self, name: str, tau: float | None) -> tuple[Trigger, float]:
        """The trigger and its threshold; at the rate 1 every step fires, whatever the trigger."""
        if tau == 1:
            return make_trigger("always"), 0.0
        trigger = self._trigger(name)
        return trigger, self._threshold(trigger, tau)

    def _trigger(self, name: str) -> Trigger:
        router = None
        if name == "router":
            assert self.selector is not None
            router = self.selector.routers.get(self.proposer)
            if router is None:
                raise ValueError(
                    f"trigger=router: {self.selector.folder} has no router for proposer={self.proposer} (it "
                    f"has {', '.join(self.selector.routers) or 'none'}); {COMPLETE}"
                )
            router = router.to(self.device)
        return make_trigger(name, cast(KlDirection, self.selection.kl_direction), router)

    def _threshold(self, trigger: Trigger, tau: float | None) -> float:
        """The trigger's threshold: the argument, else the calibration's for tau, else the selector's."""
        if self.selection.threshold is not None:
            return float(self.selection.threshold)
        if tau is None or trigger.name in ("always", "never"):
            return 0.0
        if trigger.name == "random":
            return 1 - tau
        return self._table(trigger, tau).at(trigger, tau)

    def _table(self, trigger: Trigger, tau: float) -> ThresholdTable:
        """The calibration's thresholds, else the selector's."""
        if self.calibration is not None:
            return self.calibration.table
        assert self.selector is not None
        info = self.selector.info
        if trigger.needs_teacher and self.teacher_fingerprint != info.teacher:
            raise ValueError(
                f"tau={tau}: the selector's KL thresholds hold for its teacher ({info.teacher}), this one "
                f"is {self.teacher_fingerprint}; calibrate with this teacher and name calibration=FILE"
            )
        return info.table(self.proposer)

    def _require_top_k(self, top_k: int) -> int:
        if top_k > self.student.text_vocab:
            raise ValueError(
                f"top_k: expected at most the vocabulary of {self.student.text_vocab} tokens, got {top_k}"
            )
        return top_k

    def describe(self) -> dict[str, Any]:
        """Models, policy, calibration, selector and seed."""
        return {
            **super().describe(),
            "teacher_name": self.selection.teacher,
            "teacher": self.teacher_fingerprint,
            "tau": self.selection.tau,
            "calibration": self.calibration.hash if self.calibration else None,
            "selector": self.selector.hash if self.selector else None,
        }


class SelectToThink(SelectionLM):
    """S2T: with the KL trigger the teacher verifies every token, with a local one it reads the text where a
    step fires.

    Raises:
        ValueError: no teacher, or arguments that do not fit.
    """

    METHOD = "s2t"
    PRESET = staticmethod(policy.s2t)
    ARGUMENTS = TeacherArguments

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        split_arguments(self.METHOD, self.ARGUMENTS, kwargs)  # misspelt names are reported first
        if not kwargs.get("teacher"):
            raise ValueError(
                f"--model {self.METHOD}: it needs teacher=MODEL (a hub name or a folder), the larger "
                "model that selects"
            )
        super().__init__(pretrained, **kwargs)

    def _make_policy(self) -> Policy:
        arguments = self.selection
        trigger, threshold = self._firing(arguments.trigger, arguments.tau)
        top_k = self._require_top_k(arguments.top_k)
        return type(self).PRESET(trigger, threshold, top_k, arguments.warmup_tokens)

    def decoder(self, observe: Sequence[Trigger] = ()) -> Decoder:
        """A decoder whose teacher verifies in chunks where it reads every token."""
        return Decoder(
            self.student,
            self.policy(),
            self.teacher,
            self.rows,
            self.tok_decode,
            observe,
            answer_of=self.thoughts.answer_of,
            verify=cast(Verify, cast(TeacherArguments, self.arguments).verify),
        )
