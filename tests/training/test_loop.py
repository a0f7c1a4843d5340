"""The training loop: gradient accumulation, resuming, the best checkpoint, and errors."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import torch
from accelerate import PartialState, tracking
from accelerate.tracking import GeneralTracker
from accelerate.utils import LoggerType
from safetensors.torch import load_file
from torch import Tensor, nn

from s2t_eval.artifacts.files import WriteError
from s2t_eval.models.attention_kernels import without_cudnn_attention
from s2t_eval.training import checkpoints as checkpoints_module
from s2t_eval.training.checkpoints import Progress
from s2t_eval.training.loop import Loop, TrainingError, TrainingResult
from s2t_eval.training.processes import write_result
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.work_folder import logs_folder
from tests.engine.test_devices import needs_gpu


class Example(NamedTuple):
    x: Tensor
    y: Tensor
    source: str
    weight: float = 1.0


class Sum(NamedTuple):
    loss: Tensor


class Line(nn.Module):
    """A regression with dropout, so that a resumed run must restore random numbers too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 1)
        self.offset = nn.Parameter(torch.zeros(1))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.dropout = nn.Dropout(0.2)

    def forward(self, batch: Sequence[Example]) -> Sum:
        x, y = (torch.stack([getattr(item, name) for item in batch]) for name in ("x", "y"))
        error = (self.layer(self.dropout(x))[:, 0] + self.offset - y) ** 2
        weights = torch.tensor([item.weight for item in batch])
        return Sum((error * weights).sum())


class Watching(Line):
    """Notes at each forward pass, and at each gradient, whether attention may be cuDNN's."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed: list[bool] = []
        self.offset.register_hook(lambda gradient: self.note())

    def note(self) -> None:
        self.allowed.append(torch.backends.cuda.cudnn_sdp_enabled())

    def forward(self, batch: Sequence[Example]) -> Sum:
        if self.training:
            self.note()
        return super().forward(batch)


class RootAtZero(Line):
    """Its loss is a number, and its gradient is none."""

    def forward(self, batch: Sequence[Example]) -> Sum:
        return Sum(super().forward(batch).loss + self.offset.abs().sqrt().sum())


class Undropped(Line):
    """The same without dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.0)


def examples(count: int = 11) -> list[Example]:
    generator = torch.Generator().manual_seed(1)
    xs = torch.randn(count, 4, generator=generator)
    return [Example(x, x.sum(), f"shard-0, row {i}", 1.0 + i % 3) for i, x in enumerate(xs)]


def make(
    folder: Path, module: nn.Module | None = None, metric: str = "-loss", **settings: Any
) -> Loop[Example]:
    module = module or Line()
    training_items = examples()

    def evaluate() -> dict[str, float]:
        with torch.no_grad():
            return {"loss": float(module(training_items).loss)}

    loop_settings = LoopSettings(**{"epochs": 3, "lr": 0.05, "batch_size": 2, "accumulate": 2, **settings})
    return Loop(
        module,
        training_items,
        list,
        evaluate,
        metric,
        loop_settings,
        folder,
        {"what": "a line"},
        ("offset",),
    )


def weights(loop: Loop[Example]) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in loop.module.named_parameters()}


def test_it_learns_and_keeps_the_best(tmp_path: Path) -> None:
    loop = make(tmp_path / "run", epochs=20)
    trained = loop.run()
    assert trained.best["loss"] < trained.history[0]["loss"] / 4
    assert trained.best["loss"] == min(entry["loss"] for entry in trained.history)
    assert trained.steps == 20 * 3  # 11 items in windows of 4: the last, partial one is stepped too
    assert float(loop.module.frozen) == 1.0
    loop.module.eval()
    assert loop.evaluate()["loss"] == pytest.approx(trained.best["loss"], rel=1e-5)


def test_accumulated_windows_are_one_large_batch(tmp_path: Path) -> None:
    few = make(tmp_path / "a", Undropped(), batch_size=1, accumulate=4)
    one = make(tmp_path / "b", Undropped(), batch_size=4, accumulate=1)
    few.run(), one.run()
    for name, value in weights(few).items():
        torch.testing.assert_close(value, weights(one)[name], atol=1e-5, rtol=1e-4)


