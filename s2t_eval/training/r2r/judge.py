"""The rule `judge`: the teacher classifies whether two sentences differ in meaning.

The verdicts of a small judge are close to chance; the rule is meant for pairs whose teacher is large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from s2t_eval.engine import ModelRunner
from s2t_eval.methods.r2r_error import R2RError

SYSTEM = (
    "You compare two versions of the next sentence in a worked solution. The versions share their beginning "
    "and part at the word in [[double brackets]]."
)
TASK = """Reply with a single digit.
1: the versions differ in a fact, a number, a step of the reasoning, the conclusion, or in what they turn to.
0: the versions differ in wording, order or layout alone.

Example. Version A: There are [[12]] eggs left. Version B: There are [[15]] eggs left. Digit: 1
Example. Version A: [[So]] there are 12 eggs left. Version B: [[Hence]] there are 12 eggs left. Digit: 0

Solution so far: {context}
Version A: {teacher}
Version B: {student}
Digit:"""

Encode = Callable[[Sequence[dict[str, str]]], list[int]]
"""Chat turns -> token ids of the prompt, up to the reply."""


def turns(context: str, teacher: str, student: str) -> list[dict[str, str]]:
    """Chat turns of the judge's prompt: roles as in the paper, in a wording of this project."""
    user = TASK.format(context=context.strip() or "(nothing yet)", teacher=teacher, student=student)
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def probabilities(
    teacher: ModelRunner, prompts: Sequence[Sequence[int]], digits: tuple[int, int]
) -> list[float]:
    """P(1) / (P(0) + P(1)) after each prompt, from one forward pass each and no generated token.

    Args:
        teacher: the judge.
        prompts: token ids of `turns`.
        digits: token ids of 0 and 1.
    """
    if not prompts:
        return []
    last_states = torch.stack([states[-1] for states in teacher.encode(prompts)])
    ids = torch.tensor([digits], device=last_states.device).expand(len(prompts), 2)
    probabilities_of_1: list[float] = teacher.head_at(last_states, ids).softmax(-1)[:, 1].tolist()
    return probabilities_of_1


def digit_ids(encode_text: Callable[[str], list[int]], unknown: int | None) -> tuple[int, int]:
    """Token ids of the digits 0 and 1.

    Raises:
        R2RError: a tokenizer that has no single token for one of them.
    """
    digit_tokens = [encode_text(digit) for digit in "01"]
    if any(len(ids) != 1 or ids[0] == unknown for ids in digit_tokens):
        raise R2RError(
            "rule=judge: the teacher's tokenizer has no single token for the digits 0 and 1; use "
            "rule=reconverge"
        )
    return digit_tokens[0][0], digit_tokens[1][0]
