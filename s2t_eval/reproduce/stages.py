"""The stages of a recipe: each is a command of the package, with what it reads and what it writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from s2t_eval.method_table import BY_MODEL
from s2t_eval.report.benchmarks import benchmark_of
from s2t_eval.reproduce import schema
from s2t_eval.reproduce.documents import selected_documents
from s2t_eval.reproduce.read import ReadRecipe, RecipeError, references, replaced_references
from s2t_eval.reproduce.work import Work

EVALUATE, REPORT = "evaluate", "report"
PUBLISHED_STUDENTS = ("qwen2.5-0.5b-instruct", "qwen2.5-1.5b-instruct")
"""Whose published numbers stand beside a measured run; beside another student's they would mislead."""
RANDOM_MODELS = ("maj8", "maj_at_k")


@dataclass(frozen=True)
class Stage:
    """One step of a reproduction.

    Args:
        name: unique; its log and its record are named after it.
        kind: which command it is.
        command: after `python -m`.
        output: the file or folder that it makes.
        part: what the recipe says about it; a change makes it run again.
        needs: outputs of other stages that it reads, by their stages' names.
        models: role -> (name, revision) of the models that it loads.
        tasks: whose benchmark data it reads.
        files: further files that it reads.
        copy_of: its output begins as a copy of this one, which the command then changes.
        scratch: what it leaves beside its output while it is unfinished.
        work: how much it has to do, for estimates.
    """

    name: str
    kind: str
    command: tuple[str, ...]
    output: Path
    part: Any
    needs: Mapping[str, Path] = field(default_factory=dict)
    models: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    copy_of: Path | None = None
    scratch: tuple[Path, ...] = ()
    work: Work = Work()


@dataclass(frozen=True)
class Evaluation:
    """A method on a task with a seed: a run of lm_eval."""

    name: str
    method: str
    task: str
    seed: int
    model: str
    arguments: dict[str, Any]
    """of the model; references are still in them"""


def evaluations(recipe: schema.Recipe) -> list[Evaluation]:
    """Every row and column of the table, in the recipe's order."""
    found = []
    for task in recipe.tasks:
        for name in task.methods or tuple(recipe.methods):
            method = recipe.methods[name]
            if BY_MODEL[method.model].votes and benchmark_of(task.task).is_code:
                continue  # programs cannot be voted on: the table shows "–"
            for i, seed in enumerate(recipe.seeds if is_seeded(recipe, method) else recipe.seeds[:1]):
                given = {"seed": seed} if seed and method.model != "hf" else {}
                arguments = {"pretrained": "${student}", **method.arguments, **given}
                label = f"{name}-seed{seed}" if i else name
                found.append(Evaluation(label, name, task.task, seed, method.model, arguments))
    return found


def is_seeded(recipe: schema.Recipe, method: schema.MethodPart) -> bool:
    """Whether another seed gives other texts: it samples, or reads something that is trained."""
    is_trained = any(name in recipe.artifacts for name in references(method.arguments))
    is_random = method.model in RANDOM_MODELS or method.arguments.get("trigger") == "random"
    return is_trained or is_random


def build_stages(read: ReadRecipe, out: Path) -> list[Stage]:
    """All stages in an order in which each follows what it needs.

    Args:
        read: the recipe.
        out: folder of everything that is made.
    """
    return list(_Builder(read, out.absolute()).build())


