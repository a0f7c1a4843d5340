"""Reads a recipe: finds the file, applies `--set`, replaces references, checks it against the schema."""

from __future__ import annotations

import os
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import yaml

from s2t_eval.artifacts.code import PACKAGE
from s2t_eval.artifacts.errors import single_line_message
from s2t_eval.artifacts.typed_json import conform
from s2t_eval.reproduce.names import suggestion
from s2t_eval.reproduce.schema import RESERVED, SECTIONS, Recipe
from s2t_eval.reproduce.task_groups import without_groups

SHIPPED = (PACKAGE / "recipes", PACKAGE.parent / "recipes")
"""Where recipes lie in an installed wheel, and in a checkout."""
SUFFIXES = (".yaml", ".yml")
BOOL = "tag:yaml.org,2002:bool"
"""Of true and false alone: to YAML 1.1 `precision: no` is false as well."""
MERGE = "tag:yaml.org,2002:merge"
REFERENCE = re.compile(r"\$\{([^}]*)\}")
HAS_REFERENCES = ("methods.", "choices.")
"""Sections in which `${NAME}` may name an artifact of the recipe; everywhere it may name a variable."""
FLOAT = re.compile(r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+")
"""A number such as 1e-4, which YAML 1.1 takes for a text."""


class RecipeError(ValueError):
    """A recipe that cannot be read, or that the schema refuses."""


class ReadRecipe(NamedTuple):
    """A checked recipe, and what it was made of."""

    recipe: Recipe
    """with the tasks of each group in its place"""
    content: dict[str, Any]
    """plain JSON, with `--set` and environment variables in it; references and groups are left"""
    source: str
    """the file's name, for people"""


def read_recipe(name: str, changes: Sequence[str] = ()) -> ReadRecipe:
    """A recipe from a file, or one that is shipped.

    Args:
        name: path of a YAML file, or the bare name of a shipped recipe, such as `embedded`.
        changes: `KEY.KEY=VALUE`, each a value of YAML for one place of the recipe.

    Raises:
        RecipeError: no such file, no YAML, an unknown key or a value that the schema refuses; one line
            with the place and, for a key or name, the nearest known one.
    """
    path = find(name)
    content = _load(path)
    for change in changes:
        _set(content, change)
    names = list(RESERVED)
    for section in SECTIONS:
        names += list(content.get(section) or {}) if isinstance(content.get(section), dict) else []
    try:
        _require_known(content, Recipe, "")
        content = _expanded(content, "", names)
        recipe: Recipe = conform(content, Recipe, "")
        recipe = replace(recipe, tasks=without_groups(recipe.tasks))
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{path}: {single_line_message(error)}") from error
    return ReadRecipe(recipe, content, path.name)


def find(name: str) -> Path:
    """The file of a recipe."""
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix in SUFFIXES or len(path.parts) > 1:
        raise RecipeError(f"{name}: there is no such recipe; shipped ones are {', '.join(shipped())}")
    for folder in SHIPPED:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise RecipeError(f"{name}: no shipped recipe has this name{suggestion(name, shipped())}")


def shipped() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted({path.stem for folder in SHIPPED for path in folder.glob("*.yaml")})


class _Loader(yaml.SafeLoader):
    """YAML that refuses a duplicate key, whose last value would silently replace the others."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        key_nodes = [key for key, _ in node.value if key.tag != MERGE]
        keys = [self.construct_object(key, deep=True) for key in key_nodes]
        duplicates = [key for i, key in enumerate(keys) if key in keys[:i]]
        if duplicates:
            raise yaml.MarkedYAMLError(
                problem=f"{duplicates[0]!r} is there twice", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(BOOL, re.compile("true|false"), ["t", "f"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))


def _load(path: Path) -> dict[str, Any]:
    try:
        content = _parsed(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        where = f"line {place.line + 1}, column {place.column + 1}: " if place is not None else ""
        raise RecipeError(f"{path}: no YAML ({where}{error.problem})") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: it cannot be read ({single_line_message(error)})") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: expected keys and values, got {type(content).__name__}")
    return content


def _parsed(text: str) -> Any:
    """The value of a YAML text, in which nothing is shared.

    An alias of YAML is the very object of its anchor: `--set` for one place would change the others too.

    Raises:
        yaml.YAMLError: no YAML, or an anchor around its own alias.
    """
    return _unshared(yaml.load(text, Loader=_Loader))


def _unshared(value: Any, around: tuple[int, ...] = ()) -> Any:
    """A copy without shared parts; `copy.deepcopy` would keep them shared.

    Args:
        value: of YAML.
        around: identities of the values that contain it.
    """
    if not isinstance(value, dict | list):
        return value
    if id(value) in around:
        raise yaml.YAMLError("an anchor contains its own alias, which never ends")
    inside = (*around, id(value))
    if isinstance(value, list):
        return [_unshared(inner, inside) for inner in value]
    return {key: _unshared(inner, inside) for key, inner in value.items()}


def _set(content: dict[str, Any], change: str) -> None:
    """Put the value of `KEY.KEY=VALUE` in its place; a section that is missing is made."""
    key, equals, text = change.partition("=")
    if not equals or not key.strip("."):
        raise RecipeError(f"--set: expected KEY.KEY=VALUE such as models.student=FOLDER, got {change!r}")
    try:
        value = _parsed(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {key}: {text!r} is no YAML value") from error
    *sections, last = key.split(".")
    place: Any = content
    for i, section in enumerate(sections):
        place = _entry(place, section, ".".join(sections[: i + 1]))
    if isinstance(place, list):
        place[_number(place, last, key)] = value
    else:
        place[last] = value


def _entry(place: Any, section: str, key: str) -> Any:
    inner = place[_number(place, section, key)] if isinstance(place, list) else place.get(section)
    if inner is None and isinstance(place, dict):
        inner = place[section] = {}
    if not isinstance(inner, dict | list):
        raise RecipeError(f"--set: {key} is a single value, {inner!r}; nothing can be put into it")
    return inner


def _number(place: list[Any], text: str, key: str) -> int:
    if not text.isdigit() or int(text) >= len(place):
        raise RecipeError(f"--set: {key}: expected a number from 0 to {len(place) - 1}, got {text!r}")
    return int(text)


def _require_known(value: Any, hint: Any, place: str) -> None:
    """Raise `RecipeError` for a key that no section of the schema has, with the nearest known one."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    if is_dataclass(hint) and isinstance(value, dict):
        hints = get_type_hints(hint)
        for key, inner in value.items():
            if key not in hints:
                where = f"{place}: " if place else ""
                raise RecipeError(f"{where}unknown key {key!r}{suggestion(str(key), hints)}")
            _require_known(inner, hints[key], f"{place}.{key}".lstrip("."))
    elif get_origin(hint) in (Union, types.UnionType):
        for kind in kinds:
            _require_known(value, kind, place)
    elif get_origin(hint) is dict and isinstance(value, dict):
        for key, inner in value.items():
            _require_known(inner, kinds[1], f"{place}.{key}")
    elif get_origin(hint) is tuple and isinstance(value, list):
        for i, inner in enumerate(value):
            _require_known(inner, kinds[0], f"{place}.{i}")


def _expanded(value: Any, place: str, names: Iterable[str]) -> Any:
    """The same with environment variables in place; `${NAME}` of an artifact of the recipe is left."""
    if isinstance(value, dict):
        return {key: _expanded(inner, f"{place}.{key}".lstrip("."), names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expanded(inner, f"{place}.{i}", names) for i, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name in names and place.startswith(HAS_REFERENCES):
            return match[0]
        if name in os.environ:
            return os.environ[name]
        raise RecipeError(
            f"{place}: ${{{name}}} is neither an artifact of the recipe nor an environment variable"
            f"{suggestion(name, [*names, 'HOME'])}; set the variable, or give --set {place}=VALUE"
        )

    return REFERENCE.sub(replace, value)


def references(value: Any) -> list[str]:
    """The names that `${NAME}` stands for in a value."""
    if isinstance(value, Mapping):
        return [name for inner in value.values() for name in references(inner)]
    if isinstance(value, list | tuple):
        return [name for inner in value for name in references(inner)]
    return REFERENCE.findall(value) if isinstance(value, str) else []


def replaced_references(value: Any, place_of: Callable[[str], str]) -> Any:
    """The same with the place of each artifact instead of `${NAME}`."""
    if isinstance(value, Mapping):
        return {key: replaced_references(inner, place_of) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [replaced_references(inner, place_of) for inner in value]
    if isinstance(value, str):
        return REFERENCE.sub(lambda match: place_of(match[1]), value)
    return value
