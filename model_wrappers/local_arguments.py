"""The `--model_args` of methods whose student selects by itself, `s2t_local` and `pps_local`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from s2t_eval.model_wrappers.argument_checks import require_bool, require_number
from s2t_eval.model_wrappers.arguments import SelectionArguments, ServerArguments

SELECTION_ONLY = (
    *("trigger", "tau", "threshold", "top_k", "warmup_tokens", "proposal_weight"),
    *("calibration", "teacher"),
)
"""Arguments that act through a selection alone."""


@dataclass(frozen=True)
class LocalArguments(SelectionArguments, ServerArguments):
    """Arguments of `s2t_local` and `pps_local`: those of `s2t`; a teacher is read under trigger `kl` alone.

    Args:
        selector: folder of `s2t-eval train`, or a hub repository; required.
        proposer: `tuned`: the adapted model proposes and scores (the paper). `base`: the plain student
            proposes, and the adapted model only scores (PPS). None takes the backend's.
        trigger: None takes the selector's default, with its tau.
        top_k: None takes the selector's.
        merge: merge the adapter into the weights under proposer `tuned`; without it every step also
            computes the adapter.
        proposal_weight: weight of the proposer's log-probability in a score. None takes the selector's
            under proposer `base`, for which it was measured, and 0 under `tuned`.
        adapter_scale: factor of the adapter's contribution to the student. None takes the selector's
            under proposer `tuned`, for which it was measured, and 1 under `base`.
        adapter: with `student_url`: name by which the servers serve the selector's adapter as a LoRA. None
            takes the only one that they serve.
        exported: with `student_url` and a selector that looks ahead: folder of `s2t-eval export
            --to_reserved_rows`, the checkpoint that the servers serve; only its description is read. None
            takes the folder from which the server loaded its model, if it is on this machine.
    """

    top_k: int | None = None  # type: ignore[assignment]
    trigger: str | None = None  # type: ignore[assignment]
    proposer: str | None = None
    merge: bool = True
    proposal_weight: float | None = None
    adapter_scale: float | None = None
    adapter: str | None = None
    exported: str | None = None

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_servers()
        if self.proposer not in (None, "tuned", "base"):
            raise ValueError(f"proposer: expected 'tuned' or 'base', got {self.proposer!r}")
        require_bool("merge", self.merge)
        for name in ("proposal_weight", "adapter_scale"):
            value = getattr(self, name)
            if value is not None:
                require_number(name, value)
                if not 0 <= value < math.inf:
                    raise ValueError(f"{name}: expected 0 or more, got {value}")
        if self.trigger is not None:
            self._check_firing(self.trigger)
        else:
            self._check_without_trigger()
        self._check_teacher()

    @property
    def needs_shared_batches(self) -> bool:
        """Whether the student's servers are to draft and score in one batch, if they can."""
        return True

    def require_no_selection(self, model: str) -> None:
        """Raise `ValueError` for arguments of a selection that cannot change a token.

        Args:
            model: the backend's name, for the message.
        """
        given = {name: getattr(self, name) for name in SELECTION_ONLY}
        shown = ", ".join(f"{name}={value}" for name, value in given.items() if value not in (None, 0))
        if shown:
            raise ValueError(
                f"--model {model}: {shown} would have no effect: with a selector of form direct "
                f"(selector={self.selector}) under proposer=tuned this is greedy decoding of the adapted "
                "model; leave it out, or let the plain student propose (proposer=base)"
            )

    def _check_without_trigger(self) -> None:
        """Refuse what belongs to a trigger that is not named; the selector's default has its own values."""
        if self.threshold is not None:
            raise ValueError("threshold: it belongs to a trigger; name the trigger too, or give tau alone")
        if self.router is not None:
            raise ValueError(f"router={self.router}: only trigger=router uses it; name the trigger too")
        if self.kl_direction != SelectionArguments.kl_direction:
            raise ValueError(
                f"kl_direction={self.kl_direction}: only trigger=kl uses it; name the trigger too, or leave "
                "it out"
            )

    def _check_teacher(self) -> None:
        """Refuse the trigger `kl` without a teacher, and a teacher that no trigger reads."""
        reads_teacher = self.trigger is not None and self._decider(self.trigger) == "kl"
        if reads_teacher and self.teacher is None:
            raise ValueError("trigger=kl needs teacher=MODEL; a selector's own triggers need none")
        if self.teacher is not None and not reads_teacher:
            shown = "the selector's default trigger" if self.trigger is None else self._named(self.trigger)
            raise ValueError(
                f"teacher={self.teacher}: {shown} does not read it, and it would be loaded for nothing; "
                "leave it out, or name trigger=kl"
            )

    def _check_servers(self) -> None:
        """Refuse what only servers can have or not have, and a concurrency where a teacher is loaded here."""
        if self.uses_servers:
            if not self.merge:
                raise ValueError(
                    "merge: with student_url the server applies the adapter, got False; leave it out"
                )
            if self.teacher is not None:
                self.require_own_concurrency()
            return
        for name in ("adapter", "exported"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: it belongs to servers; give student_url=URL, or leave it out")
