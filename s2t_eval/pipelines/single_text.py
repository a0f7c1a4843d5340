"""One question put to one backend (`s2t-eval try`), and to the plain student in the same loop."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.utils import simple_parse_args_string

from s2t_eval.embedded.arith import format_prompt, make_split
from s2t_eval.engine import Decoder, OnRound, Request, Result
from s2t_eval.engine.scheduler import Scheduler
from s2t_eval.method_table import BACKENDS, BY_MODEL
from s2t_eval.model_wrappers.arguments import LOADING_ARGS, STOCK_ARGS
from s2t_eval.model_wrappers.base import EngineLM
from s2t_eval.model_wrappers.embedded_pair import with_embedded_pair
from s2t_eval.model_wrappers.greedy import Greedy
from s2t_eval.model_wrappers.s2t import SelectionLM
from s2t_eval.pipelines.prompts import Prompting, question_prompt
from s2t_eval.selection.policy import greedy

EXAMPLE = 8
"""Problem of the embedded task's training split that is tried where no question is given: one at which the
embedded selector changes greedy's answer."""
EMBEDDED_OPTIONS = {"until": ["\n\n", "Question:"], "max_gen_toks": 96}
"""How the embedded task has its models write; tasks/s2t_arith says the same."""


@dataclass(frozen=True)
class Backend:
    """A loaded backend.

    Args:
        lm: the backend.
        model: its `--model` name.
        arguments: what it was loaded with, those of the embedded pair filled in.
    """

    lm: EngineLM
    model: str
    arguments: Mapping[str, Any]

    @property
    def is_embedded(self) -> bool:
        """Whether one of the embedded models writes."""
        return str(self.arguments["pretrained"]).startswith("embedded/")


@dataclass(frozen=True)
class Posed:
    """A question as a model reads it.

    Args:
        question: without prompt, template and system turn.
        request: what the engine decodes.
        answer: the expected answer, where it is known.
    """

    question: str
    request: Request
    answer: str | None = None


def load_backend(model: str, model_args: str) -> Backend:
    """Load a backend by its `--model` name; without `pretrained` on the embedded pair.

    Raises:
        ValueError: a method that cannot answer a single question, or unusable arguments.
    """
    if BY_MODEL[model].votes:
        raise ValueError(
            f"--model {model}: it votes over answers that a task's rule reads, and a single question has no "
            "task; try --model greedy, or evaluate with lm_eval --model " + model
        )
    wrong = [part for part in model_args.split(",") if part and "=" not in part]
    if wrong:
        raise ValueError(f"--model_args: expected name=value pairs, got {wrong[0]!r}")
    given = simple_parse_args_string(model_args)
    if given.get("trace") is not None:
        raise ValueError("--model_args: a single text has no trace, got trace=; leave it out")
    module, name = BACKENDS[model].split(":")
    backend: type[EngineLM] = getattr(importlib.import_module(module), name)
    arguments = with_embedded_pair(backend.METHOD, given)
    return Backend(backend.create_from_arg_obj(arguments), model, arguments)


def pose(backend: Backend, question: str | None, prompting: Prompting) -> Posed:
    """The engine's request for a question; without one, an example of the embedded task.

    The embedded models read every question in the form of their task, the only one that they know.

    Raises:
        ValueError: no question for a model that is not an embedded one, or an empty one.
    """
    answer = None
    if question is None:
        if not backend.is_embedded:
            raise ValueError(
                "QUESTION: expected a question for this model; the example is the embedded pair's own"
            )
        problem = make_split("train")[EXAMPLE]
        question, answer = problem.question, str(problem.answer)
    if not question.strip():
        raise ValueError("QUESTION: expected a text, got an empty one")
    asked = format_prompt(question) if backend.is_embedded else question
    options: dict[str, Any] = dict(EMBEDDED_OPTIONS) if backend.is_embedded else {"until": []}
    if prompting.max_gen_toks is not None:
        options["max_gen_toks"] = prompting.max_gen_toks
    prompt = question_prompt(backend.lm, asked, prompting)
    instance = Instance("generate_until", {}, (prompt, options), 0, ("try", 0, 1))
    [request] = backend.lm.engine_requests([instance])
    return Posed(question, request, answer)


def write(decoder: Scheduler[Any], request: Request, on_round: OnRound | None = None) -> Result:
    """Generate the text of one request; its prompt is read anew, whatever these models have read before."""
    for runner in decoder.stepper.runners:
        runner.release()
    [result] = decoder.run([request], on_round)
    return result


def greedy_decoder(backend: Backend) -> Decoder | None:
    """The plain student in the loop that every method runs in; None where it is not at hand.

    Where the method's own student is the plain one it is used as it is. Otherwise the student is loaded
    once more, without what the method trained: an adapter that is merged cannot be taken out exactly.
    """
    lm = backend.lm
    if isinstance(lm, Greedy) or (lm.METHOD == "distil" and not backend.arguments.get("peft")):
        return None
    if not (isinstance(lm, SelectionLM) and lm.proposer == "base"):
        stock = (STOCK_ARGS | LOADING_ARGS | {"pretrained", "seed"}) - {"peft"}
        shared = {name: value for name, value in backend.arguments.items() if name in stock}
        lm = Greedy.create_from_arg_obj(shared)
    return Decoder(lm.student, greedy(), None, 1, lm.tok_decode, answer_of=lm.thoughts.answer_of)
