"""The benchmarks' data: from the hub, or from a folder of the same layout where there is no network.

`S2T_DATA=DIR` (or `--metadata '{"data": "DIR"}'`) makes every task of ours read `DIR/<its folder>`.
A line that is no JSON, a split or a field that is missing, an item without an answer: each stops the
run before anything is generated, and names the file and the line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import (
    Dataset,
    DatasetDict,
    get_dataset_config_names,
    load_dataset,
    load_dataset_builder,
)

from s2t_eval.artifacts.json_lines import read_json_lines

SUFFIXES = (".jsonl", ".json")
Record = dict[str, Any]


class BenchmarkDataError(ValueError):
    """Data that cannot be read as the benchmark that they should be."""


@dataclass(frozen=True)
class Source:
    """Where a benchmark's data are.

    Args:
        hub: data set on the hub.
        config: its configuration, None for the only one.
        folder: folder below `S2T_DATA`.
        splits: wanted name -> names to look for, the first that exists is taken.
        fields: wanted name -> names to look for; a field is a text that is not empty.
    """

    hub: str
    folder: str
    splits: Mapping[str, Sequence[str]]
    fields: Mapping[str, Sequence[str]]
    config: str | None = None


def load(source: Source, data: str | None = None) -> dict[str, Dataset]:
    """A benchmark's splits, each record checked.

    Args:
        source: what to load.
        data: folder of data sets; None takes `S2T_DATA`, and the hub where that is not set.

    Raises:
        BenchmarkDataError: no folder, split, field or answer, or a line that is no JSON object.
    """
    folder = data or os.environ.get("S2T_DATA")
    if folder is None:
        return _from_hub(source)
    place = Path(folder).expanduser() / source.folder
    if not place.is_dir():
        raise BenchmarkDataError(
            f"S2T_DATA={folder}: there is no folder {source.folder} in it; expected the data of "
            f"{source.hub} there, or unset S2T_DATA to load it from the hub"
        )
    return _from_folder(source, place)


def _from_folder(source: Source, place: Path) -> dict[str, Dataset]:
    files = _files_of(source, place)
    found = {}
    for split, names in source.splits.items():
        name = next((name for name in names if name in files), None)
        if name is None:
            raise _no_split(source, split, str(place), files)
        records = [record for file in files[name] for record in _read(Path(file), source)]
        if not records:
            raise BenchmarkDataError(f"{place}: split {name!r} is empty")
        found[split] = Dataset.from_list(records)
    return found


def _files_of(source: Source, place: Path) -> dict[str, list[str]]:
    """Files of each split, by the folder's own README or by their names."""
    try:
        has_config = source.config in get_dataset_config_names(str(place))
        files = load_dataset_builder(str(place), source.config if has_config else None).config.data_files
    except (OSError, ValueError) as error:
        raise BenchmarkDataError(
            f"{place}: no data files are found ({' '.join(str(error).split())[:200]}); expected "
            f"{', '.join(f'{split}.jsonl' for split in source.splits)}, or a README.md that names files"
        ) from error
    return {str(split): [str(file) for file in paths] for split, paths in (files or {}).items()}


def _read(path: Path, source: Source) -> list[Record]:
    if path.suffix not in SUFFIXES:
        rows = Dataset.from_parquet(str(path)) if path.suffix == ".parquet" else Dataset.from_csv(str(path))
        return [_checked(row, source, f"{path}, record {i}") for i, row in enumerate(rows, start=1)]
    return [
        _checked(record, source, f"{path}, line {number}")
        for number, record in read_json_lines(path, BenchmarkDataError)
    ]


def _checked(record: Record, source: Source, where: str) -> Record:
    """The record with the fields under their wanted names."""
    record = dict(record)
    for wanted, names in source.fields.items():
        name = next((name for name in names if name in record), None)
        if name is None:
            raise BenchmarkDataError(
                f"{where}: there is no field {' or '.join(map(repr, names))}; it has "
                f"{', '.join(map(repr, record))}"
            )
        value = record.pop(name) if name != wanted else record[name]
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            raise BenchmarkDataError(
                f"{where}: an item without {_article(wanted)}: its field {name!r} is empty"
            )
        if wanted == "answer" and isinstance(value, list):
            value = ",".join(map(str, value))
        record[wanted] = str(value) if wanted == "answer" else value
    return record


def _article(field: str) -> str:
    return f"{'an' if field[0] in 'aeio' else 'a'} {field}"


def _from_hub(source: Source) -> dict[str, Dataset]:
    try:
        splits = load_dataset(source.hub, source.config)
    except (OSError, ValueError) as error:
        raise BenchmarkDataError(
            f"{source.hub}: the data set cannot be loaded from the hub "
            f"({' '.join(str(error).split())[:200]}); without a network set S2T_DATA=DIR to a folder "
            f"that holds {source.folder}"
        ) from error
    assert isinstance(splits, DatasetDict)
    found = {}
    for split, names in source.splits.items():
        name = next((name for name in names if name in splits), None)
        if name is None:
            raise _no_split(source, split, source.hub, splits)
        rows = enumerate(splits[name], start=1)
        records = [_checked(dict(row), source, f"{source.hub}, {name} {i}") for i, row in rows]
        found[split] = Dataset.from_list(records)
    return found


def _no_split(source: Source, split: str, where: str, present: Mapping[Any, object]) -> BenchmarkDataError:
    return BenchmarkDataError(
        f"{where}: there is no split {' or '.join(map(repr, source.splits[split]))}; it has "
        f"{', '.join(map(repr, present)) or 'none'}"
    )
