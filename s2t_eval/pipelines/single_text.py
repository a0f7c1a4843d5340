"""One text of one backend (`s2t-eval try`), and greedy decoding of the same prompt for comparison."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance

from s2t_eval.embedded.arith import format_prompt, make_split
from s2t_eval.engine import Decoder, OnRound, Request, Result
from s2t_eval.engine.scheduler import Scheduler
from s2t_eval.method_table import ADDRESSES, BACKENDS, BY_MODEL, GENERATED
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.embedded_pair import with_embedded_pair
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.s2t import SelectionLM
from s2t_eval.model_wrappers.splitting import LOADING_ARGS, STOCK_ARGS, parse_model_args
from s2t_eval.pipelines.prompts import question_prompt
from s2t_eval.pipelines.settings import Prompting
from s2t_eval.selection.policy import greedy

EXAMPLE = 8
"""Index of the default question in the training split of the embedded task: a problem at which the embedded
selector changes the answer of greedy decoding."""
EMBEDDED_OPTIONS = {"until": ["\n\n", "Question:"], "max_gen_toks": 96}
"""Generation arguments of the embedded task, as in tasks/s2t_arith."""


@dataclass(frozen=True)
class Backend:
    """A loaded backend.

    Args:
        lm: the backend.
        model: its `--model` name.
        arguments: its model arguments, with those of the embedded pair filled in.
    """

    lm: EngineLM
    model: str
    arguments: Mapping[str, Any]

    @property
    def is_embedded(self) -> bool:
        """Whether its student is one of the embedded models."""
        return str(self.arguments["pretrained"]).startswith("embedded/")


@dataclass(frozen=True)
class PreparedQuestion:
    """A question with the engine's request for it.

    Args:
        question: the question, without system turn and template.
        request: the engine's request.
        answer: the expected answer; None if it is not known.
    """

    question: str
    request: Request
    answer: str | None = None


def load_backend(model: str, model_args: str) -> Backend:
    """Load a backend by its `--model` name; without `pretrained` it uses the embedded pair.

    Args:
        model: the `--model` name.
        model_args: as in lm_eval.

    Raises:
        ValueError: the method cannot generate a single text, or the arguments are unusable.
    """
    if BY_MODEL[model].votes:
        raise ValueError(
            f"--model {model}: it votes over answers that are extracted by a task's rule, and a single "
            f"question has no task; try --model greedy, or evaluate with lm_eval --model {model}"
        )
    try:
        parsed = parse_model_args(model_args)
    except ValueError as error:
        raise ValueError(f"--model_args: {error}") from error
    if parsed.get("trace") is not None:
        raise ValueError("--model_args: a single text has no trace, got trace=; leave it out")
    for name in ADDRESSES:
        if parsed.get(name) is not None:
            raise ValueError(
                f"--model_args: a single text is written by models loaded here, got {name}=; evaluate with "
                f"lm_eval --model {model}"
            )
    module, name = BACKENDS[model].split(":")
    backend: type[EngineLM] = getattr(importlib.import_module(module), name)
    arguments = with_embedded_pair(backend.METHOD, parsed)
    return Backend(backend.create_from_arg_obj(arguments), model, arguments)


def prepare_question(backend: Backend, question: str | None, prompting: Prompting) -> PreparedQuestion:
    """Make the engine's request for a question.

    For the embedded models every question is put into the prompt of their task, the only one that they were
    trained on.

    Args:
        backend: the backend.
        question: the question; None takes an example of the embedded task.
        prompting: how the prompt is made.

    Raises:
        ValueError: the question is empty, or missing for a model that is not an embedded one.
    """
    answer = None
    if question is None:
        if not backend.is_embedded:
            raise ValueError(
                "QUESTION: expected a question for this model; only the embedded models have an example"
            )
        problem = make_split("train")[EXAMPLE]
        question, answer = problem.question, str(problem.answer)
    if not question.strip():
        raise ValueError("QUESTION: expected a text, got an empty one")
    user_text = format_prompt(question) if backend.is_embedded else question
    options: dict[str, Any] = dict(EMBEDDED_OPTIONS) if backend.is_embedded else {"until": []}
    if prompting.max_gen_toks is not None:
        options["max_gen_toks"] = prompting.max_gen_toks
    prompt = question_prompt(backend.lm, user_text, prompting)
    instance = Instance(GENERATED, {}, (prompt, options), 0, ("try", 0, 1))
    [request] = backend.lm.engine_requests([instance])
    return PreparedQuestion(question, request, answer)


def generate_text(decoder: Scheduler[Any], request: Request, on_round: OnRound | None) -> Result:
    """Generate the text of one request, with empty caches, so that its cost includes the whole prompt."""
    for runner in decoder.stepper.runners:
        runner.release()
    [result] = decoder.run([request], on_round)
    return result


def greedy_decoder(backend: Backend) -> Decoder | None:
    """A decoder of the plain student; None if there is none to compare with.

    There is none for `greedy` itself, and none for a distilled checkpoint. The method's own student is used
    if it is the plain one. Otherwise the plain student is loaded again, because a merged adapter cannot be
    removed exactly.
    """
    lm = backend.lm
    if isinstance(lm, Greedy) or (lm.METHOD == "distil" and not backend.arguments.get("peft")):
        return None
    if not (isinstance(lm, SelectionLM) and lm.proposer == "base"):
        stock = (STOCK_ARGS | LOADING_ARGS | {"pretrained", "seed"}) - {"peft"}
        shared = {name: value for name, value in backend.arguments.items() if name in stock}
        lm = Greedy.create_from_arg_obj(shared)
    return Decoder(lm.student, greedy(), None, 1, lm.tok_decode, answer_of=lm.thoughts.answer_of)
