"""RLKD: from problems with references to a distilled folder, with held-out figures before and after training.

An item of the training loop is a problem. Before the first optimizer step on a window of problems, a group of
texts is sampled for each with the weights of that moment, and rewarded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from s2t_eval.artifacts.fingerprint import model_fingerprint
from s2t_eval.engine import ModelRunner, Sampling
from s2t_eval.engine.stop import Decode
from s2t_eval.methods.distilled import DistilInfo, save_distilled
from s2t_eval.training.distil.teacher_rollouts import RolloutCost
from s2t_eval.training.loop import Loop, Metrics, TrainingResult, autocast, kept_metric
from s2t_eval.training.processes import write_result
from s2t_eval.training.rlkd.cost import CostMeter, total_cost
from s2t_eval.training.rlkd.grpo import advantages
from s2t_eval.training.rlkd.model import Group, GroupBatch, RlkdModel, collate
from s2t_eval.training.rlkd.problems import RlkdError, RlkdProblem, Text
from s2t_eval.training.rlkd.rewarder import Reward, Rewarder
from s2t_eval.training.rlkd.sampling import Sampler, TextLimits
from s2t_eval.training.rlkd.settings import RLKD_LR, RlkdSettings
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.student import Student
from s2t_eval.training.work_folder import work_folder

METHOD = "rlkd"


@dataclass(frozen=True)
class TrainingData:
    """The problems of a training, with what is needed to generate and describe its texts.

    Args:
        train: problems that are trained on.
        held_out: problems that choose the checkpoint.
        left_out: reason -> number of problems that were left out.
        limits: when a text ends.
        decode: token ids to text.
        labels: manifest of the label set that the problems are from.
        teacher: fingerprint of the teacher; empty where the references are the problems' own solutions.
        teacher_name: its name, or what the references are.
        teacher_cost: of the references that the teacher wrote before the training begins.
    """

    train: Sequence[RlkdProblem]
    held_out: Sequence[RlkdProblem]
    left_out: Mapping[str, int]
    limits: TextLimits
    decode: Decode
    labels: dict[str, Any]
    teacher: str
    teacher_name: str
    teacher_cost: RolloutCost

    def require_problems(self) -> None:
        """Raise `RlkdError` where no problem is left to train on or to evaluate."""
        if self.train and self.held_out:
            return
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        raise RlkdError(
            f"labels: expected problems on both sides, got {len(self.train)} to train on and "
            f"{len(self.held_out)} held out (left out: {reasons}); label more problems"
        )


class RlkdTraining:
    """Samples, rewards and evaluates for the training loop.

    Args:
        model: the student with its adapter.
        sampler: generates its texts.
        rewarder: rewards them.
        held_out: problems of the evaluations.
        settings: see `RlkdSettings`.
        loop: seed of the samples, and the size and precision of the loop's batches.
    """

    def __init__(
        self,
        model: RlkdModel,
        sampler: Sampler,
        rewarder: Rewarder,
        held_out: Sequence[RlkdProblem],
        settings: RlkdSettings,
        loop: LoopSettings,
    ) -> None:
        self.model = model
        self.sampler = sampler
        self.rewarder = rewarder
        self.held_out = held_out
        self.settings = settings
        self.loop = loop
        self.meter = CostMeter(rewarder.judge_cost)
        self._groups: dict[str, Group] = {}

    def prepare(self, problems: Sequence[RlkdProblem], step: int) -> None:
        """Sample and reward the groups of these problems with the present weights.

        Args:
            problems: the problems of the next optimizer steps.
            step: number of optimizer steps done.
        """
        self.model.eval()
        size, sampling = self.settings.group_size, Sampling(self.settings.temperature)
        with self.meter.timed("seconds_sampling"):
            texts = self.sampler.groups(problems, size, sampling, (self.loop.seed, step))
        with self.meter.timed("seconds_reward"):
            rewards = self._rewards(problems, texts)
        totals = torch.tensor([self.rewarder.totals(group) for group in rewards])
        relative = advantages(totals, not self.settings.unscaled)
        self._count(texts, rewards, totals)
        groups = [_group(*columns) for columns in zip(problems, texts, relative, strict=True)]
        if self.settings.updates > 1:
            groups = self._with_old_log_probs(groups)
        self._groups = {p.problem_id: group for p, group in zip(problems, groups, strict=True)}

    def collate(self, problems: Sequence[RlkdProblem]) -> GroupBatch:
        """The batch of these problems' groups, on the model's device."""
        groups = [self._groups[problem.problem_id] for problem in problems]
        self.meter.cost.text_visits += sum(len(group.outputs) for group in groups)
        return collate(groups).to(self.model.device)

    def evaluate(self) -> Metrics:
        """Rewards of greedy texts on held-out problems, and the costs since the last evaluation."""
        with self.meter.timed("seconds_evaluation"):
            texts = self.sampler.greedy(self.held_out)
            rewards = [group[0] for group in self._rewards(self.held_out, [[text] for text in texts])]
        self.meter.cost.evaluation_tokens += sum(len(text.output_ids) for text in texts)
        self._take_prompt_tokens()
        return {**held_out_metrics(rewards, texts, self.settings), **self.meter.take()}

    def _rewards(
        self, problems: Sequence[RlkdProblem], texts: Sequence[Sequence[Text]]
    ) -> list[list[Reward]]:
        """The rewards; a prompted model computes them in its own precision, never in the loop's."""
        with torch.autocast(self.model.device.type, enabled=False):
            return self.rewarder.rewards(problems, texts)

    def _with_old_log_probs(self, groups: Sequence[Group]) -> list[Group]:
        """The groups with their tokens' log-probabilities, computed in the loop's batches and precision.

        Other batches are padded to another length and round otherwise, most of all in bf16: the ratios of the
        first update would not be 1.
        """
        complete: list[Group] = []
        for begin in range(0, len(groups), self.loop.batch_size):
            part = groups[begin : begin + self.loop.batch_size]
            with autocast(self.loop.precision, self.model.device):
                log_probs = self.model.log_probs(collate(part).to(self.model.device)).cpu()
            lengths = [sum(map(len, group.outputs)) for group in part]
            by_group = zip(part, log_probs.split(lengths), strict=True)
            complete += [group._replace(old_log_probs=values) for group, values in by_group]
        return complete

    def _count(
        self, texts: Sequence[Sequence[Text]], rewards: Sequence[Sequence[Reward]], totals: torch.Tensor
    ) -> None:
        cost = self.meter.cost
        cost.generated_tokens += sum(len(text.output_ids) for group in texts for text in group)
        if self.settings.structure_weight:
            cost.unscored_texts += sum(reward.structure is None for group in rewards for reward in group)
        cost.groups += len(totals)
        cost.equal_groups += int((totals.amax(-1) == totals.amin(-1)).sum())
        cost.reward_sum += float(totals.sum())
        self._take_prompt_tokens()

    def _take_prompt_tokens(self) -> None:
        self.meter.cost.prompt_tokens += self.sampler.prompt_tokens
        self.sampler.prompt_tokens = 0


