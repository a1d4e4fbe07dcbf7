"""A file is seen as long as it has the size and the time that it had."""

from __future__ import annotations

import os
from pathlib import Path

from mads.annotate.seen import Seen


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
