"""The decoder of all selection methods: a scheduler whose step follows a policy."""

from __future__ import annotations

from collections import abc

from s2t_eval.engine.chunk_schedule import Verify, make_schedule
from s2t_eval.engine.runner import ModelRunner
from s2t_eval.engine.scheduler import Scheduler
from s2t_eval.engine.selection_step import Observers, SelectionStepper
from s2t_eval.engine.sequence import Sequence
from s2t_eval.engine.stepper import Stepper
from s2t_eval.engine.stop import AnswerOf, Decode
from s2t_eval.engine.verifying_step import VerifyingStepper, can_verify
from s2t_eval.selection.policy import Policy
from s2t_eval.selection.triggers import Trigger


class Decoder(Scheduler[Sequence]):
    """Generates texts for requests under one policy.

    Args:
        student: proposes every token.
        policy: which steps fire, and which selector picks the token there.
        teacher: the larger model, where the policy or an observed trigger needs one.
        rows: sequences decoded at once.
        decode: token ids to text, for requests with stop strings.
        observe: triggers whose divergence is recorded at every step (for calibration).
        scorer: the model that scores a local selector's candidates (proposer `base`, PPS). Its own cache
            is prefilled up to the current token where a step fires. None: the student scores its own
            branches.
        keep_top: at every step record this many of the student's most likely tokens (for labels).
        answer_of: extracts the answer outside of a text's thoughts, for requests with thoughts.
        verify: tokens that the student drafts before a teacher that reads every token verifies them in one
            pass; "auto" adapts the length by measurement, 1 is lockstep. The texts are the same. Local
            selectors and random triggers always run in lockstep.

    Raises:
        ValueError: the policy needs a teacher and there is none, or `top_k` exceeds the vocabulary.

    Example:
        >>> decoder = Decoder(ModelRunner(model), greedy(), rows=32)
        >>> texts = {r.index: r.text_ids for r in decoder.run([Request((1, 2, 3), 64)])}
    """

    def __init__(
        self,
        student: ModelRunner,
        policy: Policy,
        teacher: ModelRunner | None = None,
        rows: int = 32,
        decode: Decode | None = None,
        observe: abc.Sequence[Trigger] = (),
        scorer: ModelRunner | None = None,
        keep_top: int = 0,
        answer_of: AnswerOf | None = None,
        verify: Verify = 1,
    ) -> None:
        if policy.top_k > student.text_vocab:
            raise ValueError(
                f"top_k: expected at most the student's vocabulary of {student.text_vocab} tokens, "
                f"got {policy.top_k}"
            )
        if teacher is None and (policy.needs_teacher or any(t.needs_teacher for t in observe)):
            raise ValueError(f"policy {policy.name}: it needs a teacher and there is none")
        observers = Observers(tuple(observe), min(keep_top, student.text_vocab))
        stepper: Stepper[Sequence]
        if verify != 1 and teacher is not None and can_verify(policy, observe):
            stepper = VerifyingStepper(student, policy, teacher, make_schedule(verify), observers)
        else:
            stepper = SelectionStepper(student, policy, teacher, scorer, observers)
        super().__init__(stepper, rows, decode, answer_of)
