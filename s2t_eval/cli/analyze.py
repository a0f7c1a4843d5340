"""`s2t-eval analyze`: where and why selection helps, from labels, results and traces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from s2t_eval.artifacts.output_paths import require_reusable_folder
from s2t_eval.cli.command import require_flags
from s2t_eval.cli.metrics import metric_choices, require_used
from s2t_eval.ranges import AT_LEAST_1, RATE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from s2t_eval.training.labels import LabelSet
    from s2t_eval.training.selector.trajectory_scores import TrajectoryScores


@dataclass(frozen=True, kw_only=True)
class Analyze:
    """Draw local sufficiency, error split, triggers, rescue map, scans and cost.

    Args:
        labels: label folders of `s2t-eval collect`, FOLDER or NAME=FOLDER.
        results: output folders of lm_eval, or files of results/baselines.
        trace: trace files of s2t or takeover; they need their `--results`.
        selector: selector folder of `s2t-eval train`; its router and its picks are measured on labels that
            it was not trained on.
        agreement: selector folders of `s2t-eval train`, or earlier `share_rule.csv` files: the share of the
            gain that Agree@1 lets one expect is compared with that of the `--results`.
        pretrained: the student that wrote the labels. Without `--selector` only its tokenizer is loaded, to
            find where lines begin, for the ROC of `line_entropy`.
        dtype: data type of the student's weights beside a selector, as in transformers.
        tau: share of the steps, ranked by KL, that count as top steps.
        k: numbers of candidates K in the error split. Empty: powers of two.
        device: device on which the student rescores the labels and traces. Default: a GPU where there is one.
        texts: traced texts of each task that the student rescores, one forward pass each. Default: all.
        metric: TASK=METRIC,FILTER where a task has several metrics.
        out: folder to write; it is made where it does not exist.
    """

    EXAMPLE: ClassVar[str] = "s2t-eval analyze --labels labels --out analysis"

    labels: tuple[str, ...] = ()
    results: tuple[Path, ...] = ()
    trace: tuple[Path, ...] = ()
    selector: str | None = None
    agreement: tuple[Path, ...] = ()
    pretrained: str | None = None
    dtype: str = "auto"
    tau: float = 0.1
    k: tuple[int, ...] = ()
    device: str | None = None
    texts: int | None = None
    metric: tuple[str, ...] = ()
    out: Path

    def run(self) -> None:
        """Write the analysis and print the names of its files."""
        from s2t_eval.analysis.share_rule import read_agreement
        from s2t_eval.analysis.write import analyze
        from s2t_eval.report.runs import read_runs
        from s2t_eval.report.traces import read_trace

        self._require_consistent()
        labels = self._label_sets()
        metrics = metric_choices(self.metric)
        runs = read_runs(list(self.results), metrics) if self.results else []
        require_used(metrics, [run.task for run in runs])
        traces = [read_trace(path) for path in self.trace]
        agreement = [read_agreement(path) for path in self.agreement]
        learned, top_k = self._trajectory_scores(labels) if self.selector else ({}, 8)
        paths = analyze(
            labels,
            runs,
            traces,
            self.out,
            learned=learned,
            tau=self.tau,
            ks=list(self.k) or None,
            device=self.device,
            texts=self.texts,
            ends_line=self._line_ends(labels) if self.pretrained else None,
            top_k=top_k,
            agreement=agreement,
        )
        print(*paths, sep="\n")

    def _require_consistent(self) -> None:
        """Raise `ValueError` for options out of range or without those that they need."""
        require_flags(self, tau=RATE, k=AT_LEAST_1, texts=AT_LEAST_1)
        if self.k and not self.labels:
            raise ValueError("--k: it is of the error split, which needs --labels; give both, or neither")
        signs = ["analysis.md", "analysis.html"]
        require_reusable_folder(self.out, "one of `s2t-eval analyze`", signs)
        if self.selector and not (self.pretrained and self.labels):
            raise ValueError("--selector: expected it together with --pretrained STUDENT and --labels")
        if self.dtype != "auto" and not self.selector:
            raise ValueError("--dtype: it is of the student beside --selector; give both, or neither")
        if self.device is not None and not (self.selector or self.trace):
            raise ValueError(
                "--device: it is of the student that rescores for --selector or --trace; give one of them, "
                "or leave it out"
            )
        if self.texts is not None and not self.trace:
            raise ValueError("--texts: it is of the texts of --trace; give both, or neither")
        if self.pretrained and not self.labels:
            raise ValueError("--pretrained: it is the student of --labels; give both, or neither")

    def _label_sets(self) -> dict[str, LabelSet]:
        """Name -> label set."""
        from s2t_eval.training.labels import LabelSet

        return {name: LabelSet.load(folder) for name, folder in named_folders(self.labels).items()}

    def _trajectory_scores(self, labels: dict[str, LabelSet]) -> tuple[dict[str, TrajectoryScores], int]:
        """The selector's scores on problems that it did not learn from, and its K."""
        from s2t_eval.artifacts.fingerprint import model_fingerprint
        from s2t_eval.methods.selector_folder import load_selector
        from s2t_eval.models.loading import load_model
        from s2t_eval.models.vocabulary import text_vocabulary, vocabulary_hash
        from s2t_eval.training.selector.trajectory_scores import held_out_trajectories, score_trajectories

        assert self.selector is not None and self.pretrained is not None
        student, tokenizer = load_model("pretrained", self.pretrained, self.dtype, self.device, False)
        base, vocabulary = model_fingerprint(student), vocabulary_hash(tokenizer)
        selector = load_selector(self.selector, base, vocabulary, int(student.config.hidden_size))
        for label_set in labels.values():
            label_set.require_student(base, vocabulary)
        trajectories = [
            trajectory
            for label_set in labels.values()
            for trajectory in held_out_trajectories(selector, label_set)
        ]
        problems = Counter(trajectory.problem_id for trajectory in trajectories)
        twice = [name for name, count in problems.most_common(1) if count > 1]
        if twice:
            raise ValueError(
                f"--selector: problem {twice[0]} is in two of the label sets, whose texts of it may differ; "
                "analyse such sets one after the other"
            )
        scores = score_trajectories(selector, student, text_vocabulary(tokenizer), trajectories)
        return scores, selector.info.top_k

    def _line_ends(self, labels: dict[str, LabelSet]) -> npt.NDArray[np.bool_]:
        """Whether a token ends a line, [text_vocab], by the tokenizer of the labels."""
        from s2t_eval.models.loading import load_tokenizer
        from s2t_eval.models.vocabulary import line_ends, text_vocabulary, vocabulary_hash

        assert self.pretrained is not None
        tokenizer = load_tokenizer("pretrained", self.pretrained, False)
        for label_set in labels.values():
            label_set.require_vocabulary(vocabulary_hash(tokenizer))
        ends: npt.NDArray[np.bool_] = line_ends(tokenizer, text_vocabulary(tokenizer)).numpy()
        return ends


def named_folders(texts: Sequence[str]) -> dict[str, Path]:
    """Name -> folder, of texts FOLDER or NAME=FOLDER; a folder without a name has its own.

    A folder may have = in its name, as those of a sweep have: a text that is a folder is no pair.

    Raises:
        ValueError: two folders of one name.
    """
    folders: dict[str, Path] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        is_pair = bool(equals) and not Path(text).is_dir()
        folder = Path(rest if is_pair else text)
        name = name if is_pair and name else folder.name
        if name in folders:
            raise ValueError(f"--labels: two sets are named {name!r}; give each one a name, as NAME=FOLDER")
        folders[name] = folder
    return folders
