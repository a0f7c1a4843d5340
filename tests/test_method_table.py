"""The one table of methods against what it stands for."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import get_args

from s2t_eval import method_table
from s2t_eval.embedded.grid import GRID
from s2t_eval.method_table import BACKENDS, BY_MODEL, DISTIL_METHODS, METHODS, SCORE_FORMS
from s2t_eval.report.figures import colour
from s2t_eval.selection.scores import ScoreForm
from s2t_eval.training.distil.methods import METHODS as DISTIL_LOSSES


def test_importing_it_loads_nothing_else() -> None:
    code = f"import sys; before = set(sys.modules); import {method_table.__name__}\n"
    code += "print(sorted({name.split('.')[0] for name in set(sys.modules) - before} - {'s2t_eval'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "lm_eval", "pandas", "matplotlib", "numpy"}
    assert not heavy & set(ast.literal_eval(done.stdout))


def test_keys_and_model_names_are_unique() -> None:
    assert len({method.key for method in METHODS}) == len(METHODS)
    assert len(BY_MODEL) == sum(len(method.models) for method in METHODS)


def test_every_backend_of_ours_stands_in_the_regression() -> None:
    assert {row.model for row in GRID} == set(BACKENDS)


def test_every_method_has_a_colour_of_its_own() -> None:
    """Figures failed with an IndexError once the table had one method more than there were colours."""
    colours = [colour(method.key) for method in METHODS]
    assert len(set(colours)) == len(METHODS)


def test_names_of_forms_and_losses_are_those_that_exist() -> None:
    assert get_args(ScoreForm) == SCORE_FORMS
    assert tuple(DISTIL_LOSSES) == DISTIL_METHODS
