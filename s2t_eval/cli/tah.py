"""`s2t-eval tah label | train | plain`: labels, passes (stage 1) and decider (stage 2), and their control."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from s2t_eval.artifacts.figures import figures_text
from s2t_eval.artifacts.output_paths import (
    require_new_folder,
    require_replaceable,
    require_reusable_folder,
)
from s2t_eval.cli.command import HIDDEN, changed_fields, flat
from s2t_eval.cli.source import ProblemOptions, StudentOptions
from s2t_eval.methods.tah.settings import DeciderSettings, LoopedSettings
from s2t_eval.models.lora_settings import LoraSettings
from s2t_eval.training.tah.settings import DecisionSettings, DepthSettings, TahLoopSettings

if TYPE_CHECKING:
    from s2t_eval.training.student import Student
    from s2t_eval.training.tah.labels import TahLabels


@dataclass(frozen=True, kw_only=True)
class TahLabel(ProblemOptions):
    """Find the hard tokens of reference texts.

    The texts are the solutions of the problems of --task or --data, or the texts of --texts. Labels are kept
    in OUT.unfinished until the folder is written, so that the same command resumes an interrupted run.

    Args:
        texts: label folder of `s2t-eval collect` whose texts are labelled, such as those of a teacher.
        out: folder to write.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval tah label --pretrained embedded/student --task s2t_arith --limit 24 --out tah-labels"
    )

    texts: Path | None = None
    out: Path

    def run(self) -> None:
        """Write labels and print how many tokens are hard."""
        from s2t_eval.pipelines import tah_labels
        from s2t_eval.pipelines.calibrate import load_lm
        from s2t_eval.pipelines.prompts import source_prompts

        self.require_problems("--texts FOLDER")
        self._require_texts_alone()
        require_new_folder(self.out)
        lm = load_lm(self.student.pretrained, None, **self.loading)
        if self.texts is not None:
            texts, data, prompt = tah_labels.label_set_texts(lm, self.texts)
        else:
            prompts = source_prompts(lm, self.source, self.prompting)
            texts = tah_labels.reference_solutions(lm, prompts, self.prompting, self.drop_overlap)
            data = {"source": prompts.source, "split": prompts.split, "skip": self.source.skip}
            prompt = asdict(self.prompting)
        work = tah_labels.open_work(self.out, lm, texts)
        labels = tah_labels.label_texts(lm, texts, data, prompt, work)
        labels.save(self.out)
        work.clear()
        manifest = labels.manifest
        hard = f"{manifest.num_hard} of them hard ({manifest.num_hard / manifest.num_steps:.1%})"
        print(f"{self.out}: {len(labels)} texts, {manifest.num_steps} tokens, {hard}")

    def _require_texts_alone(self) -> None:
        """Raise `ValueError` for options for problems or prompts beside `--texts`, which has both."""
        if self.texts is None:
            return
        changed = [*changed_fields(self.source), *changed_fields(self.prompting)]
        changed += ["drop_overlap"] if self.drop_overlap else []
        if changed:
            raise ValueError(f"--{changed[0]}: the texts of --texts are taken as they are; leave it out")


@dataclass(frozen=True)
class _DeciderOptions(DeciderSettings):
    dropout: Annotated[float, HIDDEN] = DeciderSettings.dropout


@dataclass(frozen=True)
class _DecisionOptions(DecisionSettings):
    held_out: Annotated[float, HIDDEN] = DecisionSettings.held_out
    max_eval_texts: Annotated[int, HIDDEN] = DecisionSettings.max_eval_texts


