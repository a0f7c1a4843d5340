"""Who looks again in decoding: the trained decider, or an oracle that knows a reference text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from s2t_eval.artifacts.fingerprint import data_hash
from s2t_eval.artifacts.json_lines import read_json_lines
from s2t_eval.methods.tah.decider import Decider, vote
from s2t_eval.methods.tah.decoder import Votes
from s2t_eval.methods.tah.settings import TahError, require_threshold


class DeciderVote:
    """The trained decider: a row continues where its probability is above a threshold.

    Args:
        decider: in evaluation mode, on the student's device.
        threshold: from 0 to 1; at 1 nothing ever continues.
        top_n: accumulated logits it reads.

    Raises:
        TahError: a threshold out of range.
    """

    def __init__(self, decider: Decider, threshold: float, top_n: int) -> None:
        require_threshold(threshold)
        self.decider = decider
        self.threshold = threshold
        self.top_n = top_n

    def __call__(self, votes: Votes) -> Tensor:
        """Which rows continue, bool [n]."""
        return vote(self.decider, votes.states, votes.totals, self.top_n).sigmoid() > self.threshold


class OracleVote:
    """As if the decider knew: a row continues where its accumulated first guess is not the reference's token.

    Once a text has left its reference there is no next token to know, and nothing continues.

    Args:
        references: prompt -> the reference text that follows it.
    """

    def __init__(self, references: Mapping[tuple[int, ...], Sequence[int]]) -> None:
        self.references = {prompt: list(text) for prompt, text in references.items()}
        self.hash = data_hash([[list(prompt), text] for prompt, text in sorted(self.references.items())])

    def __call__(self, votes: Votes) -> Tensor:
        """Which rows continue, bool [n]."""
        guesses = votes.totals.argmax(-1).tolist()
        goes_on = []
        for row, guess in zip(votes.rows, guesses, strict=True):
            text, said = self.references[row.request.prompt_ids], row.output
            is_on_it = len(said) < len(text) and text[: len(said)] == said
            goes_on.append(is_on_it and text[len(said)] != guess)
        return torch.tensor(goes_on)

    @classmethod
    def read(cls, path: Path) -> OracleVote:
        """Reference texts from a trace: JSON lines with `prompt_ids` and `output_ids`.

        Such a file is what `trace=FILE` writes, for instance of a teacher under `--model greedy`. Of
        several texts of a prompt the first counts.

        Raises:
            TahError: no such file, or a line without these.
        """
        references: dict[tuple[int, ...], list[int]] = {}
        advice = "name a file that trace=FILE wrote"
        for number, record in read_json_lines(path, TahError, "oracle=", advice):
            try:
                prompt, text = tuple(map(int, record["prompt_ids"])), list(map(int, record["output_ids"]))
            except (ValueError, TypeError, KeyError) as error:
                raise TahError(
                    f"oracle={path}, line {number}: expected one JSON object with prompt_ids and "
                    "output_ids, as trace=FILE writes them"
                ) from error
            references.setdefault(prompt, text)
        return cls(references)

    def require(self, prompts: Sequence[tuple[int, ...]], name: str) -> None:
        """Raise `TahError` unless every prompt has a reference."""
        missing = [number for number, prompt in enumerate(prompts) if prompt not in self.references]
        if missing:
            raise TahError(
                f"oracle={name}: {len(missing)} of {len(prompts)} prompts have no reference text in it; "
                "trace the reference run on the same documents, prompts and tokenizer"
            )
