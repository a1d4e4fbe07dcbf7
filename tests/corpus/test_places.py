"""Remote corpora: read where they are, found again, and what is wrong with them is told."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from corpus.kinds import write_kind
from toys import MakeRecipe

from mads.annotate.annotate import AnnotateResult, annotate
from mads.corpus import files as corpus_files
from mads.corpus.files import find_files
from mads.corpus.places import Remote, facts_of, open_raw, path_below, place_of
from mads.errors import DataError, MadsError, UsageError
from mads.export.texts import write_texts
from mads.store.store import Store

AGENT = {"backend": "column", "field": "kind", "categories": ["a", "b"]}
DOCUMENTS = [{"text": f"the river {i}", "id": f"d{i}", "kind": "ab"[i % 2]} for i in range(90)]
NAMES = ("a.jsonl", "b.jsonl.gz", "c.json.xz", "d.parquet", "deep/e.arrow", "f.csv")


@pytest.fixture
def local(tmp_path: Path) -> Path:
    (tmp_path / "corpus" / "deep").mkdir(parents=True)
    for i, name in enumerate(NAMES):
        write_kind(tmp_path / "corpus" / name, DOCUMENTS[15 * i : 15 * i + 15])
    return tmp_path / "corpus"


@pytest.fixture
def memory(local: Path) -> Iterator[str]:
    """The corpus at an address that is this process's RAM."""
    filesystem = fsspec.filesystem("memory")
    for name in NAMES:
        filesystem.pipe(f"/bucket/corpus/{name}", (local / name).read_bytes())
    yield "memory://bucket/corpus"
    filesystem.rm("/bucket", recursive=True)


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def make(given: list[str | Path], out: Path, toy_recipe: MakeRecipe) -> AnnotateResult:
    recipe = toy_recipe(agents={"kind": AGENT}, corpus={"executor": "inline", "shard_docs": 10})
    return annotate(given, out, recipe, lambda *_: None)


def check_same(address: str, local: Path, tmp_path: Path, toy_recipe: MakeRecipe) -> None:
    """Assert that a remote corpus gives the store that a local one gives, and its texts."""
    make([local], tmp_path / "of-local", toy_recipe)
    make([address], tmp_path / "store", toy_recipe)
    whole, found = Store(tmp_path / "of-local"), Store(tmp_path / "store")
    assert found.spec.root == address
    assert [file.path for file in found.spec.files] == [file.path for file in whole.spec.files]
    assert found.fingerprint == whole.fingerprint
    names = ("documents", "tokens", "memories", "index")
    for name in names:
        assert content(tmp_path / "store" / name) == content(tmp_path / "of-local" / name)
    docs = found.order.docs(np.arange(90))
    for root, out in ((place_of(address), "1"), (local, "2")):
        write_texts(found, docs, root, tmp_path / out, lambda *_: None)
    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_a_remote_corpus_gives_the_same_store(
    memory: str, local: Path, tmp_path: Path, toy_recipe: MakeRecipe
) -> None:
    check_same(memory, local, tmp_path, toy_recipe)


def test_a_file_address_is_a_path(local: Path, tmp_path: Path, toy_recipe: MakeRecipe) -> None:
    make([f"file://{local}"], tmp_path / "store", toy_recipe)
    assert Store(tmp_path / "store").spec.root == str(local)


def test_folders_patterns_and_files_at_an_address(memory: str) -> None:
    assert [str(p) for p in find_files([f"{memory}/*.json*"]).files] == [
        f"{memory}/{name}" for name in ("a.jsonl", "b.jsonl.gz", "c.json.xz")
    ]
    found = find_files([f"{memory}/deep", f"{memory}/a.jsonl", memory])
    assert len(found.files) == 6
    assert found.root == Remote(memory)
    assert path_below(str(found.root), str(found.files[0])) == "deep/e.arrow"
    assert find_files([f"{memory}/deep/e.arrow"]).root == Remote(f"{memory}/deep")


