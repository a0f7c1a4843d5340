"""The content of `selector.json`, what a selector was trained for, and the model card made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from s2t_eval.artifacts.card import render_card
from s2t_eval.artifacts.files import write_text
from s2t_eval.artifacts.manifest import ManifestKind, write_manifest
from s2t_eval.method_table import SCORE_FORMS, TRIGGER_NAMES, ScoreAs, ScoreForm
from s2t_eval.ranges import require_choice
from s2t_eval.selection.thresholds import Rates, ThresholdTable, require_rates

FORMAT = 2
SETTINGS = "selector.json"
Proposer = Literal["tuned", "base"]
PROPOSERS: tuple[Proposer, ...] = ("tuned", "base")
COMPLETE = "`s2t-eval train --complete FOLDER --labels LABELS` adds it"

CARD = """---
library_name: peft
base_model: {{ base_name }}
tags: [s2t-eval, select-to-think]
---

# A Select-to-Think selector for {{ base_name }}

At the steps at which its trigger fires, this adapter scores the student's {{ top_k }} most likely tokens,
and the best of them is written; no teacher is needed. Use it with s2t-eval, an extension of
lm-evaluation-harness:

    lm_eval --model {{ "pps_local" if form == "direct" else "s2t_local" }} \
--model_args pretrained={{ base_name }},selector=THIS {{ labels|evaluated }}

| | |
|---|---|
| score form | {{ form }}{% if form != "direct" %}, readout of {{ bins }} bins as {{ score_as }}{% endif %} |
| trained on | {{ training.problems }} problems of {{ labels.data.source }} ({{ labels.data.split }}) |
| labelled by | {{ labels.teacher_name }} |
{% for proposer, setting in defaults.items() if form != "direct" or proposer == "base" -%}
| default of `{{ "s2t_local" if proposer == "tuned" else "pps_local" }}` (proposer {{ proposer }}) | trigger \
{{ setting.trigger }}, tau {{ setting.tau }}: {{ setting.chosen }} |
{% endfor -%}
{% if form == "direct" -%}
| `s2t_local` (proposer tuned) | greedy decoding of the adapted model, whose own most likely token always \
has the highest score: no selection |
{% endif -%}
| weight of the proposal (proposer base) | {{ proposal_weight }} |
| scale of the adapter (proposer tuned) | {{ adapter_scale }} |
{% if training.held_out and training.held_out.groups -%}
{% if "tuned_agree@1" in training.held_out -%}
| held-out Agree@1 of `s2t_local` (proposer tuned) | \
{{ "%.1f"|format(100 * training.held_out["tuned_agree@1"]) }} % (at the same steps) |
{% endif -%}
| held-out Agree@1{% if "tuned_agree@1" in training.held_out %} of `pps_local` (proposer base){% endif %} | \
{{ "%.1f"|format(100 * training.held_out["agree@1"]) }} % (greedy agrees in \
{{ "%.1f"|format(100 * training.held_out["greedy_agree@1"]) }} %; n = {{ training.held_out.groups }}\
{% if training.held_out_weight is defined and training.held_out_weight != proposal_weight %}\
; measured with weight {{ training.held_out_weight }}{% endif %}\
{% if training.reported_problems is not defined %}; of the texts that chose the checkpoint{% endif %}) |
| held-out Spearman | {{ "%.3f"|format(training.held_out.spearman) }} |
{%- endif %}

