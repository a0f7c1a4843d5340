"""Measure a trained selector's agreement with the teacher on other labels, at several scales of its adapter.

    python -m scripts.measure_agreement --pretrained embedded/student --selector embedded/selector \
        --labels labels --scales 0.2 0.4 0.6 0.8 1 --out agreement.csv

The labels must be of problems that the selector has not seen. The table has the columns of `s2t-eval analyze
--agreement`, which compares the expected shares with those of runs at `adapter_scale=SCALE`.
Scaled adapters are selectors of intermediate quality that cost no training.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from s2t_eval.analysis.share_rule import AGREEMENT, KEYS, KL
from s2t_eval.methods.selector_adapter import scale_adapter
from s2t_eval.methods.selector_folder import Selector, load_selector
from s2t_eval.training.labels import LabelSet
from s2t_eval.training.selector.agreement import ranking_scores
from s2t_eval.training.selector.reported import agreement_at
from s2t_eval.training.selector.trajectory_scores import load_trained
from s2t_eval.training.selector.trigger_scan import all_step_items, held_out_scores
from s2t_eval.training.student import Student, load_student


def measure(
    student: Student, selector: Selector, labels: LabelSet, scales: Sequence[float], tau: float
) -> pd.DataFrame:
    """Agreement under the KL trigger and proposer `base`, a row for each scale.

    Args:
        student: the selector's student.
        selector: the selector.
        labels: labels at every step of problems that it has not seen.
        scales: factors of the adapter's contribution.
        tau: rate of the trigger; its threshold is the labels' own quantile.
    """
    info, rows = selector.info, list(labels)
    model = load_trained(selector, student.model, student.text_vocab)
    items = all_step_items(rows, info.top_k)
    divergence = np.concatenate([row.kl_student_teacher for row in rows])
    is_fired = divergence > np.quantile(divergence, 1 - tau)
    table = []
    for scale in scales:
        scale_adapter(model.peft, scale)
        ranking = ranking_scores(held_out_scores(model, items, "no"), items, info.proposal_weight)
        weight = info.proposal_weight
        row = agreement_at("base", KL, tau, ranking, items, is_fired, weight)._asdict()
        place = {"selector": selector.folder.name, "checkpoint": selector.hash}
        table.append({**row, **place, "adapter_scale": scale, "trigger": "kl"})
    return pd.DataFrame(table)[["selector", *KEYS, *AGREEMENT]]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pretrained", required=True)
    parser.add_argument("--selector", required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0])
    parser.add_argument("--tau", type=float, default=0.05)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    student, _ = load_student(arguments.pretrained, "float32", "cpu", False)
    selector = load_selector(arguments.selector, student.fingerprint, student.vocabulary, student.hidden_size)
    labels = LabelSet.load(arguments.labels)
    labels.require_student(student.fingerprint, student.vocabulary)
    table = measure(student, selector, labels, arguments.scales, arguments.tau)
    table.to_csv(arguments.out, index=False, float_format="%.6g")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
