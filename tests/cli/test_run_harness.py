"""`s2t-eval run` knows our tasks alone where nothing else is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from s2t_eval.cli.run_harness import _names_own_tasks_alone
from s2t_eval.model_wrappers.registration import task_manager_of


@pytest.mark.parametrize(
    ("arguments", "is_own"),
    [
        (["--model", "greedy", "--tasks", "s2t_gsm8k"], True),
        (["--tasks=s2t_gsm8k,s2t_arith", "--limit", "8"], True),
        (["-t", "s2t_gsm8k", "s2t_arith", "--limit", "8"], True),
        (["run", "--tasks", "s2t_gsm8k", "--samples", '{"s2t_gsm8k": [1]}'], True),
        (["--tasks", "s2t_gsm8k,gsm8k"], False),
        (["--tasks", "s2t_gsm8k", "gsm8k", "--limit", "8"], False),
        (["--tasks", "s2t_*"], False),
        (["--tasks", "s2t_gsm8k", "--include_path", "mine"], False),
        (["--task", "s2t_gsm8k"], False),
        (["--tasks"], False),
        (["--model", "greedy"], False),
        (["ls", "tasks"], False),
        ([], False),
    ],
)
def test_other_tasks_are_read_where_one_is_named(arguments: Sequence[str], is_own: bool) -> None:
    assert _names_own_tasks_alone(arguments) == is_own


def test_training_problems_of_our_tasks_need_no_other_task() -> None:
    assert set(task_manager_of(["s2t_gsm8k"]).all_tasks) < {*task_manager_of(["gsm8k"]).all_tasks}
    assert "gsm8k" not in task_manager_of(["s2t_gsm8k", "s2t_arith"]).all_tasks
    assert "gsm8k" in task_manager_of(["s2t_gsm8k", "gsm8k"]).all_tasks
