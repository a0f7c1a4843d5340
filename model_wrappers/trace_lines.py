"""A generated text as one line of a trace, with everything that a replay of its selections needs."""

from __future__ import annotations

import math
from typing import Any

from s2t_eval.engine import FiredStep, Result
from s2t_eval.selection.policy import PERSISTED_KEYS, Policy, json_number


def trace_line(result: Result, policy: Policy) -> dict[str, Any]:
    """Prompt, output, cost and every fired step of a text, in JSON values."""
    return {
        "trigger": policy.trigger.name,
        PERSISTED_KEYS["trigger_threshold"]: json_number(policy.trigger_threshold),
        "prompt_ids": list(result.request.prompt_ids),
        "output_ids": result.output_ids,
        "finish": result.finish.value,
        "seconds": result.usage.seconds,
        "usage": result.usage.counts(),
        "steps": [_step(step) for step in result.steps],
    }


def _step(step: FiredStep) -> dict[str, Any]:
    """A fired step; an infinite divergence (trigger `always`) becomes null, which JSON can express."""
    values = step._asdict()
    return values if math.isfinite(step.divergence) else {**values, "divergence": None}
