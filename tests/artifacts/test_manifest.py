"""Manifests: the same problem has the same message for every kind of artifact."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from s2t_eval.artifacts.figures import figures_text
from s2t_eval.artifacts.manifest import ManifestKind, manifest_text, require_same_run, write_manifest
from s2t_eval.embedded import embedded_path
from s2t_eval.methods.distilled import KIND as DISTILLED
from s2t_eval.methods.selector_info import KIND as SELECTOR
from s2t_eval.methods.tah.checkpoint import KIND as TAH
from s2t_eval.selection.calibration import KIND as CALIBRATION
from s2t_eval.training.labels import KIND as LABELS
from s2t_eval.training.tah.labels import KIND as TAH_LABELS

Kind = ManifestKind[Any]
KINDS: dict[str, Kind] = {
    "calibration": CALIBRATION,
    "distilled": DISTILLED,
    "labels": LABELS,
    "selector": SELECTOR,
    "tah": TAH,
    "tah labels": TAH_LABELS,
}
SHIPPED = {"selector": "embedded/selector", "tah": "embedded/tah", "distilled": "embedded/distilled"}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def test_a_missing_manifest(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(kind.error) as caught:
        kind.read("thing=X", tmp_path / "none.json")
    expected = f"folder of `{kind.command}` with {kind.file}" if kind.file else f"file of `{kind.command}`"
    assert str(caught.value) == (
        f"thing=X: expected a {expected}, there is none; make one with `{kind.command}`"
    )
    with pytest.raises(kind.error, match=r"there is none; look elsewhere$"):
        kind.read("thing=X", tmp_path / "none.json", "look elsewhere")


@pytest.mark.parametrize("number", [99, 0, -1, True, None, "1", 1.5, [1], {}])
def test_another_format(kind: Kind, number: object, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"format": number, "unknown": 1}))
    with pytest.raises(kind.error) as caught:
        kind.read("thing=X", path)
    its = f"its {kind.file}" if kind.file else "it"
    expected = f"thing=X: {its} has format {json.dumps(number)}, expected {kind.format}"
    assert str(caught.value).startswith(expected)
    assert str(caught.value).endswith(f"; make it again with `{kind.command}`, or update s2t-eval")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", "null", "{}", "\x00", "[" * 100_000, '{"format": 1}']
)
def test_a_damaged_manifest(kind: Kind, content: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(content)
    with pytest.raises(kind.error) as caught:
        kind.read("thing=X", path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"thing=X: {kind.expected}, it")
    assert " cannot be read (" in message and message.endswith(f"; make it again with `{kind.command}`")


def test_folder_in_place_of_a_manifest(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(kind.error, match=r"cannot be read \(.*Is a directory"):
        kind.read("thing=X", tmp_path)


def test_require_same_names_both_values(kind: Kind) -> None:
    kind.require_same("thing=X", "tokenizer", "abc", "abc", "use that one")
    with pytest.raises(kind.error) as caught:
        kind.require_same("thing=X", "tokenizer", "abc", "def", "use that one", "big")
    message = "thing=X: it was made for another tokenizer (expected abc, of big, got def); use that one"
    assert str(caught.value) == message


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_manifests_round_trip_to_the_same_bytes(name: str) -> None:
    """Results identify a folder by the hash of its files, so rewriting must not change them."""
    kind = KINDS[name]
    assert kind.file is not None
    paths = sorted(embedded_path(SHIPPED[name]).rglob(kind.file))
    assert paths
    for path in paths:
        assert manifest_text(kind.read(f"{name}={path.parent}", path)) == path.read_text()


def test_an_undefined_figure_is_written_as_json_has_it(tmp_path: Path) -> None:
    """Readers other than Python's refused `tah.json`: the precision of no token at all was written as NaN."""
    read = TAH.read("tah", embedded_path("embedded/tah") / "tah.json")  # has one, as it was written before
    write_manifest(tmp_path / "tah.json", read)
    json.loads((tmp_path / "tah.json").read_text(), parse_constant=pytest.fail)
    first, *_ = read.training["stage-2"]["history"]
    again, *_ = TAH.read("tah", tmp_path / "tah.json").training["stage-2"]["history"]
    assert math.isnan(first["precision"]) and again == {**first, "precision": None}
    both = [figures_text({"recall": 0.25, "precision": entry["precision"]}) for entry in (first, again)]
    assert both == ["recall 0.25, precision undefined"] * 2


def test_resuming_requires_equal_settings() -> None:
    before = {"student": "a", "seed": 1, "later": None}
    require_same_run("out", "checkpoints", before, {"student": "a", "seed": 1}, ValueError)
    message = (
        "out holds checkpoints of another run (its student, rows differ): expected student 'b', rows 4, got "
        "student 'a'; remove it or name another --out"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        require_same_run("out", "checkpoints", before, {"student": "b", "seed": 1, "rows": 4}, ValueError)


def test_a_setting_that_the_interrupted_run_alone_has_is_another_run() -> None:
    """`train --start A` was resumed without `--start`: the folder had A's weights and did not name A."""
    start = {"labels": "b" * 16, "start": "a" * 16}
    message = "(its start differ): expected none, got start 'aaaaaaaaaaaaaaaa'; remove it"
    with pytest.raises(ValueError, match=re.escape(message)):
        require_same_run("out", "checkpoints", start, {"labels": "b" * 16}, ValueError)


def test_of_nested_settings_the_values_that_differ_are_named() -> None:
    """`data` and `prompt` were named as differing, and their values had to be looked up in a file."""
    before = {"data": {"hash": "a" * 16, "skip": 0}, "rollouts": None}
    now = {"data": {"hash": "b" * 16, "skip": 0}, "rollouts": {"tau": 0.1}}
    message = (
        "(its data, rollouts differ): expected data.hash 'bbbbbbbbbbbbbbbb', rollouts.tau 0.1, got data.hash "
        "'aaaaaaaaaaaaaaaa', rollouts None; remove"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        require_same_run("out", "work", before, now, ValueError)


def test_values_that_an_earlier_version_did_not_record_are_none() -> None:
    with pytest.raises(ValueError, match=r"\(its code differ\): expected code 'new', got none; remove it"):
        require_same_run("out", "work", {"student": "a"}, {"student": "a", "code": "new"}, ValueError)
    many = {str(i): i for i in range(5)}
    with pytest.raises(ValueError, match=r"expected 0 0, 1 1, 2 2, 3 3, \.\.\., got none; remove it"):
        require_same_run("out", "work", {}, many, ValueError)