def slow_training(settings: LoopSettings) -> tuple[nn.Module, list[float], list[float]]:
    """The same training in a plain loop: the module, the loss of each step, and its gradient's norm."""
    module, items, size = Undropped(), examples(), settings.batch_size * settings.accumulate
    decayed = {"params": [module.layer.weight, module.layer.bias], "weight_decay": settings.weight_decay}
    optimizer = torch.optim.AdamW([decayed, {"params": [module.offset], "weight_decay": 0.0}])
    windows = range(0, len(items), size)
    total = settings.epochs * len(windows)
    warmup = round(settings.lr_warmup_fraction * total)
    losses, norms = [], []
    for step in range(total):
        epoch, number = divmod(step, len(windows))
        order = torch.randperm(len(items), generator=torch.Generator().manual_seed(settings.seed + epoch))
        window = [items[i] for i in order.tolist()[windows[number] : windows[number] + size]]
        after_warmup = (step - warmup) / (total - warmup)
        share = step / warmup if step < warmup else (1 + math.cos(math.pi * after_warmup)) / 2
        for group in optimizer.param_groups:
            group["lr"] = settings.peak_lr * share
        loss = module(window).loss / sum(item.weight for item in window)
        optimizer.zero_grad()
        loss.backward()
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
        for gradient in gradients:
            gradient *= min(1.0, settings.clip / norm)
        optimizer.step()
        losses.append(float(loss.detach()))
        norms.append(norm)
    return module, losses, norms


def test_it_is_its_slow_twin(tmp_path: Path) -> None:
    """Order, warm-up, decay of rate and weights, and clipping of about half of the gradients."""
    changed = {"weight_decay": 0.5, "lr_warmup_fraction": 0.3, "seed": 4}
    *_, norms = slow_training(make(tmp_path / "unclipped", **changed, clip=1e9).settings)
    loop = make(tmp_path / "run", Undropped(), metric="step", **changed, clip=sorted(norms)[4])
    trained = loop.run()
    module, losses, norms = slow_training(loop.settings)
    assert min(norms) < loop.settings.clip < max(norms)
    for name, value in module.named_parameters():
        torch.testing.assert_close(weights(loop)[name], value.detach(), rtol=1e-4, atol=1e-5, msg=name)
    # Two evaluations an epoch of three steps: behind its first and its last one.
    assert [entry["step"] for entry in trained.history] == [0, 1, 3, 4, 6, 7, 9]
    means = [losses[0], sum(losses[1:3]) / 2, losses[3], sum(losses[4:6]) / 2, losses[6], sum(losses[7:]) / 2]
    assert [entry["train_loss"] for entry in trained.history[1:]] == pytest.approx(means, rel=1e-4)


def test_an_undefined_figure_is_never_the_best(tmp_path: Path) -> None:
    """NaN is neither larger nor smaller than a number, so any order of comparison could keep it."""
    loop = make(tmp_path / "run")
    figures = iter([5.0, math.nan, 4.0, math.nan, 6.0, math.nan, math.nan])
    loop.evaluate = lambda: {"loss": next(figures)}
    trained = loop.run()
    assert (trained.best_step, trained.best["loss"]) == (3, 4.0)


class Interruption(Exception):
    pass


def interrupt(loop: Loop[Example], at: int) -> None:
    step = loop._optimize

    def stop() -> float:
        if loop.step == at:
            raise Interruption
        return step()

    loop._optimize = stop  # type: ignore[method-assign]
    with pytest.raises(Interruption):
        loop.run()


def test_a_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole")
    expected: TrainingResult = whole.run()
    interrupt(make(tmp_path / "interrupted"), at=7)
    torch.manual_seed(99)
    resumed = make(tmp_path / "interrupted")
    resumed_result = resumed.run()
    assert resumed_result.history == expected.history and resumed_result.best_step == expected.best_step
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name


def with_scaler(loop: Loop[Example]) -> torch.amp.GradScaler:
    """Scale the loss, which accelerate does on GPUs alone; the first scale gives infinite gradients."""
    accelerator = loop.accelerator
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=3)
    accelerator.native_amp, accelerator.scaler, loop.checkpoints.scaler = True, scaler, scaler
    accelerator._optimizers.clear()
    loop.optimizer = accelerator.prepare_optimizer(loop.optimizer.optimizer)
    return scaler


