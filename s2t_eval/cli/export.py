"""`s2t-eval export`: a selector in the paper's form, inside the model's unused output rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from s2t_eval.artifacts.output_paths import require_new_folder
from s2t_eval.cli.command import flat
from s2t_eval.cli.source import StudentOptions


@dataclass(frozen=True, kw_only=True)
class Export:
    """Merge a selector into its student, the readout into unused output rows.

    The student's output head must have as many unused rows as the readout; embedded/student has none.

    Args:
        selector: selector folder, or repository on the Hub.
        to_reserved_rows: write the readout into unused output rows, which is the only form so far.
        out: folder of the full checkpoint to write.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval export --pretrained student --selector selector --to_reserved_rows --out exported"
    )

    student: Annotated[StudentOptions, flat("student")]
    selector: str
    to_reserved_rows: bool
    out: Path

    def run(self) -> None:
        """Export, and print the rows that were used."""
        require_new_folder("--out", self.out)
        if not self.to_reserved_rows:
            raise ValueError("--to_reserved_rows: expected it, no other form can be exported")
        from s2t_eval.artifacts.fingerprint import model_fingerprint
        from s2t_eval.methods.selector_folder import load_selector
        from s2t_eval.models.loading import load_model
        from s2t_eval.models.vocabulary import text_vocabulary, vocabulary_hash
        from s2t_eval.training.selector.export import export_to_reserved_rows

        model, tokenizer = load_model("pretrained", *self.student.loading)
        hidden = int(model.config.get_text_config(decoder=True).hidden_size)
        selector = load_selector(self.selector, model_fingerprint(model), vocabulary_hash(tokenizer), hidden)
        ids = export_to_reserved_rows(model, tokenizer, selector, text_vocabulary(tokenizer), self.out)
        print(f"{self.out}: readout in output rows {ids[0]} to {ids[-1]}")
