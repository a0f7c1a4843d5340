"""`s2t-eval calibrate`: thresholds that fire at a wanted rate, measured on training problems."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from s2t_eval.artifacts.output_paths import require_writable_file
from s2t_eval.cli.command import flat, require_flags
from s2t_eval.cli.server_options import ServerOptions
from s2t_eval.cli.source import ProblemOptions
from s2t_eval.pipelines.settings import CalibrationSource, StepCalibration
from s2t_eval.ranges import AT_LEAST_0, Range

if TYPE_CHECKING:
    from s2t_eval.methods.specreason.acceptance import MeasuredAcceptance
    from s2t_eval.selection.calibration import Calibration

RATES = Range("rates between 0 and 1", 0, 1, without=(0, 1))


@dataclass(frozen=True, kw_only=True)
class Calibrate(ProblemOptions):
    """Measure thresholds that fire at a wanted rate, on training problems.

    On servers only the triggers are measured that servers can compute. What was measured on each text is kept
    in OUT.unfinished until the file is written, so that the same command resumes an interrupted run.

    Args:
        teacher: the larger model. None: only local triggers are calibrated.
        teacher_args: how the teacher is loaded: arguments of lm_eval's `hf` model, as in `--model_args`
            (name=value, joined by commas, or a JSON object), such as revision, parallelize, gguf_file.
        tau: wanted rates of fired steps, as shares of all steps.
        warmup_tokens: number of tokens at the start of a text at which nothing fires.
        router: R2R router that is calibrated too: folder of `s2t-eval r2r train`, or a hub repository.
        out: calibration file to write.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval calibrate --pretrained embedded/student --teacher embedded/teacher \\\n"
        "    --task s2t_arith --limit 8 --tau 0.05 0.1 --out calibration.json"
    )

    servers: Annotated[ServerOptions, flat("servers")] = field(default_factory=ServerOptions)
    source: Annotated[CalibrationSource, flat("problems")] = field(default_factory=CalibrationSource)
    teacher: str | None = None
    teacher_args: str = ""
    tau: tuple[float, ...] = (0.01, 0.05, 0.1)
    warmup_tokens: int = 0
    router: str | None = None
    steps: Annotated[StepCalibration, flat("steps of reasoning")] = field(default_factory=StepCalibration)
    out: Path

    def run(self) -> None:
        """Write a calibration file and print its thresholds."""
        from s2t_eval.model_wrappers.s2t import SelectToThink
        from s2t_eval.pipelines import calibrate as calibration_run
        from s2t_eval.pipelines.calibrate_steps import measure_steps, require_measurable, with_acceptance
        from s2t_eval.pipelines.kept_thresholds import require_same_subject
        from s2t_eval.pipelines.overlap import without_evaluation_problems
        from s2t_eval.pipelines.prompts import recorded_prompting, source_prompts
        from s2t_eval.pipelines.unfinished import unfinished_calibration

        self.require_problems()
        require_flags(self, tau=RATES, warmup_tokens=AT_LEAST_0)
        require_writable_file("--out", self.out)
        existing = _existing(self.out)
        self._require_teacher_for_steps()
        self.servers.require_both(self.teacher)
        servers = self.servers.arguments()
        if servers and self.router is not None:
            raise ValueError("--router: it reads hidden states, which servers do not return; calibrate here")
        if existing is not None:
            self._require_thresholds_kept(existing, bool(servers))
        lm = calibration_run.load_lm(
            self.student.pretrained, self.teacher, self.teacher_args, **self.loading, **servers
        )
        prompts = source_prompts(lm, self.source, self.prompting)
        problems = without_evaluation_problems(prompts, self.drop_overlap)
        require_measurable(lm, problems, self.prompting, self.steps)
        if existing is not None:
            teacher = calibration_run.teacher_of(lm)
            prompt = recorded_prompting(self.prompting, problems.requests[0])
            require_same_subject(self.out, existing, lm.student_fingerprint, teacher, prompt)
        work = unfinished_calibration(self.out, lm, problems, self.steps, self.router)
        triggers = calibration_run.calibrate(
            lm, problems, self.prompting, self.tau, self.warmup_tokens, work, self.router
        )
        acceptance = (
            measure_steps(lm, problems, self.prompting, self.steps, work)
            if isinstance(lm, SelectToThink)
            else {}
        )
        with_acceptance(triggers, acceptance).save(self.out)
        work.clear()
        print(f"{self.out}: {triggers.num_steps} steps of {triggers.num_texts} problems, thresholds")
        for trigger, rates in triggers.thresholds.items():
            print(f"  {trigger:20}", *(f"tau {tau}: {value:.4g}" for tau, value in rates.items()), sep="  ")
        for key, measured in acceptance.items():
            _print_acceptance(key, measured)

    def _require_thresholds_kept(self, existing: Calibration, uses_servers: bool) -> None:
        """Raise `ValueError` for options with which thresholds of the file in its place would be lost."""
        from s2t_eval.pipelines.calibrate import measured_keys
        from s2t_eval.pipelines.calibrate_steps import step_forms
        from s2t_eval.pipelines.kept_thresholds import require_thresholds_kept

        has_teacher = self.teacher is not None or self.servers.teacher_url is not None
        keys = measured_keys(has_teacher, uses_servers, self.router)
        measured = dict.fromkeys(keys, self.tau)
        measured |= {form.key: self.steps.accept_rate for form in step_forms(self.steps)}
        require_thresholds_kept(self.out, existing, measured, self.warmup_tokens)

    def _require_teacher_for_steps(self) -> None:
        if self.steps.step_score and self.teacher is None and self.servers.teacher_url is None:
            raise ValueError(
                f"--step_score {self.steps.step_score[0]}: it is the teacher's score; give --teacher MODEL"
            )


def _print_acceptance(key: str, measured: MeasuredAcceptance) -> None:
    """Thresholds, and the shares of the drafts that they accept: equal scores make these larger."""
    print(f"  {key}, {measured.num_drafts} drafts")
    for rate, threshold in measured.thresholds.items():
        share = 100 * measured.accepted[rate]
        print(f"    accept_rate {rate}: {threshold:.4g}, accepts {share:.1f} %")


def _existing(path: Path) -> Calibration | None:
    """The calibration in a file; `ValueError` for a file that is none: it would be lost."""
    from s2t_eval.selection.calibration import Calibration, CalibrationError

    if not path.exists():
        return None
    try:
        return Calibration.load(path)
    except CalibrationError as error:
        raise ValueError(f"--out: {path} exists and is no calibration file; name another file") from error
