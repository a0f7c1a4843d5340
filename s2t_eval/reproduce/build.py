"""Makes the stages of a recipe, in an order in which each follows what it needs."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from s2t_eval.method_table import STOCK
from s2t_eval.pipelines.settings import CalibrationSource
from s2t_eval.report.benchmarks import benchmark_of
from s2t_eval.report.published import published
from s2t_eval.reproduce import parts
from s2t_eval.reproduce.commands import (
    asking,
    least,
    model_arguments,
    option,
    options,
    posing,
    precision,
    row_loading,
)
from s2t_eval.reproduce.documents import selected_documents
from s2t_eval.reproduce.identity import GROUPS
from s2t_eval.reproduce.read import ReadRecipe, RecipeError, references
from s2t_eval.reproduce.servers import loaded_names, placeless
from s2t_eval.reproduce.stage_list import BOTH, StageList
from s2t_eval.reproduce.stages import (
    EVALUATE,
    RANDOM_MODELS,
    TRACE,
    Evaluation,
    Stage,
    evaluations,
    merged_fields,
)
from s2t_eval.reproduce.work import Work
from s2t_eval.training.r2r.settings import RouterLoopSettings
from s2t_eval.training.rlkd.settings import RlkdLoopSettings, RlkdSettings
from s2t_eval.training.settings import LoopSettings
from s2t_eval.training.work_folder import unfinished_folder, work_folder

SOLUTION = "solution"
"""The teacher's context in `s2t-eval collect` that is no file: each problem's own solution."""
DEV_PROBLEMS = 500
"""Problems of a development task that a recipe does not limit; for estimates alone."""
DEFAULT_SAMPLES = 8
"""Of `maj8`, for estimates alone. Its own default comes with torch, which takes seconds; a test compares."""


def build_stages(read: ReadRecipe, out: Path) -> list[Stage]:
    """All stages of a recipe.

    Args:
        read: the recipe.
        out: folder of everything that is made.

    Raises:
        RecipeError: a reference to something that the recipe has no section for, a task without a method, or
            names that would make two steps of one name.
    """
    try:
        return _Builder(read.recipe, out.absolute()).build()
    except RecipeError as error:
        raise RecipeError(f"{read.source}: {error}") from error


class _Builder(StageList):
    """Adds the stages of each section of the recipe."""

    def build(self) -> list[Stage]:
        """All of them."""
        recipe = self.recipe
        self._models()
        if recipe.calibration is not None:
            self._calibrate(recipe.calibration)
        if recipe.labels is not None and recipe.labels.problems is not None:
            self._collect(recipe.labels, recipe.labels.problems)
        for name, tah in recipe.tah.items():
            self._tah_labels(name, tah)
        for name, router in recipe.routers.items():
            self._router_labels(name, router)
        for seed in recipe.seeds:
            self._artifacts(seed)
        for run in self._evaluations():
            self._evaluate(run)
        self._results()
        return self.stages

    def _artifacts(self, seed: int) -> None:
        """Everything trained, with one seed."""
        for name, selector in self.recipe.selectors.items():
            if selector.labels is not None and (selector.labels, seed) not in self.made:
                self._round(selector.labels, self.recipe.rounds[selector.labels], seed)
            self._train(name, selector, seed)
        for name, distil in self.recipe.distilled.items():
            self._distil(name, distil, seed)
        for name, rlkd in self.recipe.rlkd.items():
            self._rlkd(name, rlkd, seed)
        for name, tah in self.recipe.tah.items():
            self._tah(name, tah, seed)
        for name, router in self.recipe.routers.items():
            self._router(name, router, seed)
        for name, choice in self.recipe.choices.items():
            self._choose(name, choice, seed)

    # ---------------------------------------------------------------- models, thresholds, labels

    def _models(self) -> None:
        """Models of the hub with a revision are fetched: the commands have no option for one."""
        for role in BOTH:
            name, revision = (getattr(self.recipe.models, field) for field in (role, f"{role}_revision"))
            if name is None or revision is None:
                continue
            output = self.out / "models" / name.rsplit("/", 1)[-1]
            if any(stage.output == output for stage in self.stages):  # two revisions of one model
                output = output.with_name(f"{output.name}-{role}")
            place = ("--revision", revision, "--local-dir", str(output))
            command = ("huggingface_hub.cli.hf", "download", name, *place)
            self._add(Stage(f"download.{role}", "download", command, output, [name, revision]), role)

    def _calibrate(self, part: parts.CalibrationPart) -> None:
        roles = BOTH if self.recipe.models.teacher is not None else BOTH[:1]
        output = self.out / "calibration.json"
        scratch = (unfinished_folder(output),)
        words = ["s2t_eval", "calibrate", *self._loading(), *posing(self.recipe, part.problems)]
        words += self._served_teacher() if len(roles) > 1 else []
        words += [*options(part, "problems"), "--out", str(output)]
        work = self._labelling_work(self._count(part.problems, CalibrationSource.limit), *roles)
        fields = merged_fields(self._model_fields(*roles), self._problem_fields(part.problems))
        fields |= {**self._on_servers(*words), "scratch": scratch, "work": work}
        self._add(
            Stage("calibration", "calibrate", output=output, part=asdict(part), **fields), "calibration"
        )

    def _collect(self, part: parts.LabelsPart, problems: parts.Problems) -> None:
        output = self.out / "labels"
        fields = merged_fields(self._collecting_fields(part, problems), self._file_fields(part.selector))
        fields |= self._on_servers(*self._collecting(part, problems, output))
        fields["work"] = self._labelling_work(self._count(problems), *BOTH)
        self._add(Stage("labels", "collect", output=output, part=asdict(part), **fields), "labels")

    def _collecting(self, part: parts.LabelsPart, problems: parts.Problems, output: Path) -> tuple[str, ...]:
        """The command that collects labels on these problems."""
        words = ["s2t_eval", "collect", *self._loading(), *posing(self.recipe, problems)]
        words += [*self._served_teacher(), *options(part, "problems", "folder")]
        return (*words, "--out", str(output))

    def _collecting_fields(self, part: parts.LabelsPart, problems: parts.Problems) -> dict[str, Any]:
        """Fields of a stage that collects labels on these problems, but for the selector that writes them."""
        context = None if part.teacher_context == SOLUTION else part.teacher_context
        files = self._file_fields(context, *part.evaluation)
        return merged_fields(self._model_fields(*BOTH), self._problem_fields(problems), files)

    # ---------------------------------------------------------------- training

    def _train(self, name: str, part: parts.SelectorPart, seed: int) -> None:
        labels, label_fields = self._labels()
        if part.labels is not None:
            made = self.made[part.labels, seed]
            labels, label_fields = made.place, {"needs": {made.stage: made.place}}
        words = ["s2t_eval", "train", *self._loading(), "--labels", str(labels)]
        words += options(part, "start", "labels")
        fields = merged_fields(self._model_fields("student"), label_fields)
        if part.start is not None:
            start = self.made[part.start, seed]
            words += ["--start", str(start.place)]
            fields = merged_fields(fields, {"needs": {start.stage: start.place}})
        texts = least(part.limit, self._label_count()) or 0
        work = self._training_work(texts, part, BOTH[:1])
        self._add_training(name, "train", words, part, seed, fields, work)

    def _round(self, name: str, part: parts.RoundPart, seed: int) -> None:
        """The labels' problems once more, on texts that a selector writes."""
        labels = self.recipe.labels
        assert labels is not None and labels.problems is not None
        writer = self.made[part.selector, seed]
        problems, stage = labels.problems, self._stage_name(name, seed)
        output = self.out / "rounds" / stage
        on_own_texts = replace(
            labels, selector=str(writer.place), selector_trigger=part.trigger, selector_tau=part.tau
        )
        words = self._collecting(on_own_texts, problems, output)
        fields = self._collecting_fields(labels, problems)
        fields = merged_fields(fields, {"needs": {writer.stage: writer.place}})
        work = Work.of_texts(self._count(problems), (*BOTH, "student"), self.recipe)
        settings = [asdict(labels), asdict(part)]
        self._add(Stage(stage, "collect", words, output, settings, work=work, **fields), name, seed)

    def _distil(self, name: str, part: parts.DistilPart, seed: int) -> None:
        labels, label_fields = self._labels()
        words = ["s2t_eval", "distil", *self._loading(), *self._training_teacher()]
        words += ["--labels", str(labels), *options(part)]
        texts = least(part.limit, self._label_count()) or 0
        fields = merged_fields(self._model_fields(*BOTH), label_fields)
        work = self._training_work(texts, part, BOTH)
        self._add_training(name, "distil", words, part, seed, fields, work)

    def _rlkd(self, name: str, part: parts.RlkdPart, seed: int) -> None:
        labels, label_fields = self._labels()
        roles = BOTH if part.references == "teacher" else BOTH[:1]
        words = ["s2t_eval", "rlkd", *self._loading(), "--labels", str(labels), *options(part, "references")]
        words += self._training_teacher() if len(roles) > 1 else []
        fields = merged_fields(self._model_fields(*roles), label_fields, self._label_problem_fields())
        texts, group = least(part.limit, self._label_count()) or 0, part.group_size or RlkdSettings.group_size
        work = Work.of_rewarded(texts, part.epochs or RlkdLoopSettings.epochs, group, roles, self.recipe)
        self._add_training(name, "rlkd", words, part, seed, fields, work)

    def _tah_labels(self, name: str, part: parts.TahPart) -> None:
        output = self.out / "trained" / f"{name}-labels"
        words = ["s2t_eval", "tah", "label", *self._loading(), *posing(self.recipe, part.problems)]
        work = Work.of_training(self._count(part.problems), 1, BOTH[:1], self.recipe)
        fields = {**self._model_fields("student"), **self._problem_fields(part.problems)}
        fields["scratch"] = (unfinished_folder(output),)
        command, settings = (*words, "--out", str(output)), asdict(part.problems)
        self._add(Stage(f"{name}.labels", "tah label", command, output, settings, work=work, **fields))

    def _tah(self, name: str, part: parts.TahPart, seed: int) -> None:
        """Stage 1, and stage 2 on a copy of what it made."""
        labels = self.out / "trained" / f"{name}-labels"
        words = ["s2t_eval", "tah", "train", *self._loading(), "--labels", str(labels)]
        fields = merged_fields(self._model_fields("student"), {"needs": {f"{name}.labels": labels}})
        texts = self._count(part.problems)
        first = [*words, "--stage", "1", *options(part.depths)]
        work = self._training_work(texts, part.depths, BOTH[:1])
        self._add_training(f"{name}.passes", "tah stage 1", first, part.depths, seed, fields, work)
        passes = self.made[f"{name}.passes", seed]
        second = [*words, "--stage", "2", *options(part.decider)]
        fields = merged_fields(fields, {"needs": {passes.stage: passes.place}, "copy_of": passes.place})
        work = self._training_work(texts, part.decider, BOTH[:1])
        self._add_training(name, "tah stage 2", second, part.decider, seed, fields, work)

    def _router_labels(self, name: str, part: parts.RouterPart) -> None:
        output = self.out / "trained" / f"{name}-labels"
        words = ["s2t_eval", "r2r", "label", *self._loading(), *posing(self.recipe, part.problems)]
        words += [*self._teacher(), *options(part.labels), "--out", str(output)]
        # The continuations of a text's mismatches are about four times as long as the text.
        roles = ("student", *("teacher",) * 5)
        work = Work.of_texts(self._count(part.problems), roles, self.recipe)
        fields = merged_fields(self._model_fields(*BOTH), self._problem_fields(part.problems))
        settings = [asdict(part.problems), asdict(part.labels)]
        self._add(Stage(f"{name}.labels", "r2r label", tuple(words), output, settings, work=work, **fields))

    def _router(self, name: str, part: parts.RouterPart, seed: int) -> None:
        labels = self.out / "trained" / f"{name}-labels"
        words = ["s2t_eval", "r2r", "train", *self._loading(), "--labels", str(labels)]
        words += options(part.training)
        fields = merged_fields(self._model_fields("student"), {"needs": {f"{name}.labels": labels}})
        epochs = part.training.epochs or RouterLoopSettings.epochs
        work = Work.of_router(self._count(part.problems), epochs, self.recipe)
        self._add_training(name, "r2r train", words, part.training, seed, fields, work)

    def _training_work(self, texts: int, part: parts.Training, roles: Sequence[str]) -> Work:
        return Work.of_training(texts, part.epochs or LoopSettings.epochs, roles, self.recipe)

    def _add_training(
        self,
        name: str,
        kind: str,
        words: Sequence[str],
        part: parts.Training,
        seed: int,
        fields: Mapping[str, Any],
        work: Work,
    ) -> None:
        """A stage that trains."""
        stage = self._stage_name(name, seed)
        output = self.out / "trained" / stage
        command = (*words, *precision(self.recipe, part), "--seed", str(seed), "--out", str(output))
        scratch = (work_folder(output),)
        settings = [asdict(part), seed]
        self._add(
            Stage(stage, kind, command, output, settings, scratch=scratch, work=work, **fields), name, seed
        )

    def _choose(self, name: str, part: parts.ChoicePart, seed: int) -> None:
        """A scan over development problems, and the choice on a copy of the selector."""
        stage, selector = self._stage_name(name, seed), self.made[part.selector, seed]
        scan = self._scan(f"{stage}.scan", self.out / "scans" / stage, part, seed)
        output = self.out / "trained" / stage
        proposer = "tuned" if part.model == "s2t_local" else "base"
        command = ("s2t_eval", "choose", str(scan.output), "--selector", str(output), "--proposer", proposer)
        needs = {scan.name: scan.output, selector.stage: selector.place}
        self._add(
            Stage(stage, "choose", command, output, proposer, needs, copy_of=selector.place), name, seed
        )

    def _scan(self, stage: str, output: Path, part: parts.ChoicePart, seed: int) -> Stage:
        selector = self.made[part.selector, seed]
        arguments = {"pretrained": "${student}", "selector": str(selector.place), **part.arguments}
        model_args = model_arguments(self.recipe, arguments, functools.partial(self._place_of, seed=seed))
        if model_args.startswith("{"):
            raise RecipeError(
                f"{stage}: a scan reads its arguments as name=value pairs, and {model_args} cannot be "
                "written so; use values without commas, brackets and quotes"
            )
        limit = least(part.limit, self.recipe.limits.problems)
        words = ["s2t_eval", "scan", "--model", part.model, "--model_args", model_args]
        words += [*option("tau", part.tau), "--tasks", part.task, "--out", str(output), "--"]
        words += [*asking(self.recipe, part.task), *option("limit", limit)]
        runs, roles = 1 + len(part.tau), [role for role in BOTH if role in references(arguments)]
        work = Work.of_texts(runs * (limit or DEV_PROBLEMS), roles, self.recipe, starts=runs)
        # What is trained here is no file of its own yet: the stage that trains it is named instead.
        fields = self._argument_fields({"pretrained": "${student}", **part.arguments}, seed)
        fields = merged_fields(fields, {"needs": {selector.stage: selector.place}})
        settings = [asdict(part), seed]
        scan = Stage(stage, "scan", tuple(words), output, settings, tasks=(part.task,), work=work, **fields)
        self._add(scan)
        return scan

    # ---------------------------------------------------------------- evaluation and results

    def _evaluations(self) -> list[Evaluation]:
        """The runs of the table; a column without one would end the reproduction after all others."""
        runs = evaluations(self.recipe)
        for part in self.recipe.tasks:
            if all(run.task != part.task for run in runs):
                raise RecipeError(
                    f"tasks: no method can be evaluated on {part.task}, because each of them compares "
                    "answers, which code does not have; name others, or leave the task out"
                )
        return runs

    def _evaluate(self, run: Evaluation) -> None:
        part = next(task for task in self.recipe.tasks if task.task == run.task)
        output = self.out / "runs" / run.task / run.name
        cache = self.out / "cache" / run.task / run.name
        servers = self.recipe.servers
        added = {} if servers is None else servers.row_arguments(run.model, run.arguments)
        arguments = {**run.arguments, **added}
        scratch = [cache.with_name(f"{run.name}_rank0.db{end}") for end in ("", "-journal")]
        if self.recipe.methods[run.method].trace:
            trace = output.with_name(run.name + TRACE)
            arguments["trace"] = str(trace)
            scratch += [trace, trace.with_name(trace.name + ".partial")]
        device = self._stock_device(arguments) if run.model == STOCK else []
        place_of = functools.partial(self._place_of, seed=run.seed)
        model_args = model_arguments(self.recipe, arguments, place_of)
        compared = model_arguments(self.recipe, {**arguments, **placeless(added)}, place_of)
        documents = selected_documents(part, self.recipe.limits.documents)
        words = ["s2t_eval", "run", "--model", run.model, "--model_args", model_args, "--tasks", run.task]
        words += [*asking(self.recipe, run.task), *documents.options(run.task), *device, "--log_samples"]
        words += ["--use_cache", str(cache), "--output_path", str(output)]
        samples = int(arguments.get("num_samples", DEFAULT_SAMPLES)) if run.model in RANDOM_MODELS else 1
        roles = [role for role in BOTH if role in references(loaded_names(arguments))]
        count = documents.count(run.task) * samples
        fields = self._argument_fields(run.arguments, run.seed)
        fields["work"] = Work.of_texts(
            count, roles, self.recipe, is_shared=len(loaded_names(arguments)) < len(arguments)
        )
        if added:
            fields["compared"] = tuple(compared if word is model_args else word for word in words)
        stage = Stage(f"{run.task}/{run.name}", EVALUATE, tuple(words), output, run.arguments, **fields)
        self._add(replace(stage, tasks=(run.task,), scratch=tuple(scratch)))

    def _stock_device(self, arguments: dict[str, Any]) -> list[str]:
        """The option of lm_eval that names the device of its own backend, taken out of the arguments.

        lm_eval passes its own device to a backend beside the arguments; stock hf refuses to have it twice.
        """
        device = {**row_loading(self.recipe.models, arguments), **arguments}["device"]
        arguments["device"] = None
        return option("device", device)

    def _results(self) -> None:
        """The report, analyses, and the runs as they are committed; each reads this recipe's runs alone.

        Folders of earlier recipes may lie beside theirs: of methods that were dropped or renamed, of more
        seeds. The report comes first: what is made after it may fail, and the table is there all the same.
        """
        runs = [stage for stage in self.stages if stage.kind == EVALUATE]
        places, needs = [str(stage.output) for stage in runs], {stage.name: stage.output for stage in runs}
        trace_files = [path for stage in runs for path in stage.scratch if path.name.endswith(TRACE)]
        traces = option("trace", tuple(map(str, trace_files)))
        output, title = self.out / "report", self.recipe.title
        words = ["s2t_eval", "report", *places, "--title", title, "--intervals", *traces]
        has_published = any(_is_published(task) for stage in runs for task in stage.tasks)
        words += [*([] if has_published else ["--no_published"]), "--out", str(output)]
        self._add(Stage("report", "report", tuple(words), output, title, needs))
        if self.recipe.analysis and (self.recipe.labels is not None or traces):
            self._analyze(places, traces, needs)
        for task in dict.fromkeys(task for stage in runs for task in stage.tasks):
            output = self.out / "kept" / task
            of_task = {stage.name: stage.output for stage in runs if stage.tasks == (task,)}
            command = ("s2t_eval", "keep", *map(str, of_task.values()), "--out", str(output))
            self._add(Stage(f"{task}/kept", "keep", command, output, None, of_task))

    def _analyze(self, places: Sequence[str], traces: Sequence[str], needs: Mapping[str, Path]) -> None:
        output, words = self.out / "analysis", ["s2t_eval", "analyze"]
        fields: dict[str, Any] = {"needs": dict(needs)}
        if self.recipe.labels is not None:
            labels, label_fields = self._labels()
            words += ["--labels", str(labels)]
            if not self.recipe.models.trust:  # it reads the tokenizer, and runs no code of a checkpoint
                words += ["--pretrained", self._place_of("student", self.recipe.seeds[0])]
            fields = merged_fields(fields, label_fields)
        words += ["--results", *places, *traces]
        names = (*self.recipe.selectors, *self.recipe.choices)
        selectors = [made for (name, _), made in self.made.items() if name in names]
        words += option("agreement", tuple(str(made.place) for made in selectors))
        fields = merged_fields(fields, {"needs": {made.stage: made.place for made in selectors}})
        words += ["--out", str(output)]
        self._add(Stage("analysis", "analyze", tuple(words), output, None, **fields))


def _is_published(task: str) -> bool:
    """Whether there are published numbers on a task's benchmark, or on one of a group's."""
    return task in GROUPS or benchmark_of(task).key in set(published()["benchmark"])
