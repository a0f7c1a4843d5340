"""A selector folder: adapter, readout, router, and the manifest of what they were trained for.

    adapter_config.json, adapter_model.safetensors   a peft adapter, loadable as one
    readout.safetensors                              rows [bins, hidden]
    router.safetensors                               a router per proposer
    selector.json                                    base, score form, thresholds, figures
    README.md                                        the model card

`load_selector` compares the folder with the present student and names the first difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from s2t_eval.artifacts.errors import single_line_message
from s2t_eval.artifacts.files import atomic_path
from s2t_eval.artifacts.fingerprint import folder_hash
from s2t_eval.artifacts.manifest import ADAPTER_CONFIG, ADAPTER_WEIGHTS, save_adapter
from s2t_eval.artifacts.typed_json import read_object
from s2t_eval.methods.artifact_folder import find_folder, load_weights
from s2t_eval.methods.selector_adapter import scale_adapter
from s2t_eval.methods.selector_info import KIND, SelectorError, SelectorInfo, read_info, write_info
from s2t_eval.models.loading import UNREADABLE, ModelLoadError, adapter_weights, attach_adapter
from s2t_eval.selection.router import Router

RESERVED = "s2t_reserved_rows.json"
"""In an exported checkpoint: which output rows hold the readout (`s2t-eval export --to_reserved_rows`)."""


@dataclass(frozen=True)
class Selector:
    """A loaded selector folder; the adapter stays on disk until `attach`.

    Args:
        folder: its location.
        info: its settings.
        readout: rows [bins, hidden], float32.
        routers: proposer -> router, those that were trained.
        hash: 16 hex digits over its weights and settings.
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
