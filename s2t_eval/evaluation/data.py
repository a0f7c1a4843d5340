"""Loading of benchmark data from the Hugging Face Hub, or offline from a folder of the same layout.

With `S2T_DATA=DIR` (or `--metadata '{"data": "DIR"}'`) every task of this package reads `DIR/<its folder>`.
Invalid JSON, a missing split, part of a split or field, and an item without an answer or with one that no
response can match are errors before anything is generated; the message names the file and the line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
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
from datasets.exceptions import DatasetGenerationError, DatasetsError

from s2t_eval.artifacts.json_lines import read_json_lines

SUFFIXES = (".jsonl", ".json")
SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(?:-\w+)?\.\w+")
"""The name of a part of a split, as the Hub names them: `test-00000-of-00002.parquet`."""
Record = dict[str, Any]
LOAD_ERRORS = (OSError, ValueError, TypeError, OverflowError, DatasetsError)
"""Exceptions of datasets and pyarrow for files that they cannot read, and values that fit into no table."""


class BenchmarkDataError(ValueError):
    """The data are not those of the benchmark, or damaged."""


@dataclass(frozen=True)
class Source:
    """The location and the schema of a benchmark's data.

    Args:
        hub: name of the data set on the Hub.
        folder: folder below `S2T_DATA`.
        splits: for each split its possible names in the data; the first existing one is used.
        fields: for each field its possible names in the data; a field must not be empty.
        config: configuration of the data set; None (default) for the only one.
        fault: function from a record with these fields to what makes it unusable, such as an answer that no
            response can match; None for a usable one. None (default) where any content is usable.
    """

    hub: str
    folder: str
    splits: Mapping[str, Sequence[str]]
    fields: Mapping[str, Sequence[str]]
    config: str | None = None
    fault: Callable[[Record], str | None] | None = None


def load(source: Source, data: str | None = None) -> dict[str, Dataset]:
    """Load the splits of a benchmark and check every record.

    Args:
        source: the benchmark.
        data: folder of data sets; None (default) for `S2T_DATA`, or for the Hub if that is not set.

    Returns:
        The data set of each split.

    Raises:
        BenchmarkDataError: a folder, split, part of a split, field or answer is missing, a line is not a
            JSON object, or a record is not one of the benchmark (`Source.fault`).

    Example:
        >>> load(GSM8K, "data")["test"][0]["answer"]  # doctest: +SKIP
    """
    data_folder = data or os.environ.get("S2T_DATA")
    if data_folder is None:
        return _from_hub(source)
    folder = Path(data_folder).expanduser() / source.folder
    if not folder.is_dir():
        raise BenchmarkDataError(
            f"S2T_DATA={data_folder}: it has no folder {source.folder}; expected the data of "
            f"{source.hub} there, or unset S2T_DATA to load it from the hub"
        )
    return _from_folder(source, folder)


def _from_folder(source: Source, folder: Path) -> dict[str, Dataset]:
    files = _files_of(source, folder)
    datasets = {}
    for split, names in source.splits.items():
        name = next((name for name in names if name in files), None)
        if name is None:
            raise _missing_split(source, split, str(folder), files)
        _require_whole(folder, name, files[name])
        records = [record for file in files[name] for record in _read_file(Path(file), source)]
        if not records:
            raise BenchmarkDataError(f"{folder}: split {name!r} is empty")
        datasets[split] = _dataset(records, f"{folder}: split {name!r}")
    return datasets


def _dataset(records: Sequence[Record], location: str) -> Dataset:
    """The data set of these records; raises `BenchmarkDataError` for a field with values of several types."""
    try:
        return Dataset.from_list(list(records))
    except LOAD_ERRORS as error:
        raise BenchmarkDataError(
            f"{location}: its records are of different forms ({_short(error)})"
        ) from error


def _short(error: Exception) -> str:
    """The message of an exception, or of what stopped datasets' generation, on one line of limited length."""
    reason = error.__cause__ if isinstance(error, DatasetGenerationError) else None
    return " ".join(str(reason or error).split())[:200]


