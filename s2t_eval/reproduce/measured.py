"""Whether the arguments of a recipe's methods can be used, and whether it measures what they look up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from s2t_eval.method_table import STOCK, ScoreForm
from s2t_eval.methods.selector_info import SETTINGS, read_info
from s2t_eval.pipelines.settings import StepCalibration
from s2t_eval.reproduce.parts import CalibrationPart
from s2t_eval.reproduce.read import RecipeError
from s2t_eval.reproduce.schema import Recipe
from s2t_eval.reproduce.stages import EVALUATE, SCAN, Stage
from s2t_eval.selection.thresholds import ThresholdLookup, has_rate
from s2t_eval.training.selector.settings import SelectorSettings

CALIBRATE, TRAIN, R2R_TRAIN = "calibrate", "train", "r2r train"
SELECTOR_KINDS = (TRAIN, "choose")


def require_arguments(recipe: Recipe, stages: Sequence[Stage]) -> None:
    """Raise `RecipeError` for arguments that a method's own run would refuse, hours later.

    Args:
        recipe: whose steps they are.
        stages: all of them.

    Raises:
        RecipeError: an argument that a backend lacks or refuses, or a rate or warm-up whose thresholds
            nothing measures; the message begins with the step's name.
    """
    from s2t_eval.model_wrappers.usable_arguments import (  # they load torch
        require_usable_arguments,
        require_usable_selector,
    )

    makers = {str(stage.output): stage for stage in stages}
    for stage in stages:
        for model, model_args in _runs(stage):
            try:
                arguments = require_usable_arguments(model, model_args)
                if arguments.lookup is not None:
                    _require_measured(recipe, arguments.lookup, makers)
                selector, router = (getattr(arguments, name, None) for name in ("selector", "router"))
                routers = _selector_training(router or selector, makers)
                has_routers = routers is None or not routers["skip_routers"]
                require_usable_selector(model, arguments, _form(selector, makers), has_routers)
            except ValueError as error:
                raise RecipeError(f"{stage.name}: {error}") from error


def _form(selector: str | None, makers: Mapping[str, Stage]) -> ScoreForm | None:
    """The form of a selector that the recipe trains, or that lies in a folder already; None: not known."""
    training = _selector_training(selector, makers)
    if training is not None:
        form: ScoreForm = training["form"] or SelectorSettings.form
        return form
    if selector is not None and (Path(selector) / SETTINGS).is_file():
        return read_info(Path(selector)).form
    return None


def _selector_training(folder: str | None, makers: Mapping[str, Stage]) -> dict[str, Any] | None:
    """The settings with which the recipe trains a selector; None for another folder, or none.

    Args:
        folder: of a method's argument.
        makers: output -> the step that makes it.
    """
    maker = makers.get(folder or "")
    if maker is not None and maker.copy_of is not None:
        maker = makers.get(str(maker.copy_of))
    return maker.part[0] if maker is not None and maker.kind == TRAIN else None


def _runs(stage: Stage) -> Iterator[tuple[str, str]]:
    """The backends that a step runs, with their `--model_args`: one of an evaluation, many of a scan."""
    if stage.kind not in (EVALUATE, SCAN):
        return
    words = stage.command
    model, model_args = (words[words.index(option) + 1] for option in ("--model", "--model_args"))
    if stage.kind == SCAN:
        rates = takewhile(lambda word: not word.startswith("--"), words[words.index("--tau") + 1 :])
        yield from ((model, f"{model_args},tau={tau}") for tau in rates)
    elif model != STOCK:
        yield model, model_args


def _require_measured(recipe: Recipe, lookup: ThresholdLookup, makers: Mapping[str, Stage]) -> None:
    """Raise `ValueError` unless what is looked up is measured by the recipe, or lies in a file already.

    Args:
        recipe: whose calibration it may be.
        lookup: of a method.
        makers: output -> the step that makes it.
    """
    from s2t_eval.model_wrappers.measured_thresholds import require_threshold
    from s2t_eval.training.selector.routing import SCANNED_TAUS
    from s2t_eval.training.trigger_recall import TAUS

    source = lookup.folder if lookup.calibration is None else lookup.calibration
    maker = None if source is None else makers.get(source)
    if maker is not None and maker.kind == CALIBRATE:
        assert recipe.calibration is not None
        has_teacher, uses_servers = recipe.models.teacher is not None, recipe.servers is not None
        require_calibrated(recipe.calibration, lookup, has_teacher, uses_servers)
    elif maker is not None and maker.kind in SELECTOR_KINDS:
        _require_rate_of("`s2t-eval train` measures a selector's", lookup, SCANNED_TAUS)
    elif maker is not None and maker.kind == R2R_TRAIN:
        _require_rate_of("`s2t-eval r2r train` measures a router's", lookup, TAUS)
    elif maker is None and (lookup.calibration is None or Path(lookup.calibration).is_file()):
        require_threshold(lookup)


def require_calibrated(
    part: CalibrationPart, lookup: ThresholdLookup, has_teacher: bool, uses_servers: bool
) -> None:
    """Raise `ValueError` unless a recipe's calibration measures the threshold.

    Args:
        part: the section `calibration`.
        lookup: of a method that reads it.
        has_teacher: whether the recipe has a teacher, whose KL is measured too.
        uses_servers: whether it measures on servers, which cannot compute all triggers.
    """
    from s2t_eval.methods.specreason.acceptance import StepForm
    from s2t_eval.pipelines.calibrate import measured_keys

    warmup = part.warmup_tokens or 0
    if lookup.warmup_tokens not in (None, warmup):
        raise ValueError(
            f"warmup_tokens={lookup.warmup_tokens}: the recipe's calibration is measured with {warmup} "
            "(calibration.warmup_tokens); name the same number in both"
        )
    if lookup.argument == "tau":
        keys, rates, place = measured_keys(has_teacher, uses_servers), part.tau, "tau"
        if lookup.key in set(measured_keys(has_teacher)) - set(keys):
            raise ValueError(
                f"trigger: servers do not measure {lookup.key}, got {lookup.argument}={lookup.rate}; name "
                f"one of {', '.join(keys)}, a threshold, or a calibration that was made without servers"
            )
    else:
        delimiter = part.delimiter or StepCalibration.delimiter
        max_step = part.max_step or StepCalibration.max_step
        keys = [StepForm(score, delimiter, max_step).key for score in part.step_score]
        rates, place = part.accept_rate or StepCalibration.accept_rate, "accept_rate"
    if lookup.is_in({key: dict.fromkeys(map(str, rates), 0.0) for key in keys}):
        return
    known = f"{', '.join(keys)} at {', '.join(map(str, rates))}" if keys else "none of this kind"
    raise ValueError(
        f"{lookup.argument}={lookup.rate}: the recipe's calibration does not measure it"
        f"{f' for {lookup.key}' if lookup.key else ''} (it measures {known}); change calibration.{place}"
        f"{'' if lookup.argument == 'tau' else ', step_score, delimiter or max_step'}, or name one of these"
    )


def _require_rate_of(measures: str, lookup: ThresholdLookup, rates: Sequence[float]) -> None:
    """Raise `ValueError` unless a trained artifact will have thresholds at this rate."""
    if lookup.rate is not None and not has_rate(map(str, rates), lookup.rate):
        known = ", ".join(map(str, rates))
        raise ValueError(
            f"tau={lookup.rate}: {measures} thresholds at {known} alone; name one of these, or give "
            "threshold=NUMBER"
        )
