"""`s2t-eval train`: a selector and its router from a label set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from s2t_eval.artifacts.figures import figures_text
from s2t_eval.artifacts.output_paths import require_new_folder
from s2t_eval.cli.command import changed_fields, flat
from s2t_eval.cli.source import StudentOptions
from s2t_eval.training.selector.settings import SelectorSettings, TrainSettings
from s2t_eval.training.settings import LoopSettings

if TYPE_CHECKING:
    from s2t_eval.methods.selector_info import SelectorInfo


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a selector: adapter, readout, router and thresholds.

    Args:
        labels: label folder of `s2t-eval collect`.
        out: selector folder to write; an interrupted run is resumed.
        start: selector folder to start from. Student, form and size have to be the same, and the labels of
            the same problems; their texts may be others.
        complete: selector folder without a router and a default for a proposer, or without the measured scale
            of the adapter: only these are made.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval train --pretrained embedded/student --labels labels --held_out 0.25 \\\n"
        "    --epochs 1 --out selector"
    )

    student: Annotated[StudentOptions, flat("student")]
    labels: Path
    out: Path
    start: str | None = None
    complete: str | None = None
    selector: Annotated[SelectorSettings, flat("selector")] = field(default_factory=SelectorSettings)
    settings: Annotated[TrainSettings, flat("selector")] = field(default_factory=TrainSettings)
    loop: Annotated[LoopSettings, flat("training loop")] = field(default_factory=LoopSettings)

    def run(self) -> None:
        """Train, and print the held-out figures."""
        require_new_folder(self.out)
        self._require_own_options()
        from s2t_eval.methods.selector_folder import load_selector
        from s2t_eval.training.contamination import require_no_evaluation_prompts
        from s2t_eval.training.labels import LabelSet
        from s2t_eval.training.selector.complete import complete_selector
        from s2t_eval.training.selector.selector_training import train_selector
        from s2t_eval.training.student import load_student

        labels = LabelSet.load(self.labels)
        student, tokenizer = load_student(*self.student.loading)
        labels.require_student(student.fingerprint, student.vocabulary)
        require_no_evaluation_prompts([row.prompt_ids for row in labels], tokenizer.decode)
        earlier = None
        if (name := self.start or self.complete) is not None:
            earlier = load_selector(name, student.fingerprint, student.vocabulary, student.hidden_size)
        if self.complete is not None:
            assert earlier is not None
            info = complete_selector(student, labels, earlier, self.out)
        else:
            info = train_selector(student, labels, self.selector, self.loop, self.settings, self.out, earlier)
        _show(self.out, info)

    def _require_own_options(self) -> None:
        """Raise `ValueError` for an option that has no effect beside `--complete`."""
        if self.complete is None:
            return
        if self.start is not None:
            raise ValueError("--start and --complete: expected one of them; --complete trains no adapter")
        for name in [
            name for part in (self.selector, self.settings, self.loop) for name in changed_fields(part)
        ]:
            raise ValueError(
                f"--{name}: --complete trains no adapter and takes the settings of the selector's own "
                "training; leave it out"
            )


def _show(out: Path, info: SelectorInfo) -> None:
    print(f"{out}: {info.form}, {info.training['problems']} problems, {info.training['steps']} steps")
    if info.training.get("averaged"):
        print(f"kept: the average of {info.training['averaged']} steps")
    problems = info.training.get("reported_problems", info.training.get("held_out_problems"))
    print(f"held out ({problems} problems): {figures_text(info.training['held_out'])}")
    for proposer, report in info.training["triggers"].items():
        for name, figures in report.items():
            shown = figures_text({key: value for key, value in figures.items() if key != "steps"}, ".3f")
            # Folders of earlier versions, which --complete takes reports over from, have no number of steps.
            n = f" (n = {figures['steps']} steps)" if "steps" in figures else ""
            print(f"  {proposer}, {name}: {shown}{n}")
    for proposer, default in info.defaults.items():
        print(f"default of {proposer}: trigger {default.trigger}, tau {default.tau}, by {default.chosen}")
    print(f"proposal_weight (base) {info.proposal_weight}, adapter_scale (tuned) {info.adapter_scale}")
