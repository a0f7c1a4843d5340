"""`s2t-eval try`: one question, the text as it is written, greedy's beside it, and every fired step."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from s2t_eval.cli.flags import Commands, require_flags
from s2t_eval.method_table import BACKENDS
from s2t_eval.ranges import AT_LEAST_0, AT_LEAST_1

if TYPE_CHECKING:
    from rich.console import Console

    from s2t_eval.engine import Result
    from s2t_eval.pipelines.single_text import Backend, PreparedQuestion

EXAMPLE = (
    's2t-eval try --model s2t "Max has 48 eggs. Max loses 30 eggs. Max sells 7 eggs. How many eggs does Max '
    'have now?"'
)


def add_to(commands: Commands) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "try", help="answer one question in the terminal, token by token", epilog=f"example: {EXAMPLE}"
    )
    add = parser.add_argument
    add("question", nargs="?", metavar="QUESTION", help="default: an example of the embedded pair's task")
    add("--model", choices=sorted(BACKENDS), default="pps_local", help="backend (default pps_local)")
    add("--model_args", "--model-args", help="as given to lm_eval; without them the embedded pair")
    add("--system_instruction", "--system-instruction", help="as given to lm_eval")
    add("--apply_chat_template", "--apply-chat-template", action="store_true")
    add(
        "--max_gen_toks", "--max-gen-toks", type=int, help="most tokens (default: the model's, as in lm_eval)"
    )
    add("--steps", type=int, default=20, help="fired steps that are listed (default 20)")
    add("--no_greedy", "--no-greedy", action="store_true", help="leave out greedy's text")
    parser.set_defaults(function=run)


def run(parsed: argparse.Namespace) -> None:
    """Write the text, greedy's beside it, the steps and the costs."""
    require_flags(parsed, max_gen_toks=AT_LEAST_1, steps=AT_LEAST_0)

    from s2t_eval.cli.step_list import cost_table, fired_steps
    from s2t_eval.cli.text_display import make_console
    from s2t_eval.cli.transcript import CONTROL
    from s2t_eval.pipelines.prompts import Prompting
    from s2t_eval.pipelines.single_text import load_backend, prepare_question

    prompting = Prompting(
        parsed.system_instruction, parsed.apply_chat_template, max_gen_toks=parsed.max_gen_toks
    )
    backend = load_backend(parsed.model, parsed.model_args or "")
    prepared = prepare_question(backend, parsed.question, prompting)
    console = make_console()
    expected = f" (expected: {prepared.answer})" if prepared.answer is not None else ""
    console.print(f"question: {prepared.question.translate(CONTROL)}{expected}\n", soft_wrap=True)
    results = _write_texts(console, backend, prepared, not parsed.no_greedy)
    steps = results[parsed.model].steps
    if steps:
        console.print(fired_steps(steps, parsed.steps, backend.lm.tok_decode), "")
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
