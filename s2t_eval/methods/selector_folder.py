"""A selector folder: adapter, readout, router, and the manifest of what they were trained for.

    adapter_config.json, adapter_model.safetensors   a peft adapter, loadable as one
    readout.safetensors                              rows [bins, hidden]
    router.safetensors                               a router per proposer
    selector.json                                    base, score form, thresholds, figures
    README.md                                        the model card

`load_selector` compares the folder with the present student and names the first difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from peft import PeftModel, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from s2t_eval.artifacts.card import render_card
from s2t_eval.artifacts.errors import single_line_message
from s2t_eval.artifacts.files import atomic_path, write_text
from s2t_eval.artifacts.fingerprint import folder_hash
from s2t_eval.artifacts.manifest import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    ManifestKind,
    save_adapter,
    write_manifest,
)
from s2t_eval.artifacts.typed_json import read_object
from s2t_eval.method_table import SCORE_FORMS, TRIGGER_NAMES, ScoreAs, ScoreForm
from s2t_eval.methods.artifact_folder import find_folder, load_weights
from s2t_eval.models.loading import UNREADABLE, ModelLoadError, adapter_weights, attach_adapter
from s2t_eval.models.lora import adapter_layers
from s2t_eval.selection.router import Router
from s2t_eval.selection.thresholds import Rates, ThresholdTable, require_rates

FORMAT = 2
SETTINGS = "selector.json"
RESERVED = "s2t_reserved_rows.json"
"""In an exported checkpoint: which output rows hold the readout (`s2t-eval export --to_reserved_rows`)."""
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
--model_args pretrained={{ base_name }},selector=THIS --tasks gsm8k

| | |
|---|---|
| score form | {{ form }}{% if form != "direct" %}, readout of {{ bins }} bins as {{ score_as }}{% endif %} |
| trained on | {{ labels.data.problems }} problems of {{ labels.data.source }} ({{ labels.data.split }}) |
| labelled by | {{ labels.teacher_name }} |
{% for proposer, setting in defaults.items() -%}
{% if form == "direct" and proposer == "tuned" -%}
| `s2t_local` (proposer tuned) | greedy decoding of the adapted model, whose own most likely token always \
has the highest score: no selection |
{% else -%}
| default of `{{ "s2t_local" if proposer == "tuned" else "pps_local" }}` (proposer {{ proposer }}) | trigger \
{{ setting.trigger }}, tau {{ setting.tau }}: {{ setting.chosen }} |
{% endif -%}
{% endfor -%}
| weight of the proposal (proposer base) | {{ proposal_weight }} |
| scale of the adapter (proposer tuned) | {{ adapter_scale }} |
{% if training.held_out and training.held_out.groups -%}
| held-out Agree@1 | {{ "%.1f"|format(100 * training.held_out["agree@1"]) }} % (greedy agrees in \
{{ "%.1f"|format(100 * training.held_out["greedy_agree@1"]) }} %; n = {{ training.held_out.groups }}\
{% if training.held_out_weight is defined and training.held_out_weight != proposal_weight %}\
; measured with weight {{ training.held_out_weight }}{% endif %}\
{% if training.reported_problems is not defined %}; of the texts that chose the checkpoint{% endif %}) |
| held-out Spearman | {{ "%.3f"|format(training.held_out.spearman) }} |
{%- endif %}

It fits the checkpoint with fingerprint `{{ base }}` alone. A score reached with it is the method's, not the
plain model's: state method, K, tau and prompt beside it.
"""


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
        form: score form, see `scores.py`.
        score_as: how bins become a score, see `Readout`.
        bins: rows of the readout.
        temperature: of the loss.
        num_candidates: K in training.
        top_k: K in decoding, by default.
        thresholds: proposer -> trigger key -> tau -> threshold, from held-out training problems.
        threshold_steps: steps they were measured on.
        defaults: proposer -> default trigger and rate.
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
        if self.form not in SCORE_FORMS:
            raise ValueError(f"form: expected one of {', '.join(SCORE_FORMS)}, got {self.form!r}")
        for rates in self.thresholds.values():
            require_rates(rates)
        for proposer, default in self.defaults.items():
            if default.trigger not in TRIGGER_NAMES:
                raise ValueError(
                    f"defaults.{proposer}.trigger: expected one of {', '.join(TRIGGER_NAMES)}, got "
                    f"{default.trigger!r}"
                )

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


@dataclass(frozen=True)
class Selector:
    """A loaded selector folder; the adapter stays on disk until `attach`.

    Args:
        folder: its location.
        info: its settings.
        readout: rows [bins, hidden], float32.
        routers: proposer -> router, those that were trained.
        hash: 16 hex digits over all its files.
    """

    folder: Path
    info: SelectorInfo
    readout: Tensor
    routers: dict[str, Router]
    hash: str

    def load_adapter(self, model: PeftModel) -> None:
        """Copy the adapter's weights into a new adapter of the same shape."""
        set_peft_model_state_dict(model, adapter_weights("selector", model, str(self.folder)))

    def attach(self, model: PreTrainedModel, full_precision: bool = True, scale: float = 1.0) -> PeftModel:
        """Attach the adapter to the student, whose own weights are not changed.

        Args:
            model: the student.
            full_precision: float32 adapter weights for a student of lower precision, for exact merging; else
                the student's own precision, which is faster for an unmerged adapter.
            scale: factor of the adapter's contribution.
        """
        try:
            peft = attach_adapter("selector", model, str(self.folder), autocast_adapter_dtype=full_precision)
            scale_adapter(peft, scale)
            return peft
        except UNREADABLE as error:
            reason = single_line_message(error)
            raise SelectorError(
                f"selector: the adapter in {self.folder} cannot be loaded ({reason})"
            ) from error


