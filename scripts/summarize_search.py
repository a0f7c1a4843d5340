"""Collect the figures of several selectors that were trained on the same labels into one table.

    python -m scripts.summarize_search runs/search/trained --out results/search/embedded

The table has a row for each selector: its settings, whose texts it was trained on, the figures of its last
step on the choosing half of the held-out problems (the last step is not chosen), and those of the kept
parameters on the reported half, with n and 95 % intervals. The figure is the learning curve: Agree@1 of the
last step over the number of problems, of the selectors that differ in that number alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from s2t_eval.artifacts.fingerprint import folder_hash
from s2t_eval.artifacts.typed_json import read_object
from s2t_eval.report.figures import Plot, canvas, interval_arms
from s2t_eval.statistics import wilson

SETTINGS = "selector.json"
KL = "kl:student_teacher"
SHOWN = {
    "selector": ("form", "score_as", "loss", "temperature", "rank", "beta", "anchor"),
    "settings": ("low_kl_fraction", "num_candidates", "regret", "drop_misses"),
    "loop": ("epochs", "batch_size", "accumulate", "lr", "schedule", "average_last"),
}
"""Settings of the table, by the part of the record in which they are."""


def row(folder: Path) -> dict[str, Any]:
    """The settings and figures of one selector.

    Raises:
        ValueError: a folder that is not a selector of this version.
    """
    try:
        info = read_object(folder / SETTINGS)
        training = info["training"]
        figures, chosen_by = training["held_out"], training["choosing"]["agree@1"]
    except (OSError, KeyError) as error:
        raise ValueError(
            f"{folder}: expected a selector folder of this version of `s2t-eval train`, {error} is missing"
        ) from error
    settings = {name: training["settings"][part][name] for part, names in SHOWN.items() for name in names}
    n = int(figures["groups"])
    low, high = wilson(round(figures["agree@1"] * n), n)
    return {
        "selector": folder.name,
        "checkpoint": folder_hash(folder),
        "problems": training["problems"],
        "steps": training["steps"],
        "best_step": training["best_step"],
        "averaged": training["averaged"],
        "texts": "greedy" if info["labels"].get("rollouts") is None else "selector",
        "start": training["settings"].get("start"),
        **settings,
        **_last_step(training),
        "chosen_by_agree": chosen_by,
        "n": n,
        "agree": figures["agree@1"],
        "agree_low": low,
        "agree_high": high,
        "greedy_agree": figures["greedy_agree@1"],
        "spearman": figures["spearman"],
        "proposal_weight": info["proposal_weight"],
        "default": _default(info),
        **{name: figures.get(name) for name in ("gain", "gain_low", "gain_high")},
        **_expected(training),
    }


def _last_step(training: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of the last step, whether it was kept or not."""
    last = [entry for entry in training["history"] if "averaged" not in entry][-1]
    n = int(last["groups"])
    low, high = wilson(round(last["agree@1"] * n), n)
    figures = (n, last["agree@1"], low, high, last["greedy_agree@1"], last["loss"], last.get("gain"))
    names = ("n", "agree", "agree_low", "agree_high", "greedy_agree", "loss", "gain")
    return {f"last_{name}": value for name, value in zip(names, figures, strict=True)}


def _default(info: Mapping[str, Any]) -> str:
    default = info["defaults"]["base"]
    return default["trigger"] + ("" if default["tau"] is None else f", tau {100 * default['tau']:g} %")


def _expected(training: Mapping[str, Any]) -> dict[str, Any]:
    """The share that the rule expects at the KL trigger's 5 %, with its interval."""
    [at_kl] = [
        row
        for row in training["agreement"]
        if (row["proposer"], row["trigger"], row["tau"]) == ("base", KL, 0.05)
    ] or [{}]
    return {
        f"kl5_{name}": at_kl.get(name) for name in ("steps", "agree", "greedy_agree", "share", "low", "high")
    }


def learning_curve(data: pd.DataFrame) -> Plot | None:
    """Agree@1 of the last step over the number of problems, a line for each recipe with several numbers."""
    settings = ["texts", "start", *(name for names in SHOWN.values() for name in names)]
    groups = [part for _, part in data.groupby(settings, dropna=False) if part["problems"].nunique() > 1]
    if not groups:
        return None
    kept = pd.concat(groups).sort_values("problems")
    with canvas(5.0, 3.4) as (figure, [ax]):
        for part in groups:
            part = part.sort_values("problems")
            agree = 100 * part["last_agree"]
            error = interval_arms(agree, 100 * part["last_agree_low"], 100 * part["last_agree_high"])
            label = f"batch {part['batch_size'].iloc[0]}, lr {part['lr'].iloc[0]:g}"
            ax.errorbar(part["problems"], agree, error, fmt="o-", capsize=2, label=label)
        greedy = 100 * kept["last_greedy_agree"].iloc[0]
        ax.axhline(greedy, color="#888888", linestyle=":", linewidth=0.9)
        ax.annotate("greedy", (1, greedy), (-3, 3), ("axes fraction", "data"), "offset points", ha="right")
        ax.set_xscale("log", base=2)
        ticks = sorted(kept["problems"].unique())
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel("problems that are learnt from")
        ax.set_ylabel(f"Agree@1, % (n = {kept['last_n'].iloc[0]:,}, 95 %)")
        ax.legend(fontsize=7)
    return Plot("learning_curve", "Agree@1 by the number of problems", kept, figure)


def write(folders: Sequence[Path], out: Path) -> None:
    """Write `selectors.csv` and, where there is one, the learning curve."""
    data = pd.DataFrame([row(folder) for folder in folders])
    data["start"] = data["start"].replace(dict(zip(data["checkpoint"], data["selector"], strict=True)))
    out.mkdir(parents=True, exist_ok=True)
    data.to_csv(out / "selectors.csv", index=False, float_format="%.6g")
    curve = learning_curve(data)
    if curve is not None:
        curve.write(out)


def main() -> None:
    """Collect the selectors below the given folders."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", help="selector folders, or folders of them")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    found = [path.parent for folder in arguments.folders for path in sorted(folder.rglob(SETTINGS))]
    if not found:
        parser.error(f"no {SETTINGS} below {', '.join(map(str, arguments.folders))}")
    write(found, arguments.out)


if __name__ == "__main__":
    main()