@pytest.mark.filterwarnings("ignore:Detected call of")  # the first step is skipped
def test_a_resumed_run_keeps_the_scale_of_the_loss(tmp_path: Path) -> None:
    """It began with the first scale again, skipped steps anew and ended with other weights."""
    whole, interrupted, resumed = (
        make(tmp_path / name, precision="fp16", epochs=8) for name in ("whole", "run", "run")
    )
    scaler, _, resumed_scaler = map(with_scaler, (whole, interrupted, resumed))
    expected = whole.run()
    interrupt(interrupted, at=19)
    assert resumed.run().history == expected.history
    assert expected.best["loss"] < expected.history[0]["loss"]  # not all steps were skipped
    assert resumed_scaler.state_dict() == scaler.state_dict() and scaler.get_scale() < 2.0**127
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name


def test_a_window_is_prepared_once_before_its_repeated_steps(tmp_path: Path) -> None:
    """Both steps on a window of 11 items follow each other, and evaluations follow whole windows."""
    prepared: list[tuple[list[str], int]] = []
    seen: list[list[str]] = []

    def prepare(items: Sequence[Example], step: int) -> None:
        prepared.append(([item.source for item in items], step))

    def collate(items: Sequence[Example]) -> list[Example]:
        seen.append([item.source for item in items])
        return list(items)

    settings = LoopSettings(epochs=2, lr=0.05, batch_size=4, accumulate=1, evaluations=3)
    loop = Loop(
        Line(),
        examples(),
        collate,
        lambda: {"loss": 0.0},
        "-loss",
        settings,
        tmp_path / "run",
        {},
        prepare=prepare,
        repeats=2,
    )
    result = loop.run()
    assert result.steps == 12
    assert [entry["step"] for entry in result.history] == [0, 2, 4, 6, 8, 10, 12]
    assert [step for _, step in prepared] == [0, 2, 4, 6, 8, 10]
    assert seen == [items for items, _ in prepared for _ in range(2)]
    assert sorted(source for items, _ in prepared[:3] for source in items) == sorted(
        item.source for item in examples()
    )


def test_the_average_of_the_last_steps_is_one_more_candidate(tmp_path: Path) -> None:
    """At a rate so large that single steps jump about, their average is nearer to the minimum."""
    options = {"epochs": 20, "lr": 0.3, "schedule": "constant", "average_last": 0.5, "snapshots": 10}
    loop = make(tmp_path / "run", Undropped(), evaluations=1, **options)
    trained = loop.run()
    *steps, average = trained.history
    assert average["averaged"] == 10 and average["rank_kept"] == 1 and average["step"] == 60
    assert average["loss"] < min(entry["loss"] for entry in steps)
    assert trained.averaged == 10 and trained.best == average
    loop.module.eval()
    assert loop.evaluate()["loss"] == pytest.approx(average["loss"], rel=1e-5)
    folders = sorted((tmp_path / "run" / "snapshots").iterdir())
    assert [int(folder.name) for folder in folders] == list(range(33, 61, 3))
    expected = torch.stack([load_file(f / "parameters.safetensors")["offset"] for f in folders]).mean(0)
    torch.testing.assert_close(weights(loop)["offset"], expected)


def test_an_average_that_is_worse_is_not_kept(tmp_path: Path) -> None:
    """All steps of a run that approaches the minimum lie on one side of it: the last one is the best."""
    trained = make(tmp_path / "run", lr=0.01, average_last=1.0, snapshots=3).run()
    assert trained.history[-1]["averaged"] == 3 and not trained.averaged
    assert "averaged" not in trained.best and trained.best["step"] == 9


def test_the_last_step_can_be_kept_whatever_its_figures(tmp_path: Path) -> None:
    loop = make(tmp_path / "run", lr=3.0, metric="step")
    trained = loop.run()
    assert trained.best_step == trained.steps == 9
    assert trained.best["loss"] > min(entry["loss"] for entry in trained.history)
    averaging = make(tmp_path / "average", lr=3.0, average_last=0.5, metric="step")
    assert averaging.run().averaged == 4


def test_patience_beside_the_last_step_is_refused(tmp_path: Path) -> None:
    """It was counted against the number of steps, which always grows: it never ended a run."""
    with pytest.raises(ValueError, match="patience: expected 0 with the metric step"):
        make(tmp_path / "run", metric="step", patience=2)


