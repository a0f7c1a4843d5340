"""Files and folders are written whole or not at all, also behind a symbolic link."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2t_eval.artifacts.files import WriteError, atomic_path, write_text


def test_a_folder_behind_a_link_is_written_where_the_link_leads(tmp_path: Path) -> None:
    """`--out` linked to an empty folder of a larger disk could not be written after all of the training."""
    large, out = tmp_path / "large" / "disk", tmp_path / "selector"
    large.mkdir(parents=True)
    out.symlink_to(large)
    for text in ("first", "again"):  # into an empty folder, and in place of an earlier one
        with atomic_path(out) as partial:
            assert partial.parent == large.parent
            partial.mkdir()
            (partial / "adapter").write_text(text)
        assert (large / "adapter").read_text() == text
    assert out.is_symlink() and [path.name for path in large.parent.iterdir()] == ["disk"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "selector"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_file_behind_a_link_is_written_where_the_link_leads(exists: bool, tmp_path: Path) -> None:
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    if exists:
        target.write_text("before")
    link.symlink_to(target)
    write_text(link, "after")
    assert link.is_symlink() and target.read_text() == "after"


def test_an_error_names_the_path_that_was_given(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    with (
        pytest.raises(WriteError, match=r"^cannot write .*/link: .*; make room"),
        atomic_path(link) as partial,
    ):
        assert not partial.exists()
    assert not (tmp_path / "target").exists()
