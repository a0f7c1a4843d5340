"""The stages of a recipe so far, with where each artifact lies and what a stage that reads it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from s2t_eval.artifacts.typed_json import read_object
from s2t_eval.method_table import ADDRESSES, PLACE_ARGUMENTS
from s2t_eval.pipelines.settings import CollectionSettings, Source
from s2t_eval.reproduce import parts
from s2t_eval.reproduce.commands import argument_text, least, loading, option
from s2t_eval.reproduce.identity import model_place, name_on_command_lines
from s2t_eval.reproduce.read import RecipeError, references
from s2t_eval.reproduce.schema import Recipe
from s2t_eval.reproduce.stages import Stage, merged_fields, record_name
from s2t_eval.reproduce.work import Work

DATA_FILES = (".json", ".jsonl")
BOTH = ("student", "teacher")
TEACHER = "teacher_"


class Made(NamedTuple):
    """An artifact: the stage that makes it, and where it lies."""

    stage: str
    place: Path

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of a stage that reads it."""
        return {"needs": {self.stage: self.place}}


class ExistingFolder(NamedTuple):
    """A folder that the recipe names and no stage makes."""

    place: Path

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of a stage that reads it."""
        return {"files": (self.place,)}


class StageList:
    """Stages in their order, and the place of each artifact that they make.

    Args:
        recipe: the recipe.
        out: folder of everything that is made.
    """

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self.in_order: list[Stage] = []
        """each after all that it needs"""
        self.made: dict[tuple[str, int], Made] = {}
        """(artifact, seed) -> where it is; of no seed: the first"""

    def add(self, stage: Stage, artifact: str = "", seed: int | None = None) -> None:
        """Add a stage, and note what artifact of the recipe it makes.

        Raises:
            RecipeError: another stage has its name, and so its record, or writes to the same place.
        """
        record = record_name(stage.name)
        if any(record_name(other.name) == record or other.output == stage.output for other in self.in_order):
            raise RecipeError(
                f"{stage.name}: the names of the recipe make two steps of this name or with this output, "
                f"{stage.output}; rename one of the methods or artifacts"
            )
        self.in_order.append(stage)
        if artifact:
            self.made[artifact, self.recipe.seeds[0] if seed is None else seed] = Made(
                stage.name, stage.output
            )

    def seeded_name(self, name: str, seed: int) -> str:
        """The name of the stage that makes an artifact with this seed; of the first seed: the artifact's."""
        return name if seed == self.recipe.seeds[0] else f"{name}-seed{seed}"

    def find_artifact(self, name: str, seed: int) -> Made | None:
        """The artifact of this seed, else the one of the first; None for a name that no stage makes."""
        return self.made.get((name, seed)) or self.made.get((name, self.recipe.seeds[0]))

    def place_of(self, name: str, seed: int) -> str:
        """Where an artifact lies, or what a model is called, on a command line."""
        if (made := self.find_artifact(name, seed)) is not None:
            return str(made.place)
        if name == "labels" and self.recipe.labels is not None:
            return str(self.labels().place)
        model = getattr(self.recipe.models, name) if name in BOTH else None
        if model is None:
            raise RecipeError(f"${{{name}}} is used, and the recipe names none")
        return name_on_command_lines(str(model))

    def _model(self, role: str) -> str:
        return self.place_of(role, self.recipe.seeds[0])

    def teacher_options(self) -> list[str]:
        """Options of a command that loads the teacher to label with it."""
        text = argument_text(self.recipe.models.teacher_loading)
        return ["--teacher", self._model("teacher"), *option("teacher_args", text or None)]

    def served_teacher_options(self) -> list[str]:
        """Options of a command whose teacher is on a server, where the recipe has one; else it is loaded."""
        return (
            self.teacher_options() if self.recipe.servers is None else ["--teacher", self._model("teacher")]
        )

    def labelling_fields(self, words: Sequence[str], count: int, roles: Sequence[str]) -> dict[str, Any]:
        """Fields of a stage that measures or labels texts of the student, on servers where there are any.

        Args:
            words: its command, without the servers.
            count: number of texts.
            roles: of the models that it uses.
        """
        served = {} if self.recipe.servers is None else self.recipe.servers.command_options
        loaded = [role for role in roles if f"{role}_url" not in served]
        work = Work.of_texts(count, loaded, self.recipe, is_shared=bool(served))
        fields: dict[str, Any] = {"command": tuple(words), "work": work}
        if served:
            options = [word for name, value in served.items() for word in option(name, value)]
            fields["command"] = (*words, *options)
            fields["compared"] = (*words, *(name for name in served if name in ADDRESSES))
        return fields

    def training_teacher_options(self) -> list[str]:
        """How the commands that train on its texts or distributions load the teacher."""
        models = self.recipe.models
        words = ["--teacher", self._model("teacher"), *option("teacher_dtype", models.teacher_dtype)]
        return [*words, *option("teacher_args", argument_text(models.teacher_args) or None)]

    def student_options(self) -> list[str]:
        """How the commands that train and label load the student."""
        return loading(self.recipe, self._model("student"))

    def model_fields(self, *roles: str) -> dict[str, Any]:
        """Fields of a stage that loads these models."""
        models = self.recipe.models
        seed = self.recipe.seeds[0]
        made = [artifact for role in roles if (artifact := self.find_artifact(role, seed)) is not None]
        models_by_role = {r: (str(getattr(models, r)), getattr(models, f"{r}_revision")) for r in roles}
        fields = {"needs": dict(made), "models": models_by_role}
        if "teacher" not in roles:
            return fields
        places = [value for name, value in models.teacher_args.items() if name in PLACE_ARGUMENTS]
        return merged_fields(fields, self.file_fields(*places)) if places else fields

    def problem_fields(self, problems: parts.Problems) -> dict[str, Any]:
        """Fields of a stage that reads these problems."""
        if problems.data is None:
            return {"tasks": (problems.task,)}
        file = Path(problems.data)
        if file.suffix in DATA_FILES:
            return {"files": (file,)}
        return self.file_fields(problems.data.split(":")[0])  # NAME:SPLIT, where NAME may be a folder

    def file_fields(self, *names: object) -> dict[str, Any]:
        """Fields of a stage that reads what these names stand for, as far as it lies on this machine."""
        given = tuple(str(name) for name in names if name)
        places = [model_place(name) for name in given]
        return {"files": tuple(place for place in places if place is not None), "names": given}

    def argument_fields(self, arguments: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Fields of a stage whose model has these arguments: all that it loads and reads."""
        names = references(arguments)
        fields = self.model_fields(*(role for role in BOTH if role in names))
        for name in names:
            fields = merged_fields(fields, self._reference(name, seed))
        places = [value for name, value in arguments.items() if name.removeprefix(TEACHER) in PLACE_ARGUMENTS]
        return merged_fields(fields, self.file_fields(*places))

    def num_problems(self, problems: parts.Problems, default: int = Source.limit) -> int:
        """How many problems a stage reads; `default`: those of its command where the recipe limits none."""
        return least(problems.limit or default, self.recipe.limits.problems) or default

    def labels(self) -> Made | ExistingFolder:
        """The labels, which a stage makes or the recipe names."""
        made = self.find_artifact("labels", self.recipe.seeds[0])
        if made is not None:
            return made
        assert self.recipe.labels is not None and self.recipe.labels.folder is not None
        return ExistingFolder(Path(self.recipe.labels.folder).expanduser().absolute())

    def num_labelled_texts(self) -> int:
        """Number of texts in the label set: from the recipe, else from the manifest of its folder."""
        part = self.recipe.labels
        if part is None or part.problems is not None:
            return self.num_problems(part.problems) if part is not None and part.problems is not None else 0
        return int(self._label_data().get("problems", Source.limit))

    def label_tau(self) -> float:
        """Share of the steps that are the top steps of the label set: from the recipe or the manifest."""
        part = self.recipe.labels
        given = None if part is None else part.tau
        if part is not None and part.folder is not None:
            given = self._label_manifest().get("tau")
        return CollectionSettings.tau if given is None else float(given)

    def _label_data(self) -> dict[str, Any]:
        """The manifest's entry on the problems of an existing label set; empty without a manifest."""
        return dict(self._label_manifest().get("data", {}))

    def _label_manifest(self) -> dict[str, Any]:
        """The manifest of an existing label set; empty without one."""
        manifest = self.labels().place / "manifest.json"
        return dict(read_object(manifest)) if manifest.is_file() else {}

    def label_problem_fields(self) -> dict[str, Any]:
        """Fields of a stage that reads the problems of the labels again, with their solutions."""
        part = self.recipe.labels
        if part is not None and part.problems is not None:
            return self.problem_fields(part.problems)
        source = str(self._label_data().get("source", ""))
        return {"tasks": (source,)} if source.startswith("s2t_") else {}

    def _reference(self, name: str, seed: int) -> dict[str, Any]:
        """Fields of a stage that reads an artifact of the recipe."""
        made = self.find_artifact(name, seed)
        if made is not None:
            return made.fields
        return self.labels().fields if name == "labels" else {}