@pytest.mark.parametrize("at", [4, 8])
def test_a_resumed_run_averages_the_same_steps(tmp_path: Path, at: int) -> None:
    options = {"average_last": 0.7, "snapshots": 3}
    whole = make(tmp_path / "whole", **options)
    expected = whole.run()
    interrupt(make(tmp_path / "interrupted", **options), at=at)
    resumed = make(tmp_path / "interrupted", **options)
    assert resumed.run() == expected
    again = make(tmp_path / "interrupted", **options)  # finished, but its folder was not written yet
    assert again.run() == expected
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value) and torch.equal(weights(again)[name], value)


def test_a_run_that_patience_ended_is_not_continued_from_its_average(tmp_path: Path) -> None:
    """Its average was the best; what was resumed then trained on from it, and kept other weights."""
    options = {"epochs": 40, "lr": 0.3, "schedule": "constant", "average_last": 1.0, "snapshots": 40}
    first = make(tmp_path / "run", Undropped(), patience=2, evaluations=1, **options)
    expected = first.run()
    assert expected.stopped_early and expected.averaged > 2
    again = make(tmp_path / "run", Undropped(), patience=2, evaluations=1, **options)
    assert again.run() == expected
    for name, value in weights(first).items():
        assert torch.equal(weights(again)[name], value), name


def states_before_renames(folder: Path, out: Path, **options: Any) -> list[tuple[Path, int]]:
    """What a run that is killed before one of its renames leaves on disk, and the last step it had saved.

    Args:
        folder: of the run, which goes on to its end.
        out: where the states are copied to.
        options: settings of the run.
    """
    states: list[tuple[Path, int]] = []
    saved: list[int] = []
    loop = make(folder, **options)
    rename, save = os.replace, loop.checkpoints.save

    def note(source: Path, target: Path) -> None:
        if saved and not target.name.endswith(".json"):
            states.append((out / str(len(states)), saved[-1]))
            shutil.copytree(folder, states[-1][0])
        rename(source, target)

    def save_and_note(progress: Progress, is_best: bool) -> None:
        save(progress, is_best)
        saved.append(progress.step)

    loop.checkpoints.save = save_and_note  # type: ignore[method-assign]
    with patch.object(os, "replace", note):
        loop.run()
    return states


@pytest.mark.parametrize("metric", ["-loss", "step"])
def test_a_run_that_is_killed_while_it_writes_goes_on_from_its_last_checkpoint(
    metric: str, tmp_path: Path
) -> None:
    """The checkpoint of the average replaced that of the last step, which has its number, by two renames.

    A run that was killed between them began at step 0.
    """
    options = {"metric": metric, "average_last": 0.7, "snapshots": 3, "lr": 0.2}
    whole = make(tmp_path / "whole", **options)
    expected = whole.run()
    states = states_before_renames(tmp_path / "run", tmp_path / "states", **options)
    assert len(states) > 6 and states[-1][1] == expected.steps
    for folder, step in states:
        resumed = make(folder, **options)
        progress = resumed.checkpoints.resume()
        assert progress is not None and progress.step >= step
        again = make(folder, **options)
        assert again.run() == expected
        for name, value in weights(whole).items():
            assert torch.equal(weights(again)[name], value), (folder.name, name)


def test_weights_of_an_evaluation_that_no_checkpoint_has_are_not_kept(tmp_path: Path) -> None:
    """The best weights were replaced before the checkpoint that names them was written.

    A run was killed between the two. Where the repeated evaluation was not the best one any more, which
    rounding on a GPU can make of it, the resumed run ended with other weights than those that it reported.
    """
    loop = make(tmp_path / "run", evaluations=1)
    scores = iter([9.0, 5.0, 4.0])
    loop.evaluate = lambda: {"loss": next(scores)}
    rename = os.replace
    kept: dict[str, Tensor] = {}

    def stop(source: Path, target: Path) -> None:
        if target.name.startswith("checkpoint-000003"):
            kept.update(weights(loop))
        if target.name.startswith("checkpoint-000006"):
            raise Interruption
        rename(source, target)

    with patch.object(os, "replace", stop), pytest.raises(Interruption):
        loop.run()
    resumed = make(tmp_path / "run", evaluations=1)
    worse = iter([6.0, 7.0])
    resumed.evaluate = lambda: {"loss": next(worse)}
    assert resumed.run().best == {**resumed.progress.history[1], "loss": 5.0, "step": 3}
    for name, value in kept.items():
        assert torch.equal(weights(resumed)[name], value), name
    assert len(list((tmp_path / "run").glob("best*"))) <= 2


