"""`s2t-eval export`: a selector in the paper's form, inside the model's unused output rows."""

from __future__ import annotations

import argparse
from pathlib import Path

from s2t_eval.artifacts.output_paths import require_new_folder
from s2t_eval.cli.flags import Commands, add_loading_flags


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "export", help="merge a selector into its student, the readout into unused output rows"
    )
    add_loading_flags(parser)
    add = parser.add_argument
    add("--selector", required=True, help="selector folder or hub repository")
    add("--to_reserved_rows", "--to-reserved-rows", action="store_true", required=True)
    add("--out", required=True, help="folder of the full checkpoint to write")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Export, and say which rows were taken."""
    out = Path(parsed.out)
    require_new_folder("--out", out)
    from s2t_eval.artifacts.fingerprint import model_fingerprint
    from s2t_eval.methods.selector_folder import load_selector
    from s2t_eval.models.loading import load_model
    from s2t_eval.models.vocabulary import text_vocabulary, vocabulary_hash
    from s2t_eval.training.selector.export import export_to_reserved_rows

    model, tokenizer = load_model(
        "pretrained", parsed.pretrained, parsed.dtype, parsed.device, parsed.trust_remote_code
    )
    hidden = int(model.config.get_text_config(decoder=True).hidden_size)
    selector = load_selector(parsed.selector, model_fingerprint(model), vocabulary_hash(tokenizer), hidden)
    ids = export_to_reserved_rows(model, tokenizer, selector, text_vocabulary(tokenizer), out)
    print(f"{out}: readout in output rows {ids[0]} to {ids[-1]}")
