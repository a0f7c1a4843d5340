"""Write the measured tables of docs/results/speed.md and docs/guides/servers.md from results/speed.

python -m scripts.generate_speed_page            # rewrites the parts between the markers
python -m scripts.generate_speed_page --check    # exits with 1 where one is stale
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.server_table import server_tables
from benchmarks.speed_table import speed_table
from scripts.marked_parts import REPOSITORY, replaced_part, write_or_check


class Tables(NamedTuple):
    """The tables of a page."""

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
PAGES = (
    Tables(REPOSITORY / "docs/results/speed.md", "results/speed", speed_table),
    Tables(REPOSITORY / "docs/guides/servers.md", "results/speed/servers", server_tables),
)


def main() -> None:
    """Write or check the pages."""
    write_or_check({tables.page: tables.written for tables in PAGES}, "generate_speed_page", sys.argv[1:])


if __name__ == "__main__":
    main()
