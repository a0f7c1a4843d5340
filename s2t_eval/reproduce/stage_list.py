"""The stages of a recipe so far, with where each artifact lies and what a stage that reads it needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from s2t_eval.artifacts.typed_json import read_object
from s2t_eval.method_table import PLACE_ARGUMENTS
from s2t_eval.pipelines.settings import Source
from s2t_eval.reproduce import parts
from s2t_eval.reproduce.commands import argument_text, least, loading, option
from s2t_eval.reproduce.identity import model_place, name_on_command_lines
from s2t_eval.reproduce.read import RecipeError, references
from s2t_eval.reproduce.schema import Recipe
from s2t_eval.reproduce.servers import ADDRESSES
from s2t_eval.reproduce.stages import Stage, merged_fields, record_name
from s2t_eval.reproduce.work import Work

DATA_FILES = (".json", ".jsonl")
BOTH = ("student", "teacher")
TEACHER = "teacher_"


class Made(NamedTuple):
    """An artifact: the stage that makes it, and where it lies."""

    stage: str
    place: Path


class StageList:
    """Stages in their order, and the place of each artifact that they make.

    Args:
        recipe: the recipe.
        out: folder of everything that is made.
    """

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self.stages: list[Stage] = []
        self.made: dict[tuple[str, int], Made] = {}
        """(artifact, seed) -> where it is; of no seed: the first"""

    def _add(self, stage: Stage, artifact: str = "", seed: int | None = None) -> None:
        """Add a stage, and note what artifact of the recipe it makes.

        Raises:
            RecipeError: another stage has its name, and so its record, or writes to the same place.
        """
        record = record_name(stage.name)
        if any(record_name(other.name) == record or other.output == stage.output for other in self.stages):
            raise RecipeError(
                f"{stage.name}: the names of the recipe make two steps of this name or with this output, "
                f"{stage.output}; rename one of the methods or artifacts"
            )
        self.stages.append(stage)
        if artifact:
            self.made[artifact, self.recipe.seeds[0] if seed is None else seed] = Made(
                stage.name, stage.output
            )

    def _stage_name(self, name: str, seed: int) -> str:
        return name if seed == self.recipe.seeds[0] else f"{name}-seed{seed}"

    def _find_artifact(self, name: str, seed: int) -> Made | None:
        return self.made.get((name, seed)) or self.made.get((name, self.recipe.seeds[0]))

    def _place_of(self, name: str, seed: int) -> str:
        """Where an artifact lies, or what a model is called, on a command line."""
        if (made := self._find_artifact(name, seed)) is not None:
            return str(made.place)
        if name == "labels" and self.recipe.labels is not None:
            return str(self._labels()[0])
        model = getattr(self.recipe.models, name) if name in BOTH else None
        if model is None:
            raise RecipeError(f"${{{name}}} is used, and the recipe names none")
        return name_on_command_lines(str(model))

    def _model(self, role: str) -> str:
        return self._place_of(role, self.recipe.seeds[0])

    def _teacher(self) -> list[str]:
        """Options of a command that loads the teacher to label with it."""
        text = argument_text(self.recipe.models.teacher_loading)
        return ["--teacher", self._model("teacher"), *option("teacher_args", text or None)]

    def _served_teacher(self) -> list[str]:
        """Options of a command whose teacher is on a server, where the recipe has one; else it is loaded."""
        return self._teacher() if self.recipe.servers is None else ["--teacher", self._model("teacher")]

    def _on_servers(self, *words: str) -> dict[str, Any]:
        """Fields of a stage whose command measures or labels the student's texts: it, and what is compared.

        Args:
            words: of the command, without its servers.
        """
        if self.recipe.servers is None:
            return {"command": words}
        given = self.recipe.servers.command_options
        options = [word for name, value in given.items() for word in option(name, value)]
        return {
            "command": (*words, *options),
            "compared": (*words, *(name for name in given if name in ADDRESSES)),
        }

    def _labelling_work(self, count: int, *roles: str) -> Work:
        """Work of such a command: of the models that are on no server."""
        served = {} if self.recipe.servers is None else self.recipe.servers.command_options
        loaded = [role for role in roles if f"{role}_url" not in served]
        return Work.of_texts(count, loaded, self.recipe, is_shared=bool(served))

    def _training_teacher(self) -> list[str]:
        """How the commands that train on its texts or distributions load the teacher."""
        models = self.recipe.models
        words = ["--teacher", self._model("teacher"), *option("teacher_dtype", models.teacher_dtype)]
        return [*words, *option("teacher_args", argument_text(models.teacher_args) or None)]

    def _loading(self) -> list[str]:
        return loading(self.recipe, self._model("student"))

    def _model_fields(self, *roles: str) -> dict[str, Any]:
        """Fields of a stage that loads these models."""
        models = self.recipe.models
        seed = self.recipe.seeds[0]
        made = [artifact for role in roles if (artifact := self._find_artifact(role, seed)) is not None]
        models_by_role = {r: (str(getattr(models, r)), getattr(models, f"{r}_revision")) for r in roles}
        fields = {"needs": dict(made), "models": models_by_role}
        if "teacher" not in roles:
            return fields
        places = [value for name, value in models.teacher_args.items() if name in PLACE_ARGUMENTS]
        return merged_fields(fields, self._file_fields(*places)) if places else fields

    def _problem_fields(self, problems: parts.Problems) -> dict[str, Any]:
        """Fields of a stage that reads these problems."""
        if problems.data is None:
            return {"tasks": (problems.task,)}
        file = Path(problems.data)
        if file.suffix in DATA_FILES:
            return {"files": (file,)}
        return self._file_fields(problems.data.split(":")[0])  # NAME:SPLIT, where NAME may be a folder

    def _file_fields(self, *names: object) -> dict[str, Any]:
        """Fields of a stage that reads what these names stand for, as far as it lies on this machine."""
        given = tuple(str(name) for name in names if name)
        places = [model_place(name) for name in given]
        return {"files": tuple(place for place in places if place is not None), "names": given}

    def _argument_fields(self, arguments: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Fields of a stage whose model has these arguments: all that it loads and reads."""
        names = references(arguments)
        fields = self._model_fields(*(role for role in BOTH if role in names))
        for name in names:
            fields = merged_fields(fields, self._reference(name, seed))
        places = [value for name, value in arguments.items() if name.removeprefix(TEACHER) in PLACE_ARGUMENTS]
        return merged_fields(fields, self._file_fields(*places))

    def _count(self, problems: parts.Problems, default: int = Source.limit) -> int:
        return least(problems.limit or default, self.recipe.limits.problems) or default

    def _labels(self) -> tuple[Path, dict[str, Any]]:
        """Where the labels lie, and the fields of a stage that reads them."""
        made = self._find_artifact("labels", self.recipe.seeds[0])
        if made is not None:
            return made.place, {"needs": {made.stage: made.place}}
        assert self.recipe.labels is not None and self.recipe.labels.folder is not None
        folder = Path(self.recipe.labels.folder).expanduser().absolute()
        return folder, {"files": (folder,)}

    def _label_count(self) -> int:
        """Number of texts in the label set: from the recipe, else from the manifest of its folder."""
        part = self.recipe.labels
        if part is None or part.problems is not None:
            return self._count(part.problems) if part is not None and part.problems is not None else 0
        return int(self._label_data().get("problems", Source.limit))

    def _label_data(self) -> dict[str, Any]:
        """The manifest's entry on the problems of an existing label set; empty without a manifest."""
        manifest = self._labels()[0] / "manifest.json"
        return dict(read_object(manifest).get("data", {})) if manifest.is_file() else {}

    def _label_problem_fields(self) -> dict[str, Any]:
        """Fields of a stage that reads the problems of the labels again, with their solutions."""
        part = self.recipe.labels
        if part is not None and part.problems is not None:
            return self._problem_fields(part.problems)
        source = str(self._label_data().get("source", ""))
        return {"tasks": (source,)} if source.startswith("s2t_") else {}

    def _reference(self, name: str, seed: int) -> dict[str, Any]:
        """Fields of a stage that reads an artifact of the recipe."""
        made = self._find_artifact(name, seed)
        if made is not None:
            return {"needs": {made.stage: made.place}}
        return self._labels()[1] if name == "labels" else {}