def _group(problem: RlkdProblem, texts: Sequence[Text], advantage: torch.Tensor) -> Group:
    outputs = [torch.tensor(text.output_ids) for text in texts]
    return Group(torch.tensor(problem.prompt_ids), outputs, advantage)


def held_out_metrics(rewards: Sequence[Reward], texts: Sequence[Text], settings: RlkdSettings) -> Metrics:
    """Means over held-out problems: reward, structure, right answers and length; and the number of texts.

    `structure` is the mean over texts that could be divided into steps; `unscored` counts the others. Both
    are left out where the structure has weight 0, since it is not computed then.
    """
    correct = sum(reward.correct for reward in rewards) / len(rewards)
    reward, of_structure = settings.correctness_weight * correct, {}
    if settings.structure_weight:
        scored = [reward.structure for reward in rewards if reward.structure is not None]
        structure = sum(scored) / len(scored) if scored else 0.0
        reward += settings.structure_weight * structure
        of_structure = {"structure": structure, "unscored": float(len(rewards) - len(scored))}
    return {
        "reward": reward,
        "correct": correct,
        "tokens": sum(len(text.output_ids) for text in texts) / len(texts),
        **of_structure,
        "texts": float(len(texts)),
    }


def train_rlkd(
    student: Student,
    tokenizer: Any,
    data: TrainingData,
    rewarder: Rewarder,
    settings: RlkdSettings,
    loop: LoopSettings,
    out: Path,
    identity: Mapping[str, Any],
) -> DistilInfo:
    """Train an adapter and write the folder `out`, which `--model distil` evaluates.

    Checkpoints are kept in `out.training` until the folder is written.

    Args:
        student: the student.
        tokenizer: its tokenizer.
        data: problems with references.
        rewarder: rewards texts.
        settings: rewards, sampling and adapter.
        loop: settings of the training loop.
        out: folder to write.
        identity: what identifies the run beside the settings of the loop.

    Raises:
        RlkdError: no problem is left to train on or to evaluate.
        TrainingError: the loss is not finite, or checkpoints of another run.
        WriteError: a checkpoint or the folder could not be written.
    """
    data.require_problems()
    loop = loop.with_default_lr(RLKD_LR)
    torch.manual_seed(loop.seed)
    model = RlkdModel(
        student.model,
        settings.lora,
        student.text_vocab,
        settings.temperature,
        settings.clip_range,
        settings.kl_weight,
    )
    work = work_folder(out)
    result = _fit(model, student, data, rewarder, settings, loop, work / METHOD, identity)
    record = _training_record(result, data, {**identity, "loop": asdict(loop)})
    info = _describe(student, model, data, record)
    write_result(lambda: save_distilled(out, info, model.student, tokenizer), work)
    return info


