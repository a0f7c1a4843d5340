"""Pages of which a script writes the parts between two lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def replaced_part(name: str, page: str, begin: str, content: str, end: str) -> str:
    """A page with new content between two lines.

    Args:
        name: of the page, for messages.
        page: its text.
        begin: the line before the part.
        content: the new part, which may be empty.
        end: the line behind it.

    Raises:
        ValueError: a page without one of the lines.
    """
    before, is_begun, rest = page.partition(begin)
    _, is_ended, after = rest.partition(end)
    if not is_begun or not is_ended:
        raise ValueError(f"{name}: expected the lines {begin!r} and {end!r}")
    part = "\n\n".join(filter(None, (begin, content, end)))
    return f"{before}{part}{after}"


def write_or_check(pages: Mapping[Path, Callable[[str], str]], script: str, argv: Sequence[str]) -> None:
    """Write pages, or with the only argument `--check` end in a message where one is stale.

    Args:
        pages: each with the function that gives its new text from the present one.
        script: name of the module that writes them.
        argv: arguments of the command line.
    """
    for path, written in pages.items():
        page = path.read_text()
        if argv != ["--check"]:
            path.write_text(written(page))
        elif written(page) != page:
            raise SystemExit(f"{path.relative_to(REPOSITORY)} is stale: python -m scripts.{script}")
