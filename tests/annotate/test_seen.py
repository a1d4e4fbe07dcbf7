"""A file is seen as long as it has the size and the time that it had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mads.annotate.seen import Seen
from mads.corpus.places import facts_of


def test_a_file_that_changes_is_not_seen(tmp_path: Path) -> None:
    path, notes = tmp_path / "a", tmp_path / "seen.json"
    path.write_text("one")
    seen = Seen(notes)
    assert not seen.holds(path)
    seen.note(path)
    assert seen.holds(path)
    seen.write()
    assert Seen(notes).holds(path)
    assert not Seen(notes, trust=False).holds(path)
    os.utime(path, ns=(1, 1))
    assert not Seen(notes).holds(path)
    path.unlink()
    assert not Seen(notes).holds(path)


def test_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    path, notes = tmp_path / "a", tmp_path / "seen.json"
    path.write_text("one")
    seen = Seen(notes)
    seen.note(path)
    path.unlink()
    seen.write()
    assert str(path) not in notes.read_text()


def test_damaged_notes_are_as_good_as_none(tmp_path: Path) -> None:
    path, notes = tmp_path / "a", tmp_path / "seen.json"
    path.write_text("one")
    for content in ("", "{", "[]", '{"a": 3}', '{"a": [1]}'):
        notes.write_text(content)
        assert not Seen(notes).holds(path)


def test_a_file_has_one_name_wherever_it_is_named_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    seen = Seen(tmp_path / "seen.json")
    seen.note(path)
    monkeypatch.chdir(tmp_path)
    assert seen.holds(Path("file"))
    assert not seen.holds(tmp_path)


def test_a_file_that_changes_while_it_is_read_is_not_seen(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    before = facts_of(path)
    path.write_text("longer")
    seen = Seen(tmp_path / "seen.json")
    seen.note(path, before)
    assert not seen.holds(path)
    assert facts_of(tmp_path / "none") is None
