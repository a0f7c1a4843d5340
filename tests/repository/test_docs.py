"""The documentation: links lead somewhere, the reference is what the code says, every page is in the menu."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from s2t_eval import __version__, cli
from s2t_eval.cli.application import CommandLine
from s2t_eval.model_wrappers import arguments, splitting
from s2t_eval.model_wrappers.local_arguments import LocalArguments
from s2t_eval.model_wrappers.registration import BACKENDS
from s2t_eval.model_wrappers.specreason import SpecReasonArguments
from s2t_eval.model_wrappers.tah import TahArguments
from s2t_eval.model_wrappers.tot import TreeArguments
from s2t_eval.training.labels import SCHEMA
from scripts.generate_reference import REFERENCE, is_written, pages

REPOSITORY = Path(__file__).resolve().parents[2]
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2", re.MULTILINE | re.DOTALL)
SNIPPET = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)
ELSEWHERE = ("https://", "http://", "mailto:")
NOT_YET = ("pypi.org/project/s2t-eval", "pip install s2t-eval")


def tracked(suffix: str) -> list[Path]:
    """Files of the repository that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", f"*{suffix}"]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"git does not start: {error}")
    if done.returncode:
        pytest.skip(f"git lists no files here: {done.stderr.strip()}")
    return [REPOSITORY / name for name in done.stdout.splitlines() if (REPOSITORY / name).is_file()]


def links(path: Path) -> Iterator[str]:
    """Targets of a page's links, those in examples left out."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    yield from LINK.findall(re.sub(r"`[^`\n]*`", "", text))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub and mkdocs make of the headings of a page and of the files that it includes."""
    text = path.read_text(encoding="utf-8")
    text = SNIPPET.sub(lambda match: (REPOSITORY / match[1]).read_text(encoding="utf-8"), text)
    text = FENCE.sub("", text)
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_options_are_spelt_as_the_help_spells_them() -> None:
    """Some messages and pages had `--student-url`, others `--student_url`; the parser accepts both."""
    line = CommandLine(cli.COMMANDS)
    parsers = [line.command(entry.name) for entry in line.entries]
    named = {name for parser in parsers for option in line.options(parser) for name in option.names}
    hyphened = {name.replace("_", "-") for name in named if "_" in name}
    assert "--student-url" in hyphened
    folders = ("s2t_eval", "model_wrappers", "docs", "examples")
    for path in (path for suffix in (".py", ".md", ".yml") for path in tracked(suffix)):
        name = path.relative_to(REPOSITORY)
        if name.parts[0] in folders and name.parts[:2] != ("docs", "reference"):
            text = re.sub(r".*-m benchmarks.*", "", path.read_text(encoding="utf-8"))  # which have hyphens
            assert not set(re.findall(r"--[a-z]+(?:-[a-z]+)+", text)) & hyphened, name


def test_relative_links_lead_somewhere() -> None:
    broken = []
    for path in tracked(".md"):
        for target in links(path):
            if target.startswith(ELSEWHERE):
                continue
            place, _, anchor = unquote(target).partition("#")
            file = (path.parent / place).resolve() if place else path
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
                broken.append(f"{path.relative_to(REPOSITORY)}: {target}")
    assert not broken, broken


def test_without_git_the_files_of_the_checkout_are_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"git does not start: .*No such file"):
        tracked(".md")


def test_links_are_found_where_they_stand(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "[a](b.md) `[c](d.md)` ![e](f.svg)\n```\n[g](h.md)\n```\n[long\nname](i.md#j)\n\n# K, *l* m\n"
    )
    assert list(links(page)) == ["b.md", "f.svg", "i.md#j"]
    assert anchors(page) == {"k-l-m"}


def test_nothing_names_a_release_that_does_not_exist() -> None:
    pages = [path for suffix in (".md", ".py", ".toml", ".yml") for path in tracked(suffix)]
    named = {path.name for path in pages for name in NOT_YET if name in path.read_text(encoding="utf-8")}
    assert named <= {Path(__file__).name}


def test_the_reference_is_what_the_code_says() -> None:
    made = pages()
    stale = [name for name, text in made.items() if not is_written(name, text, check=True)]
    assert not stale, "run `python -m scripts.generate_reference` and commit"
    assert {path.name for path in REFERENCE.glob("*.md")} == set(made)


def test_the_reference_lists_the_columns_of_a_label_set() -> None:
    """Three fields that a row has in memory alone were listed beside them."""
    page = (REFERENCE / "artifacts.md").read_text(encoding="utf-8")
    section = page.partition("## A row of a label folder\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == SCHEMA.names


BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The commands that README and documentation show, as words."""
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    blocks = [block for page in pages for block in BLOCK.findall(page.read_text(encoding="utf-8"))]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_commands_of_the_docs_have_options_that_exist() -> None:
    ours = [
        words[1:]
        for words in commands()
        if words[0] == "s2t-eval" and words[1] not in ("run", "--completion")
    ]
    assert len(ours) > 10
    line = CommandLine(cli.COMMANDS)
    for words in ours:
        assert line.parse(words) is not None, words  # a wrong option raises an error


def test_evaluations_of_the_docs_name_models_and_arguments_that_exist() -> None:
    classes = (
        arguments.SamplingArguments,
        arguments.TeacherArguments,
        LocalArguments,
        TahArguments,
        SpecReasonArguments,
        TreeArguments,
    )
    own = {field.name for owner in classes for field in fields(owner)}
    known = own | splitting.STOCK_ARGS | splitting.LOADING_ARGS | splitting.TEACHER_ARGS
    evaluations = [words for words in commands() if words[0] == "lm_eval"]
    assert len(evaluations) > 10
    for words in evaluations:
        assert words[words.index("--model") + 1] in BACKENDS
        given = words[words.index("--model_args") + 1]
        assert splitting.parse_model_args(given).keys() <= known, given


def test_evaluations_of_the_reader_s_own_models_keep_their_results() -> None:
    """Ten commands for runs of hours kept nothing, so the next page's `report` had no input."""
    long = [words for words in commands() if words[0] == "lm_eval" and any("STUDENT" in w for w in words)]
    assert len(long) > 10
    for words in long:
        assert "…" in words or {"--log_samples", "--output_path"} <= set(words), words


def test_the_readme_fits_one_page() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_pages_have_an_entry_in_the_menu() -> None:
    settings = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w/.-]+\.md", settings))
    docs = REPOSITORY / "docs"
    assert listed == {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}


def test_the_citation_and_the_changelog_name_this_version() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["authors"] == [{"name": "The s2t-eval authors"}]
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[([^\]]+)\]", changes, re.MULTILINE)
    assert versions[:2] == ["Unreleased", __version__]