def test_a_remote_store_grows_and_notices_what_changed(
    memory: str, tmp_path: Path, toy_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    make([memory], tmp_path / "store", toy_recipe)
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/bucket/corpus/g.jsonl", json.dumps(DOCUMENTS[0]).encode())
    scanned: list[str] = []

    def scan(files: Any, *rest: Any) -> Any:
        scanned.extend(map(str, files))
        return corpus_files.scan(files, *rest)

    monkeypatch.setattr("mads.annotate.growth.scan", scan)
    result = make([memory], tmp_path / "store", toy_recipe)
    assert (result.generation, result.new_files, result.rows) == (2, 1, 91)
    assert scanned == [f"{memory}/g.jsonl"]
    filesystem.pipe("/bucket/corpus/a.jsonl", b'{"text": "another", "kind": "a"}\n' * 15)
    with pytest.raises(DataError, match=r"memory://bucket/corpus/a\.jsonl has changed: found sha"):
        make([memory], tmp_path / "store", toy_recipe)


def test_what_is_wrong_with_an_address_is_told(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given, message in (
        (f"{memory}/none.jsonl", r"memory://bucket/corpus/none\.jsonl does not exist\."),
        (f"{memory}/*.md", r"memory://bucket/corpus/\*\.md holds no corpus file"),
        ("nothing://x/y.jsonl", r"nothing://x/y\.jsonl cannot be read: Protocol not known: noth"),
        ("memory://bucket/corpus/x.doc", r"x\.doc does not exist"),
    ):
        with pytest.raises(UsageError, match=message):
            find_files([given])
    monkeypatch.setitem(sys.modules, "s3fs", None)
    message = (
        r"s3://b/x\.jsonl cannot be read: Install s3fs .*`pip install 'mads\[remote\]'` brings"
    )
    with pytest.raises(UsageError, match=message):
        find_files(["s3://b/x.jsonl"])


def test_an_error_of_a_library_names_the_file(
    memory: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy_recipe: MakeRecipe
) -> None:
    class NoCredentials(Exception):
        pass

    def refuse(*_: object, **__: object) -> None:
        raise NoCredentials("who are you?")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "_open", refuse)
    message = (
        r"a\.jsonl cannot be read: NoCredentials: who are you\?\. Look at the address, the net"
    )
    with pytest.raises(MadsError, match=message):
        make([memory], tmp_path / "store", toy_recipe)


def test_a_place_without_marks_of_change_is_read_again(memory: str) -> None:
    place = Remote(f"{memory}/a.jsonl")
    before = facts_of(place)
    assert before is not None
    assert facts_of(place) == before
    fsspec.filesystem("memory").pipe("/bucket/corpus/a.jsonl", b"{}")
    assert facts_of(place) != before
    assert facts_of(Remote(f"{memory}/deep")) is None
    with open_raw(place) as raw:
        assert raw.read() == b"{}"
        assert raw.seek(1) == 1
        assert (raw.tell(), raw.read(1)) == (1, b"}")


@pytest.fixture
def server(local: Path) -> Iterator[str]:
    """The corpus on a web server of this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(local))) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def test_a_file_on_a_web_server(server: str, tmp_path: Path, toy_recipe: MakeRecipe) -> None:
    pytest.importorskip("aiohttp")
    result = make([f"{server}/b.jsonl.gz"], tmp_path / "store", toy_recipe)
    assert result.rows == 15


def test_an_endpoint_like_s3(
    local: Path, tmp_path: Path, toy_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    found = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    found.start()
    try:
        host, port = found.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", endpoint),
        ):
            monkeypatch.setenv(name, value)
        filesystem = fsspec.filesystem("s3")
        filesystem.mkdir("bucket")
        filesystem.put(str(local), "bucket/corpus", recursive=True)
        check_same("s3://bucket/corpus", local, tmp_path, toy_recipe)
        result = make(["s3://bucket/corpus/*.jsonl*"], tmp_path / "some", toy_recipe)
        assert result.rows == 30
    finally:
        found.stop()
