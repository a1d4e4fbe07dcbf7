"""Every kind of file: the same rows whatever holds them, from anywhere, and no damage unseen."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from annotate.test_annotate import content
from corpus.hostile import invalid_strings
from corpus.kinds import NAMES, PACKERS, WRITERS, arrow, write_kind
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import MakeRecipe

from mads.annotate.annotate import annotate
from mads.corpus import streams
from mads.corpus.files import find_files, scan_file
from mads.corpus.readers import READERS, reader_of, suffix_of
from mads.corpus.readers.reader import RowFormat, paths_of
from mads.corpus.readers.records import RecordReader
from mads.corpus.rows import RowReader
from mads.errors import DataError
from mads.export.texts import write_texts
from mads.layout import StoreDir
from mads.store.store import Store
from mads.types import Status

AGENT = {"backend": "column", "field": "kind", "categories": ["a", "b"], "other": "a"}
HARD = ['a "quoted", text', "two\nlines, [and] {more}", "back\\slash \\", "é ü \t tab", '"', "]}"]
DOCUMENTS: list[dict[str, Any]] = [
    {"text": f"{HARD[i % 6]} number {i} " + "x" * (i % 90), "id": f"d{i}", "kind": "ab"[i % 2]}
    for i in range(300)
]
SHORT = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, derandomize=True
)


def rows_of(path: Path, first: int, count: int, first_byte: int) -> list[tuple[str, object]]:
    reader = RowReader(path, RowFormat(fields=("id",)))
    return [
        pair
        for batch in reader.batches(first, count, first_byte)
        for pair in zip(batch.texts, batch.fields["id"], strict=True)
    ]


def test_every_reader_is_tested() -> None:
    assert {*WRITERS, ".txt", ".md"} == set(READERS)
    assert set(PACKERS) - {""} == set(streams.COMPRESSIONS)


@pytest.mark.parametrize("chunk", [7, 2**20])
@pytest.mark.parametrize("name", NAMES)
def test_a_row_has_its_number_wherever_reading_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chunk: int
) -> None:
    monkeypatch.setattr(streams, "CHUNK_BYTES", chunk)
    path = write_kind(tmp_path / name, DOCUMENTS)
    found = scan_file(path, 41)
    assert found.num_rows == 300
    assert found.size == path.stat().st_size
    wanted = [(document["text"], document["id"]) for document in DOCUMENTS]
    for i in range(8):
        first = 41 * i
        byte = found.first_bytes[i] if found.first_bytes else 0
        assert rows_of(path, first, min(50, 300 - first), byte) == wanted[first : first + 50]


@pytest.mark.parametrize("name", NAMES)
def test_the_fields_are_named(tmp_path: Path, name: str) -> None:
    path = write_kind(tmp_path / name, DOCUMENTS)
    assert reader_of(path).names(path, 5) == ["text", "id", "kind"]


def test_nested_fields_are_named_by_their_paths(tmp_path: Path) -> None:
    record = {"text": "x", "meta": {"set": "C4", "deep": {"n": 1}}, "tags": ["a"]}
    assert paths_of(record) == ["text", "meta.set", "meta.deep.n", "tags"]
    path = write_kind(tmp_path / "a.parquet", [record])
    assert reader_of(path).names(path, 5) == paths_of(record)


CUT = [name for name in NAMES if name.endswith((*list(PACKERS)[1:], ".json", ".parquet", ".arrow"))]


@pytest.mark.parametrize("name", CUT)
def test_a_file_that_was_cut_off_is_told(tmp_path: Path, name: str) -> None:
    path = write_kind(tmp_path / name, DOCUMENTS)
    whole = path.read_bytes()
    for length in (len(whole) // 3, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"is damaged or truncated: .*Copy it again"):
            scan_file(path, 100)


@pytest.mark.parametrize("packed", [".gz", ".zst", ".bz2", ".xz"])
def test_a_file_that_is_not_compressed_is_told(tmp_path: Path, packed: str) -> None:
    path = tmp_path / f"a.jsonl{packed}"
    path.write_bytes(WRITERS[".jsonl"](DOCUMENTS))
    with pytest.raises(DataError, match=r"is damaged or truncated: \w+ .*failed"):
        scan_file(path, 100)


@pytest.mark.parametrize("packed", [".gz", ".zst", ".bz2", ".xz"])
def test_several_streams_in_one_file_are_read_on(tmp_path: Path, packed: str) -> None:
    data, path = WRITERS[".jsonl"](DOCUMENTS), tmp_path / f"a.jsonl{packed}"
    path.write_bytes(PACKERS[packed](data[:999]) + PACKERS[packed](data[999:]))
    assert scan_file(path, 100).num_rows == 300


def test_both_formats_of_arrow_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    path.write_bytes(arrow(pa.ipc.new_file)(DOCUMENTS))
    assert scan_file(path, 100).num_rows == 300
    assert rows_of(path, 123, 2, 0) == [(d["text"], d["id"]) for d in DOCUMENTS[123:125]]


def test_a_batch_whose_places_lead_out_of_it_is_damage(tmp_path: Path) -> None:
    """Reading such a text would end the process."""
    path = tmp_path / "a.arrow"
    offsets = pa.py_buffer(np.array([0, -7, 5], np.int32).tobytes())
    texts = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"hello")])
    path.write_bytes(stream_of(texts))
    with pytest.raises(DataError, match=r"a\.arrow is damaged or truncated: "):
        scan_file(path, 100)


def test_an_arrow_text_that_is_not_utf_8_is_one_row(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    path.write_bytes(stream_of(invalid_strings([b"one", b"caf\xe9", b"three"])))
    assert scan_file(path, 100).num_rows == 3
    (batch,) = RowReader(path, RowFormat()).batches(0, 3)
    assert batch.statuses == [Status.OK, Status.UNDECODABLE, Status.OK]


def stream_of(texts: pa.Array) -> bytes:
    batch, buffer = pa.record_batch({"text": texts}), pa.BufferOutputStream()
    with pa.ipc.new_stream(buffer, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(buffer.getvalue().to_pybytes())


def elements(path: Path, text: str, limit: int = 100) -> list[tuple[object, int]]:
    path.write_text(text, encoding="utf-8")
    reader = reader_of(path)
    assert isinstance(reader, RecordReader)
    pieces = reader.parser(path).pieces(path, limit)
    return [(piece.data, piece.start) for piece in pieces]


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_an_array_is_cut_into_its_elements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(streams, "CHUNK_BYTES", chunk)
    path = tmp_path / "a.json"
    assert elements(path, "\ufeff \n[ ]\n") == []
    assert elements(path, "[1]") == [(b"1", 1)]
    assert elements(path, '[{"a": "]\\"}"} ,\n [2, {}],""]\n ') == [
        (b'{"a": "]\\"}"}', 1),
        (b"[2, {}]", 16),
        (b'""', 26),
    ]
    assert elements(path, '["' + "x" * 200 + '", 2]') == [(None, 1), (b"2", 204)]
    assert elements(path, "[1, ]") == [(b"1", 1), (b"", 3)]
    for text, message in (
        ("[1, 2", "the JSON array has no end"),
        ('["1, 2]', "the JSON array has no end"),
        ("[1] 2", "something follows the array's end"),
        ("[1]]", "something follows the array's end"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=rf"a\.json is damaged or truncated: {message}\. Copy"):
            scan_file(path, 100)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@SHORT
@given(values=st.lists(json_values, max_size=6), chunk=st.integers(1, 40), spaces=st.booleans())
def test_any_array_is_what_json_reads(
    tmp_path: Path, values: list[object], chunk: int, spaces: bool
) -> None:
    text = json.dumps(values, indent=2 if spaces else None, ensure_ascii=False)
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "CHUNK_BYTES", chunk)
        found = elements(path, path.read_text(encoding="utf-8"), 10_000)
    read = [json.loads(data) for data, _ in found if isinstance(data, bytes)]
    assert read == json.loads(path.read_text(encoding="utf-8"))


def test_json_lines_under_the_name_of_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(WRITERS[".jsonl"](DOCUMENTS))
    assert scan_file(tmp_path / "a.json", 100).num_rows == 300
    (tmp_path / "a.json").write_text('{\n "text": "one object"\n}\n')
    with pytest.raises(DataError, match=r"a\.json is JSON over several lines, expected one JSON"):
        scan_file(tmp_path / "a.json", 100)


cells = st.lists(st.text('ab",\n\r é', max_size=6), min_size=2, max_size=2)


@SHORT
@given(values=st.lists(cells, max_size=6), chunk=st.integers(1, 40), every=st.booleans())
def test_any_table_is_what_csv_reads(
    tmp_path: Path, values: list[list[str]], chunk: int, every: bool
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL if every else csv.QUOTE_MINIMAL)
    writer.writerow(["text", "id"])
    writer.writerows(values)
    path = tmp_path / "a.csv"
    path.write_bytes(text.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "CHUNK_BYTES", chunk)
        found = scan_file(path, 1)
        rows = [rows_of(path, i, 1, found.first_bytes[i])[0] for i in range(found.num_rows)]
    assert [row[1] for row in rows] == [cell[1] for cell in values]
    assert [row[0] for row in rows] == [cell[0] if cell[0].strip() else "" for cell in values]


def test_rows_of_a_table_that_do_not_fit_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'\xef\xbb\xbftext,id\none,1\r\ntwo\n\nfour,4,4\nsix " inch,"6 ""',
    )
    with pytest.raises(DataError, match=r"a\.csv is damaged .*: a quoted field has no end"):
        scan_file(path, 100)
    path.write_bytes(b'\xef\xbb\xbftext,id\none,1\r\ntwo\n\nfour,4,4\nsix " inch,"6 """\n')
    (batch,) = RowReader(path, RowFormat(fields=("id",))).batches(0, 5)
    assert batch.texts == ["one", "two", "", "", 'six " inch']
    assert batch.fields["id"] == ["1", None, None, None, '6 "']
    empty, bad = Status.EMPTY, Status.UNDECODABLE
    assert batch.statuses == [Status.OK, Status.OK, empty, bad, Status.OK]
    for header, message in (
        (b"\n", "no header"),
        (b"id,id\n", "the column 'id' twice"),
        (b"caf\xe9\n", "a header that cannot be read"),
    ):
        path.write_bytes(header + b"1,2\n")
        with pytest.raises(DataError, match=rf"a\.csv has {message}.*Its first line must name"):
            scan_file(path, 100)


