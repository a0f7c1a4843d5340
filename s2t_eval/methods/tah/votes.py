"""Votes on further iterations in decoding: by the trained decider, or by an oracle with a reference text."""

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
        top_n: number of accumulated logits in the decider's input.

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
    """A perfect decider: a row continues where its argmax token is not the token of the reference text.

    Once a text differs from its reference, no next token is known, and it does not continue.

    Args:
        references: prompt -> the reference text that follows it.
    """

    def __init__(self, references: Mapping[tuple[int, ...], Sequence[int]]) -> None:
        self.references = {prompt: list(text) for prompt, text in references.items()}
        self.hash = data_hash([[list(prompt), text] for prompt, text in sorted(self.references.items())])

    def __call__(self, votes: Votes) -> Tensor:
        """Which rows continue, bool [n]."""
        argmax_tokens = votes.totals.argmax(-1).tolist()
        continues = []
        for row, token in zip(votes.rows, argmax_tokens, strict=True):
            reference, output = self.references[row.request.prompt_ids], row.output
            follows = len(output) < len(reference) and reference[: len(output)] == output
            continues.append(follows and reference[len(output)] != token)
        return torch.tensor(continues)

    @classmethod
    def read(cls, path: Path) -> OracleVote:
        """Reference texts from a trace: JSON lines with `prompt_ids` and `output_ids`.

        `trace=FILE` writes such a file, for instance of a teacher under `--model greedy`. Of several
        texts of a prompt the first one is used.

        Raises:
            TahError: the file does not exist, or a line lacks these.
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
