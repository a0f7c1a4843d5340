"""Whether the files that a run names have the threshold that it looks up, without loading a model."""

from __future__ import annotations

from pathlib import Path

from s2t_eval.embedded import resolve_model
from s2t_eval.methods import r2r_folder, selector_info
from s2t_eval.selection.calibration import Calibration, CalibrationError
from s2t_eval.selection.thresholds import OF_R2R, Rates, ThresholdLookup, ThresholdTable


def require_threshold(lookup: ThresholdLookup) -> None:
    """Raise `ValueError` where a run would not find its threshold; it looks only after its models are loaded.

    A router or selector that is no folder of this machine is left to the run, which may find it on the Hub.

    Args:
        lookup: what the run's arguments look up, see `CommonArguments.lookup`.

    Raises:
        CalibrationError: the calibration cannot be read, has other warm-up tokens, or no score at this rate.
        SelectorError, R2RError: settings of a selector or a router that cannot be read.
        ThresholdError: no threshold of the trigger at this rate.
    """
    if lookup.calibration is not None:
        calibration = Calibration.load(Path(lookup.calibration))
        if lookup.warmup_tokens is not None:
            calibration.require(None, None, lookup.warmup_tokens)
        table = ThresholdTable("calibration", calibration.thresholds)
        if lookup.argument == "tau":
            table = calibration.table
    else:
        rates = _rates_of_folder(lookup.folder)
        if rates is None:
            return
        table = ThresholdTable(str(lookup.folder), rates)
    if lookup.is_in(table.rates):
        return
    if lookup.argument == "tau":
        assert lookup.rate is not None
        trigger = "its default trigger" if lookup.key is None else f"trigger {lookup.key}"
        raise table.missing_error(trigger, lookup.rate)
    raise CalibrationError(
        f"calibration={lookup.calibration}: it has no threshold for {lookup.argument}={lookup.rate} of "
        f"{lookup.key}; measure it with `s2t-eval calibrate --step_score`"
    )


def _rates_of_folder(name: str | None) -> Rates | None:
    """The thresholds of a router or selector under all proposers; None where it is no folder here."""
    folder = None if name is None else Path(resolve_model(name))
    if folder is None:
        return None
    if (folder / selector_info.SETTINGS).is_file():
        tables = selector_info.read_info(folder).thresholds.values()
        return {key: rates for table in tables for key, rates in table.items()}
    if (folder / r2r_folder.SETTINGS).is_file():
        info = r2r_folder.KIND.read(f"router={name}", folder / r2r_folder.SETTINGS)
        return {OF_R2R: info.thresholds}
    return None
