"""A distilled folder: an adapter or a whole checkpoint, and the manifest `distil.json`.

An adapter folder is a peft adapter and loads as one; a checkpoint folder is a model of transformers with
its tokenizer. The manifest is compared with the model that is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from peft import PeftModel
from transformers import PreTrainedModel

from s2t_eval.artifacts.card import render_card
from s2t_eval.artifacts.files import atomic_path, write_text
from s2t_eval.artifacts.manifest import ManifestKind, save_adapter, write_manifest

FORMAT = 1
SETTINGS = "distil.json"
Kind = Literal["adapter", "checkpoint"]

CARD = """---
{% if kind == "adapter" -%}
library_name: peft
{% endif -%}
base_model: {{ base_name }}
tags: [s2t-eval, distillation]
---

# {{ base_name }}, distilled from {{ teacher_name }}

{% if kind == "adapter" %}An adapter{% else %}All weights{% endif %} of {{ base_name }} after distillation \
with `--method {{ method }}`. Use it with s2t-eval, an extension of lm-evaluation-harness:

    lm_eval --model distil --model_args {% if kind == "adapter" -%}
pretrained={{ base_name }},peft=THIS{% else %}pretrained=THIS{% endif %} {{ labels|evaluated }}

The held-out problems below also chose the step that was kept.

| held out, {{ training.held_out_problems }} problems | before | after |
|---|---|---|
| KL(teacher, student), nats | {{ "%.4f"|format(training.before.forward_kl) }} | \
{{ "%.4f"|format(training.after.forward_kl) }} |
| same most likely token as the teacher | {{ "%.1f"|format(100 * training.before.agreement) }} % | \
{{ "%.1f"|format(100 * training.after.agreement) }} % |
| steps | {{ training.before.steps_measured|int }} | {{ training.after.steps_measured|int }} |

Learnt on {{ training.problems }} problems of {{ labels.data.source }} ({{ labels.data.split }}). It belongs \
to the checkpoint with fingerprint `{{ base }}`.
"""


RLKD_CARD = """---
{% if kind == "adapter" -%}
library_name: peft
{% endif -%}
base_model: {{ base_name }}
tags: [s2t-eval, distillation, reinforcement-learning]
---

# {{ base_name }} after RLKD

{% if kind == "adapter" %}An adapter{% else %}All weights{% endif %} of {{ base_name }}, trained by GRPO to \
follow the steps of {{ teacher_name }} and to give right answers. Use it with s2t-eval, an extension of \
lm-evaluation-harness:

    lm_eval --model distil --model_args {% if kind == "adapter" -%}
pretrained={{ base_name }},peft=THIS{% else %}pretrained=THIS{% endif %} {{ labels|evaluated }}

{% if training.settings.settings.keep == "last" %}The weights at the end of the training were kept\
{% if training.after.averaged %} (the average of {{ training.after.averaged|int }} late steps){% endif %}, \
whatever the held-out problems say.
{% else %}The held-out problems below also chose the step that was kept.
{% endif %}{% if not training.best_step %}\
No step was better than the untrained student, which it leaves as it is.
{% endif %}
| held out, {{ training.held_out_problems }} problems, greedy | before | after |
|---|---|---|
| right answers | {{ "%.1f"|format(100 * training.before.correct) }} % | \
{{ "%.1f"|format(100 * training.after.correct) }} % |
{% if "structure" in training.before %}| structure reward | {{ "%.3f"|format(training.before.structure) }} | \
{{ "%.3f"|format(training.after.structure) }} |
{% endif %}| tokens of a text | {{ "%.1f"|format(training.before.tokens) }} | \
{{ "%.1f"|format(training.after.tokens) }} |

