"""`--model s2t_local` and `--model pps_local`: the student selects among its own candidates; no teacher."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import torch

from s2t_eval.engine import ModelRunner
from s2t_eval.engine.upper_scorer import UpperScorer, make_scorer
from s2t_eval.methods.selector_adapter import AdapterSwitch
from s2t_eval.methods.selector_folder import Selector
from s2t_eval.methods.selector_info import COMPLETE, NO_DEFAULT, SelectorInfo
from s2t_eval.model_wrappers.arguments import CommonArguments
from s2t_eval.model_wrappers.local_arguments import LocalArguments
from s2t_eval.model_wrappers.s2t import SelectionLM
from s2t_eval.model_wrappers.served_identity import folder_fingerprint, require_served
from s2t_eval.model_wrappers.served_selector import (
    with_adapted_students,
    with_adapter,
    with_reserved_rows,
)
from s2t_eval.models.lora import first_adapted_layer
from s2t_eval.remote.adapter_probe import require_separate
from s2t_eval.remote.build import Fleet
from s2t_eval.selection import policy
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.scores import make_score

logger = logging.getLogger(__name__)


class S2TLocal(SelectionLM):
    """S2T-Local: an adapter and a readout score the candidates at the steps that a local trigger fires.

    With `proposer=tuned` the adapted model proposes, and scores the candidates in branches of its own
    rows, so a fired step needs no further pass. With `proposer=base` the plain student proposes, and the
    adapted model has a cache of its own, which is prefilled where a step fires (PPS).

    A selector of the form `direct` under `proposer=tuned` scores a candidate by the logit with which the
    same model proposed it, so no selection changes a token: this is greedy decoding of a distilled
    student. It runs as the policy `topk_distilled`, and arguments of the selection are refused.

    Raises:
        ValueError: no selector, or arguments that contradict each other.
        SelectorError: a selector of another student, or without the requested router or thresholds.
    """

    METHOD = "s2t_local"
    ARGUMENTS = LocalArguments
    PROPOSER = "tuned"

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        super().__init__(pretrained, **kwargs)
        self.scorer = self._attach()

    @classmethod
    def require_arguments(cls, own: CommonArguments, model_args: Mapping[str, Any]) -> None:
        """See `LoadedStudent`: it needs a selector, which contains the only adapter."""
        if not model_args.get("selector"):
            raise ValueError(f"--model {cls.METHOD}: it needs selector=FOLDER, made by `s2t-eval train`")
        if model_args.get("peft"):
            raise ValueError(
                f"--model {cls.METHOD}: peft={model_args['peft']} cannot be combined with selector=, which "
                "contains an adapter itself; leave it out"
            )

    @property
    def proposer(self) -> str:
        """`tuned` or `base`."""
        return self.local.proposer or self.PROPOSER

    @property
    def scoring_student(self) -> str:
        """With `proposer=tuned` the student has the adapter, in its weights by default."""
        return "adapted" if self.proposer == "tuned" else "plain"

    @property
    def local(self) -> LocalArguments:
        """The arguments of `s2t_local`."""
        return cast(LocalArguments, self.arguments)

    @property
    def tau(self) -> float | None:
        """The rate: the argument, or the default one with the selector's default trigger."""
        assert self.selector is not None
        if self.is_topk_distilled:
            return None
        if self.local.tau is None and self.local.trigger is None:
            return self.selector.info.default(self.proposer).tau
        return self.local.tau

    @property
    def adapter_scale(self) -> float:
        """Factor of the adapter's contribution to the student."""
        assert self.selector is not None
        if self.local.adapter_scale is not None:
            return self.local.adapter_scale
        return self.selector.info.adapter_scale if self.proposer == "tuned" else 1.0

    @property
    def proposal_weight(self) -> float:
        """Weight of the proposer's log-probability in a score."""
        assert self.selector is not None
        if self.local.proposal_weight is not None:
            return self.local.proposal_weight
        return self.selector.info.proposal_weight if self.proposer == "base" else 0.0

    @property
    def is_topk_distilled(self) -> bool:
        """Whether proposals and scores are the same logits, so that the method is greedy decoding."""
        assert self.selector is not None
        return self.selector.info.form == "direct" and self.proposer == "tuned"

    def _load_selector(self, name: str | None) -> Selector | None:
        self.selector = super()._load_selector(name)
        if self.is_topk_distilled:
            self.local.require_no_selection(self.METHOD)
        elif self.proposer == "tuned" and self.local.calibration:
            raise ValueError(
                f"calibration={self.local.calibration}: its thresholds are the plain student's, and with "
                "proposer=tuned the adapted one writes; leave it out: the selector has thresholds of its own"
            )
        if self.served is not None:
            self.served.fleet = self._fleet(self.served.fleet)
        return self.selector

    def _fleet(self, fleet: Fleet) -> Fleet:
        """The servers, whose adapter or reserved rows score the candidates."""
        assert self.selector is not None
        # An exported checkpoint has the selector's own factor.
        served_scale = self.selector.info.adapter_scale if self._has_reserved_rows else 1
        if self.adapter_scale != served_scale:
            raise ValueError(
                f"adapter_scale={self.adapter_scale}: the servers' factor is {served_scale}; leave it out, "
                "or where it is the selector's own, merge it (`s2t-eval export --merged`)"
            )
        self._require_read_names(self.selector.info.form)
        if self._has_reserved_rows:
            fleet = with_reserved_rows(fleet, self.selector, self.local.exported)
            self._require_served_export(fleet)
            return fleet
        super()._require_served_student()
        fleet = with_adapter(fleet, self.selector, self.local.adapter)
        if self.proposer == "tuned":
            return with_adapted_students(fleet)
        assert fleet.adapter is not None
        require_separate(fleet.students, fleet.adapter, self.local.remote_settings)
        return fleet

    def _require_read_names(self, form: str) -> None:
        """Raise `ValueError` for a name on the servers that a selector of this form does not use."""
        name, value, use = (
            ("adapter", self.local.adapter, "in the checkpoint that the servers serve (exported=FOLDER)")
            if self._has_reserved_rows
            else ("exported", self.local.exported, "an adapter that they serve as a LoRA (adapter=NAME)")
        )
        if value is not None:
            raise ValueError(
                f"{name}={value}: on servers a selector of form {form} is {use}; leave {name} out"
            )

    def _require_served_student(self) -> None:
        """Nothing yet: the form of the selector decides which model the servers are to serve (`_fleet`)."""

    def _require_served_export(self, fleet: Fleet) -> None:
        """Compare what the servers loaded with the exported checkpoint."""
        folder = self.local.exported or fleet.students[0].root
        trust = bool(self.model_args.get("trust_remote_code"))
        fingerprint = folder_fingerprint(folder, trust)
        require_served("student", fleet.students, "exported", folder, fingerprint, trust)

    @property
    def _has_reserved_rows(self) -> bool:
        """Whether the servers' checkpoint has to hold the readout: the form looks ahead.

        Raises:
            ValueError: proposer `base`, whose proposals a checkpoint with the adapter does not make.
        """
        assert self.selector is not None
        if self.selector.info.form == "direct":
            return False
        if self.proposer == "base":
            raise ValueError(
                f"--model {self.METHOD}: form {self.selector.info.form} with proposer=base needs hidden "
                "states, which servers do not return; use a selector of form direct, --model s2t_local, or "
                "load the student here (leave student_url out)"
            )
        return True

    def _attach(self) -> ModelRunner | None:
        """Attach the adapter; returns the model that scores, None where the proposer itself scores."""
        assert self.selector is not None
        if self.served is not None:
            return None
        is_merged = self.proposer == "tuned" and self.local.merge
        peft = self.selector.attach(self.student.base, full_precision=is_merged, scale=self.adapter_scale)
        layers: Any = peft.base_model
        if self.proposer == "tuned":
            if self.local.merge:
                layers.merge_adapter()
            self._model = peft
            return None
        layers.disable_adapter_layers()
        peft.eval()
        return make_scorer(
            self.student,
            first_adapted_layer(peft),
            f"{self.student_name} with {self.local.selector}",
            AdapterSwitch(peft),
        )

    def _decoder_options(self) -> dict[str, Any]:
        """The adapted model scores the candidates."""
        return {"scorer": self.scorer}

    def _make_policy(self) -> Policy:
        assert self.selector is not None
        if self.is_topk_distilled:
            return policy.topk_distilled()
        info, arguments = self.selector.info, self.local
        name = arguments.trigger or self._default_trigger(info)
        if arguments.tau is not None and arguments.trigger is None and name == "always":
            name = "router"  # a rate needs a trigger that has one
        trigger, threshold = self._firing(name, self.tau)
        top_k = self._require_top_k(arguments.top_k or info.top_k)
        # The reserved rows of a server's checkpoint are the product of readout and hidden state.
        is_served = self.served is not None
        rows = torch.eye(info.bins) if is_served else self.selector.readout.to(self.device)
        score = make_score(info.form, rows, info.score_as, self.proposal_weight)
        return policy.s2t_local(trigger, threshold, score, top_k, arguments.warmup_tokens)

    def _default_trigger(self, info: SelectorInfo) -> str:
        default = info.default(self.proposer)
        if default is NO_DEFAULT:
            logger.warning(
                "selector=%s: it was measured for proposer=%s alone; with proposer=%s every step fires (%s)",
                self.local.selector,
                ", ".join(info.defaults),
                self.proposer,
                COMPLETE,
            )
        return default.trigger

    def describe(self) -> dict[str, Any]:
        """Models, policy, selector, proposer and seed."""
        settings = {"tau": self.tau, "proposer": self.proposer, "merge": self.local.merge}
        scale = {"adapter_scale": self.adapter_scale} if self.adapter_scale != 1 else {}
        scorer = self.scorer
        layers = {"scorer_parameters": scorer.num_parameters} if isinstance(scorer, UpperScorer) else {}
        return {**super().describe(), **settings, **scale, **layers}


class PPSLocal(S2TLocal):
    """Proposal-preserving selection: `s2t_local` with `proposer=base`."""

    METHOD = "pps_local"
    PROPOSER = "base"
