"""`s2t-eval try`: one question, the text as it is written, greedy's beside it, and every fired step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from cyclopts import Parameter

from s2t_eval.cli.command import HIDDEN, require_flags
from s2t_eval.method_table import BACKENDS
from s2t_eval.pipelines.settings import Prompting
from s2t_eval.ranges import AT_LEAST_0

if TYPE_CHECKING:
    from rich.console import Console

    from s2t_eval.engine import Result
    from s2t_eval.pipelines.single_text import Backend, PreparedQuestion


@dataclass(frozen=True)
class _TryPrompting(Prompting):
    num_fewshot: Annotated[int, HIDDEN] = Prompting.num_fewshot


@dataclass(frozen=True, kw_only=True)
class Try:
    """Answer one question in the terminal, token by token.

    Args:
        question: the question. None: an example of the embedded pair's task.
        model: backend that answers.
        model_args: model arguments, as in lm_eval. Empty: the embedded pair.
        steps: number of fired steps that are listed.
        no_greedy: leave out greedy's text.
    """

    EXAMPLE: ClassVar[str] = (
        "s2t-eval try --model s2t \\\n"
        '    "Max has 48 eggs. Max loses 30 eggs. Max sells 7 eggs. How many eggs does Max have now?"'
    )

    question: str | None = field(default=None, kw_only=False)
    model: Annotated[str, Parameter(choices=tuple(sorted(BACKENDS)))] = "pps_local"
    model_args: str = ""
    prompting: Annotated[_TryPrompting, Parameter(name="*")] = field(default_factory=_TryPrompting)
    steps: int = 20
    no_greedy: bool = False

    def run(self) -> None:
        """Write the text, greedy's beside it, the steps and the costs."""
        require_flags(self, steps=AT_LEAST_0)
        from s2t_eval.cli.step_list import cost_table, fired_steps
        from s2t_eval.cli.text_display import make_console
        from s2t_eval.cli.transcript import CONTROL
        from s2t_eval.pipelines.single_text import load_backend, prepare_question

        backend = load_backend(self.model, self.model_args)
        prepared = prepare_question(backend, self.question, self.prompting)
        console = make_console()
        expected = f" (expected: {prepared.answer})" if prepared.answer is not None else ""
        console.print(f"question: {prepared.question.translate(CONTROL)}{expected}\n", soft_wrap=True)
        results = _write_texts(console, backend, prepared, not self.no_greedy)
        steps = results[self.model].steps
        if steps:
            console.print(fired_steps(steps, self.steps, backend.lm.tok_decode), "")
        console.print(cost_table(results, len(prepared.request.prompt_ids)))


def _write_texts(
    console: Console, backend: Backend, prepared: PreparedQuestion, with_greedy: bool
) -> dict[str, Result]:
    """The method's text, then greedy's, shown as they are written."""
    from s2t_eval.cli.text_display import make_display
    from s2t_eval.cli.transcript import Transcript
    from s2t_eval.pipelines.single_text import generate_text, greedy_decoder

    decoders = {backend.model: backend.lm.decoder()}
    control = greedy_decoder(backend) if with_greedy else None
    if control is not None:
        decoders["greedy"] = control
    display, results = make_display(console), {}
    try:
        for title, decoder in decoders.items():
            transcript = Transcript(backend.lm.tok_decode, prepared.request.stop_strings)
            results[title] = generate_text(decoder, prepared.request, display.begin(title, transcript))
    finally:
        display.end()
    return results