Learnt on {{ training.problems }} problems of {{ labels.data.source }} ({{ labels.data.split }}): \
{{ training.cost.text_visits|int }} text visits, {{ training.cost.generated_tokens|int }} sampled tokens, \
{{ training.cost.updates }} updates. It belongs to the checkpoint with fingerprint `{{ base }}`.
"""


class DistilledError(ValueError):
    """A distilled folder that does not fit this run; the message names the difference."""


@dataclass(frozen=True)
class DistilInfo:
    """The content of `distil.json`.

    Args:
        kind: whether the folder contains an adapter or all weights.
        method: a loss of `training/distil/methods.py`, or `rlkd`.
        base: fingerprint of the student before distillation.
        base_name: its name, for messages and cards.
        result: fingerprint of the student with the adapter, or of the checkpoint.
        vocabulary: hash of the tokenizer's text entries.
        teacher: fingerprint of the teacher; empty where a student learnt from reference solutions (`rlkd`).
        teacher_name: its name.
        labels: the label set's manifest.
        training: settings, steps, and held-out figures before and after with their n; of `rlkd` also the
            costs of training.
    """

    kind: Kind
    method: str
    base: str
    base_name: str
    result: str
    vocabulary: str
    teacher: str
    teacher_name: str
    labels: dict[str, Any]
    training: dict[str, Any]
    format: int = field(default=FORMAT)

    def require_base(self, folder: str, fingerprint: str, vocabulary: str) -> None:
        """Raise `DistilledError` unless the adapter was made for this student."""
        for what, saved, current in (
            ("tokenizer", self.vocabulary, vocabulary),
            ("base model", self.base, fingerprint),
        ):
            fix = "use that student, or distil this one"
            KIND.require_same(f"peft={folder}", what, saved, current, fix, self.base_name)

    def require_prompt(self, current: Mapping[str, Any]) -> None:
        """Raise `DistilledError` unless its labels were collected with these prompt settings."""
        fix = "collect labels with the present ones and train on them"
        KIND.require_same_prompt("distilled student", self.labels.get("prompt", {}), current, fix)

    def require_result(self, folder: str, fingerprint: str) -> None:
        """Raise `DistilledError` unless the loaded weights are those that were saved."""
        if self.result != fingerprint:
            raise DistilledError(
                f"{folder}: its weights are not those that its {SETTINGS} describes (fingerprint "
                f"{fingerprint}, expected {self.result}); they were changed after distillation, so "
                "distil anew, or run them with --model greedy"
            )


KIND = ManifestKind(DistilInfo, "s2t-eval distil", DistilledError, FORMAT, SETTINGS)


def distilled_card(info: DistilInfo) -> str:
    """The model card of a distilled folder."""
    return render_card(RLKD_CARD if info.method == "rlkd" else CARD, asdict(info))


def save_distilled(
    folder: Path, info: DistilInfo, model: PreTrainedModel | PeftModel, tokenizer: Any
) -> None:
    """Write an adapter or a checkpoint folder whole or not at all.

    Raises:
        WriteError: the disk is full or not writable.
    """
    with atomic_path(folder) as partial:
        partial.mkdir()
        if isinstance(model, PeftModel):
            save_adapter(partial, model, info.base_name)
        else:
            model.save_pretrained(str(partial))
            tokenizer.save_pretrained(str(partial))
        write_manifest(partial / SETTINGS, info)
        write_text(partial / "README.md", distilled_card(info))


def read_distilled(argument: str, name: str, revision: str | None = None) -> DistilInfo:
    """The manifest `distil.json` of a folder, or of a repository on the Hub.

    Args:
        argument: the argument with its name, `peft` or `pretrained`, for messages.
        name: folder or hub repository.
        revision: of the repository.

    Raises:
        DistilledError: it is missing, unreadable, or of another format.
    """
    artifact = f"{argument}={name}"
    path = Path(name) / SETTINGS if Path(name).is_dir() else _from_hub(artifact, name, revision)
    return KIND.read(artifact, path, "run other models and adapters with --model greedy")


def _from_hub(artifact: str, name: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(name, SETTINGS, revision=revision))
    except (HFValidationError, HfHubHTTPError, EntryNotFoundError, OSError) as error:
        raise DistilledError(f"{artifact}: {KIND.expected}, or a hub repository with one") from error
