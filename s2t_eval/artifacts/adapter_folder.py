"""Writing of peft adapters, so that the same adapter is the same files."""

from __future__ import annotations

import json
from pathlib import Path

from peft import PeftModel

from s2t_eval.artifacts.files import write_text

SETS = ("target_modules", "exclude_modules", "modules_to_save", "target_parameters")
"""peft holds these as sets, whose order differs from process to process."""


def save_adapter(folder: Path, model: PeftModel, base_name: str) -> None:
    """Write an adapter's files into a folder.

    Args:
        folder: exists.
        model: with the adapter.
        base_name: how the model without it is called: no folder of this machine.
    """
    # "auto" asks the hub for the model to see whether its embeddings grew; ours never do
    model.save_pretrained(str(folder), save_embedding_layers=False)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = base_name
    for name in SETS:
        if isinstance(config.get(name), list):
            config[name] = sorted(config[name])
    write_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
