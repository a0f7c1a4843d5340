"""One evaluation in a process of its own, timed: what `benchmarks.end_to_end` starts for each side.

python -m benchmarks.timed_evaluation '{"model": "greedy", "model_args": {…}, "task": "s2t_arith", …}'
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

from benchmarks.ratios import Stopwatch
from s2t_eval.model_wrappers.registration import TASK_FOLDER, register


@dataclass(frozen=True)
class Work:
    """What one process evaluates.

    Args:
        model: lm_eval's `--model`.
        model_args: its arguments.
        task: one of our tasks.
        limit: number of its first documents.
        batch_size: texts decoded at once.
        apply_chat_template: whether prompts are in the model's chat template.
        max_gen_toks: length limit of a text in tokens; None (default) for the task's own.
    """

    model: str
    model_args: dict[str, Any]
    task: str
    limit: int
    batch_size: int
    apply_chat_template: bool = False
    max_gen_toks: int | None = None


@dataclass(frozen=True)
class Timed:
    """What was measured in one process.

    Args:
        seconds: wall clock of generation; loading the models and grading are left out.
        tokens: tokens of all texts, of every sample of a vote too. Drafts and branches that a method drops do
            not count; `costs` has them as discarded_tokens.
        documents: number of graded documents.
        correct: number of right answers.
        peak_memory: largest resident memory of the process in bytes; on a GPU the largest allocation there.
        costs: our own telemetry; empty for stock models.
    """

    seconds: float
    tokens: int
    documents: int
    correct: float
    peak_memory: int
    costs: dict[str, Any] = field(default_factory=dict)


def measure(work: Work) -> Timed:
    """Run the evaluation and time the generation, of stock models and of ours alike."""
    register()
    lm: Any = get_model(work.model).create_from_arg_obj(work.model_args, {"batch_size": work.batch_size})
    watch, texts, generate = Stopwatch(), [], lm.generate_until

    def timed(requests: Sequence[Instance], *args: Any, **kwargs: Any) -> list[str]:
        with watch.running():
            texts.extend(generate(requests, *args, **kwargs))
        return texts

    lm.generate_until = timed
    limit = work.max_gen_toks
    with patch("lm_eval.evaluator.add_env_info"):  # it runs pip to list the installed packages
        results = simple_evaluate(
            model=lm,
            tasks=[work.task],
            limit=work.limit,
            apply_chat_template=work.apply_chat_template,
            gen_kwargs=f"max_gen_toks={limit}" if limit else None,
            task_manager=TaskManager(
                include_path=str(TASK_FOLDER), include_defaults=not work.task.startswith("s2t_")
            ),
            bootstrap_iters=0,
        )
    assert results is not None
    costs = results["config"].get("s2t_eval", {}).get("telemetry", {})
    scores = results["results"][work.task]
    score = next(value for name, value in scores.items() if name.startswith(("exact_match", "pass@1")))
    return Timed(
        seconds=watch.wall,
        # Of a stock model: what its texts are tokenized to, and the token that ends each.
        tokens=costs.get("tokens") or sum(len(lm.tok_encode(text)) + 1 for text in texts),
        documents=len(texts),
        correct=score * len(texts),
        peak_memory=_peak_memory(),
        costs=costs,
    )


def _peak_memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Work(**json.loads(sys.argv[1]))))))
