"""The one table of methods against what it stands for."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import get_args

import pytest

from s2t_eval import method_table
from s2t_eval.method_table import (
    BACKENDS,
    BY_MODEL,
    DISTIL_METHODS,
    METHODS,
    SCORE_FORMS,
    ScoreForm,
    method_of,
)
from s2t_eval.report.figures import colour
from s2t_eval.reproduce.read import read_recipe
from s2t_eval.selection.policy import topk_distilled
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


def test_methods_without_a_model_name_of_their_own() -> None:
    assert method_of("greedy", has_adapter=True).key == method_of("hf", has_adapter=True).key == "tuned"
    assert method_of("s2t_local", score="direct", proposer="tuned").key == "topk_distilled"
    assert method_of("pps_local", score="direct", proposer="tuned").key == "topk_distilled"
    assert method_of("s2t_local", policy=topk_distilled().name).key == "topk_distilled"
    assert method_of("pps_local", score="direct", proposer="base").key == "pps_local"
    assert method_of("s2t_local", score="lookahead", proposer="tuned").key == "s2t_local"
    assert method_of("distil", has_adapter=True, distilled_by="rlkd").key == "rlkd"
    assert method_of("distil", has_adapter=True, distilled_by="kd").key == "distil"
    with pytest.raises(ValueError, match=r"^unknown method: config\.model is 'odd'"):
        method_of("odd")


def test_every_backend_of_ours_stands_in_the_regression() -> None:
    assert {row.model for row in read_recipe("embedded").recipe.methods.values()} == set(BACKENDS)


def test_every_method_has_a_colour_of_its_own() -> None:
    """Figures failed with an IndexError once the table had one method more than there were colours."""
    colours = [colour(method.key) for method in METHODS]
    assert len(set(colours)) == len(METHODS)


def test_names_of_forms_and_losses_are_those_that_exist() -> None:
    assert get_args(ScoreForm) == SCORE_FORMS
    assert tuple(DISTIL_LOSSES) == DISTIL_METHODS
