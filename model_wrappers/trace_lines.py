"""A generated text as one line of a trace: enough to replay every choice."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from s2t_eval.engine import FiredStep, Request, Result
from s2t_eval.selection.policy import Policy


def trace_line(request: Request, result: Result, policy: Policy) -> dict[str, Any]:
    """What was asked, what came of it at which cost, and every step that fired, in JSON values."""
    return {
        "trigger": policy.trigger.name,
        "threshold": policy.threshold,
        "prompt_ids": list(request.prompt_ids),
        "output_ids": result.output_ids,
        "finish": result.finish.value,
        "seconds": result.usage.seconds,
        "usage": asdict(result.usage),
        "steps": [_step(step) for step in result.steps],
    }


def _step(step: FiredStep) -> dict[str, Any]:
    """The trigger `always` has no finite divergence, and JSON no infinity."""
    values = step._asdict()
    return values if math.isfinite(step.divergence) else {**values, "divergence": None}
