"""Files and folders appear whole or not at all, one writer at a time."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest

from mads import files
from mads.errors import DataError, UsageError, machine_problem
from mads.files import (
    LOCK,
    PARTIAL,
    atomic_path,
    exclusive,
    file_sha256,
    fresh_folder,
    publish,
    read_json,
    read_sealed_json,
    reason_of,
    write_json,
    write_sealed_json,
)


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with atomic_path(path) as partial:
        partial.write_text("one")
        assert not path.exists()
        assert partial.parent == path.parent
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_leftover_of_a_killed_process_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    path.with_name(path.name + PARTIAL).write_text("a much longer text than the new one")
    write_json(path, [1])
    assert path.read_text() == "[\n 1\n]\n"


def test_a_folder_is_published_whole_in_place_of_the_old_one(tmp_path: Path) -> None:
    old, new = tmp_path / "folder", tmp_path / "folder.partial"
    for folder, name in ((old, "old"), (new, "new")):
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / name).write_text(name)
    publish(new, old)
    assert not new.exists()
    assert [p.name for p in (old / "inner").iterdir()] == ["new"]


def test_json_refuses_nan_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"ä": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert read_json(path) == {"ä": 1}


def test_json_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    with pytest.raises(DataError, match=r"value\.json does not exist\."):
        read_json(path)
    for content in (b'{"a": ', b"\xff"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"value\.json cannot be read as JSON: "):
            read_json(path)


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    with exclusive(root):
        message = re.escape(f"{root} is being written by another mads process. Wait for it")
        with pytest.raises(DataError, match=message), exclusive(root):
            pass
    with exclusive(root):
        assert root.is_dir()


def test_a_file_is_no_folder_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = r"file is a file, not a folder\. Give another --out\."
    with pytest.raises(UsageError, match=message), exclusive(tmp_path / "file"):
        pass


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_fresh_folder_appears_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with fresh_folder(out) as folder:
        assert folder == out.with_name(f"out{PARTIAL}")
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("x")
        assert not out.exists()
    assert names(out.parent) == {"out"}
    assert (out / "inner" / "file").read_text() == "x"
    assert names(out) == {"inner"}
    with fresh_folder(out) as folder:
        assert folder is None  # the caller looks what is there
    assert names(out.parent) == {"out"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_no_folder(tmp_path: Path, error: type[BaseException]) -> None:
    out = tmp_path / "out"

    def fail() -> None:
        with fresh_folder(out) as folder:
            assert folder is not None
            (folder / "file").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == set()


def test_a_fresh_folder_has_one_writer(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with fresh_folder(out) as folder:
        assert folder is not None
        (folder / "file").write_text("x")
        message = re.escape(f"{out} is being written by another mads process. Wait for it")
        with pytest.raises(DataError, match=message), fresh_folder(out):
            pass
        assert (folder / "file").read_text() == "x"
    assert names(out) == {"file"}


@pytest.mark.parametrize("content", ["", ".lock", "file"])
def test_what_lies_in_the_way_of_a_fresh_folder(tmp_path: Path, content: str) -> None:
    """An empty folder and what a killed attempt left are taken; what is somebody's is not."""
    partial = tmp_path / f"out{PARTIAL}"
    partial.mkdir()
    if content:
        (partial / content).write_text("")
    if content == "file":
        message = r"out\.partial is in the way: it is not mads's own\. Move it\."
        with pytest.raises(UsageError, match=message), fresh_folder(tmp_path / "out"):
            pass
        assert names(partial) == {"file"}
        return
    with fresh_folder(tmp_path / "out") as folder:
        assert folder == partial
    assert names(tmp_path) == {"out"}


@pytest.mark.parametrize("kind", ["file", "link", "circle"])
def test_a_fresh_folder_in_place_of_what_is_none(tmp_path: Path, kind: str) -> None:
    out, partial = tmp_path / "out", tmp_path / f"out{PARTIAL}"
    for path, message in ((out, "out is a file, not a folder"), (partial, "is in the way")):
        if kind == "file":
            path.write_text("")
        else:
            path.symlink_to("nowhere" if kind == "link" else path.name)
        with pytest.raises(UsageError, match=message), fresh_folder(out):
            pass
        path.unlink()
    with (
        pytest.raises(UsageError, match=r"/ is no folder that can be made"),
        fresh_folder(Path("/")),
    ):
        pass


def test_a_fresh_folder_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    with fresh_folder(tmp_path / "out") as folder:
        assert folder is not None
        (folder / "file").write_text("x")
    assert names(tmp_path) == {"out", "real"}
    assert names(tmp_path / "real") == {"file"}


def test_a_folder_that_came_to_be_meanwhile_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def work() -> None:
        with fresh_folder(out):
            out.mkdir()
            (out / "mine").write_text("x")

    with pytest.raises(UsageError, match=r"out is not empty\. Give another --out\."):
        work()
    assert names(tmp_path) == {"out"}
    assert names(out) == {"mine"}


def test_a_lock_that_was_renamed_under_its_feet_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking, the other process finishes, or gives up and deletes."""
    out = tmp_path / "out"
    lock = files._lock
    for ends in ("finished", "deleted"):
        waiting = [True]

        def late(handle: int, root: Path, ends: str = ends, waiting: list[bool] = waiting) -> None:
            if waiting:
                waiting.clear()
                partial = out.with_name(f"out{PARTIAL}")
                if ends == "finished":
                    (partial / "file").write_text("theirs")
                    partial.rename(out)
                    (out / LOCK).unlink()
                else:
                    files._clear(partial)
            lock(handle, root)

        monkeypatch.setattr(files, "_lock", late)
        with fresh_folder(out) as folder:
            assert (folder is None) == (ends == "finished")
        assert names(tmp_path) == {"out"}
        shutil.rmtree(out)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EACCES])
def test_a_fault_of_the_machine_names_the_file(tmp_path: Path, number: int) -> None:
    """A failed write alone does not say which file it was."""

    def fail() -> None:
        with atomic_path(tmp_path / "file"):
            raise OSError(number, os.strerror(number))

    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
        fail()
    assert caught.value.filename == str(tmp_path / "file")
    assert names(tmp_path) == set()
    assert machine_problem(caught.value)
    assert reason_of(caught.value) == os.strerror(number)


def test_json_that_the_machine_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_text", fail)
    with pytest.raises(DataError, match=r"x\.json cannot be read: Input/output error\.$"):
        read_json(tmp_path / "x.json")
    assert reason_of(OSError("odd\nmore")) == "odd"
    assert reason_of(OSError()) == "no reason is known"


def test_sealed_json_notices_a_change(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_sealed_json(path, {"ä": 1, "b": [0.5, None]})
    assert read_sealed_json(path, "Do this.") == {"ä": 1, "b": [0.5, None]}
    assert list(read_json(path)) == ["ä", "b", "sha256"]
    for content, message in (
        ("[1]", r"holds a list, expected an object\. Do this\."),
        ('{"ä": 1}', r"has no 'sha256': it was changed, or is not mads's own\. Do this\."),
        (
            path.read_text().replace("0.5", "0.6"),
            r"was changed: its sha256 says \w{16}, its content",
        ),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            read_sealed_json(path, "Do this.")
    with pytest.raises(DataError, match=r"If you changed it on purpose, remove its 'sha256'"):
        read_sealed_json(path, "Do this.", by_hand=True)
    path.write_text('{"ä": 1}')
    assert read_sealed_json(path, "Do this.", by_hand=True) == {"ä": 1}


def test_the_sha256_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 100_000)
    assert file_sha256(tmp_path / "x") == hashlib.sha256(b"abc" * 100_000).hexdigest()
