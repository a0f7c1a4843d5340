"""The end of a step of reasoning: the unit that SpecReason accepts and that Tree of Thoughts branches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from s2t_eval.engine.stop import Decode
from s2t_eval.method_table import Delimiter

_ENDS = {
    "line": re.compile(r"\S[^\S\n]*\n"),
    "paragraph": re.compile(r"\S[^\S\n]*\n[^\S\n]*\n"),
    # A full stop behind a digit may be a decimal point; the next token decides it, but does not exist yet.
    "sentence": re.compile(r"\S[^\S\n]*\n|(?:[^\d\s]\.|[!?])\s*$"),
}


@dataclass(frozen=True)
class StepEnds:
    """Decides after each token whether a step of reasoning is complete.

    Blank lines in front of a step never end it.

    Args:
        decode: token ids to text.
        delimiter: `line`: the newline behind a line with content. `paragraph`: the blank line behind it.
            `sentence`: a newline, or a sentence's closing mark that no digit precedes.
        max_tokens: a step of this many tokens ends in any case.
    """

    decode: Decode
    delimiter: Delimiter
    max_tokens: int

    def is_end(self, step_ids: Sequence[int]) -> bool:
        """Whether the step ends with its last token."""
        if len(step_ids) >= self.max_tokens:
            return True
        return _ENDS[self.delimiter].search(self.decode(step_ids)) is not None