It fits the checkpoint with fingerprint `{{ base }}` alone. A score reached with it is the method's, not the
plain model's: state method, K, tau and prompt beside it.
"""


def selecting_proposers(form: ScoreForm) -> tuple[Proposer, ...]:
    """The proposers under which a selector of this form selects, and needs a router and thresholds.

    With the form `direct` the scores under `tuned` are the proposer's own logits, and its most likely token
    always has the highest one.
    """
    return ("base",) if form == "direct" else PROPOSERS


class SelectorError(ValueError):
    """A selector folder that does not fit this run; the message names the difference."""


@dataclass(frozen=True)
class ProposerDefault:
    """The default trigger and rate of a selector under one proposer.

    Args:
        trigger: its name.
        tau: rate, None for a trigger without one.
        chosen: the criterion of the choice: gain on held-out training problems, answers to development
            problems (`s2t-eval choose`), or none.
        runs_of: hashes of the folders with which the compared runs were made.
    """

    trigger: str
    tau: float | None
    chosen: str
    runs_of: tuple[str, ...] = ()


NO_DEFAULT = ProposerDefault("always", None, "nothing was measured")
"""Requires neither a router nor a threshold."""


@dataclass(frozen=True)
class SelectorInfo:
    """The content of `selector.json`.

    Args:
        base: fingerprint of the student without adapter.
        base_name: its name, for messages and cards.
        vocabulary: hash of its tokenizer's text entries.
        hidden_size: its width.
        form: how a candidate is scored: `direct`, `residual` or `lookahead`.
        score_as: how the bins of the readout become a score: `expected` or `log_odds`.
        bins: rows of the readout.
        temperature: of the loss.
        num_candidates: K in training.
        top_k: K in decoding, by default.
        thresholds: proposer -> trigger, named as in a calibration -> tau -> threshold, from held-out training
            problems. The form `direct` needs those of proposer `base` alone; earlier versions measured both.
        threshold_steps: steps they were measured on.
        defaults: proposer -> default trigger and rate, of the same proposers.
        labels: manifest of the label set.
        training: settings, and held-out figures with their n.
        teacher: fingerprint of the teacher with which the KL thresholds were measured.
        proposal_weight: weight of the proposer's log-probability in a score under proposer `base`; the best
            value on held-out training problems.
        adapter_scale: factor of the adapter's contribution under proposer `tuned`; 1 is the trained
            adapter, and a smaller factor is better where training changed steps of low KL too much.
            Measured in the same way.
    """

    base: str
    base_name: str
    vocabulary: str
    hidden_size: int
    form: ScoreForm
    score_as: ScoreAs
    bins: int
    temperature: float
    num_candidates: int
    top_k: int
    thresholds: dict[str, Rates]
    threshold_steps: int
    defaults: dict[str, ProposerDefault]
    labels: dict[str, Any]
    training: dict[str, Any]
    teacher: str
    proposal_weight: float = 0.0
    adapter_scale: float = 1.0
    format: int = field(default=FORMAT)

    def __post_init__(self) -> None:
        require_choice("form", self.form, SCORE_FORMS)
        for rates in self.thresholds.values():
            require_rates(rates)
        for proposer, default in self.defaults.items():
            require_choice(f"defaults.{proposer}.trigger", default.trigger, TRIGGER_NAMES)

    def default(self, proposer: str) -> ProposerDefault:
        """The default trigger and rate under this proposer.

        Folders of format 1 have a default for one proposer only: under the other one every step fires.
        """
        return self.defaults.get(proposer, NO_DEFAULT)

    def require_prompt(self, current: Mapping[str, Any]) -> None:
        """Raise `SelectorError` unless its labels were collected with these prompt settings."""
        fix = "collect labels with the present ones and train on them"
        KIND.require_same_prompt("selector", self.labels.get("prompt", {}), current, fix)

    def table(self, proposer: str) -> ThresholdTable:
        """The thresholds under a proposer.

        Raises:
            SelectorError: none were measured under it.
        """
        if proposer not in self.thresholds:
            raise SelectorError(
                f"selector: it has thresholds for proposer={', '.join(self.thresholds) or 'none'} alone, got "
                f"proposer={proposer}; use trigger=always or threshold=NUMBER ({COMPLETE})"
            )
        return ThresholdTable(f"selector with proposer={proposer}", self.thresholds[proposer])


def _upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """Content of format 1 in the present format; it had one default, with the name of its proposer."""
    old = dict(content.pop("default"))
    proposer = old.pop("proposer")
    training = dict(content["training"])
    if "scan" in training:
        training["scan"] = {proposer: training["scan"]}
    return {**content, "defaults": {proposer: old}, "training": training}


KIND = ManifestKind(SelectorInfo, "s2t-eval train", SelectorError, FORMAT, SETTINGS, {1: _upgraded})


def read_info(folder: Path) -> SelectorInfo:
    """The settings of a selector folder.

    Raises:
        SelectorError: they are missing, of another format, or contain numbers that are not finite.
    """
    return KIND.read(f"selector={folder}", folder / SETTINGS)


def selector_card(info: SelectorInfo) -> str:
    """The model card of a selector folder."""
    return render_card(CARD, asdict(info))


def write_info(folder: Path, info: SelectorInfo) -> None:
    """Replace the settings of a selector folder, and its card."""
    write_text(folder / "README.md", selector_card(info))
    write_manifest(folder / SETTINGS, info)
