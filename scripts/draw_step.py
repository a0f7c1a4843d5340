"""Draw docs/images/step.svg: one decoding step of `s2t` on the embedded pair, with its actual values.

    python -m scripts.draw_step

The step is read from a committed trace; the student's probabilities, which traces do not contain, are
recomputed.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from s2t_eval.artifacts.json_lines import read_json_lines
from s2t_eval.embedded import embedded_path

REPOSITORY = Path(__file__).resolve().parents[1]
TRACE = REPOSITORY / "results/baselines/embedded/traces/s2t_kl_tau5.jsonl"
PICTURE = REPOSITORY / "docs/images/step.svg"
DOCUMENT, STEP = 4, 17

WIDTH, HEIGHT = 880, 372
ROW, TOP = 25, 126
BAR = 190
INK, GREY, BLUE, RED, GREEN = "#1f2937", "#6b7280", "#2563eb", "#b91c1c", "#15803d"
STYLE = 'font-family="ui-sans-serif, system-ui, Helvetica, Arial, sans-serif"'
MONO = 'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"'


class Step(NamedTuple):
    """One fired step."""

    text: str
    tokens: list[str]
    student: list[float]
    teacher: list[float]
    picked: int
    divergence: float
    threshold: float


def main() -> None:
    """Read the step from the trace and write the figure."""
    step = read_step()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(draw(step), encoding="utf-8")
    print(PICTURE.relative_to(REPOSITORY))


@torch.no_grad()
def read_step() -> Step:
    """Read the step from the trace, and compute the student's probabilities of its candidates."""
    lines = (line.record for line in read_json_lines(TRACE))
    record = next(line for line in lines if line["doc_id"] == DOCUMENT)
    fired = next(step for step in record["steps"] if step["t"] == STEP)
    folder = embedded_path("embedded/student")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    student = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    written = record["output_ids"][:STEP]
    logits = student(torch.tensor([record["prompt_ids"] + written])).logits[0, -1]
    probabilities = logits.softmax(-1)[fired["candidates"]].tolist()
    assert logits.topk(len(fired["candidates"])).indices.tolist() == fired["candidates"]
    return Step(
        text=str(tokenizer.decode(written)).strip(),
        tokens=[str(tokenizer.decode([token])).strip() for token in fired["candidates"]],
        student=probabilities,
        teacher=fired["scores"],
        picked=fired["candidates"].index(fired["picked"]),
        divergence=fired["divergence"],
        threshold=record["threshold"],
    )


def draw(step: Step) -> str:
    """The figure as SVG."""
    sentences = step.text.rsplit(". ", 1)[-1]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="title" font-size="15" {STYLE}>',
        '<title id="title">One decoding step: the student\'s eight most likely tokens, the trigger, and the '
        "teacher's pick among them</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="#ffffff"/>',
        _text(28, 38, "The text so far", GREY),
        _text(150, 38, f"… {sentences}", INK, MONO),
        _text(28, 78, "1. The trigger", INK, 'font-weight="600"'),
        _text(
            150,
            78,
            f"student and teacher differ by {step.divergence:.2f} nats (KL), more than the threshold of "
            f"{step.threshold:.2f}: this step fires",
            INK,
        ),
        _text(28, 110, "2. The student's top 8", INK, 'font-weight="600"'),
        _text(508, 110, "3. The teacher picks among them", INK, 'font-weight="600"'),
    ]
    for place, token in enumerate(step.tokens):
        parts += _candidate(step, place, token)
    bottom = TOP + len(step.tokens) * ROW + 32
    parts += [
        _outcome(28, bottom, "Greedy decoding writes", step.tokens[0], RED),
        _outcome(508, bottom, "Select to Think writes", step.tokens[step.picked], GREEN),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _candidate(step: Step, place: int, token: str) -> list[str]:
    """One line: the token, the student's probability and the teacher's."""
    y = TOP + place * ROW
    shade = "#dcfce7" if place == step.picked else "#fee2e2" if place == 0 else None
    parts = (
        [f'<rect x="20" y="{y}" width="{WIDTH - 40}" height="{ROW - 1}" fill="{shade}"/>'] if shade else []
    )
    parts.append(_text(40, y + 17, token, INK, MONO))
    for x, probability, colour in ((90, step.student[place], BLUE), (508, step.teacher[place], GREEN)):
        width = max(1.0, probability * BAR)
        parts.append(f'<rect x="{x}" y="{y + 5}" width="{width:.1f}" height="14" rx="2" fill="{colour}"/>')
        parts.append(_text(x + width + 8, y + 17, f"{100 * probability:.1f} %", GREY))
    return parts


def _outcome(x: float, y: float, words: str, token: str, colour: str) -> str:
    """A final line: the written token, in the colour of its row."""
    written = f'<tspan dx="6" fill="{colour}" font-weight="600" {MONO}>{escape(token)}</tspan>'
    return f'<text x="{x}" y="{y}" fill="{GREY}">{escape(words)}{written}</text>'


def _text(x: float, y: float, words: str, colour: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" {more}>{escape(words)}</text>'.replace(" >", ">")


if __name__ == "__main__":
    main()
