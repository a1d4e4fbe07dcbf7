"""Whether a store's files are those that were written: changed ones are refused, gone ones left."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mads.annotate.seen import Seen
from mads.annotate.verify import check_files
from mads.errors import DataError
from mads.layout import StoreDir
from mads.store.manifest import read_manifest


@pytest.fixture
def store(toy_store: Path, tmp_path: Path) -> StoreDir:
    shutil.copytree(toy_store, tmp_path / "store")
    return StoreDir(tmp_path / "store")


def check(store: StoreDir) -> None:
    check_files(store, read_manifest(store), Seen(store.root / "none"), lambda *_: None)


@pytest.mark.parametrize(
    "name",
    [
        "documents/shard-00001.parquet",
        "memories/quality/shard-00000.parquet",
        "tokens/shard-00002.bin",
        "tokens/shard-00002.idx",
        "tokens/shard-00000.sum",
        "tokenizer/tokenizer.json",
    ],
)
def test_a_changed_file_is_refused_and_one_that_is_gone_is_left(store: StoreDir, name: str) -> None:
    check(store)
    path = store.root / name
    whole = path.read_bytes()
    path.write_bytes(whole[:30] + bytes([whole[30] ^ 1]) + whole[31:] if len(whole) > 31 else b"x")
    with pytest.raises(DataError, match=path.name):
        check(store)
    path.unlink()
    check(store)


@pytest.mark.parametrize("name", ["cells.parquet", "order.parquet", "order.sum", "content.json"])
def test_a_changed_file_of_an_index_is_removed(store: StoreDir, name: str) -> None:
    path = store.index(1).root / name
    path.write_bytes(path.read_bytes()[:-9])
    check(store)
    assert not path.exists()


def test_what_was_seen_is_not_read_again(store: StoreDir) -> None:
    seen = Seen(store.root / "none")
    check_files(store, read_manifest(store), seen, lambda *_: None)
    path = store.documents(0)
    stat = path.stat()
    path.write_bytes(bytes(stat.st_size))
    with pytest.raises(DataError, match=r"shard-00000\.parquet"):  # it has another time
        check_files(store, read_manifest(store), seen, lambda *_: None)


@pytest.mark.parametrize("name", ["cells.parquet", "order.parquet", "order.sum", "content.json"])
def test_a_file_that_the_machine_cannot_open_is_left(
    store: StoreDir, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.index(1).root / name
    whole, open_file = path.read_bytes(), Path.open

    def too_many(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == path:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(self))
        return open_file(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", too_many)
        with pytest.raises(
            DataError, match=rf"{name} cannot be (read|opened).*Too many open files"
        ):
            check(store)
    assert path.read_bytes() == whole
