"""A tah folder: adapter, decider, and the manifest of what they were trained for.

adapter_config.json, adapter_model.safetensors   a peft adapter, enabled from the second pass on
base.safetensors                                 the student's own weights, if they were trained too
decider.safetensors                              after stage 2
tah.json                                         student, sizes, threshold, figures
README.md                                        the model card
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from s2t_eval.artifacts.card import render_card
from s2t_eval.artifacts.files import atomic_path, write_text
from s2t_eval.artifacts.fingerprint import folder_hash
from s2t_eval.artifacts.manifest import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    ManifestKind,
    save_adapter,
    write_manifest,
)
from s2t_eval.methods.artifact_folder import find_folder, load_weights, shape_difference
from s2t_eval.methods.tah.decider import Decider
from s2t_eval.methods.tah.settings import DeciderSettings, LoopedSettings, TahError
from s2t_eval.models.loading import attach_adapter

FORMAT = 1
SETTINGS = "tah.json"
BASE, DECIDER = "base.safetensors", "decider.safetensors"

CARD = """---
library_name: peft
base_model: {{ base_name }}
tags: [s2t-eval, think-at-hard]
---

# Think-at-Hard for {{ base_name }}

At the tokens that its decider selects as hard, the student runs a further pass, in which alone the adapter is
enabled.

    lm_eval --model tah --model_args pretrained={{ base_name }},tah=THIS {{ labels|evaluated }}

| | |
|---|---|
| passes for a token | at most {{ looped.max_depth }} |
| labelled | {{ labels.data.texts }} texts of {{ labels.data.source }}, {{ labels.num_hard }} of \
{{ labels.num_steps }} tokens hard |
| trained on | {{ training["stage-1"].texts }} of them |
| trained | {{ "the student and the adapter" if looped.train_base else "the adapter alone" }}\
{{ ", then the decider" if decider else "" }} |

