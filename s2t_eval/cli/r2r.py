"""`s2t-eval r2r label | train`: labels of a teacher's texts, and a router from them (R2R)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from s2t_eval.artifacts.output_paths import require_new_folder, require_unfinished_labels
from s2t_eval.cli.command import flat, require_flags
from s2t_eval.cli.source import ProblemOptions, StudentOptions
from s2t_eval.ranges import AT_LEAST_1
from s2t_eval.selection.router_size import RouterSize
from s2t_eval.training.r2r.settings import (
    LabelSettings,
    RouterLoopSettings,
    RouterTrainSettings,
    ThresholdSettings,
)

if TYPE_CHECKING:
    from s2t_eval.methods.r2r_folder import RouterInfo
    from s2t_eval.training.r2r.labels import R2RManifest


@dataclass(frozen=True, kw_only=True)
class R2RLabel(ProblemOptions):
    """Label a teacher's texts: which of the student's tokens diverge (R2R).

    Args:
        teacher: the larger model, which writes and continues the texts.
        teacher_args: how the teacher is loaded: arguments of lm_eval's `hf` model, as in `--model_args`
            (name=value, joined by commas, or a JSON object), such as revision, parallelize, gguf_file.
        num_logits: number of the student's largest logits that are kept for the router.
        out: label folder to write; an interrupted run is resumed.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval r2r label --pretrained embedded/student --teacher embedded/teacher \\\n"
        "    --task s2t_arith --limit 24 --out r2r-labels"
    )

    teacher: str
    teacher_args: str = ""
    labelling: Annotated[LabelSettings, flat("labelling")] = field(default_factory=LabelSettings)
    num_logits: int = 100
    out: Path

    def run(self) -> None:
        """Label, and print the shares of identical, neutral and divergent tokens."""
        self.require_problems()
        require_flags(self, num_logits=AT_LEAST_1)
        require_unfinished_labels(self.out, "s2t-eval r2r label")
        from s2t_eval.pipelines.collect_labels import load_pair
        from s2t_eval.pipelines.r2r_labels import Labelling, label

        lm = load_pair(self.student.pretrained, self.teacher, self.teacher_args, **self.loading)
        settings = Labelling(self.labelling, self.num_logits, self.drop_overlap)
        _print_labels(self.out, label(lm, self.source, self.prompting, settings, self.out))


def _print_labels(folder: Path, manifest: R2RManifest) -> None:
    from s2t_eval.methods.r2r_folder import PUBLISHED_SHARES

    steps = manifest.num_identical + manifest.num_neutral + manifest.num_divergent
    print(
        f"{folder}: {manifest.num_texts} texts of the teacher ({manifest.num_unfinished} unfinished), "
        f"{steps} tokens, {manifest.num_unscored} more without a verdict"
    )
    print("identical / neutral / divergent, %:", " / ".join(f"{share:.1f}" for share in manifest.shares))
    print("published (32B and 1.5B), %:       ", " / ".join(f"{share:.1f}" for share in PUBLISHED_SHARES))
    if manifest.validation is not None and manifest.validation["mismatches"]:
        figures = manifest.validation
        print(
            f"checked by answers: agreement {figures['agreement']:.3f}, kappa {figures['kappa']:.3f} "
            f"(n = {figures['mismatches']:.0f} mismatches; divergent "
            f"{100 * figures['divergent_by_rule']:.1f} % by the rule, "
            f"{100 * figures['divergent_by_answer']:.1f} % by answers)"
        )
    print("tokens:", ", ".join(f"{name} {count:,}" for name, count in manifest.cost.items()))


@dataclass(frozen=True, kw_only=True)
class R2RTrain:
    """Train a router on the labels of `r2r label`, and choose its threshold (R2R).

    Args:
        labels: folder of `s2t-eval r2r label`.
        out: router folder to write; an interrupted run is resumed.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval r2r train --pretrained embedded/student --labels r2r-labels --held_out 0.4 \\\n"
        "    --width 16 --blocks 1 --epochs 1 --by rate --out router"
    )

    student: Annotated[StudentOptions, flat("student")]
    labels: Path
    out: Path
    size: Annotated[RouterSize, flat("router")] = field(default_factory=RouterSize)
    settings: Annotated[RouterTrainSettings, flat("router")] = field(default_factory=RouterTrainSettings)
    threshold: Annotated[ThresholdSettings, flat("threshold")] = field(default_factory=ThresholdSettings)
    loop: Annotated[RouterLoopSettings, flat("training loop")] = field(default_factory=RouterLoopSettings)

    def run(self) -> None:
        """Train, and print the figures of held-out problems."""
        require_new_folder(self.out)
        from s2t_eval.training.contamination import require_no_evaluation_prompts
        from s2t_eval.training.r2r.labels import R2RLabels
        from s2t_eval.training.r2r.train import train_router
        from s2t_eval.training.student import load_student

        labels = R2RLabels.load(self.labels)
        student, tokenizer = load_student(*self.student.loading)
        labels.require_student(student.fingerprint, student.vocabulary)
        require_no_evaluation_prompts([text.prompt_ids.tolist() for text in labels], tokenizer.decode)
        info = train_router(student, labels, self.size, self.loop, self.settings, self.threshold, self.out)
        _print_router(self.out, info)


def _print_router(out: Path, info: RouterInfo) -> None:
    from s2t_eval.methods.r2r_folder import percent_or_undefined

    figures, training = info.held_out, info.training
    print(
        f"{out}: {training['problems']} problems, {training['steps']} steps, the best after "
        f"{training['best_step']}"
    )
    print(
        f"threshold {info.threshold:.4g}, by {info.chosen_by} on {training['validation_problems']} problems"
    )
    recall, rate = (percent_or_undefined(figures[name]) for name in ("recall", "positive_rate"))
    print(
        f"on {figures['problems']} further problems: recall {recall} at a positive rate of {rate} "
        f"(n = {figures['steps']:.0f} tokens, {figures['divergent']:.0f} divergent)"
    )
    for name, signal in figures["signals"].items():
        values = ", ".join(f"{key} {value:.3f}" for key, value in signal.items() if value is not None)
        print(f"  {name}: {values or 'undefined'}")
