"""`s2t-eval distil`: a student that learns a teacher's distribution on the texts of a label set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from s2t_eval.artifacts.output_paths import require_new_folder
from s2t_eval.cli.command import flat
from s2t_eval.cli.source import StudentOptions
from s2t_eval.training.distil.settings import DistilSettings
from s2t_eval.training.settings import LoopSettings

if TYPE_CHECKING:
    from s2t_eval.methods.distilled import DistilInfo
    from s2t_eval.training.teacher import TrainingTeacher


@dataclass(frozen=True, kw_only=True)
class Distil:
    """Train the student on the teacher's distribution: an adapter, or all weights.

    Args:
        teacher: the larger model that is learnt from.
        teacher_dtype: data type of the teacher's weights. None: the student's.
        teacher_args: how the teacher is loaded: arguments of lm_eval's `hf` model, as in `--model_args`
            (name=value, joined by commas, or a JSON object), such as revision, parallelize, gguf_file.
        labels: label folder of `s2t-eval collect`.
        out: folder to write; an interrupted run is resumed.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval distil --pretrained embedded/student --teacher embedded/teacher \\\n"
        "    --labels labels --method kd --epochs 1 --out distilled"
    )

    student: Annotated[StudentOptions, flat("student")]
    teacher: str
    teacher_dtype: str | None = None
    teacher_args: str = ""
    labels: Path
    out: Path
    settings: Annotated[DistilSettings, flat("distillation")] = field(default_factory=DistilSettings)
    loop: Annotated[LoopSettings, flat("training loop")] = field(default_factory=LoopSettings)

    def run(self) -> None:
        """Distil, and print how near the student came."""
        require_new_folder(self.out)
        from s2t_eval.training.contamination import require_no_evaluation_prompts
        from s2t_eval.training.distil.distillation import distil
        from s2t_eval.training.labels import LabelSet
        from s2t_eval.training.student import load_student

        labels = LabelSet.load(self.labels)
        student, tokenizer = load_student(*self.student.loading)
        labels.require_student(student.fingerprint, student.vocabulary)
        require_no_evaluation_prompts([row.prompt_ids for row in labels], tokenizer.decode)
        teacher = load_training_teacher(
            self.teacher, self.teacher_dtype, self.teacher_args, self.student, tokenizer
        )
        info = distil(student, teacher, tokenizer, labels, self.settings, self.loop, self.out)
        _show(self.out, info)


def load_training_teacher(
    name: str, dtype: str | None, teacher_args: str, options: StudentOptions, tokenizer: Any
) -> TrainingTeacher:
    """The teacher, whose vocabulary is that of the student's tokenizer.

    Args:
        name: the teacher.
        dtype: data type of its weights; None: the student's.
        teacher_args: stock `hf`'s arguments with which it is loaded.
        options: how the student was loaded.
        tokenizer: the student's tokenizer.
    """
    from s2t_eval.model_wrappers.teacher import load_teacher, read_teacher_args, teacher_options
    from s2t_eval.models.loading import default_device
    from s2t_eval.models.vocabulary import stop_ids
    from s2t_eval.training.student import short_name
    from s2t_eval.training.teacher import TrainingTeacher

    shared = {"dtype": dtype or options.dtype, "trust_remote_code": options.trust_remote_code}
    given = teacher_options(read_teacher_args(teacher_args), shared, options.device or default_device())
    loaded = load_teacher(name, tokenizer, given)
    return TrainingTeacher(
        loaded.model,
        short_name(name),
        loaded.fingerprint,
        stop_ids(loaded.tokenizer, loaded.model.generation_config),
        loaded.tokenizer,
    )


def _show(out: Path, info: DistilInfo) -> None:
    before, after = info.training["before"], info.training["after"]
    print(
        f"{out}: {info.kind}, {info.method}, {info.training['problems']} problems, "
        f"{info.training['steps']} steps, the best at step {info.training['best_step']}"
    )
    print(
        "held-out problems, which also chose the step: "
        f"KL(teacher, student) {before['forward_kl']:.4f} -> {after['forward_kl']:.4f} nats, same "
        f"most likely token {100 * before['agreement']:.1f} -> {100 * after['agreement']:.1f} % "
        f"(n = {after['steps_measured']:.0f} steps of {info.training['held_out_problems']} problems)"
    )
