"""Hashes of what files and folders hold, quick for large weights too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WHOLE_BYTES = 1 << 26
"""Files up to this size are hashed whole; of larger ones, such as weights, the size and samples are."""
SAMPLES, SAMPLE_BYTES = 64, 1 << 16


def content_hash(path: Path) -> str | None:
    """16 hex digits of a file, or of all files of a folder with their names; None where nothing is."""
    if not path.exists():
        return None
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else _files(path):
        name = "" if file == path else file.relative_to(path).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest()[:16]


def text_hash(value: Any) -> str:
    """16 hex digits of a JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _files(folder: Path) -> list[Path]:
    """Its files; the metadata that a download from the hub stores beside them (`.cache`) is left out."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if ".cache" not in path.relative_to(folder).parts)


def _blocks(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    with file.open("rb") as opened:
        if size <= WHOLE_BYTES:
            while block := opened.read(1 << 20):
                yield block
            return
        for i in range(SAMPLES):
            opened.seek(i * (size - SAMPLE_BYTES) // (SAMPLES - 1))
            yield opened.read(SAMPLE_BYTES)
