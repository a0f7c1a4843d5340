"""`s2t-eval analyze`: where and why selection helps, from labels, results and traces."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from s2t_eval.artifacts.places import require_own_folder
from s2t_eval.cli.flags import Commands, metric_choices, require_flags, require_used
from s2t_eval.ranges import AT_LEAST_1, RATE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from s2t_eval.training.labels import LabelSet
    from s2t_eval.training.selector.judge import Judged


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "analyze", help="local sufficiency, error split, triggers, rescue map, scans, cost"
    )
    add = parser.add_argument
    add("--labels", nargs="+", default=[], help="label folders of `s2t-eval collect`, FOLDER or NAME=FOLDER")
    add("--results", type=Path, nargs="+", default=[], help="output folders of lm_eval, or baselines")
    add("--trace", type=Path, nargs="+", default=[], help="traces of s2t or takeover; need their --results")
    add("--selector", help="folder of `s2t-eval train`: its router and its picks, on labels it has not seen")
    add("--pretrained", help="the selector's student")
    add("--dtype", default="auto", help="of that student")
    add("--tau", type=float, default=0.1, help="rate of the steps that count, by KL (default 0.1)")
    add("--k", type=int, nargs="+", help="for the error split (default: powers of two)")
    add("--device", default="cpu", help="where the student rescores traces (default cpu)")
    add("--metric", nargs="+", default=[], help="TASK=METRIC,FILTER where a task has several")
    add("--out", type=Path, required=True, help="folder to write; made if need be")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Write the analysis, and say which files it has."""
    from s2t_eval.analysis.write import analyze
    from s2t_eval.report.runs import read_runs
    from s2t_eval.report.traces import read_trace
    from s2t_eval.training.labels import LabelSet

    require_flags(parsed, tau=RATE, k=AT_LEAST_1)
    if parsed.k and not parsed.labels:
        raise ValueError("--k: it is of the error split, which needs --labels; give both, or leave it out")
    require_own_folder("--out", parsed.out, "one of `s2t-eval analyze`", ["analysis.md", "analysis.html"])
    if (parsed.selector is None) != (parsed.pretrained is None) or (parsed.selector and not parsed.labels):
        raise ValueError("--selector: expected it together with --pretrained STUDENT and --labels")
    labels = {}
    for text in parsed.labels:
        name, _, folder = text.rpartition("=")
        labels[name or Path(folder).name] = LabelSet.load(Path(folder))
    metrics = metric_choices(parsed.metric)
    runs = read_runs(parsed.results, metrics) if parsed.results else []
    require_used(metrics, [run.task for run in runs])
    traces = [read_trace(path) for path in parsed.trace]
    learned, ends_line = _judged(parsed, labels) if parsed.selector else ({}, None)
    paths = analyze(
        labels,
        runs,
        traces,
        parsed.out,
        learned=learned,
        tau=parsed.tau,
        ks=parsed.k,
        device=parsed.device,
        ends_line=ends_line,
    )
    print(*paths, sep="\n")


def _judged(
    parsed: argparse.Namespace, labels: dict[str, LabelSet]
) -> tuple[dict[str, Judged], npt.NDArray[np.bool_]]:
    """The selector's scores on problems that it was not trained on, and which tokens end a line."""
    from s2t_eval.artifacts.fingerprint import model_fingerprint
    from s2t_eval.methods.selector_folder import load_selector
    from s2t_eval.models.loading import load_model
    from s2t_eval.models.vocabulary import line_ends, text_vocabulary, vocabulary_hash
    from s2t_eval.training.selector.judge import judge, unseen

    student, tokenizer = load_model("pretrained", parsed.pretrained, parsed.dtype, parsed.device, False)
    base, vocabulary = model_fingerprint(student), vocabulary_hash(tokenizer)
    selector = load_selector(parsed.selector, base, vocabulary, int(student.config.hidden_size))
    for found in labels.values():
        found.require_student(base, vocabulary)
    trajectories = [trajectory for found in labels.values() for trajectory in unseen(selector, found)]
    text_vocab = text_vocabulary(tokenizer)
    judged = judge(selector, student, text_vocab, trajectories)
    return judged, line_ends(tokenizer, text_vocab).numpy()