def save_selector(
    folder: Path,
    info: SelectorInfo,
    readout: Tensor,
    routers: Mapping[str, Router],
    peft: PeftModel,
) -> None:
    """Write a selector folder whole or not at all."""
    with atomic_path(folder) as partial:
        partial.mkdir()
        save_adapter(partial, peft, info.base_name)
        save_file({"rows": readout.detach().float().cpu().contiguous()}, partial / "readout.safetensors")
        weights = {
            f"{proposer}.{name}": value.detach().cpu().contiguous()
            for proposer, router in routers.items()
            for name, value in router.state_dict().items()
        }
        save_file(weights, partial / "router.safetensors", {"format": "pt"})
        write_info(partial, info)


def selector_card(info: SelectorInfo) -> str:
    """The model card of a selector folder."""
    return render_card(CARD, asdict(info))


def write_info(folder: Path, info: SelectorInfo) -> None:
    """Replace the settings of a selector folder, and its card."""
    write_text(folder / "README.md", selector_card(info))
    write_manifest(folder / SETTINGS, info)


def load_selector(name: str | Path, base: str, vocabulary: str, hidden_size: int) -> Selector:
    """Read a selector folder (or one on the Hub) for this student.

    Args:
        name: folder, or a hub repository.
        base: fingerprint of the student without adapter.
        vocabulary: hash of its tokenizer's text entries.
        hidden_size: its width.

    Raises:
        SelectorError: missing or damaged, or made for another student, tokenizer or shape.
    """
    expected = f"expected a folder of `{KIND.command}`"
    folder = find_folder(f"selector={name}", name, expected, SelectorError)
    info = read_info(folder)
    fix = "use that student, or train a selector for this one"
    KIND.require_student(f"selector={name}", info, base, vocabulary, hidden_size, fix)
    _require_adapter(folder)
    try:
        rows = load_weights("selector", name, folder / "readout.safetensors")
        weights = load_weights("selector", name, folder / "router.safetensors")
        readout, routers = rows["rows"], _load_routers(weights, hidden_size)
        identity = folder_hash(folder)
    except ModelLoadError as error:
        raise SelectorError(str(error)) from None
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise SelectorError(f"selector={name}: {folder} is damaged ({error}); train it anew") from error
    if readout.shape != (info.bins, hidden_size):
        raise SelectorError(
            f"selector={name}: its readout is {tuple(readout.shape)}, expected {(info.bins, hidden_size)}"
        )
    return Selector(folder, info, readout, routers, identity)


def read_info(folder: Path) -> SelectorInfo:
    """The settings of a selector folder.

    Raises:
        SelectorError: they are missing, of another format, or contain numbers that are not finite.
    """
    return KIND.read(f"selector={folder}", folder / SETTINGS)


def _upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """Content of format 1 in the present format; it had one default, with the name of its proposer."""
    old = dict(content.pop("default"))
    proposer = old.pop("proposer")
    training = dict(content["training"])
    if "scan" in training:
        training["scan"] = {proposer: training["scan"]}
    return {**content, "defaults": {proposer: old}, "training": training}


KIND = ManifestKind(SelectorInfo, "s2t-eval train", SelectorError, FORMAT, SETTINGS, {1: _upgraded})


def _require_adapter(folder: Path) -> None:
    """Raise `SelectorError` unless the folder contains LoRA weights as safetensors."""
    try:
        kind = read_object(folder / ADAPTER_CONFIG).get("peft_type")
    except (OSError, ValueError) as error:
        raise SelectorError(
            f"selector={folder}: its {ADAPTER_CONFIG} cannot be read ({error}); train it anew"
        ) from error
    if kind != "LORA":
        raise SelectorError(
            f"selector={folder}: expected an adapter of kind LORA, got {kind}; train it with `s2t-eval train`"
        )
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise SelectorError(
            f"selector={folder}: it has no {ADAPTER_WEIGHTS}; weights of another form, such as a "
            "pickle, are not read: reading one can run its code"
        )


def _load_routers(weights: Mapping[str, Tensor], hidden_size: int) -> dict[str, Router]:
    routers = {}
    for proposer in sorted({name.split(".")[0] for name in weights}):
        own = {
            name.removeprefix(f"{proposer}."): value
            for name, value in weights.items()
            if name.split(".")[0] == proposer
        }
        router = Router(hidden_size, width=own["layers.0.weight"].shape[0])
        router.load_state_dict(own)
        routers[proposer] = router.eval()
    return routers


def scale_adapter(model: PeftModel, scale: float) -> None:
    """Multiply the adapter's contribution by `scale`."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            layer: Any = module
            for name in layer.active_adapters:
                layer.set_scale(name, scale)


class AdapterSwitch:
    """Enables the adapter of a model, in which it is otherwise disabled (proposer `base`), for a pass.

    peft's own switch goes through all modules and changes which weights need a gradient: 14 ms for 24 layers,
    a good part of a decode step. Here the layers are looked up once and only their flag is changed.

    Args:
        model: its adapter is attached already.
    """

    def __init__(self, model: PeftModel) -> None:
        self._layers = adapter_layers(model)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """A block in which the adapter is enabled."""
        self._set_disabled(False)
        try:
            yield
        finally:
            self._set_disabled(True)

    def _set_disabled(self, is_disabled: bool) -> None:
        for layer in self._layers:
            layer._disable_adapters = is_disabled
