"""What the harness's results and cache record of a run: its models, policy, prompts, costs and trace."""

from __future__ import annotations

from typing import Any

import torch
from lm_eval.api.instance import Instance

import s2t_eval
from s2t_eval.artifacts.manifest import UNKNOWN_WEIGHTS
from s2t_eval.engine import Result
from s2t_eval.model_wrappers.harness_tasks import num_builds
from s2t_eval.model_wrappers.loaded_pair import LoadedPair
from s2t_eval.model_wrappers.provenance import provenance, running_code, teacher_differences
from s2t_eval.model_wrappers.records import RunRecords
from s2t_eval.model_wrappers.response_cache import (
    TextCache,
    argument_values,
    loaded_as,
    require_same_run,
    software,
)
from s2t_eval.model_wrappers.served import stated_dtype
from s2t_eval.model_wrappers.telemetry import Telemetry
from s2t_eval.selection.policy import Policy


class RecordedPair(LoadedPair):
    """Models with the records of their evaluation; what runs them adds to `records` and `telemetry`."""

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        running_code()  # before any text: the results name the code that the run began with
        super().__init__(pretrained, **kwargs)
        trace = None if self.is_copy else self.arguments.trace
        self.records = RunRecords(self.METHOD, self.telemetry, trace, self.rank)
        self.finished_texts = TextCache()
        self.scored_tasks: set[str] = set()
        """tasks with log-likelihoods, which are the student's alone, whatever else the method does"""
        self._num_builds = num_builds()

    def policy(self) -> Policy:
        """The policy of this run."""
        raise TypeError(f"{type(self).__name__} defines no policy")

    @property
    def scoring_student(self) -> str:
        """Whose log-likelihoods are computed: the "plain" student's, or one "adapted" by the method."""
        return "plain"

    def begin_evaluation(self) -> None:
        """Begin the records anew where tasks have built requests since the last ones of this model.

        The harness runs several evaluations on one model object and does not announce them. In each all tasks
        build their requests before the first of them is run, whatever their kind.
        """
        if self._num_builds != num_builds():
            self._num_builds = num_builds()
            self.telemetry = Telemetry()
            self.records.begin(self.telemetry)
            self.scored_tasks = set()

    def write_trace(self, instance: Instance, result: Result, **more: Any) -> None:
        """Write the trace's line of one text; `more` are further entries."""
        self.records.write_trace(instance, result, self.policy(), **more)

    def describe(self) -> dict[str, Any]:
        """What determines the texts: models, policy, sampling and seed."""
        return {
            "policy": self.policy().describe(),
            "student": self.student_fingerprint,
            "dtype": str(self.model.dtype) if not self.is_student_served else stated_dtype(self.model_args),
            **({"servers": self.served.describe()} if self.served is not None else {}),
            "add_bos_token": self.add_bos_token,
            "think_end_token": self.think_end_token,
            "seed": self.arguments.seed,
            "max_length": self.max_length,
        }

    def get_model_info(self) -> dict[str, Any]:
        """Stock's entry for the results file, with ours under `s2t_eval`."""
        scored = {f"{self.scoring_student}_likelihoods": sorted(self.scored_tasks)}
        described = self.describe()
        entry = {
            "version": s2t_eval.__version__,
            **provenance(self.model, self.teacher),
            **({"device": "a server"} if self.is_student_served else {}),
            "method": self.METHOD,
            "pretrained": self.student_name,
            **described,
            **teacher_differences(self.teacher, described["dtype"], torch.device(self.model.device)),
            **({"system_turn": "in the first user turn"} if self.is_system_turn_moved else {}),
            **(scored if self.scored_tasks else {}),
            "batch_size": self.rows,
            **self.records.report(self.devices),
        }
        return {**super().get_model_info(), "s2t_eval": entry}

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Use the harness's response cache, unless another run filled it.

        Raises:
            CacheMismatchError: another method, model or argument that may change a text.
        """
        super().set_cache_hook(cache_hook)
        store = getattr(cache_hook, "dbdict", None)
        if store is not None:
            require_same_run(store, getattr(store, "filename", "this file"), self.identity())
        self.finished_texts = TextCache(store)

    def identity(self) -> dict[str, Any]:
        """Everything that may change a text: all arguments except those known not to, and what they load."""
        # Of weights that are not here the name is all that is known.
        named = {"pretrained": self.student_name} if self.student_fingerprint == UNKNOWN_WEIGHTS else {}
        return {
            **argument_values(self.arguments, self.model_args),
            "backend": self.METHOD,  # stock has an argument of this name with another meaning
            **software(),
            **loaded_as("student", self.model),
            **(loaded_as("teacher", self.teacher.base) if self.teacher is not None else {}),
            **named,
            **self.describe(),
        }
