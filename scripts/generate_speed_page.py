"""Write the end-to-end tables of docs/results/speed.md from results/speed/*.json.

python -m scripts.generate_speed_page            # rewrites the part between the markers
python -m scripts.generate_speed_page --check    # exits with 1 where it is stale
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.speed_table import speed_table

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs/results/speed.md"
MEASURED = REPOSITORY / "results/speed"
BEGIN = "<!-- Tables of results/speed: written by `python -m scripts.generate_speed_page`. -->"
END = "<!-- End of the tables. -->"


def written(page: str) -> str:
    """The page with its tables made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = [speed_table(json.loads(path.read_text())) for path in sorted(MEASURED.glob("*.json"))]
    return f"{before}{BEGIN}\n\n" + "".join(f"{table}\n\n" for table in tables) + f"{END}{after}"


def main() -> None:
    """Write or check the page."""
    page = PAGE.read_text()
    if sys.argv[1:] == ["--check"]:
        if written(page) != page:
            raise SystemExit(
                f"{PAGE.relative_to(REPOSITORY)} is stale: python -m scripts.generate_speed_page"
            )
        return
    PAGE.write_text(written(page))


if __name__ == "__main__":
    main()
