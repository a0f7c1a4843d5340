"""Makes the stages of a recipe, in an order in which each follows what it needs."""

from __future__ import annotations

from pathlib import Path

from s2t_eval.reproduce import evaluation_stages, preparation_stages, training_stages
from s2t_eval.reproduce.read import ReadRecipe, RecipeError
from s2t_eval.reproduce.stage_list import StageList
from s2t_eval.reproduce.stages import Stage


def build_stages(read: ReadRecipe, out: Path) -> list[Stage]:
    """All stages of a recipe.

    Args:
        read: the recipe.
        out: folder of everything that is made.

    Raises:
        RecipeError: a reference to something that the recipe has no section for, a task without a method, or
            names that would make two steps of one name.
    """
    stages = StageList(read.recipe, out.absolute())
    try:
        _add_preparation(stages)
        for seed in read.recipe.seeds:
            _add_training(stages, seed)
        evaluation_stages.add_evaluations(stages)
        evaluation_stages.add_results(stages)
    except RecipeError as error:
        raise RecipeError(f"{read.source}: {error}") from error
    return stages.in_order


def _add_preparation(stages: StageList) -> None:
    """What is made once, whatever the seed."""
    recipe = stages.recipe
    preparation_stages.add_downloads(stages)
    if recipe.calibration is not None:
        preparation_stages.add_calibration(stages, recipe.calibration)
    if recipe.labels is not None and recipe.labels.problems is not None:
        preparation_stages.add_labels(stages, recipe.labels, recipe.labels.problems)
    for name, tah in recipe.tah.items():
        preparation_stages.add_tah_labels(stages, name, tah)
    for name, router in recipe.routers.items():
        preparation_stages.add_router_labels(stages, name, router)


def _add_training(stages: StageList, seed: int) -> None:
    """Everything trained, with one seed."""
    recipe = stages.recipe
    for name, selector in recipe.selectors.items():
        if selector.labels is not None and (selector.labels, seed) not in stages.made:
            preparation_stages.add_round(stages, selector.labels, recipe.rounds[selector.labels], seed)
        training_stages.add_selector(stages, name, selector, seed)
    for name, distil in recipe.distilled.items():
        training_stages.add_distilled(stages, name, distil, seed)
    for name, rlkd in recipe.rlkd.items():
        training_stages.add_rlkd(stages, name, rlkd, seed)
    for name, tah in recipe.tah.items():
        training_stages.add_tah(stages, name, tah, seed)
    for name, router in recipe.routers.items():
        training_stages.add_router(stages, name, router, seed)
    for name, choice in recipe.choices.items():
        training_stages.add_choice(stages, name, choice, seed)
