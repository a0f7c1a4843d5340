"""`s2t-eval rlkd`: a student that is rewarded for following a teacher's steps to right answers (RLKD)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from s2t_eval.artifacts.output_paths import require_new_folder
from s2t_eval.cli.command import flat
from s2t_eval.cli.distil import load_training_teacher
from s2t_eval.cli.source import StudentOptions
from s2t_eval.training.rlkd.settings import RlkdLoopSettings, RlkdSettings

if TYPE_CHECKING:
    from s2t_eval.methods.distilled import DistilInfo


@dataclass(frozen=True, kw_only=True)
class Rlkd:
    """Train the student by reinforcement learning to follow a teacher's steps (RLKD): an adapter.

    Args:
        labels: label folder of `s2t-eval collect --task NAME`; its problems and prompts are used.
        teacher: the larger model, whose greedy texts are the references. None: the problems' own solutions.
        teacher_dtype: data type of the teacher's weights. None: the student's.
        teacher_args: how the teacher is loaded: arguments of lm_eval's `hf` model, as in `--model_args`
            (name=value, joined by commas, or a JSON object), such as revision, parallelize, gguf_file.
        out: folder to write, for `--model distil`; an interrupted run is resumed.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval rlkd --pretrained embedded/student --teacher embedded/teacher --labels labels \\\n"
        "    --held_out 0.25 --lr 1e-4 --out rlkd"
    )

    student: Annotated[StudentOptions, flat("student")]
    labels: Path
    teacher: str | None = None
    teacher_dtype: str | None = None
    teacher_args: str = ""
    out: Path
    settings: Annotated[RlkdSettings, flat("reward and sampling")] = field(default_factory=RlkdSettings)
    loop: Annotated[RlkdLoopSettings, flat("training loop")] = field(default_factory=RlkdLoopSettings)

    def run(self) -> None:
        """Train, and print the rewards on held-out problems and the cost."""
        require_new_folder(self.out)
        self.settings.require_teacher(self.teacher is not None)
        self.settings.require_no_patience(self.loop.patience)
        for name in ("teacher_dtype", "teacher_args"):
            if self.teacher is None and getattr(self, name):
                raise ValueError(f"--{name}: it belongs to --teacher, which is not given; leave it out")
        from s2t_eval.pipelines.rlkd import train
        from s2t_eval.training.labels import LabelSet
        from s2t_eval.training.student import load_student

        labels = LabelSet.load(self.labels)
        student, tokenizer = load_student(*self.student.loading)
        teacher = None
        if self.teacher is not None:
            teacher = load_training_teacher(
                self.teacher, self.teacher_dtype, self.teacher_args, self.student, tokenizer
            )
        info = train(labels, student, tokenizer, teacher, self.settings, self.loop, self.out)
        _show(self.out, info, self.settings.keep)


def _show(out: Path, info: DistilInfo, keep: str) -> None:
    training = info.training
    before, after, cost = training["before"], training["after"], training["cost"]
    left_out = ", ".join(f"{count} {reason}" for reason, count in training["left_out"].items() if count)
    structure = "structure reward not computed (its weight is 0)"
    if "structure" in before:
        structure = f"structure reward {before['structure']:.3f} -> {after['structure']:.3f}"
    print(
        f"{out}: {training['problems']} problems{f' (left out: {left_out})' if left_out else ''}, "
        f"{training['steps']} steps, kept: step {training['best_step']}"
    )
    print(
        f"held-out problems{'' if keep == 'last' else ', which also chose the step'}: "
        f"right answers {100 * before['correct']:.1f} -> {100 * after['correct']:.1f} %, {structure} "
        f"(n = {training['held_out_problems']} problems)"
    )
    print(
        f"cost: {cost['text_visits']:.0f} text visits, {cost['generated_tokens']:,.0f} sampled tokens, "
        f"{cost['seconds']:.0f} s (sampling {cost['seconds_sampling']:.0f} s, rewards "
        f"{cost['seconds_reward']:.0f} s, evaluations {cost['seconds_evaluation']:.0f} s); "
        f"{cost['equal_groups']:.0f} of {cost['groups']:.0f} groups had equal rewards"
    )
    if cost["judge_read"]:
        print(
            f"teacher, prompted for structures: {cost['judge_generated']:,.0f} generated and "
            f"{cost['judge_read']:,.0f} prompt tokens, {cost['seconds_judge']:.0f} s"
        )
