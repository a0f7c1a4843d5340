"""Write the measured tables of docs/results/speed.md and docs/guides/servers.md from results/speed.

python -m scripts.generate_speed_page            # rewrites the parts between the markers
python -m scripts.generate_speed_page --check    # exits with 1 where one is stale
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.figure_table import figure_table
from benchmarks.server_table import server_tables
from benchmarks.speed_table import speed_table
from scripts.marked_parts import REPOSITORY, replaced_part, write_or_check


class Tables(NamedTuple):
    """The tables that a page has of one folder."""

    page: Path
    folder: str
    """of the measurements, a file for each table"""
    table: Callable[[Mapping[str, Any]], str]

    @property
    def begin(self) -> str:
        """The line before the tables."""
        return f"<!-- Tables of {self.folder}: written by `python -m scripts.generate_speed_page`. -->"

    def written(self, page: str) -> str:
        """The page with its tables made anew."""
        files = sorted((REPOSITORY / self.folder).glob("*.json"))
        tables = [self.table(json.loads(path.read_text())) for path in files]
        return replaced_part(self.page.name, page, self.begin, "\n\n".join(tables), END)


END = "<!-- End of the tables. -->"
SPEED = REPOSITORY / "docs/results/speed.md"
PARTS = (
    Tables(SPEED, "results/speed", speed_table),
    Tables(SPEED, "results/speed/cpu", figure_table),
    Tables(SPEED, "results/speed/gpu", figure_table),
    Tables(SPEED, "results/speed/kernels", figure_table),
    Tables(REPOSITORY / "docs/guides/servers.md", "results/speed/servers", server_tables),
)
PAGES = tuple(dict.fromkeys(part.page for part in PARTS))


def written(path: Path, page: str) -> str:
    """A page with all of its tables made anew.

    Args:
        path: where the page lies.
        page: its text.
    """
    for part in PARTS:
        page = part.written(page) if part.page == path else page
    return page


def main() -> None:
    """Write or check the pages."""
    pages = {path: functools.partial(written, path) for path in PAGES}
    write_or_check(pages, "generate_speed_page", sys.argv[1:])


if __name__ == "__main__":
    main()
