"""`s2t-eval scan`: re-run a grid of K and tau, with resume; `s2t-eval analyze` draws it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from s2t_eval.artifacts.output_paths import require_reusable_folder
from s2t_eval.cli.command import require_flags
from s2t_eval.method_table import FIRING_MODELS
from s2t_eval.ranges import AT_LEAST_1, FIRING_RATE

SCANNED = ("top_k", "tau", "threshold")
OWN_FLAGS = ("--model", "-M", "--model_args", "-a", "--tasks", "-t", "--output_path", "-o")
"""Flags of lm_eval that the scan gives itself."""
if TYPE_CHECKING:  # a type checker does not accept values that are computed
    ScannedMethod = str
else:
    ScannedMethod = Literal[FIRING_MODELS]


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Run a grid of K and tau with lm_eval; an interrupted scan is resumed.

    Args:
        lm_eval: further arguments of lm_eval, after `--`.
        model: methods to run.
        model_args: model arguments of all points, such as pretrained=NAME,calibration=FILE.
        top_k: numbers of candidates K.
        tau: rates of fired steps; the calibration must hold them.
        tasks: tasks of lm_eval, separated by commas.
        out: folder to write; each run has a folder in it. A grid may be extended there; other --tasks,
            --model_args or arguments of lm_eval need another folder.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval scan --model s2t --tau 0.05 --top_k 2 8 --tasks s2t_arith --out scan --model_args \\\n"
        "    pretrained=embedded/student,teacher=embedded/teacher,calibration=calibration.json -- --limit 8"
    )

    lm_eval: tuple[str, ...] = field(default=(), kw_only=False)
    model: tuple[ScannedMethod, ...] = ("s2t",)
    model_args: str
    top_k: tuple[int, ...] = (8,)
    tau: tuple[float, ...]
    tasks: str
    out: Path

    def run(self) -> None:
        """Run the points that are missing."""
        from s2t_eval.analysis.grid import points, run_grid
        from s2t_eval.analysis.scan_arguments import (
            FILE,
            control_arguments,
            require_same_scan,
            scan_arguments,
        )

        pairs = [part for part in self.model_args.split(",") if part]
        unusable = [part for part in pairs if "=" not in part or part.split("=")[0] in SCANNED]
        if unusable:
            raise ValueError(
                f"--model_args: expected name=value pairs without {', '.join(SCANNED)}; got {unusable}"
            )
        require_flags(self, top_k=AT_LEAST_1, tau=FIRING_RATE)
        require_reusable_folder(self.out, "one of `s2t-eval scan`", [FILE, "greedy/", "*_k*_tau*/"])
        named = dict(part.split("=", 1) for part in pairs)
        self._require_points(named)
        require_same_scan(self.out, scan_arguments(self.tasks, named, self.lm_eval))
        control = ",".join(f"{name}={value}" for name, value in control_arguments(self.model, named).items())
        grid = list(points(self.model, self.top_k, self.tau, self.model_args, control))
        try:
            for point, is_new in run_grid(grid, self.out, ["--tasks", self.tasks, *self.lm_eval]):
                print(f"{point.name}: {'done' if is_new else 'existed'}", flush=True)
        except RuntimeError as error:
            raise ValueError(str(error)) from error

    def _require_points(self, named: Mapping[str, str]) -> None:
        """Raise `ValueError` for arguments that the points would refuse, and rates without a threshold.

        Args:
            named: the model arguments by name.
        """
        from s2t_eval.analysis.grid import points
        from s2t_eval.model_wrappers.measured_thresholds import require_threshold
        from s2t_eval.model_wrappers.usable_arguments import require_usable_arguments

        own = [word for word in self.lm_eval if word.split("=")[0] in OWN_FLAGS]
        if own:
            raise ValueError(f"{own[0]}: the scan gives it to every point itself; leave it out behind --")
        for point in points(self.model, self.top_k, self.tau, self.model_args, ""):
            if point.model in self.model:
                lookup = require_usable_arguments(point.model, point.arguments).lookup
                if lookup is not None:
                    require_threshold(lookup)