@pytest.mark.parametrize("name", ["a.txt", "b.md", "c.txt.zst"])
def test_a_text_file_is_one_document(tmp_path: Path, name: str) -> None:
    pack = PACKERS[".zst" if name.endswith("zst") else ""]
    path = tmp_path / name
    path.write_bytes(pack(b"\xef\xbb\xbf<!-- a page? -->\nno: text\n"))
    found = scan_file(path, 100)
    assert (found.num_rows, found.first_bytes) == (1, ())
    reader = RowReader(path, RowFormat("body", ("id", "text")), f"deep/{name}")
    (batch,) = reader.batches(0, 1)
    assert batch.texts == ["<!-- a page? -->\nno: text\n"]
    assert batch.fields["id"] == [f"deep/{name}"]
    for data, status in (
        (b"", Status.EMPTY),
        (b"caf\xe9", Status.UNDECODABLE),
        (b"x" * 200, Status.TOO_LONG),
    ):
        path.write_bytes(pack(data))
        assert scan_file(path, 100).num_rows == 1
        (batch,) = RowReader(path, RowFormat(max_doc_bytes=100)).batches(0, 1)
        assert (batch.statuses, batch.num_bytes) == ([status], [len(data)])


def test_what_is_beside_the_documents_is_left_out(tmp_path: Path) -> None:
    """As in a folder of `datasets`, and as README.md is in any."""
    write_kind(tmp_path / "data-00000-of-00001.arrow", DOCUMENTS)
    for name in ("dataset_info.json", "state.json", "README.md"):
        (tmp_path / name).write_text("{}")
    found = find_files([tmp_path])
    assert [path.name for path in found.files] == ["data-00000-of-00001.arrow"]
    notes = [path.name for path in found.left_out]
    assert notes == ["README.md", "dataset_info.json", "state.json"]
    found = find_files([tmp_path, tmp_path / "README.md"])
    assert len(found.files) == 2
    assert [path.name for path in found.left_out] == ["dataset_info.json", "state.json"]
    (tmp_path / "data-00000-of-00001.arrow").unlink()
    assert len(find_files([tmp_path]).files) == 2
    for name in ("dataset_info.json", "state.json"):
        (tmp_path / name).unlink()
    assert [path.name for path in find_files([tmp_path]).files] == ["README.md"]