It fits only the checkpoint with fingerprint `{{ base }}`. A score with it is a score of the method, not of
the plain model.
"""


@dataclass(frozen=True)
class TahInfo:
    """The content of `tah.json`.

    Args:
        base: fingerprint of the student before any training.
        base_name: its name, for messages and cards.
        vocabulary: hash of its tokenizer's text entries.
        hidden_size: its width.
        looped: settings of the looped student.
        decider: size of the decider with its layers; None before stage 2.
        threshold: probability above which a token gets a further pass, by default.
        labels: manifest of the labels.
        training: stage -> settings, history and held-out figures with their n.
    """

    base: str
    base_name: str
    vocabulary: str
    hidden_size: int
    looped: LoopedSettings
    decider: DeciderSettings | None
    threshold: float
    labels: dict[str, Any]
    training: dict[str, Any]
    format: int = FORMAT

    def require_prompt(self, current: Mapping[str, Any]) -> None:
        """Raise `TahError` unless its labels were made with these prompt settings, where recorded."""
        fix = "label texts with the present ones and train on them"
        KIND.require_same_prompt("tah", self.labels.get("prompt", {}), current, fix)


KIND = ManifestKind(TahInfo, "s2t-eval tah train", TahError, FORMAT, SETTINGS)


@dataclass(frozen=True)
class TahFolder:
    """A loaded folder; the adapter stays on disk until `attach`.

    Args:
        folder: its location.
        info: its settings.
        decider: in evaluation mode; None before stage 2.
        hash: 16 hex digits over its weights and settings.
    """

    folder: Path
    info: TahInfo
    decider: Decider | None
    hash: str

    def attach(self, model: PreTrainedModel) -> PeftModel:
        """Attach the adapter to the student, and load the student's trained weights if there are any.

        Raises:
            TahError: weights that do not fit.
        """
        try:
            if self.info.looped.train_base:
                load_base(model, load_weights("tah", self.folder, self.folder / BASE))
            return attach_adapter("tah", model, str(self.folder))
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            reason = " ".join(line.strip() for line in str(error).strip().splitlines()[:2])
            raise TahError(
                f"tah={self.folder}: its adapter cannot be loaded ({reason}); train it anew"
            ) from error


def save_tah(folder: Path, info: TahInfo, peft: PeftModel) -> None:
    """Write a tah folder of stage 1 whole or not at all."""
    with atomic_path(folder) as partial:
        partial.mkdir()
        save_adapter(partial, peft, info.base_name)
        if info.looped.train_base:
            save_file(base_weights(peft.get_base_model()), partial / BASE)
        _write_description(partial, info)


def save_decider(stage_1: TahFolder, info: TahInfo, decider: Decider) -> None:
    """Write a folder of stage 1 again with a decider, whole or not at all.

    The weights of stage 1 are copied: stage 2 does not train them, and may hold them in a lower precision.

    Args:
        stage_1: the folder, which is replaced.
        info: its new manifest.
        decider: the trained decider.
    """
    names = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, *((BASE,) if info.looped.train_base else ()))
    with atomic_path(stage_1.folder) as partial:
        partial.mkdir()
        for name in names:
            shutil.copyfile(stage_1.folder / name, partial / name)
        weights = {name: value.cpu().contiguous() for name, value in decider.state_dict().items()}
        save_file(weights, partial / DECIDER)
        _write_description(partial, info)


def _write_description(folder: Path, info: TahInfo) -> None:
    """Write the manifest and the model card."""
    write_manifest(folder / SETTINGS, info)
    write_text(folder / "README.md", render_card(CARD, asdict(info)))


def find_tah(name: str | Path) -> Path:
    """The folder of a name: a local one, `embedded/tah`, or the snapshot of a Hub repository.

    Raises:
        TahError: there is none.
    """
    return find_folder(f"tah={name}", name, f"{KIND.expected},", TahError)


def load_tah(name: str | Path, base: str, vocabulary: str, hidden_size: int) -> TahFolder:
    """Read a tah folder for this student.

    Args:
        name: the local folder; `find_tah` gives that of another name.
        base: fingerprint of the student.
        vocabulary: hash of its tokenizer's text entries.
        hidden_size: its width.

    Raises:
        TahError: missing or damaged, or made for another student, tokenizer or width.
    """
    folder = Path(name)
    info = read_info(folder)
    fix = "use that student, or train one for this"
    KIND.require_student(f"tah={name}", info, base, vocabulary, hidden_size, fix)
    try:
        decider = None if info.decider is None else _load_decider(folder, info)
        identity = folder_hash(folder)
    except (OSError, SafetensorError) as error:
        raise TahError(f"tah={name}: {folder} is damaged ({error}); train it anew") from error
    return TahFolder(folder, info, decider, identity)


def read_info(folder: Path) -> TahInfo:
    """The settings of a tah folder.

    Raises:
        TahError: they are missing or of another format.
    """
    return KIND.read(f"tah={folder}", folder / SETTINGS)


def make_decider(info: TahInfo, settings: DeciderSettings, text_vocab: int) -> Decider:
    """An untrained decider for this student; `settings` contains its layers."""
    top_n = min(info.looped.top_n, text_vocab)
    return Decider(info.hidden_size, len(settings.layers), top_n, settings)


def _load_decider(folder: Path, info: TahInfo) -> Decider:
    assert info.decider is not None
    weights = load_weights("tah", folder, folder / DECIDER)
    top_n = weights["logits_in.weight"].shape[1] if "logits_in.weight" in weights else info.looped.top_n
    decider = Decider(info.hidden_size, len(info.decider.layers), top_n, info.decider)
    if difference := shape_difference(decider, weights):
        raise TahError(
            f"tah={folder}: its decider has another width than {SETTINGS} says ({difference}); train stage 2 "
            "anew"
        )
    decider.load_state_dict(weights)
    return decider.eval()


# ---------------------------------------------------------------- the student's own weights


def base_weights(model: nn.Module) -> dict[str, Tensor]:
    """The student's parameters without those of the adapter, by their names in the plain student."""
    return {
        name.replace(".base_layer", ""): value.detach().cpu().contiguous()
        for name, value in model.named_parameters()
        if "lora_" not in name
    }


@torch.no_grad()
def load_base(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy trained weights into a plain student.

    Raises:
        ValueError: other names or shapes than the student's.
    """
    parameters = dict(model.named_parameters())
    if parameters.keys() != weights.keys():
        raise ValueError(f"{BASE} names other parameters than the student has")
    for name, value in weights.items():
        parameters[name].copy_(value)
