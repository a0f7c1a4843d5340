"""`--model tah`: Think-at-Hard, further iterations of the student at tokens that its decider selects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lm_eval.api.instance import Instance

from s2t_eval.engine import Request
from s2t_eval.methods.tah.checkpoint import TahFolder, find_tah, load_tah
from s2t_eval.methods.tah.decoder import TAH, LoopedDecoder, Vote
from s2t_eval.methods.tah.runner import LoopedRunner
from s2t_eval.methods.tah.settings import TahError, require_depth, require_threshold
from s2t_eval.methods.tah.votes import DeciderVote, OracleVote
from s2t_eval.model_wrappers.argument_checks import require_bool
from s2t_eval.model_wrappers.arguments import CommonArguments
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.harness_tasks import require_prompts
from s2t_eval.models.vocabulary import text_vocabulary, vocabulary_hash
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.triggers import Trigger


@dataclass(frozen=True)
class TahArguments(CommonArguments):
    """Arguments of `tah`.

    Args:
        tah: folder of `s2t-eval tah train`, `embedded/tah`, or a hub repository.
        threshold: a token is iterated where the decider's probability is above this; None takes the folder's.
        max_depth: most passes for a token; None takes the folder's.
        oracle: a trace of a reference run on the same prompts, which replaces the decider.
        other_prompt: allow prompts with other few-shot examples, chat template or system instruction than
            those of the texts that the folder was trained on.
    """

    tah: str | None = None
    threshold: float | None = None
    max_depth: int | None = None
    oracle: str | None = None
    other_prompt: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bool("other_prompt", self.other_prompt)
        if self.compile == "always":
            raise TahError(
                "compile: --model tah does not compile its passes, got always, which would have no effect; "
                "leave it out"
            )
        if self.threshold is not None:
            require_threshold(self.threshold)
            if self.oracle is not None:
                raise TahError(
                    f"threshold: an oracle replaces the decider and has none, got {self.threshold}"
                    "; leave one of the two out"
                )
        if self.max_depth is not None:
            require_depth(self.max_depth)


class ThinkAtHard(EngineLM):
    """TaH. Log-likelihoods are those of the plain student, with its trained weights if the folder has them.

    Raises:
        TahError: no folder, one of another student or of other prompts, or without a decider.
    """

    METHOD = "tah"
    ARGUMENTS = TahArguments

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        super().__init__(pretrained, **kwargs)
        text_vocab = text_vocabulary(self.tokenizer)
        self.folder: TahFolder = load_tah(
            find_tah(str(self.thinking.tah)),
            self.student_fingerprint,
            vocabulary_hash(self.tokenizer),
            int(self.model.config.get_text_config(decoder=True).hidden_size),
        )
        self._vote = self._make_vote()
        plain: Any = self._model
        peft = self.folder.attach(plain)
        layers = self.folder.info.decider.layers if self.folder.info.decider else ()
        self.looped = LoopedRunner(peft.to(self.device), self.student_name, text_vocab, layers)
        self.student = self.looped

    @classmethod
    def require_arguments(cls, own: CommonArguments, model_args: Mapping[str, Any]) -> None:
        """See `LoadedStudent`: it needs a folder, which has the only adapter."""
        if not model_args.get("tah"):
            raise TahError("--model tah: it needs tah=FOLDER, a folder of `s2t-eval tah train`")
        if model_args.get("peft"):
            raise TahError(
                "--model tah: peft= cannot be combined with tah=, whose folder has an adapter of its own; "
                "merge yours into the student first"
            )

    @property
    def scoring_student(self) -> str:
        """The adapter is off while a student scores, but a folder may have weights of the student itself."""
        return "adapted" if self.folder.info.looped.train_base else "plain"

    @property
    def thinking(self) -> TahArguments:
        """The arguments of `tah`."""
        return cast(TahArguments, self.arguments)

    @property
    def threshold(self) -> float:
        """Probability of the decider above which a token is iterated."""
        threshold = self.thinking.threshold
        return self.folder.info.threshold if threshold is None else threshold

    @property
    def max_depth(self) -> int:
        """Most passes for a token."""
        return self.thinking.max_depth or self.folder.info.looped.max_depth

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts for the harness's requests; refuses prompts that the folder was not trained with."""
        if not self.thinking.other_prompt:
            require_prompts(requests, self.folder.info.require_prompt)
        return super().generate_until(requests, disable_tqdm)

    def policy(self) -> Policy:
        """The policy that never fires: Think-at-Hard selects no candidates."""
        return TAH

    def decoder(self, observe: Sequence[Trigger] = ()) -> LoopedDecoder:
        """A decoder with further iterations."""
        assert not observe
        top_n = self.folder.info.looped.top_n
        return LoopedDecoder(
            self.looped,
            self._vote,
            self.max_depth,
            top_n,
            self.rows,
            self.tok_decode,
            self.thoughts.answer_of,
        )

    def _make_vote(self) -> Vote:
        if self.thinking.oracle is not None:
            return OracleVote.read(Path(self.thinking.oracle))
        if self.folder.decider is None:
            raise TahError(
                f"tah={self.thinking.tah}: it has no decider yet; run `s2t-eval tah train --stage 2`, or "
                "give oracle=FILE"
            )
        decider = self.folder.decider.to(self.device)
        return DeciderVote(decider, self.threshold, self.folder.info.looped.top_n)

    def _requests_of(self, instances: dict[int, Instance]) -> list[Request]:
        requests = super()._requests_of(instances)
        if isinstance(self._vote, OracleVote):
            self._vote.require([request.prompt_ids for request in requests], str(self.thinking.oracle))
        return requests

    def describe(self) -> dict[str, Any]:
        """Models, folder, threshold, depth and seed."""
        oracle = self._vote.hash if isinstance(self._vote, OracleVote) else None
        return {
            **super().describe(),
            "tah": Path(str(self.thinking.tah)).name,
            "tah_hash": self.folder.hash,
            "threshold": self.threshold,
            "max_depth": self.max_depth,
            "oracle": oracle,
        }