def _fit(
    model: RlkdModel,
    student: Student,
    data: TrainingData,
    rewarder: Rewarder,
    settings: RlkdSettings,
    loop: LoopSettings,
    folder: Path,
    identity: Mapping[str, Any],
) -> TrainingResult:
    """Run the training loop; the model then has the parameters of the best evaluation."""
    runner = ModelRunner(model.student, student.name, student.text_vocab)  # type: ignore[arg-type]
    sampler = Sampler(runner, data.limits, data.decode, settings.rows)
    training = RlkdTraining(model, sampler, rewarder, data.held_out, settings, loop)
    return Loop[RlkdProblem](
        model,
        data.train,
        training.collate,
        training.evaluate,
        kept_metric(settings.keep),
        loop,
        folder,
        identity,
        prepare=training.prepare,
        repeats=settings.updates,
    ).run()


def _training_record(
    result: TrainingResult, data: TrainingData, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What the manifest keeps of the training loop, with its costs."""
    return {
        "before": result.history[0],
        "after": result.best,
        "problems": len(data.train),
        "held_out_problems": len(data.held_out),
        "left_out": dict(data.left_out),
        "steps": result.steps,
        "best_step": result.best_step,
        "stopped_early": result.stopped_early,
        "history": result.history,
        "cost": {
            **total_cost(result.history),
            "teacher_generated": data.teacher_cost.generated,
            "teacher_prefilled": data.teacher_cost.prefilled,
            "updates": result.steps,
        },
        "settings": dict(settings),
    }


def _describe(student: Student, model: RlkdModel, data: TrainingData, record: dict[str, Any]) -> DistilInfo:
    """The folder's manifest."""
    return DistilInfo(
        kind="adapter",
        method=METHOD,
        base=student.fingerprint,
        base_name=student.name,
        result=model_fingerprint(model.student),
        vocabulary=student.vocabulary,
        teacher=data.teacher,
        teacher_name=data.teacher_name,
        labels=data.labels,
        training=record,
    )
