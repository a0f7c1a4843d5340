"""The base of backends in which a model evaluates an unfinished answer by a question behind it."""

from __future__ import annotations

from typing import Any

from lm_eval.api.instance import Instance

from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.harness_tasks import prompts_of


class StepEvaluationLM(EngineLM):
    """A backend whose questions have the form of its prompts: turns of a chat template, or plain lines."""

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        super().__init__(pretrained, **kwargs)
        self.has_chat_template = False

    def apply_chat_template(self, *args: Any, **kwargs: Any) -> str:
        """The harness's rendering of a conversation; afterwards `has_chat_template` is true."""
        self.has_chat_template = True
        rendered: str = super().apply_chat_template(*args, **kwargs)
        return rendered

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts for the harness's requests, whose tasks may have prompts with the chat template."""
        known = prompts_of(requests)
        if known:  # not of an earlier evaluation with this model
            self.has_chat_template = any(prompt.apply_chat_template for prompt in known)
        return super().generate_until(requests, disable_tqdm)
