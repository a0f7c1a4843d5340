"""`s2t-eval collect`: texts of a student, labelled by one teacher prefill each, kept as a label set."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar

from cyclopts import Parameter

from s2t_eval.artifacts.output_paths import require_unfinished_labels
from s2t_eval.cli.command import HIDDEN, flat
from s2t_eval.cli.server_options import ServerOptions
from s2t_eval.cli.source import ProblemOptions
from s2t_eval.pipelines.settings import CollectionSettings


@dataclass(frozen=True)
class _CollectionOptions(CollectionSettings):
    drop_overlap: Annotated[bool, HIDDEN] = CollectionSettings.drop_overlap


@dataclass(frozen=True, kw_only=True)
class Collect(ProblemOptions):
    """Label a student's own texts with a teacher, on training problems.

    Args:
        teacher: the larger model that labels. None: the model of `--teacher_url`.
        teacher_args: how the teacher is loaded: arguments of lm_eval's `hf` model, as in `--model_args`
            (name=value, joined by commas, or a JSON object), such as revision, parallelize, gguf_file.
        out: label folder to write; an interrupted run is resumed.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval collect --pretrained embedded/student --teacher embedded/teacher \\\n"
        "    --task s2t_arith --limit 24 --steps all --out labels"
    )

    servers: Annotated[ServerOptions, flat("servers")] = field(default_factory=ServerOptions)
    teacher: str | None = None
    teacher_args: str = ""
    collection: Annotated[_CollectionOptions, Parameter(name="*")] = field(default_factory=_CollectionOptions)
    out: Path

    def run(self) -> None:
        """Collect, and print the size of the set."""
        from s2t_eval.pipelines import collect_labels

        self.require_problems()
        servers = self.servers.arguments()
        if self.teacher is None and self.servers.teacher_url is None:
            raise ValueError("expected --teacher MODEL, the larger model that labels, or --teacher_url URL")
        require_unfinished_labels(self.out, "s2t-eval collect")
        settings = replace(self.collection, drop_overlap=self.drop_overlap)
        if servers and settings.selector is not None:
            raise ValueError(
                "--selector: the texts of a selector are written in this process; leave the servers out"
            )
        lm = collect_labels.load_writers(
            self.student.pretrained, self.teacher, self.teacher_args, settings, **self.loading, **servers
        )
        manifest = collect_labels.collect_labels(lm, self.source, self.prompting, settings, self.out)
        print(
            f"{self.out}: {manifest.data['problems']} problems, {manifest.num_steps} steps, "
            f"{manifest.num_top} of them above KL {manifest.kl_threshold:.4g} (top {manifest.tau:.0%}), "
            f"candidates at {manifest.num_kept}"
        )
        hits = ", ".join(
            f"Hit@{k} " + ("undefined" if rate is None else f"{100 * rate:.1f} %")
            for k, rate in manifest.hit_rate.items()
        )
        print(f"{hits} (n = {manifest.num_top})")