def _files_of(source: Source, folder: Path) -> dict[str, list[str]]:
    """The files of each split, according to the folder's README or their names."""
    try:
        has_config = source.config in get_dataset_config_names(str(folder))
        files = load_dataset_builder(str(folder), source.config if has_config else None).config.data_files
    except LOAD_ERRORS as error:
        raise BenchmarkDataError(
            f"{folder}: no data files are found ({_short(error)}); expected "
            f"{', '.join(f'{split}.jsonl' for split in source.splits)}, or a README.md that names files"
        ) from error
    return {str(split): [str(file) for file in paths] for split, paths in (files or {}).items()}


def _require_whole(folder: Path, split: str, files: Sequence[str]) -> None:
    """Raise `BenchmarkDataError` where files of a split that is stored in several are missing."""
    parts = [match for file in files if (match := SHARD.fullmatch(file)) is not None]
    for name, count in {(match[1], int(match[3])) for match in parts}:
        present = {int(match[2]) for match in parts if (match[1], int(match[3])) == (name, count)}
        missing = sorted(set(range(count)) - present)
        if missing:
            raise BenchmarkDataError(
                f"{folder}: split {split!r} has {len(present)} of its {count} files; "
                f"{Path(name).name}-{missing[0]:05d}-of-{count:05d} is missing; download it again"
            )


def _read_file(path: Path, source: Source) -> list[Record]:
    if path.suffix not in SUFFIXES:
        read = Dataset.from_parquet if path.suffix == ".parquet" else Dataset.from_csv
        try:
            rows = read(str(path))
        except LOAD_ERRORS as error:
            raise BenchmarkDataError(
                f"{path}: it cannot be read ({_short(error)}); it may have been cut off; get the file again"
            ) from error
        return [_checked_record(row, source, f"{path}, record {i}") for i, row in enumerate(rows, start=1)]
    return [
        _checked_record(record, source, f"{path}, line {number}")
        for number, record in read_json_lines(path, BenchmarkDataError)
    ]


def _checked_record(record: Record, source: Source, location: str) -> Record:
    """The record with its fields under the names of `source.fields`."""
    record = dict(record)
    for field, names in source.fields.items():
        name = next((name for name in names if name in record), None)
        if name is None:
            raise BenchmarkDataError(
                f"{location}: there is no field {' or '.join(map(repr, names))}; it has "
                f"{', '.join(map(repr, record))}"
            )
        value = record.pop(name) if name != field else record[name]
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            raise BenchmarkDataError(
                f"{location}: an item without {_article(field)}: its field {name!r} is empty"
            )
        if field == "answer" and isinstance(value, list):
            value = ",".join(map(str, value))
        record[field] = str(value) if field == "answer" else value
    fault = source.fault(record) if source.fault is not None else None
    if fault is not None:
        raise BenchmarkDataError(f"{location}: {fault}")
    return record


def _article(field: str) -> str:
    return f"{'an' if field[0] in 'aeio' else 'a'} {field}"


def _from_hub(source: Source) -> dict[str, Dataset]:
    try:
        splits = load_dataset(source.hub, source.config)
    except LOAD_ERRORS as error:
        raise BenchmarkDataError(
            f"{source.hub}: the data set cannot be loaded from the hub ({_short(error)}); without a network "
            f"set S2T_DATA=DIR to a folder that contains {source.folder}"
        ) from error
    assert isinstance(splits, DatasetDict)
    datasets = {}
    for split, names in source.splits.items():
        name = next((name for name in names if name in splits), None)
        if name is None:
            raise _missing_split(source, split, source.hub, splits)
        rows = enumerate(splits[name], start=1)
        records = [_checked_record(dict(row), source, f"{source.hub}, {name} {i}") for i, row in rows]
        datasets[split] = _dataset(records, f"{source.hub}: split {name!r}")
    return datasets


def _missing_split(
    source: Source, split: str, location: str, present: Mapping[Any, object]
) -> BenchmarkDataError:
    return BenchmarkDataError(
        f"{location}: there is no split {' or '.join(map(repr, source.splits[split]))}; it has "
        f"{', '.join(map(repr, present)) or 'none'}"
    )
