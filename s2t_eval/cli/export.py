"""`s2t-eval export`: a trained student as a checkpoint for other engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from s2t_eval.artifacts.output_paths import require_new_folder
from s2t_eval.cli.command import flat
from s2t_eval.cli.source import StudentOptions


@dataclass(frozen=True, kw_only=True)
class Export:
    """Merge an adapter into its student, and write a checkpoint that needs neither peft nor this package.

    With --merged the checkpoint is the student with its adapter: vLLM, stock hf, llama.cpp's converter and
    others decode it greedily as `--model distil` does, or as `--model s2t_local` does with a selector of
    form direct. With --to_reserved_rows it also holds the readout of a selector that looks ahead, in unused
    rows of its output head, which must have as many; embedded/student has none.

    Args:
        selector: selector folder, or repository on the Hub.
        peft: adapter folder, for example of `s2t-eval distil`, or repository on the Hub; with --merged.
        merged: write the plain checkpoint.
        to_reserved_rows: write the readout into unused output rows.
        out: folder of the full checkpoint to write.
    """

    EXAMPLE: ClassVar[str] = "s2t-eval export --pretrained student --selector selector --merged --out merged"

    student: Annotated[StudentOptions, flat("student")]
    selector: str | None = None
    peft: str | None = None
    merged: bool = False
    to_reserved_rows: bool = False
    out: Path

    def run(self) -> None:
        """Export, and print what was written."""
        self._check()
        require_new_folder(self.out)
        from s2t_eval.artifacts.fingerprint import model_fingerprint
        from s2t_eval.models.loading import load_model

        model, tokenizer = load_model("pretrained", *self.student.loading)
        base = model_fingerprint(model)
        if self.peft is not None:
            from s2t_eval.training.merge import export_merged_adapter

            export_merged_adapter(model, tokenizer, self.peft, base, self.out)
            print(f"{self.out}: {self.student.pretrained} with the adapter {self.peft}")
        else:
            self._export_selector(model, tokenizer, base)

    def _check(self) -> None:
        if self.merged == self.to_reserved_rows:
            given = "both" if self.merged else "neither"
            raise ValueError(f"expected one of --merged and --to_reserved_rows, got {given}")
        if (self.selector is None) == (self.peft is None):
            given = "neither" if self.selector is None else "both"
            raise ValueError(f"expected one of --selector FOLDER and --peft FOLDER, got {given}")
        if self.peft is not None and self.to_reserved_rows:
            raise ValueError(
                "--to_reserved_rows: an adapter alone has no readout; give --selector, or --merged"
            )

    def _export_selector(self, model: Any, tokenizer: Any, base: str) -> None:
        from s2t_eval.methods.selector_folder import load_selector
        from s2t_eval.models.vocabulary import text_vocabulary, vocabulary_hash
        from s2t_eval.training.merge import export_merged_selector
        from s2t_eval.training.selector.export import export_to_reserved_rows

        assert self.selector is not None
        hidden = int(model.config.get_text_config(decoder=True).hidden_size)
        selector = load_selector(self.selector, base, vocabulary_hash(tokenizer), hidden)
        if self.to_reserved_rows:
            ids = export_to_reserved_rows(model, tokenizer, selector, text_vocabulary(tokenizer), self.out)
            print(f"{self.out}: readout in output rows {ids[0]} to {ids[-1]}")
            return
        export_merged_selector(model, tokenizer, selector, self.out)
        form = selector.info.form
        note = (
            "greedy decoding of it is `--model s2t_local`"
            if form == "direct"
            else f"it proposes as `--model s2t_local` does and cannot select: form {form} needs its readout "
            "(--to_reserved_rows)"
        )
        print(f"{self.out}: {self.student.pretrained} with the adapter of {self.selector}; {note}")
