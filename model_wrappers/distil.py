"""`--model distil`: a student distilled by `s2t-eval distil`, decoded in the same loop as every method."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from lm_eval.api.instance import Instance

from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.artifacts.manifest import UNKNOWN_WEIGHTS
from s2t_eval.embedded import resolve_model
from s2t_eval.methods.distilled import SETTINGS, DistilInfo, read_distilled
from s2t_eval.model_wrappers.argument_checks import require_bool
from s2t_eval.model_wrappers.arguments import CommonArguments, ServerArguments
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.harness_tasks import require_prompts
from s2t_eval.models.vocabulary import vocabulary_hash
from s2t_eval.selection import policy
from s2t_eval.selection.policy import Policy

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DistilArguments(ServerArguments):
    """Arguments of `distil`.

    Args:
        other_prompt: allow prompts with other few-shot examples, chat template or system instruction than
            those that the student was trained with.
    """

    other_prompt: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bool("other_prompt", self.other_prompt)


class Distil(EngineLM):
    """Greedy decoding of a distilled student: `peft=` names an adapter, or `pretrained=` a checkpoint.

    Raises:
        ValueError: neither names a distilled student.
        DistilledError: another base, tokenizer or prompt, changed weights, or a folder that was
            not distilled.
    """

    METHOD = "distil"
    ARGUMENTS = DistilArguments

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        self.checked_arguments({"pretrained": pretrained, **kwargs})  # before a manifest is read
        self._peft: str | None = kwargs.get("peft")
        if self._peft:
            kwargs["peft"] = self._peft = resolve_model(self._peft)
        self.distilled = self._read(pretrained, kwargs.get("revision"))
        super().__init__(pretrained, **kwargs)
        if self.student_fingerprint == UNKNOWN_WEIGHTS:
            logger.warning("student_url: the weights of %s are not here to be compared", self.student_name)
        else:
            self.distilled.require_result(self._peft or self.student_name, self.student_fingerprint)

    @classmethod
    def require_arguments(cls, own: CommonArguments, model_args: Mapping[str, Any]) -> None:
        """See `LoadedStudent`: it needs a folder that may be that of a distilled student."""
        pretrained = model_args["pretrained"]
        if model_args.get("peft") or (isinstance(pretrained, str) and not pretrained.startswith("embedded/")):
            return
        raise ValueError(
            f"--model {cls.METHOD}: it needs peft=FOLDER (an adapter of `s2t-eval distil`) or "
            f"pretrained=FOLDER (a checkpoint of `s2t-eval distil --full`, which has a {SETTINGS}); "
            f"got pretrained={pretrained if isinstance(pretrained, str) else type(pretrained).__name__}"
        )

    def _read(self, pretrained: Any, revision: str | None) -> DistilInfo:
        """The manifest `distil.json` of the adapter or the checkpoint."""
        if self._peft:
            info = read_distilled("peft", self._peft, revision)
            if info.kind == "checkpoint":
                raise ValueError(
                    f"peft={self._peft}: this folder holds a whole distilled checkpoint; name it as "
                    "pretrained="
                )
            return info
        info = read_distilled("pretrained", pretrained, revision)
        if info.kind == "adapter":
            raise ValueError(
                f"pretrained={pretrained}: this folder holds a distilled adapter; give "
                f"pretrained={info.base_name},peft={pretrained}"
            )
        return info

    def _attach_adapter(self, peft: str, revision: str | None) -> None:
        """Attach the adapter if it was made for this student, and refuse it otherwise."""
        base = model_fingerprint(self._model)
        self.distilled.require_base(peft, base, vocabulary_hash(self.tokenizer))
        super()._attach_adapter(peft, revision)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts for the harness's requests; refuses prompts that the student was not trained with."""
        if not cast(DistilArguments, self.arguments).other_prompt:
            require_prompts(requests, self.distilled.require_prompt)
        return super().generate_until(requests, disable_tqdm)

    def policy(self) -> Policy:
        """The greedy policy."""
        return policy.greedy()

    def describe(self) -> dict[str, Any]:
        """Models, seed, and how the student was distilled."""
        info = self.distilled
        names = ("kind", "method", "base", "base_name", "teacher", "teacher_name")
        return {**super().describe(), "distilled": {name: getattr(info, name) for name in names}}