class _Builder:
    """Builds stages one after the other and knows where each artifact lies."""

    def __init__(self, read: ReadRecipe, out: Path) -> None:
        self.recipe, self.source, self.out = read.recipe, read.source, out
        self.stages: dict[str, Stage] = {}
        self.place: dict[tuple[str, int], tuple[str, Path]] = {}
        """(artifact, seed) -> the stage that makes it, where it lies"""

    def build(self) -> Iterator[Stage]:
        """In order; `self.stages` is filled on the way."""
        recipe = self.recipe
        self._models()
        if recipe.calibration is not None:
            self._calibrate(recipe.calibration)
        if recipe.labels is not None and recipe.labels.problems is not None:
            self._collect(recipe.labels, recipe.labels.problems)
        for seed in recipe.seeds:
            for name, selector in recipe.selectors.items():
                self._train(name, selector, seed)
            for name, distil in recipe.distilled.items():
                self._distil(name, distil, seed)
            for name, tah in recipe.tah.items():
                self._tah(name, tah, seed)
            for name, choice in recipe.choices.items():
                self._choose(name, choice, seed)
        for evaluation in evaluations(recipe):
            self._evaluate(evaluation)
        if recipe.analysis and (recipe.labels is not None or any(m.trace for m in recipe.methods.values())):
            self._analyze()
        for task in dict.fromkeys(part.task for part in recipe.tasks):
            self._keep(task)
        self._report()
        yield from self.stages.values()

    def _add(self, stage: Stage) -> None:
        assert stage.name not in self.stages, stage.name
        self.stages[stage.name] = stage

    # ---------------------------------------------------------------- models and prompts

    def _models(self) -> None:
        models = self.recipe.models
        pairs = (("student", models.student, models.student_revision),
                 ("teacher", models.teacher, models.teacher_revision))  # fmt: skip
        for role, name, revision in pairs:
            if name is None or revision is None:
                continue
            output = self.out / "models" / name.rsplit("/", 1)[-1]
            command = ("huggingface_hub.cli.hf", "download", name, "--revision", revision)
            self._add(Stage(f"download.{role}", "download", (*command, "--local-dir", str(output)), output,
                            [name, revision], work=Work(fixed=60.0)))  # fmt: skip
            self.place[role, 0] = (f"download.{role}", output)

    def _model(self, role: str) -> str:
        """What a model is called on a command line."""
        if (role, 0) in self.place:
            return str(self.place[role, 0][1])
        name = getattr(self.recipe.models, role)
        if name is None:
            raise RecipeError(f"{self.source}: models.teacher: ${{teacher}} is used and none is named")
        return str(Path(name).expanduser().absolute()) if Path(name).expanduser().exists() else str(name)

    def _uses(self, *roles: str) -> dict[str, Any]:
        """What a stage that loads these models depends on: arguments of `Stage`."""
        models = self.recipe.models
        needs = {self.place[r, 0][0]: self.place[r, 0][1] for r in roles if (r, 0) in self.place}
        named = {r: (str(getattr(models, r)), getattr(models, f"{r}_revision")) for r in roles}
        return {"needs": needs, "models": named}

    def _loading(self, role: str = "student") -> list[str]:
        models = self.recipe.models
        words = ["--pretrained", self._model(role), "--dtype", models.dtype]
        if models.device is not None:
            words += ["--device", models.device]
        return [*words, *(["--trust_remote_code"] if models.trust else [])]

    def _posing(self, problems: schema.Problems) -> list[str]:
        """Options of the commands that put training problems to the student."""
        limits, prompt = self.recipe.limits, self.recipe.prompt
        words = ["--batch_size", str(limits.batch_size)]
        system = problems.system_instruction or prompt.system_instruction
        words += ["--system_instruction", system] if system is not None else []
        words += ["--apply_chat_template"] if prompt.apply_chat_template else []
        words += ["--max_gen_toks", str(limits.max_gen_toks)] if limits.max_gen_toks is not None else []
        if problems.task is not None and prompt.num_fewshot is not None:
            words += ["--num_fewshot", str(prompt.num_fewshot)]
        words += schema.flags(problems, "limit", "system_instruction")
        count = _least(problems.limit, limits.problems)
        return [*words, *(["--limit", str(count)] if count is not None else [])]

    def _read(self, problems: schema.Problems) -> dict[str, Any]:
        """What a stage that reads these problems depends on: arguments of `Stage`."""
        file = (
            Path(problems.data)
            if problems.data and Path(problems.data).suffix in (".json", ".jsonl")
            else None
        )
        return {"tasks": (problems.task,) if problems.task else (), "files": (file,) if file else ()}

    def _count(self, problems: schema.Problems, default: int) -> int:
        return _least(problems.limit or default, self.recipe.limits.problems) or default

    # ---------------------------------------------------------------- thresholds and labels

    def _calibrate(self, part: schema.CalibrationPart) -> None:
        output = self.out / "calibration.json"
        roles = ["student"] + ["teacher"] * (self.recipe.models.teacher is not None)
        words = ["s2t_eval", "calibrate", *self._loading(), *self._posing(part.problems)]
        words += ["--teacher", self._model("teacher")] if len(roles) > 1 else []
        words += [*schema.flags(part, "problems"), "--out", str(output)]
        texts = self._count(part.problems, 32)
        self._add(Stage("calibration", "calibrate", tuple(words), output, asdict(part),
                        **self._uses(*roles), **self._read(part.problems),
                        work=Work.of_texts(texts, roles, self.recipe)))  # fmt: skip
        self.place["calibration", 0] = ("calibration", output)

    def _collect(self, part: schema.LabelsPart, problems: schema.Problems) -> None:
        output = self.out / "labels"
        words = ["s2t_eval", "collect", *self._loading(), *self._posing(problems)]
        words += ["--teacher", self._model("teacher"), *schema.flags(part, "problems", "folder")]
        texts = self._count(problems, 500)
        self._add(Stage("labels", "collect", (*words, "--out", str(output)), output, asdict(part),
                        **self._uses("student", "teacher"), **self._read(problems),
                        work=Work.of_texts(texts, ["student", "teacher"], self.recipe)))  # fmt: skip
        self.place["labels", 0] = ("labels", output)

    def _labels(self) -> tuple[Path, dict[str, Path]]:
        """Where the labels lie, and the stage that makes them."""
        part = self.recipe.labels
        assert part is not None  # the schema requires them
        if part.folder is not None:
            return Path(part.folder).expanduser().absolute(), {}
        name, place = self.place["labels", 0]
        return place, {name: place}

    # ---------------------------------------------------------------- training

    def _train(self, name: str, part: schema.SelectorPart, seed: int) -> None:
        output = self._trained(name, seed)
        labels, made = self._labels()
        words = ["s2t_eval", "train", *self._loading(), "--labels", str(labels), *schema.flags(part, "start")]
        uses = self._uses("student")
        if part.start is not None:
            stage, start = self.place[part.start, seed]
            words += ["--start", str(start)]
            made = {**made, stage: start}
        self._trains(name, "train", words, part, seed, output, uses, labels, made, ["student"])

    def _distil(self, name: str, part: schema.DistilPart, seed: int) -> None:
        output = self._trained(name, seed)
        labels, made = self._labels()
        words = ["s2t_eval", "distil", *self._loading(), "--teacher", self._model("teacher")]
        dtype = self.recipe.models.teacher_dtype
        words += ["--teacher_dtype", dtype] if dtype is not None else []
        words += ["--labels", str(labels), *schema.flags(part)]
        uses = self._uses("student", "teacher")
        self._trains(name, "distil", words, part, seed, output, uses, labels, made, ["student", "teacher"])

    def _trains(
        self, name: str, kind: str, words: list[str], part: schema.Training, seed: int, output: Path,
        uses: dict[str, Any], labels: Path, made: Mapping[str, Path], roles: Sequence[str],
    ) -> None:  # fmt: skip
        """Add a stage that trains on the labels."""
        command = (*words, *self._precision(part), "--seed", str(seed), "--out", str(output))
        uses["needs"] = {**uses["needs"], **made}
        texts = self._label_count() if not isinstance(part, schema.DistilPart) else _least(
            part.limit, self._label_count()) or 0  # fmt: skip
        stage = _stage_name(name, seed, self.recipe)
        self._add(Stage(stage, kind, command, output, [asdict(part), seed], **uses,
                        files=() if made else (labels,),
                        scratch=(output.with_name(output.name + ".training"),),
                        work=Work.of_training(texts, part.epochs or 2, roles, self.recipe)))  # fmt: skip
        self.place[name, seed] = (stage, output)

    def _precision(self, part: schema.Training) -> list[str]:
        """The loop's precision where the recipe names none: what suits the student's dtype."""
        is_narrow = part.precision is None and self.recipe.models.dtype == "bfloat16"
        return ["--precision", "bf16"] if is_narrow else []

    def _label_count(self) -> int:
        part = self.recipe.labels
        return 0 if part is None or part.problems is None else self._count(part.problems, 500)

    def _trained(self, name: str, seed: int) -> Path:
        return self.out / "trained" / _stage_name(name, seed, self.recipe)

    def _tah(self, name: str, part: schema.TahPart, seed: int) -> None:
        """Labels (of the first seed, for they are of no seed), stage 1, and stage 2 on a copy of it."""
        labels = self.out / "trained" / f"{name}-labels"
        texts = self._count(part.problems, 500)
        uses = self._uses("student")
        if seed == self.recipe.seeds[0]:
            words = ["s2t_eval", "tah", "label", *self._loading(), *self._posing(part.problems)]
            self._add(Stage(f"{name}.labels", "tah label", (*words, "--out", str(labels)), labels,
                            asdict(part.problems), **uses, **self._read(part.problems),
                            work=Work.of_training(texts, 1, ["student"], self.recipe)))  # fmt: skip
        stage, output = _stage_name(name, seed, self.recipe), self._trained(name, seed)
        first = output.with_name(output.name + "-passes")
        shared = ["s2t_eval", "tah", "train", *self._loading(), "--labels", str(labels), "--seed", str(seed)]
        parts: tuple[tuple[str, schema.Training, Path, int], ...] = (
            (f"{stage}.passes", part.depths, first, 1), (stage, part.decider, output, 2)
        )  # fmt: skip
        for label, settings, place, number in parts:
            options = [*schema.flags(settings), *self._precision(settings)]
            command = (*shared, "--stage", str(number), *options, "--out", str(place))
            needs = {**uses["needs"], f"{name}.labels": labels}
            if number == 2:
                needs[f"{stage}.passes"] = first
            self._add(Stage(label, f"tah stage {number}", command, place, [asdict(settings), seed],
                            needs=needs, models=uses["models"], copy_of=first if number == 2 else None,
                            scratch=(place.with_name(place.name + ".training"),),
                            work=Work.of_training(texts, settings.epochs or 2, ["student"], self.recipe)))  # fmt: skip
        self.place[name, seed] = (stage, output)

    def _choose(self, name: str, part: schema.ChoicePart, seed: int) -> None:
        """A scan over development problems, and the choice on a copy of the selector."""
        stage, output = _stage_name(name, seed, self.recipe), self._trained(name, seed)
        maker, selector = self.place[part.selector, seed]
        scan = self.out / "scans" / stage
        arguments = {"pretrained": "${student}", "selector": str(selector), **part.arguments}
        words = ["s2t_eval", "scan", "--model", part.model, "--model_args"]
        words += [
            self._model_args(arguments, part.model, seed),
            "--tau",
            *map(str, part.tau),
            "--tasks",
            part.task,
        ]
        limit = _least(part.limit, self.recipe.limits.problems)
        more = [*self._asking(part.task), *(["--limit", str(limit)] if limit is not None else [])]
        uses = self._uses("student")
        uses["needs"] = {**uses["needs"], maker: selector}
        texts = limit or 500
        self._add(Stage(f"{stage}.scan", "scan", (*words, "--out", str(scan), "--", *more), scan,
                        [asdict(part), seed], **uses, tasks=(part.task,),
                        work=Work.of_texts(texts * (1 + len(part.tau)), ["student"], self.recipe,
                                           starts=1 + len(part.tau))))  # fmt: skip
        proposer = "tuned" if part.model == "s2t_local" else "base"
        command = ("s2t_eval", "choose", str(scan), "--selector", str(output), "--proposer", proposer)
        needs = {f"{stage}.scan": scan, maker: selector}
        self._add(Stage(stage, "choose", command, output, proposer, needs=needs, copy_of=selector))
        self.place[name, seed] = (stage, output)

    # ---------------------------------------------------------------- evaluation and report

    def _model_args(self, arguments: Mapping[str, Any], model: str, seed: int) -> str:
        """Arguments as lm_eval reads them, with the recipe's way of loading."""
        models = self.recipe.models
        loading: dict[str, Any] = {"dtype": models.dtype}
        if models.device is not None:
            loading["device"] = models.device
        if models.trust:
            loading["trust_remote_code"] = True
        if models.teacher_dtype is not None and "teacher" in arguments:
            loading["teacher_dtype"] = models.teacher_dtype
        placed = replaced_references({**loading, **arguments}, lambda name: self._place_of(name, seed))
        words = [f"{name}={value}" for name, value in placed.items() if value is not None]
        with_comma = [word for word in words if "," in word]
        if with_comma:
            raise RecipeError(
                f"{self.source}: {with_comma[0]!r}: lm_eval reads a comma as the end of an argument"
            )
        return ",".join(words)

    def _place_of(self, name: str, seed: int) -> str:
        if name in ("student", "teacher"):
            return self._model(name)
        if name == "labels":
            return str(self._labels()[0])
        made = self.place.get((name, seed)) or self.place.get((name, 0))
        if made is None:
            raise RecipeError(f"{self.source}: ${{{name}}} is used, and the recipe has no {name} section")
        return str(made[1])

    def _asking(self, task: str) -> list[str]:
        """Options of lm_eval that say how documents are put and how many at once."""
        limits, prompt = self.recipe.limits, self.recipe.prompt
        words = ["--batch_size", str(limits.batch_size)]
        words += ["--apply_chat_template"] if prompt.apply_chat_template else []
        words += ["--system_instruction", prompt.system_instruction] if prompt.system_instruction else []
        words += ["--num_fewshot", str(prompt.num_fewshot)] if prompt.num_fewshot is not None else []
        words += ["--gen_kwargs", f"max_gen_toks={limits.max_gen_toks}"] if limits.max_gen_toks else []
        return [*words, *(["--confirm_run_unsafe_code"] if benchmark_of(task).is_code else [])]

    def _evaluate(self, run: Evaluation) -> None:
        part = next(task for task in self.recipe.tasks if task.task == run.task)
        output = self.out / "runs" / run.task / run.name
        cache = self.out / "cache" / run.task / run.name
        arguments, scratch = dict(run.arguments), []
        scratch += [cache.with_name(f"{run.name}_rank0.db{end}") for end in ("", "-journal")]
        if self.recipe.methods[run.method].trace:
            trace = output.with_name(f"{run.name}.trace.jsonl")
            arguments["trace"] = str(trace)
            scratch += [trace, trace.with_name(trace.name + ".partial")]
        words = ["s2t_eval", "run", "--model", run.model]
        words += ["--model_args", self._model_args(arguments, run.model, run.seed), "--tasks", run.task]
        documents = selected_documents(part, self.recipe.limits.documents)
        words += [*self._asking(run.task), *documents.options(run.task)]
        words += ["--use_cache", str(cache), "--log_samples", "--output_path", str(output)]
        named = references(run.arguments)
        roles = [role for role in ("student", "teacher") if role in named]
        uses = self._uses(*roles)
        made = [self.place.get((n, run.seed)) or self.place.get((n, 0)) for n in named if n not in roles]
        uses["needs"] = {**uses["needs"], **dict(pair for pair in made if pair is not None)}
        samples = int(arguments.get("num_samples", 8)) if run.model in RANDOM_MODELS else 1
        texts = documents.count(run.task) * samples
        self._add(Stage(f"{run.task}/{run.name}", EVALUATE, tuple(words), output, run.arguments, **uses,
                        tasks=(run.task,), scratch=tuple(scratch),
                        work=Work.of_texts(texts, roles, self.recipe)))  # fmt: skip

    def _results(self, task: str = "") -> dict[str, Path]:
        """Evaluations, of one task where one is named."""
        found = [stage for stage in self.stages.values() if stage.kind == EVALUATE]
        return {stage.name: stage.output for stage in found if not task or task in stage.tasks}

    def _traces(self) -> list[Path]:
        return [p for stage in self.stages.values() for p in stage.scratch if p.name.endswith(".trace.jsonl")]

    def _analyze(self) -> None:
        output = self.out / "analysis"
        words, files, needs = ["s2t_eval", "analyze"], [], self._results()
        if self.recipe.labels is not None:
            labels, made = self._labels()
            words += ["--labels", str(labels)]
            needs, files = {**needs, **made}, [] if made else [labels]
        tasks = [str(self.out / "runs" / task.task) for task in self.recipe.tasks]
        words += ["--results", *tasks]
        traces = self._traces()
        words += ["--trace", *map(str, traces)] if traces else []
        self._add(Stage("analysis", "analyze", (*words, "--out", str(output)), output, None,
                        needs=needs, files=tuple(files)))  # fmt: skip

    def _keep(self, task: str) -> None:
        """The runs of a task as they are committed."""
        output = self.out / "kept" / task
        command = ("s2t_eval", "keep", str(self.out / "runs" / task), "--out", str(output))
        self._add(Stage(f"{task}/kept", "keep", command, output, None, needs=self._results(task)))

    def _report(self) -> None:
        output = self.out / "report"
        tasks = [str(self.out / "runs" / task.task) for task in self.recipe.tasks]
        words = ["s2t_eval", "report", *tasks, "--title", self.recipe.title, "--intervals"]
        if self.recipe.models.student.rsplit("/", 1)[-1].lower() not in PUBLISHED_STUDENTS:
            words.append("--no-published")
        traces = self._traces()
        words += ["--trace", *map(str, traces)] if traces else []
        self._add(Stage("report", REPORT, (*words, "--out", str(output)), output, self.recipe.title,
                        needs=self._results()))  # fmt: skip


def _stage_name(name: str, seed: int, recipe: schema.Recipe) -> str:
    return name if seed == recipe.seeds[0] else f"{name}-seed{seed}"


def _least(*counts: int | None) -> int | None:
    """The smallest of those that are given."""
    given = [count for count in counts if count is not None]
    return min(given) if given else None
