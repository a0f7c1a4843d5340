"""Tokens a second of every row of a recipe beside stock `hf`, end to end on real prompts.

    python -m benchmarks.end_to_end embedded --out results/speed/embedded.json
    python -m benchmarks.end_to_end qwen-gsm8k --rows greedy maj8 s2t_tau5 teacher \\
        --place calibration=runs/qwen/calibration.json --out results/speed/qwen-gsm8k.json
    python -m scripts.generate_speed_page       # the tables of docs/results/speed.md, from the files

Each run is a process of its own, so that its peak memory is its own; loading and grading are not timed. In
each round every side runs once and another one begins, so that other load affects all of them. The file is
written after every run; an interrupted measurement is resumed, and rows can be added to an earlier one. Run
it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.ratios import REPOSITORY, this_machine
from benchmarks.speed_table import STOCK
from benchmarks.timed_evaluation import Work
from s2t_eval.artifacts.content import content_hash, text_hash
from s2t_eval.artifacts.files import write_text
from s2t_eval.artifacts.software import commit_of
from s2t_eval.embedded import resolve_model
from s2t_eval.models.loading import default_device
from s2t_eval.reproduce.commands import row_loading
from s2t_eval.reproduce.read import read_recipe, references, replaced_references
from s2t_eval.reproduce.schema import Recipe
from s2t_eval.reproduce.stages import evaluations

STOCK_TEACHER = "hf-teacher"


@dataclass(frozen=True)
class Side:
    """One row of the table.

    Args:
        name: of the row.
        label: as the table shows it.
        model: lm_eval's `--model`.
        model_args: its arguments, with the places of all artifacts.
    """

    name: str
    label: str
    model: str
    model_args: dict[str, Any]


def sides_of(recipe: Recipe, places: Mapping[str, str], rows: Sequence[str]) -> list[Side]:
    """Stock student and teacher, and the rows of a recipe whose artifacts have a place.

    Args:
        recipe: whose rows they are.
        places: folder or file of an artifact -> where it lies.
        rows: names of rows; none for all.

    Raises:
        ValueError: a row that does not exist, or whose artifact has no place.
    """
    models = recipe.models
    # Stock `hf` looks for a GPU even where there is none.
    loading = {"dtype": models.dtype, "device": models.device or default_device()}
    known = {"student": models.student, "teacher": models.teacher or "", **places}
    sides = [Side(STOCK, "stock `hf`", "hf", {"pretrained": resolve_model(models.student), **loading})]
    if models.teacher:
        teacher = {"pretrained": resolve_model(models.teacher), **loading, **models.teacher_loading}
        sides.append(Side(STOCK_TEACHER, "stock `hf`, teacher alone", "hf", teacher))
    for run in evaluations(recipe):
        missing = [name for name in references(run.arguments) if name not in known]
        if missing and run.name in rows:
            raise ValueError(f"row {run.name}: expected --place {missing[0]}=PATH, got none")
        if not missing and run.task == recipe.tasks[0].task:
            arguments = replaced_references(run.arguments, known.__getitem__)
            label = recipe.methods[run.method].label or run.method
            own = {k: v for k, v in row_loading(models, run.arguments).items() if v is not None}
            sides.append(Side(run.name, label, run.model, {**loading, **own, **arguments}))
    unknown = set(rows) - {side.name for side in sides}
    if unknown:
        names = ", ".join(side.name for side in sides)
        raise ValueError(f"--rows: expected some of {names}, got {', '.join(sorted(unknown))}")
    return [side for side in sides if not rows or side.name in rows]


def schedule(names: Sequence[str], batches: Sequence[int], rounds: int) -> Iterator[tuple[int, int, str]]:
    """Round, batch and side of each run, in order; another side begins in each round."""
    for number, batch in product(range(rounds), batches):
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            yield number, batch, name


def evaluate(work: Work) -> dict[str, Any]:
    """Run one side in a process of its own.

    Raises:
        RuntimeError: the process failed; its last lines are the message.
    """
    command = [sys.executable, "-m", "benchmarks.timed_evaluation", json.dumps(asdict(work))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    if done.returncode != 0:
        raise RuntimeError(f"{work.model}: {done.stderr.strip()[-2000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    arguments = _parser().parse_args(argv)
    recipe = read_recipe(arguments.recipe, arguments.set).recipe
    places = dict(place.split("=", 1) for place in arguments.place)
    sides = {side.name: side for side in sides_of(recipe, places, arguments.rows)}
    described = describe(recipe, sides, arguments.limit, arguments.speed_only)
    heading, runs = with_earlier_runs(arguments.out, described)
    done = {(run["round"], run["batch"], run["side"]) for run in runs}
    for number, batch, name in schedule(list(sides), arguments.batches, arguments.rounds):
        if (number, batch, name) in done:
            continue
        load = this_machine().load
        measured = evaluate(work_of(sides[name], recipe, arguments.limit, batch))
        runs.append({"side": name, "batch": batch, "round": number, "load": load, **measured})
        write_text(arguments.out, json.dumps({**heading, "runs": runs}, indent=1) + "\n")
        rate = measured["tokens"] / measured["seconds"]
        print(f"round {number + 1}, batch {batch}, {name}: {rate:.1f} tokens/s", flush=True)


def describe(
    recipe: Recipe, sides: Mapping[str, Side], limit: int, speed_only: Sequence[str] = ()
) -> dict[str, Any]:
    """What all runs of a file have in common.

    Raises:
        ValueError: `speed_only` names a row that is not measured.
    """
    unknown = sorted(set(speed_only) - set(sides))
    if unknown:
        raise ValueError(f"--speed-only: expected some of {', '.join(sides)}, got {', '.join(unknown)}")
    return {
        "title": recipe.title,
        "commit": commit_of(REPOSITORY),
        "machine": {name: value for name, value in asdict(this_machine()).items() if name != "load"},
        "dtype": recipe.models.dtype,
        "task": recipe.tasks[0].task,
        "documents": limit,
        "max_gen_toks": recipe.limits.max_gen_toks,
        "apply_chat_template": recipe.prompt.apply_chat_template,
        "labels": {name: side.label for name, side in sides.items()},
        "sides": {name: _side_hash(side) for name, side in sides.items()},
        "speed_only": {name: name in speed_only for name in sides},
    }


def _side_hash(side: Side) -> str:
    """Its arguments and the content of what they name, without a path of this machine."""
    content = {
        name: (content_hash(Path(value)) or value) if isinstance(value, str) else value
        for name, value in side.model_args.items()
    }
    return text_hash([side.model, content])


def work_of(side: Side, recipe: Recipe, limit: int, batch: int) -> Work:
    """What the process of a side evaluates."""
    return Work(
        model=side.model,
        model_args=side.model_args,
        task=recipe.tasks[0].task,
        limit=limit,
        batch_size=batch,
        apply_chat_template=recipe.prompt.apply_chat_template,
        max_gen_toks=recipe.limits.max_gen_toks,
    )


def with_earlier_runs(out: Path, heading: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What all runs have in common and the runs of an earlier measurement, which may have had other rows.

    Raises:
        ValueError: the earlier runs are of another commit, machine or task, or of other models in one of
            the rows.
    """
    if not out.exists():
        return dict(heading), []
    content = json.loads(out.read_text())
    runs: list[dict[str, Any]] = content.pop("runs")
    by_side = {name: content.pop(name, {}) for name in ("labels", "sides", "speed_only")}
    for name, value in heading.items():
        if name not in by_side and content.get(name) != value:
            was = content.get(name)
            raise ValueError(f"{out}: expected runs of {name} {value!r}, got {was!r}; move the file away")
    for name, value in heading["sides"].items():
        if by_side["sides"].get(name, value) != value:
            raise ValueError(
                f"{out}: its runs of {name} are of other models or arguments; move the file away"
            )
    return {**heading, **{name: {**kept, **heading[name]} for name, kept in by_side.items()}}, runs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="benchmarks.end_to_end",
    )
    parser.add_argument("recipe", help="name or file of a recipe; its first task is measured")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the runs, which is resumed")
    parser.add_argument("--rows", nargs="+", default=[], help="names of rows, hf and hf-teacher (all)")
    parser.add_argument("--place", nargs="+", default=[], metavar="ARTIFACT=PATH", help="where artifacts lie")
    parser.add_argument(
        "--speed-only",
        nargs="+",
        default=[],
        metavar="ROW",
        help="rows whose artifacts were trained too little to show their right answers (none)",
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes of the recipe")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32], help="texts at once (1 32)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    parser.add_argument("--limit", type=int, default=64, help="documents (64)")
    return parser


if __name__ == "__main__":
    main()
