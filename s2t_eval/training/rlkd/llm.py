"""The structurer and the aligner `llm`: a chat model divides texts and compares steps, prompted in our words.

The paper tunes a 7B model for the division and prompts another for the comparison. Small models follow the
format of a list poorly; a text without a complete step is counted as unscored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from s2t_eval.engine import Decoder, ModelRunner, Request
from s2t_eval.engine.stop import Decode
from s2t_eval.selection.policy import greedy
from s2t_eval.training.rlkd.alignment import StepAgreement
from s2t_eval.training.rlkd.cost import JudgeCost
from s2t_eval.training.rlkd.structure import END_OF_THOUGHT, SolutionStep

Encode = Callable[[str], list[int]]
"""A prompt -> its token ids, with the chat template up to the reply."""

DIVIDE = "You divide worked solutions into the steps that they consist of."
DIVIDE_TASK = """Problem:
{question}

Worked solution:
{solution}

Write down the steps of this solution in their order. Use three lines for each step and write nothing else:
Reason: what has to be found next and why, without the result
Question: the single question that the step answers
Answer: the result of the step, as short as possible"""
COMPARE = "You compare notes on two solutions of the same problem. Reply with yes or no."
COMPARE_TASKS = (
    "Reason in the first solution: {left}\nReason in the second solution: {right}\n"
    "Do both reasons aim at finding the same thing?",
    "Question in the first solution: {left}\nQuestion in the second solution: {right}\n"
    "Would both questions be answered by the same calculation or argument?",
    "Answer in the first solution: {left}\nAnswer in the second solution: {right}\n"
    "Are both answers equal in value or meaning?",
)
"""For the meta-reasoning, the query and the answer of a step."""
LINE = re.compile(r"^[\s*#>-]*(?:\d+[.)]\s*)?\**(reason|question|answer)\**\s*:\**\s*(\S.*?)\s*$", re.I)
PARTS = ("reason", "question", "answer")


def parse_steps(reply: str) -> list[SolutionStep] | None:
    """The steps that a reply lists: three lines each, in their order; None if it contains no whole step.

    Lines of another form are skipped, and so is a step that lacks a part.
    """
    steps: list[SolutionStep] = []
    parts: list[str] = []
    for line in reply.splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        name = match[1].lower()
        if name == PARTS[0]:
            parts = []
        if name != PARTS[len(parts)]:
            parts = []
            continue
        parts.append(match[2])
        if len(parts) == len(PARTS):
            steps.append(SolutionStep(*parts))
            parts = []
    return steps or None


@dataclass
class LlmStructurer:
    """Divides texts into steps by prompting a model.

    Args:
        runner: the model.
        encode: a prompt to its tokens.
        decode: token ids to text.
        stop_ids: tokens that end a reply.
        max_new_tokens: length limit of a reply.
        rows: replies that are generated at once.
        cost: counts tokens and seconds.
    """

    runner: ModelRunner
    encode: Encode
    decode: Decode
    stop_ids: frozenset[int]
    max_new_tokens: int
    rows: int
    cost: JudgeCost = field(default_factory=JudgeCost)

    def structure(self, questions: Sequence[str], texts: Sequence[str]) -> list[list[SolutionStep] | None]:
        """The steps that the model lists for each text; None for a reply without a whole step."""
        prompts = [self.prompt(*pair) for pair in zip(questions, texts, strict=True)]
        requests = [Request(tuple(prompt), self.max_new_tokens, self.stop_ids) for prompt in prompts]
        replies = [""] * len(requests)
        with self.cost.timed():
            for result in Decoder(self.runner, greedy(), rows=self.rows).run(requests):
                replies[result.index] = self.decode(result.text_ids)
                self.cost.generated += len(result.output_ids)
                self.cost.read += result.usage.prefill_tokens
        return [parse_steps(reply) for reply in replies]

    def prompt(self, question: str, text: str) -> list[int]:
        """Token ids of the prompt for one text; what follows the end of a thought is left out."""
        solution = text.partition(END_OF_THOUGHT)[0].strip()
        task = DIVIDE_TASK.format(question=question.strip(), solution=solution)
        return self.encode(f"{DIVIDE}\n\n{task}")


@dataclass
class LlmAligner:
    """Compares steps by a model's probabilities of yes and no, from one forward pass for each part.

    The published code looks for the words in a generated reply, where "no" is also part of "not".

    Args:
        runner: the model.
        encode: a prompt to its tokens.
        yes_ids: tokens that are a spelling of yes.
        no_ids: tokens that are a spelling of no.
        batch: prompts that are read at once.
        cost: counts tokens and seconds.
    """

    runner: ModelRunner
    encode: Encode
    yes_ids: tuple[int, ...]
    no_ids: tuple[int, ...]
    batch: int
    cost: JudgeCost = field(default_factory=JudgeCost)

    def align(self, pairs: Sequence[tuple[SolutionStep, SolutionStep]]) -> list[StepAgreement]:
        """What agrees in each pair; parts whose texts are equal agree without a question."""
        answers: dict[tuple[int, str, str], bool] = {}
        for student, reference in pairs:
            for part in range(len(COMPARE_TASKS)):
                answers[part, student[part], reference[part]] = student[part] == reference[part]
        unequal = [key for key, is_equal in answers.items() if not is_equal]
        for begin in range(0, len(unequal), self.batch):
            keys = unequal[begin : begin + self.batch]
            with self.cost.timed():
                verdicts = self._compare([self.prompt(*key) for key in keys])
            answers.update(zip(keys, verdicts, strict=True))
        return [StepAgreement(*(answers[i, a[i], b[i]] for i in range(len(COMPARE_TASKS)))) for a, b in pairs]

    def prompt(self, part: int, left: str, right: str) -> list[int]:
        """Token ids of the question about one part (0 meta, 1 query, 2 answer) of two steps."""
        task = COMPARE_TASKS[part].format(left=left, right=right)
        return self.encode(f"{COMPARE}\n\n{task}")

    @torch.inference_mode()
    def _compare(self, prompts: Sequence[Sequence[int]]) -> list[bool]:
        self.cost.read += sum(map(len, prompts))
        states = torch.stack([states[-1] for states in self.runner.encode(prompts)])
        yes, no = (self._log_mass(states, ids) for ids in (self.yes_ids, self.no_ids))
        verdicts: list[bool] = (yes > no).tolist()
        return verdicts

    def _log_mass(self, states: Tensor, ids: tuple[int, ...]) -> Tensor:
        """Log of the summed exponentials of these tokens' logits, [prompts]."""
        columns = torch.tensor([ids], device=states.device).expand(len(states), len(ids))
        return self.runner.head_at(states, columns).logsumexp(-1)
