"""Options that several commands share: the student, and the training problems with their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from s2t_eval.cli.command import flat, require_flags
from s2t_eval.pipelines.settings import Prompting, Source
from s2t_eval.ranges import AT_LEAST_1


@dataclass(frozen=True, kw_only=True)
class StudentOptions:
    """The student and how its weights are loaded.

    Args:
        pretrained: the student: a name on the Hub, a folder or `embedded/student`.
        dtype: data type of the student's weights, as in transformers.
        device: device of the models. None: a GPU where there is one, else the CPU.
        trust_remote_code: run the code that a model's repository contains.
    """

    pretrained: str
    dtype: str = "auto"
    device: str | None = None
    trust_remote_code: bool = False

    @property
    def loading(self) -> tuple[str, str, str | None, bool]:
        """Arguments of `training.student.load_student`."""
        return self.pretrained, self.dtype, self.device, self.trust_remote_code


@dataclass(frozen=True, kw_only=True)
class ProblemOptions:
    """Which training problems a command reads and how they are put to the student.

    Args:
        batch_size: number of texts decoded at once.
        drop_overlap: leave problems of evaluation sets out instead of refusing them.
    """

    student: Annotated[StudentOptions, flat("student")]
    source: Annotated[Source, flat("problems")] = field(default_factory=Source)
    prompting: Annotated[Prompting, flat("problems")] = field(default_factory=Prompting)
    batch_size: int = 32
    drop_overlap: bool = False

    def require_problems(self, *others: str) -> None:
        """Raise `ValueError` unless exactly one source of problems is named and the options fit it.

        Args:
            others: options of this command that name a source too, such as `--texts FOLDER`.
        """
        names = ["--task NAME", "--data FILE|NAME:SPLIT", *others]
        values: Sequence[object] = (
            self.source.task,
            self.source.data,
            *(getattr(self, other.split()[0].removeprefix("--")) for other in others),
        )
        if sum(value is not None for value in values) != 1:
            raise ValueError(f"expected one of {', '.join(names[:-1])} and {names[-1]}")
        require_flags(self, batch_size=AT_LEAST_1)
        if self.source.data is not None and self.prompting.num_fewshot:
            raise ValueError(
                "--num_fewshot: a task's examples are shown with --task alone, got "
                f"{self.prompting.num_fewshot} with --data; leave it out"
            )

    @property
    def loading(self) -> dict[str, Any]:
        """How the models are loaded and run: arguments of every backend."""
        return {
            "dtype": self.student.dtype,
            "device": self.student.device,
            "batch_size": self.batch_size,
            "trust_remote_code": self.student.trust_remote_code,
        }
