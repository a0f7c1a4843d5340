"""The harness's requests (`Instance`) as requests of the engine."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

from lm_eval.api.instance import Instance

from s2t_eval.engine import Request, Result, derive_seed
from s2t_eval.model_wrappers.generation_arguments import GenerationArguments, read_generation_arguments
from s2t_eval.model_wrappers.loading import LoadedStudent
from s2t_eval.model_wrappers.system_turns import has_system_turn, in_first_user_turn, keeps_system_turn
from s2t_eval.model_wrappers.telemetry import Telemetry
from s2t_eval.model_wrappers.thoughts import Thoughts

logger = logging.getLogger(__name__)


class Origin(NamedTuple):
    """Which of the harness's requests a text answers; the engine returns it with the result."""

    position: int
    """in the list that the harness gave"""
    repeat: int = 0
    """of the same document, from 0"""
    sample: int = 0
    """of a method that votes, from 0"""


def origin_of(request: Request) -> Origin:
    """The origin of a request that `HarnessRequests` made."""
    origin = request.origin
    assert isinstance(origin, Origin)
    return origin


class HarnessRequests(LoadedStudent):
    """A loaded student that turns the harness's requests into the engine's."""

    DRAWS: ClassVar[bool] = False
    """Whether the method draws its tokens by arguments of its own, whatever a request says."""

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        super().__init__(pretrained, **kwargs)
        self.telemetry = Telemetry()
        self.thoughts = Thoughts(self.tokenizer, self.tok_decode, self.think_end_token, self.enable_thinking)
        self.is_system_turn_moved = False
        self._given_template_args: dict[str, Any] = self.chat_template_args

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Stock's choice of a template for the records, by which prompts and questions are rendered too.

        Stock renders prompts by a tokenizer's default template, whatever `--apply_chat_template NAME` names.

        Raises:
            ValueError: the tokenizer has no template, or none of this name.
        """
        is_named = isinstance(chat_template, str) and isinstance(self.tokenizer.chat_template, dict)
        named = {"chat_template": chat_template} if is_named else {}
        self.chat_template_args = {**self._given_template_args, **named}
        if chat_template:
            self._require_chat_template()
        chosen: str | None = super().chat_template(chat_template)
        return chosen

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Stock's rendering of a conversation, without loss of its system turn.

        Stock drops the turn where the template refuses it, and with it the whole instruction of a task; other
        templates leave it out without an error. Here the first user turn then begins with its text.

        Raises:
            ValueError: the tokenizer has no template.
        """
        self._require_chat_template()
        if has_system_turn(chat_history) and not keeps_system_turn(self._rendered_by_template):
            if not self.is_system_turn_moved:
                logger.warning(
                    "the chat template has no system turn: the first user turn begins with the instruction "
                    "(logged once; the results have system_turn)"
                )
            self.is_system_turn_moved = True
            chat_history = in_first_user_turn(chat_history)
        rendered: str = super().apply_chat_template(chat_history, add_generation_prompt)
        return rendered

    def _require_chat_template(self) -> None:
        """Raise `ValueError` where the tokenizer has no template; some render conversations without one."""
        try:
            self.tokenizer.get_chat_template(self.chat_template_args.get("chat_template"))
        except NotImplementedError:
            return
        except ValueError as error:
            raise ValueError(
                f"--apply_chat_template: the tokenizer of {self.student_name} has no (default) chat "
                "template; leave it out, as for base models, name one of several, or take a tokenizer that "
                "has one (tokenizer=MODEL)"
            ) from error

    def _rendered_by_template(self, turns: Sequence[dict[str, str]]) -> str:
        rendered: str = self.tokenizer.apply_chat_template(
            list(turns), tokenize=False, add_generation_prompt=True, **self.chat_template_args
        )
        return rendered

    def engine_requests(self, instances: Sequence[Instance]) -> list[Request]:
        """The engine's requests for the harness's, in their order: those that `generate_until` decodes.

        Pipelines use it to decode training problems with the prompts of the evaluation.
        """
        return self._requests_of(dict(enumerate(instances)))

    def _requests_of(self, instances: dict[int, Instance]) -> list[Request]:
        """The engine's requests for the harness's, by their position; several for each that is sampled."""
        requests: list[Request] = []
        repeats: Counter[tuple[object, ...]] = Counter()
        firsts: dict[int, Request] = {}  # the harness repeats a request by naming the same object again
        for position, instance in instances.items():
            key = (instance.task_name, instance.doc_id, instance.idx)
            origin = Origin(position, repeats[key])
            repeats[key] += 1
            try:
                first = firsts.get(id(instance))
                if first is None:
                    request = firsts[id(instance)] = self._request(instance, origin)
                else:
                    request = replace(first, seed=self._seed(instance, origin), origin=origin)
                requests += self._samples(request, instance)
            except ValueError as error:
                raise ValueError(f"task {key[0]}, document {key[1]}: {error}") from error
        return requests

    def _samples(self, request: Request, instance: Instance) -> list[Request]:
        """The requests whose texts together answer one of the harness's: one, unless a method votes."""
        return [request]

    def _request(self, instance: Instance, origin: Origin) -> Request:
        prompt, gen_kwargs = instance.args
        arguments = self._generation_arguments(gen_kwargs)
        if self.DRAWS and arguments.sampling is not None:
            raise ValueError(
                f"generation_kwargs: do_sample=true, temperature={arguments.sampling.temperature} would have "
                "no effect: this method draws by its own temperature, top_p and sample_top_k; give these in "
                "--model_args, and --gen_kwargs do_sample=false where the task itself samples"
            )
        # Special tokens vanish from decoded text, so a stop string that names one is a stop id.
        special = self.thoughts.special_ids
        named = {special[stop] for stop in arguments.until if stop in special}
        return Request(
            prompt_ids=self._encode(prompt, arguments.max_new_tokens),
            max_new_tokens=arguments.max_new_tokens,
            stop_ids=self.stop_ids | arguments.stop_ids | named,
            stop_strings=tuple(stop for stop in arguments.until if stop not in special),
            sampling=arguments.sampling,
            seed=self._seed(instance, origin),
            in_thought=self.thoughts.begins_inside(prompt, arguments.until),
            origin=origin,
        )

    def _seed(self, instance: Instance, origin: Origin) -> int:
        return derive_seed(self.arguments.seed, instance.task_name, instance.doc_id, origin.repeat)

    def _generation_arguments(self, gen_kwargs: dict[str, Any]) -> GenerationArguments:
        return read_generation_arguments(
            gen_kwargs, self.max_gen_toks, self.stop_ids, self.student.text_vocab
        )

    @property
    def reserved_tokens(self) -> int:
        """Tokens of the context that neither prompt nor answer may take: 0 for most methods."""
        return 0

    def _encode(self, context: str, limit: int) -> tuple[int, ...]:
        """Token ids of a prompt; its beginning is cut off where prompt and answer exceed the context."""
        length = self.max_length - self.reserved_tokens
        if limit >= length:
            raise ValueError(
                f"max_gen_toks: expected less than the model's context of {length} tokens, got {limit}"
            )
        ids = self.tok_batch_encode([context], truncation=self.truncation)[0][0].tolist()
        room = length - limit
        if len(ids) > room:
            if not self.telemetry.truncated_prompts:
                logger.warning(
                    "a prompt of %d tokens leaves no room for %d new ones in a context of %d: its "
                    "beginning is cut off (logged once; the results count truncated_prompts)",
                    len(ids),
                    limit,
                    length,
                )
            self.telemetry.truncated_prompts += 1
        return tuple(int(i) for i in ids[-room:])

    def text(self, instance: Instance, result: Result) -> str:
        """A result's text as stock returns it: cut at the first stop string, without thoughts."""
        prompt, gen_kwargs = instance.args
        return self.thoughts.text(result, prompt, self._generation_arguments(gen_kwargs).until)