@dataclass(frozen=True, kw_only=True)
class TahTrain:
    """Train the passes (--stage 1), then the decider (--stage 2).

    Args:
        labels: folder of `s2t-eval tah label`.
        stage: the stage to train.
        out: tah folder: stage 1 makes it, stage 2 completes it.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval tah train --pretrained embedded/student --labels tah-labels --held_out 0.25 \\\n"
        "    --stage 1 --epochs 1 --out tah"
    )

    student: Annotated[StudentOptions, flat("student")]
    labels: Path
    stage: Literal[1, 2]
    out: Path
    looped: Annotated[LoopedSettings, flat("stage 1")] = field(default_factory=LoopedSettings)
    depths: Annotated[DepthSettings, flat("stage 1")] = field(default_factory=DepthSettings)
    decider: Annotated[_DeciderOptions, flat("stage 2")] = field(default_factory=_DeciderOptions)
    decisions: Annotated[_DecisionOptions, flat("stage 2")] = field(default_factory=_DecisionOptions)
    loop: Annotated[TahLoopSettings, flat("training loop")] = field(default_factory=TahLoopSettings)

    def run(self) -> None:
        """Train one stage and print its held-out figures."""
        from s2t_eval.training.tah.decider_training import train_decider
        from s2t_eval.training.tah.depth_training import train_depths

        self._require_own_options()
        self._require_place()
        labels, student = load_labels_and_student(self.labels, self.student)
        if self.stage == 1:
            info = train_depths(student, labels, self.looped, self.loop, self.depths, self.out)
        else:
            depths = self.depths
            decisions = replace(
                self.decisions, held_out=depths.held_out, max_eval_texts=depths.max_eval_texts
            )
            info = train_decider(student, labels, self.decider, self.loop, decisions, self.out)
        stage = info.training[f"stage-{self.stage}"]
        print(f"{self.out}: stage {self.stage}, {stage['texts']} texts, {stage['steps']} steps")
        print(f"held-out texts, by which the step was chosen: {figures_text(stage['held_out'])}")

    def _require_own_options(self) -> None:
        """Raise `ValueError` for an option of the other stage; the held-out texts are of both."""
        if self.stage == 1:
            foreign = [*changed_fields(self.decider), *changed_fields(self.decisions)]
        else:
            depths = [name for name in changed_fields(self.depths) if name == "easy_fraction"]
            foreign = [*changed_fields(self.looped), *depths]
        if foreign:
            raise ValueError(f"--{foreign[0]}: it belongs to stage {3 - self.stage}, this is {self.stage}")

    def _require_place(self) -> None:
        """Raise `ValueError` unless `--out` is new (stage 1) or a folder of stage 1 (stage 2)."""
        if self.stage == 2:
            signs = "one of `s2t-eval tah train --stage 1`"
            require_reusable_folder(self.out, signs, ["tah.json"], parents=False)
            if self.out.is_dir():
                require_replaceable(self.out)
        elif (self.out / "tah.json").exists():
            raise ValueError(f"--out: {self.out} exists; name another folder, or train its --stage 2")
        else:
            require_new_folder(self.out)


@dataclass(frozen=True)
class PlainLora(LoraSettings):
    """The adapter of plain tuning: as that of the looped student."""

    dropout: float = LoopedSettings.dropout


@dataclass(frozen=True)
class _PlainDepths(DepthSettings):
    easy_fraction: Annotated[float, HIDDEN] = DepthSettings.easy_fraction


@dataclass(frozen=True, kw_only=True)
class TahPlain:
    """Train the control: plain tuning of the same adapter on the same texts.

    Args:
        labels: folder of `s2t-eval tah label`; only its texts are used.
        out: adapter to write, for `--model greedy --model_args pretrained=...,peft=OUT`.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval tah plain --pretrained embedded/student --labels tah-labels --held_out 0.25 \\\n"
        "    --epochs 1 --out plain"
    )

    student: Annotated[StudentOptions, flat("student")]
    labels: Path
    out: Path
    lora: Annotated[PlainLora, flat("adapter")] = field(default_factory=PlainLora)
    depths: Annotated[_PlainDepths, flat("adapter")] = field(default_factory=_PlainDepths)
    loop: Annotated[TahLoopSettings, flat("training loop")] = field(default_factory=TahLoopSettings)

    def run(self) -> None:
        """Tune, and print the held-out cross-entropy."""
        require_new_folder(self.out)
        from s2t_eval.training.tah.plain_tuning import train_plain

        labels, student = load_labels_and_student(self.labels, self.student)
        looped = LoopedSettings(**asdict(self.lora))
        result = train_plain(student, labels, looped, self.loop, self.depths, self.out)
        print(f"{self.out}: plain tuning, {result.steps} steps, the best after {result.best_step}")
        print(
            f"held-out texts, by which the step was chosen: nll {result.best['nll']:.4g} "
            f"(before {result.history[0]['nll']:.4g})"
        )


def load_labels_and_student(folder: Path, options: StudentOptions) -> tuple[TahLabels, Student]:
    """The labels, none of whose prompts are evaluation problems, and the student."""
    from s2t_eval.training.contamination import require_no_evaluation_prompts
    from s2t_eval.training.student import load_student
    from s2t_eval.training.tah.labels import TahLabels

    labels = TahLabels.load(folder)
    student, tokenizer = load_student(*options.loading)
    require_no_evaluation_prompts([text.prompt_ids for text in labels.texts], tokenizer.decode)
    return labels, student
