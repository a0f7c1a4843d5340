"""`--model s2t`: where the trigger fires, the teacher selects among the student's candidates."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from lm_eval.api.instance import Instance

from s2t_eval.artifacts.manifest import UNKNOWN_WEIGHTS
from s2t_eval.methods.r2r_error import R2RError
from s2t_eval.methods.r2r_folder import RouterFolder, find_router, load_router
from s2t_eval.methods.selector_folder import Selector, load_selector
from s2t_eval.methods.selector_info import COMPLETE
from s2t_eval.methods.selector_info import SETTINGS as SELECTOR_SETTINGS
from s2t_eval.model_wrappers.arguments import (
    CommonArguments,
    SelectionArguments,
    TeacherArguments,
)
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.harness_tasks import require_prompts
from s2t_eval.model_wrappers.stock_arguments import context_of
from s2t_eval.model_wrappers.teacher import require_teacher
from s2t_eval.models.vocabulary import line_ends, vocabulary_hash
from s2t_eval.selection import policy
from s2t_eval.selection.divergence_router import DivergenceTrigger
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.router import Router
from s2t_eval.selection.thresholds import ThresholdTable
from s2t_eval.selection.triggers import KlDirection, Trigger, make_trigger

logger = logging.getLogger(__name__)


class SelectionLM(EngineLM):
    """The base of backends that select: a trigger, its threshold, and a teacher if there is one.

    Raises:
        ValueError: arguments that contradict each other.
        VocabularyMismatchError: teacher and student have different tokens.
        CalibrationError: a calibration of other models or prompts.
        ThresholdError: a trigger or rate without a threshold.
        SelectorError: a selector folder of another student or other prompts.
        R2RError: a router of another student, teacher or other prompts.
    """

    ARGUMENTS: ClassVar[type[CommonArguments]] = SelectionArguments

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        super().__init__(pretrained, **kwargs)
        arguments = self.selection
        self.selector = self._load_selector(self.selection.selector)
        self.router = self._load_router()
        self.find_teacher(arguments.teacher, kwargs)
        if isinstance(self.router, RouterFolder):
            self.router.require_teacher(self.teacher_fingerprint)
        # The threshold of a trigger without a teacher does not depend on the teacher.
        self.calibration = self.load_calibration(
            arguments.calibration, arguments.warmup_tokens, needs_teacher=arguments.trigger == "kl"
        )
        self._policy = self._make_policy()
        if self.served is not None:
            self.generator()  # a policy that servers cannot follow is reported before any prompt is made

    @property
    def proposer(self) -> str:
        """The proposer, `tuned` or `base`: a selector has a router and thresholds for each."""
        return "base"

    @property
    def selection(self) -> SelectionArguments:
        """The arguments of selection."""
        return cast(SelectionArguments, self.arguments)

    def _other_contexts(self) -> list[int]:
        teacher = None if self.teacher is None else context_of(self.teacher.config)
        return [*super()._other_contexts(), *([] if teacher is None else [teacher])]

    def policy(self) -> Policy:
        """The policy with the arguments' trigger and threshold."""
        return self._policy

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts for the harness's requests; refuses prompts that these artifacts do not fit."""
        if not self.selection.other_prompt:
            require_prompts(requests, self._require_prompt)
        return super().generate_until(requests, disable_tqdm)

    def _require_prompt(self, current: Mapping[str, Any]) -> None:
        """Compare prompt settings with those of calibration, selector and router."""
        if self.calibration is not None:
            self.calibration.require_prompt(current)
        if self.selector is not None:
            self.selector.info.require_prompt(current)
        if self.router is not None:
            self.router.info.require_prompt(current)

    def _make_policy(self) -> Policy:
        raise TypeError(f"{type(self).__name__} defines no policy")

    def _load_selector(self, name: str | None) -> Selector | None:
        return None if name is None else load_selector(name, *self._identity_of_student())

    def _load_router(self) -> RouterFolder | Selector | None:
        """The folder of `router=`, of either kind."""
        name = self.selection.router
        if name is None:
            return None
        if self.proposer != "base":
            raise R2RError(
                f"router={name}: it was not trained on the states of the adapted student, which writes with "
                f"proposer={self.proposer}; leave it out, or use --model pps_local (proposer=base)"
            )
        if (find_router(name) / SELECTOR_SETTINGS).is_file():
            return load_selector(name, *self._identity_of_student())
        return load_router(name, *self._identity_of_student())

    def _identity_of_student(self) -> tuple[str, str, int]:
        """What an artifact of the student is compared with: fingerprint, tokenizer and width."""
        hidden = int(self.student.config.hidden_size)
        if self.student_fingerprint == UNKNOWN_WEIGHTS:
            raise ValueError(
                "selector, router: they cannot be compared with the servers' student, whose weights are not "
                "on this machine; give threshold=NUMBER or calibration=FILE instead"
            )
        return self.student_fingerprint, vocabulary_hash(self.tokenizer), hidden

    def _firing(self, name: str, tau: float | None) -> tuple[Trigger, float]:
        """The trigger and its threshold; at the rate 1 every step fires, whatever the trigger."""
        if tau == 1:
            return make_trigger("always"), 0.0
        trigger = self._trigger(name)
        return trigger, self._threshold(trigger, tau)

    def _trigger(self, name: str) -> Trigger:
        if name == "router" and isinstance(self.router, RouterFolder):
            embed: Any = self.student.base.get_input_embeddings()
            return self.router.trigger(embed, self.device)
        router = self._kl_router() if name == "router" else None
        lines = line_ends(self.tokenizer, self.student.text_vocab) if name == "line_entropy" else None
        return make_trigger(name, cast(KlDirection, self.selection.kl_direction), router, lines)

    @property
    def _router_source(self) -> Selector | None:
        """The folder of `s2t-eval train` whose router and thresholds hold: `router=` before `selector=`."""
        return self.router if isinstance(self.router, Selector) else self.selector

    def _kl_router(self) -> Router:
        source = self._router_source
        assert source is not None
        router = source.routers.get(self.proposer)
        if router is None:
            raise ValueError(
                f"trigger=router: {source.folder} has no router for proposer={self.proposer} (it "
                f"has {', '.join(source.routers) or 'none'}); {COMPLETE}"
            )
        return router.to(self.device)

    def _threshold(self, trigger: Trigger, tau: float | None) -> float:
        """The trigger's threshold: the argument, else that of calibration, router or selector for tau."""
        if self.selection.threshold is not None:
            return float(self.selection.threshold)
        if tau is None and trigger.name == "r2r":
            assert isinstance(self.router, RouterFolder)
            return self.router.info.threshold
        if tau is None and trigger.name == "router":
            raise ValueError(
                f"router={self.selection.router}: a router of `s2t-eval train` has no threshold of its own; "
                "give tau=RATE or threshold=NUMBER"
            )
        if tau is None or trigger.name in ("always", "never"):
            return 0.0
        if trigger.name == "random":
            return 1 - tau
        return self._table(trigger, tau).at(trigger, tau)

    def _table(self, trigger: Trigger, tau: float) -> ThresholdTable:
        """The calibration's thresholds, else those of an R2R router, else the selector's."""
        if self.calibration is not None:
            return self.calibration.table
        if isinstance(self.router, RouterFolder) and isinstance(trigger, DivergenceTrigger):
            return self.router.table(trigger)
        source = self._router_source
        assert source is not None
        info = source.info
        if trigger.needs_teacher and self.proposer != "base":
            raise ValueError(
                f"tau={tau}: the selector's KL thresholds are the plain student's, and with "
                f"proposer={self.proposer} the adapted one writes; give threshold=NUMBER, or use a "
                "trigger without a teacher"
            )
        known = [
            name for name in (info.teacher, self.teacher_fingerprint) if name not in (None, UNKNOWN_WEIGHTS)
        ]
        if trigger.needs_teacher and len(known) < 2:
            logger.warning("tau=%s: the selector's teacher is not compared: it is, or was, on a server", tau)
        elif trigger.needs_teacher and info.teacher != self.teacher_fingerprint:
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
            **({"router": self.router.hash} if self.router is not None else {}),
        }


class SelectToThink(SelectionLM):
    """S2T: with the KL trigger the teacher verifies every token, with a local one it reads the text where a
    step fires.

    Raises:
        ValueError: no teacher, or arguments that do not fit.
    """

    METHOD = "s2t"
    PRESET = staticmethod(policy.s2t)
    ARGUMENTS: ClassVar[type[TeacherArguments]] = TeacherArguments

    @classmethod
    def require_arguments(cls, own: CommonArguments, model_args: Mapping[str, Any]) -> None:
        """See `LoadedStudent`: it needs a teacher."""
        require_teacher(cls.METHOD, model_args, "selects")

    def _make_policy(self) -> Policy:
        arguments = self.selection
        trigger, threshold = self._firing(arguments.trigger, arguments.tau)
        top_k = self._require_top_k(arguments.top_k)
        return type(self).PRESET(trigger, threshold, top_k, arguments.warmup_tokens)

    def _decoder_options(self) -> dict[str, Any]:
        """The teacher verifies in chunks where it reads every token."""
        return {"verify": cast(TeacherArguments, self.arguments).verify}