def test_a_run_of_an_earlier_version_is_resumed_with_its_best_weights(tmp_path: Path) -> None:
    """Its best weights lie in a folder `best`."""
    loop = make(tmp_path / "run")
    interrupt(loop, at=7)
    [best] = (tmp_path / "run").glob("best-*")
    best.rename(tmp_path / "run" / "best")
    resumed = make(tmp_path / "run")
    later = iter(range(1000, 2000))
    resumed.evaluate = lambda: {"loss": float(next(later))}
    assert resumed.run().best_step == loop.progress.best_step
    assert (tmp_path / "run" / "best").is_dir()
    for name, value in load_file(tmp_path / "run" / "best" / "parameters.safetensors").items():
        assert torch.equal(weights(resumed)[name], value), name


def test_checkpoints_hold_no_pickle(tmp_path: Path) -> None:
    make(tmp_path / "run").run()
    files = {path.suffix for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert files == {".safetensors", ".json"}
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")  # older ones are gone
    assert json.loads((checkpoint / "state.json").read_text())["step"] == 9


def test_patience_stops_a_run_that_gets_no_better(tmp_path: Path) -> None:
    trained = make(tmp_path / "run", epochs=40, lr=30.0, patience=2).run()
    assert trained.stopped_early and trained.steps < 40 * 3
    steps = [entry["step"] for entry in trained.history]
    assert len(steps) - 1 - steps.index(trained.best_step) == 2


def test_training_stays_on_the_device_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--device cuda:1` and `--device cpu` trained on the first GPU, or failed between two devices.

    "meta" stands for the device that accelerate prefers.
    """
    whole = make(tmp_path / "whole")
    expected = whole.run()
    monkeypatch.setitem(PartialState._shared_state, "device", torch.device("meta"))
    loop = make(tmp_path / "run")
    assert loop.run() == expected
    assert {parameter.device.type for parameter in loop.module.parameters()} == {"cpu"}


class FileTracker(GeneralTracker):
    """Writes what it receives to a file, as trackers of files do."""

    name = "tensorboard"
    requires_logging_directory = True

    def __init__(self, run_name: str, logging_dir: str, **_: Any) -> None:
        super().__init__()
        self.path = Path(logging_dir) / run_name / "events.jsonl"

    @property
    def tracker(self) -> Path:
        return self.path

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        pass

    def log(self, values: dict[str, float], step: int | None, **_: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def test_what_trackers_write_outlives_the_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs lay among the checkpoints and were removed with them; the rate of a step was the next one's."""
    monkeypatch.setattr(tracking, "_available_trackers", [LoggerType.TENSORBOARD])
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", FileTracker)
    folder = tmp_path / "out.training" / "selector"
    trained = make(folder, log_with=("tensorboard",), schedule="linear", lr_warmup_fraction=0.0).run()
    write_result(lambda: None, folder.parent)
    (log,) = tmp_path.rglob("events.jsonl")
    assert log.is_relative_to(tmp_path / "out.logs")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [event for event in events if "loss" in event]
    assert [event["step"] for event in steps] == list(range(1, 10))
    assert [event["lr"] for event in steps] == pytest.approx([0.05 * (9 - i) / 9 for i in range(9)])
    held_out = {event["step"]: event["held_out/loss"] for event in events if "held_out/loss" in event}
    assert held_out == {entry["step"]: entry["loss"] for entry in trained.history}


@pytest.mark.parametrize("checkpoints", ["a.b.training/stage-1", "a.b.training", "a.b"])
def test_logs_are_beside_the_result(checkpoints: str) -> None:
    assert logs_folder(Path("runs") / checkpoints) == Path("runs/a.b.logs")


def test_another_run_s_checkpoints_are_refused(tmp_path: Path) -> None:
    interrupt(make(tmp_path / "run"), at=5)
    with pytest.raises(TrainingError, match=r"another run.*loop"):
        make(tmp_path / "run", lr=0.01).run()


def test_checkpoints_of_another_number_of_processes_are_refused(tmp_path: Path) -> None:
    """A step of two processes takes twice the items: one process stopped at step 11 of 16, and two of them
    found that all their 8 steps were done and wrote the result."""
    interrupt(make(tmp_path / "run"), at=5)
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    state = json.loads((checkpoint / "state.json").read_text())
    state["identity"]["num_processes"] = 2
    (checkpoint / "state.json").write_text(json.dumps(state))
    with pytest.raises(TrainingError, match=r"another run \(its num_processes differ\)"):
        make(tmp_path / "run").run()


def test_a_loss_that_is_no_number_names_the_row(tmp_path: Path) -> None:
    loop = make(tmp_path / "run", batch_size=1)
    loop.items[5] = loop.items[5]._replace(y=torch.tensor(float("nan")))
    with pytest.raises(TrainingError, match=r"loss is nan at step \d+ on shard-0, row 5: "):
        loop.run()
    assert list((tmp_path / "run").glob("checkpoint-*"))


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, calls = checkpoints_module.save_file, []

    def full(tensors: dict[str, Tensor], path: Path) -> None:
        calls.append(path)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(tensors, path)

    monkeypatch.setattr(checkpoints_module, "save_file", full)
    with pytest.raises(WriteError, match="No space left on device; make room"):
        make(tmp_path / "run").run()
    monkeypatch.undo()
    assert not list((tmp_path / "run").glob("*.partial"))
    assert make(tmp_path / "run").run().steps == 9


def test_items_of_weight_0_are_left_out(tmp_path: Path) -> None:
    """Alone in its window, a text without a verdict (R2R, rule `answer`) ended a run: ZeroDivisionError."""
    items = [item._replace(weight=0.0) if i % 3 == 0 else item for i, item in enumerate(examples())]
    seen: list[Example] = []

    def collate(part: Sequence[Example]) -> list[Example]:
        seen.extend(part)
        return list(part)

    def train(part: Sequence[Example], folder: Path) -> Loop[Example]:
        settings = LoopSettings(epochs=1, batch_size=1, accumulate=1)
        return Loop(Line(), part, collate, lambda: {"loss": 0.0}, "-loss", settings, folder, {})

    assert train(items, tmp_path / "run").run().steps == 7
    assert {item.source for item in seen} == {item.source for item in items if item.weight}
    with pytest.raises(TrainingError, match="nothing to train on"):
        train(items[::3], tmp_path / "none")


def test_nothing_to_train_on_and_wrong_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to train on"):
        Loop(Line(), [], list, dict, "loss", LoopSettings(), tmp_path, {})
    for wrong in ({"epochs": 0}, {"lr": 0.0}, {"accumulate": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            LoopSettings(**wrong)  # type: ignore[arg-type]


def test_a_gradient_that_is_no_number_is_named_before_it_is_used(tmp_path: Path) -> None:
    """An attention kernel gave NaN gradients: the step after was blamed, by when all parameters were NaN."""
    loop = make(tmp_path / "run", RootAtZero(), precision="no")
    with pytest.raises(TrainingError, match=r"^the gradient's norm is nan at step 0 on shard-0, row \d+; "):
        loop.run()
    assert all(torch.isfinite(value).all() for value in weights(loop).values())


@pytest.mark.parametrize("was_allowed", [True, False])
def test_training_leaves_out_an_attention_kernel_with_wrong_gradients(
    tmp_path: Path, was_allowed: bool
) -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(was_allowed)
        module = Watching()
        make(tmp_path / "run", module).run()
        assert len(module.allowed) > 20
        assert not any(module.allowed)
        assert torch.backends.cuda.cudnn_sdp_enabled() == was_allowed
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


@pytest.mark.gpu
@needs_gpu
def test_gradients_of_masked_attention_are_numbers() -> None:
    """Very negative scores at a length of 64 above a multiple of 128, as Qwen 2.5 0.5B has them."""
    torch.manual_seed(0)
    length, dim = 704, 64
    query, key, value = (
        torch.randn(1, 1, length, dim, device="cuda", dtype=torch.bfloat16) * scale
        for scale in (0.1, 0.1, 1.0)
    )
    query[..., 0], key[..., 0] = 1.0, -120 * dim**0.5
    query.requires_grad_()
    mask = torch.ones(length, length, dtype=torch.bool, device="cuda").tril()[None, None]
    with without_cudnn_attention():
        nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).sum().backward()
    assert query.grad is not None and bool(torch.isfinite(query.grad).all())