def test_names_with_dots_and_compressed_tables() -> None:
    names = {"c4-0.json.gz": ".json.gz", "x.y.csv.xz": ".csv.xz", "a.parquet": ".parquet"}
    assert {name: suffix_of(Path(name)) for name in names} == names
    assert [suffix_of(Path(name)) for name in ("a.parquet.gz", "a.gz", "jsonl", "a.JSON")] == [
        None
    ] * 4


STORED = [n for n in NAMES if n.count(".") == 1 or n.startswith("a.jsonl")] + ["a.csv.xz"]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, toy_recipe: MakeRecipe) -> dict[str, Path]:
    """The store of the same documents in each kind of file, made by one worker."""
    root, found = tmp_path_factory.mktemp("kinds"), {}
    for name in STORED:
        folder = root / f"of-{name}"
        (folder / "corpus").mkdir(parents=True)
        write_kind(folder / "corpus" / name, DOCUMENTS)
        recipe = toy_recipe(agents={"kind": AGENT}, corpus={"executor": "inline", "shard_docs": 47})
        annotate([folder / "corpus"], folder / "store", recipe, lambda *_: None)
        found[name] = folder / "store"
    return found


@pytest.mark.parametrize("name", STORED)
def test_the_same_documents_give_the_same_store(stores: dict[str, Path], name: str) -> None:
    mine, first = Store(stores[name]), Store(stores["a.jsonl"])
    for shard in range(7):
        pairs = [store.documents(shard) for store in (mine, first)]
        for column in ("num_tokens_N", "num_bytes_N", "content_hash_N", "status_N"):
            assert (getattr(pairs[0], column) == getattr(pairs[1], column)).all()
        labels = [store.memory("kind", shard).category_N for store in (mine, first)]
        assert (labels[0] == labels[1]).all()
        tokens = [store.dir.tokens_bin(shard).read_bytes() for store in (mine, first)]
        assert tokens[0] == tokens[1]
    assert mine.index.order.read_bytes() == first.index.order.read_bytes()


