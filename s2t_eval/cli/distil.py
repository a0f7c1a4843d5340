"""`s2t-eval distil`: a student that learns a teacher's distribution on the texts of a label set."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from s2t_eval.artifacts.output_paths import require_new_folder
from s2t_eval.cli.command import flat
from s2t_eval.cli.source import StudentOptions
from s2t_eval.training.distil.settings import DistilSettings
from s2t_eval.training.settings import LoopSettings

if TYPE_CHECKING:
    from s2t_eval.methods.distilled import DistilInfo
    from s2t_eval.training.distil.distillation import Teacher


class LoadedTeacher(NamedTuple):
    """A teacher with its tokenizer."""

    teacher: Teacher
    tokenizer: Any


@dataclass(frozen=True, kw_only=True)
class Distil:
    """Train the student on the teacher's distribution: an adapter, or all weights.

    Args:
        teacher: the larger model that is learnt from.
        teacher_dtype: data type of the teacher's weights. None: the student's.
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
    labels: Path
    out: Path
    settings: Annotated[DistilSettings, flat("distillation")] = field(default_factory=DistilSettings)
    loop: Annotated[LoopSettings, flat("training loop")] = field(default_factory=LoopSettings)

    def run(self) -> None:
        """Distil, and print how near the student came."""
        require_new_folder("--out", self.out)
        from s2t_eval.training.contamination import require_no_evaluation_prompts
        from s2t_eval.training.distil.distillation import distil
        from s2t_eval.training.labels import LabelSet
        from s2t_eval.training.student import load_student

        labels = LabelSet.load(self.labels)
        student, tokenizer = load_student(*self.student.loading)
        labels.require_student(student.fingerprint, student.vocabulary)
        require_no_evaluation_prompts([row.prompt_ids for row in labels], tokenizer.decode)
        teacher, _ = load_teacher(self.teacher, self.teacher_dtype, self.student, tokenizer)
        info = distil(student, teacher, tokenizer, labels, self.settings, self.loop, self.out)
        _show(self.out, info)


def load_teacher(name: str, dtype: str | None, options: StudentOptions, tokenizer: Any) -> LoadedTeacher:
    """The teacher, whose vocabulary is that of the student's tokenizer.

    Args:
        name: the teacher.
        dtype: data type of its weights; None: the student's.
        options: how the student was loaded.
        tokenizer: the student's tokenizer.
    """
    from s2t_eval.artifacts.fingerprint import model_fingerprint
    from s2t_eval.models.loading import load_model
    from s2t_eval.models.vocabulary import require_same_vocabulary, stop_ids
    from s2t_eval.training.distil.distillation import Teacher
    from s2t_eval.training.student import short_name

    model, teacher_tokenizer = load_model(
        "teacher", name, dtype or options.dtype, options.device, options.trust_remote_code
    )
    require_same_vocabulary(tokenizer, teacher_tokenizer)
    teacher = Teacher(
        model,
        short_name(name),
        model_fingerprint(model),
        stop_ids(teacher_tokenizer, model.generation_config),
        functools.partial(teacher_tokenizer.decode, skip_special_tokens=True),
    )
    return LoadedTeacher(teacher, teacher_tokenizer)


def _show(out: Path, info: DistilInfo) -> None:
    before, after = info.training["before"], info.training["after"]
    print(
        f"{out}: {info.kind}, {info.method}, {info.training['problems']} problems, "
        f"{info.training['steps']} steps, the best at step {info.training['best_step']}"
    )
    print(
        f"held out: KL(teacher, student) {before['forward_kl']:.4f} -> {after['forward_kl']:.4f} nats, same "
        f"first token {100 * before['agreement']:.1f} -> {100 * after['agreement']:.1f} % "
        f"(n = {after['steps_measured']:.0f} steps of {info.training['held_out_problems']} problems)"
    )