@pytest.mark.parametrize("name", STORED)
def test_two_workers_and_a_call_that_was_killed_make_the_same_store(
    stores: dict[str, Path], toy_recipe: MakeRecipe, tmp_path: Path, name: str
) -> None:
    corpus = stores[name].parent / "corpus"
    recipe = toy_recipe(
        agents={"kind": AGENT},
        corpus={"executor": "processes" if name.count(".") == 1 else "inline", "shard_docs": 47},
    )
    shutil.copytree(stores[name], tmp_path / "store")
    store = StoreDir(tmp_path / "store")
    for shard in (1, 2, 5):
        store.documents(shard).unlink()
        store.memory_shard("kind", shard).unlink()
    annotate([corpus], store.root, recipe, lambda *_: None)
    assert content(store.root) == content(stores[name])


def test_a_folder_of_texts_has_the_same_documents(
    stores: dict[str, Path], toy_recipe: MakeRecipe, tmp_path: Path
) -> None:
    for i, document in enumerate(DOCUMENTS):
        path = tmp_path / "corpus" / f"{i // 100}" / f"{i:03d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(document["text"].encode())
    quality = {"quality": {"backend": "fasttext"}}  # texts have no field but their own
    recipe = toy_recipe(agents=quality, corpus={"executor": "inline", "shard_docs": 47})
    annotate([tmp_path / "corpus"], tmp_path / "store", recipe, lambda *_: None)
    mine, first = Store(tmp_path / "store"), Store(stores["a.jsonl"])
    for shard in range(7):
        pairs = [store.documents(shard) for store in (mine, first)]
        assert (pairs[0].content_hash_N == pairs[1].content_hash_N).all()
        tokens = [store.dir.tokens_bin(shard).read_bytes() for store in (mine, first)]
        assert tokens[0] == tokens[1]
    docs = mine.order.docs(np.arange(300))
    found = write_texts(mine, docs[:1], tmp_path / "corpus", tmp_path / "out", lambda *_: None)
    number = int(mine.locate(docs[:1])[0][0])
    assert found == [tmp_path / "out" / f"{number // 100}" / f"{number:03d}.jsonl.zst"]
    with pa.input_stream(str(found[0]), compression="zstd") as stream:
        record = json.loads(stream.read())
    assert record == {"id": f"{number // 100}/{number:03d}.txt", "text": DOCUMENTS[number]["text"]}


@pytest.mark.parametrize("name", STORED)
def test_every_kind_comes_back_as_texts(stores: dict[str, Path], tmp_path: Path, name: str) -> None:
    store = Store(stores[name])
    docs = [store.document_at(0, row) for row in (3, 77, 299)]
    (found,) = write_texts(
        store,
        pa.array(docs).to_numpy().astype("uint64"),
        store.dir.root.parent / "corpus",
        tmp_path,
        lambda *_: None,
    )
    if found.suffix == ".parquet":
        records = pq.read_table(found).to_pylist()
    else:
        with pa.input_stream(str(found), compression="zstd") as stream:
            records = [json.loads(line) for line in stream.read().splitlines()]
    assert records == [DOCUMENTS[row] for row in (3, 77, 299)]
