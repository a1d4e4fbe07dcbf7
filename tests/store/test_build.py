"""The cell index against a slow dictionary, with any memory and in any division into buckets."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mads.config import TokenizerConfig
from mads.corpus.files import CorpusFile
from mads.errors import DataError
from mads.index import order as order_module
from mads.index.buckets import BASE_BYTES
from mads.layout import StoreDir
from mads.sealed import read_seal
from mads.seeds import derive, mix64
from mads.store import build as module
from mads.store.build import PriorUses, build_index
from mads.store.documents import Documents, status_codes, write_documents
from mads.store.memory import write_memory
from mads.store.spec import AgentInfo, Segment, Shard, StoreSpec
from mads.types import NO_CATEGORY, Labels, Status, doc_id

AGENTS = {
    "colour": AgentInfo(("red", "green", "blue"), "fingerprint of colour", "colour"),
    "size": AgentInfo(("small", "large"), "fingerprint of size", "size"),
}
Doc = tuple[int, int, int, str]  # colour, size, tokens, status
LARGE, SMALL = 2**30, 1
KEYS = ("cell", "doc", "num_tokens", "tokens_before")


def documents(num: int, seed: int) -> list[Doc]:
    """Draw documents: one cell has two thirds of them, (2, 1) has none, some are not ok."""
    rng = np.random.default_rng(seed)
    found: list[Doc] = []
    for _ in range(num):
        colour, size = (0, 1) if rng.random() < 0.66 else (int(rng.integers(3)), 0)
        status = str(rng.choice(list(Status), p=[0.9, 0.025, 0.025, 0.025, 0.025]))
        found.append((colour, size, int(rng.integers(1, 2000)), status))
    return found


def write_parts(root: Path, shards: list[list[Doc]], seed: int = 5) -> tuple[StoreDir, StoreSpec]:
    """Write what annotate leaves before it builds the index."""
    store = StoreDir(root)
    spec = StoreSpec(
        root="/corpus",
        files=(CorpusFile("corpus.jsonl", 1, sum(map(len, shards)), 1, "sha"),),
        shards=tuple(
            Shard((Segment(0, 0, len(shard)),), f"fingerprint of shard {number}")
            for number, shard in enumerate(shards)
        ),
        text_field="text",
        max_doc_bytes=1,
        tokenizer=TokenizerConfig(),
        agents=AGENTS,
        seed=seed,
    )
    for number, shard in enumerate(shards):
        doc_N = np.array([doc_id(number, row) for row in range(len(shard))], np.uint64)
        ok = [status == Status.OK for _, _, _, status in shard]
        store.tokens_sum(number).parent.mkdir(parents=True, exist_ok=True)
        store.tokens_sum(number).write_bytes(b"sums")
        table = Documents(
            np.array([d[2] if k else 0 for d, k in zip(shard, ok, strict=True)], np.uint32),
            np.zeros(len(shard), np.int64),
            np.zeros(len(shard), np.uint64),
            np.array(status_codes([Status(d[3]) for d in shard]), np.int8),
        )
        sums = read_seal(store.tokens_sum(number))
        write_documents(store.documents(number), number, f"shard {number}", sums, table)
        for column, name in enumerate(AGENTS):
            category = [d[column] if k else NO_CATEGORY for d, k in zip(shard, ok, strict=True)]
            labels = Labels(np.array(category, np.uint16), np.zeros(len(shard), np.float32))
            header = spec.memory_header(name, number)
            write_memory(store.memory_shard(name, number), header, doc_N, labels)
    return store, spec


def oracle(
    shards: list[list[Doc]], seed: int, uses: Mapping[int, int] | None = None
) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """Return the rows of cells.parquet and order.parquet, the slow way."""
    used = uses or {}
    members: dict[tuple[int, int, int], list[tuple[int, int]]] = defaultdict(list)
    for number, shard in enumerate(shards):
        for row, (colour, size, tokens, status) in enumerate(shard):
            if status == "ok":
                doc = doc_id(number, row)
                members[used.get(doc, 0), size, colour].append((doc, tokens))
    key = derive(seed, "cell order")
    cells: list[dict[str, int]] = []
    order: list[dict[str, int]] = []
    for cell, (prior, size, colour) in enumerate(sorted(members)):
        found = members[prior, size, colour]
        found.sort(key=lambda item: int(mix64(np.array([item[0]], np.uint64), key)[0]))
        total = sum(tokens for _, tokens in found)
        cells.append({"cell": cell, "colour": colour, "size": size, "uses": prior})
        cells[-1] |= {"num_docs": len(found), "num_tokens": total, "first_row": len(order)}
        before = 0
        for doc, tokens in found:
            order.append(dict(zip(KEYS, (cell, doc, tokens, before), strict=True)))
            before += tokens
    return cells, order


def split(found: list[Doc], *sizes: int) -> list[list[Doc]]:
    bounds = np.cumsum([0, *sizes]).tolist()
    assert bounds[-1] == len(found)
    return [found[a:b] for a, b in itertools.pairwise(bounds)]


@pytest.mark.parametrize("ram_bytes", [LARGE, SMALL])
@pytest.mark.parametrize("sizes", [(3000,), (1500, 0, 1, 1499)])
def test_the_index_equals_a_dictionary(
    tmp_path: Path, ram_bytes: int, sizes: tuple[int, ...]
) -> None:
    shards = split(documents(3000, seed=sum(sizes[:1])), *sizes)
    store, spec = write_parts(tmp_path, shards)
    handled: list[int] = []
    counts = build_index(store, spec, store.index(1), ram_bytes, handled.append)
    cells, order = oracle(shards, spec.seed)
    assert pq.read_table(store.index(1).cells).to_pylist() == cells
    assert pq.read_table(store.index(1).order).select(KEYS).to_pylist() == order
    assert counts == (len(cells), len(order))
    assert sum(handled) == 2 * 3000
    assert sorted(path.name for path in (tmp_path / "index" / "0001").iterdir()) == [
        *("cells.parquet", "content.json", "order.parquet", "order.sum")
    ]


@pytest.mark.parametrize("ram_bytes", [LARGE, SMALL])
def test_cells_are_split_by_prior_uses(tmp_path: Path, ram_bytes: int) -> None:
    shards = split(documents(3000, seed=3), 1700, 0, 1300)
    store, spec = write_parts(tmp_path, shards)
    place_R = np.random.default_rng(4).integers(0, 3, 3000).astype(np.uint16)
    values = (0, 1, 70_000)
    docs = [doc_id(n, row) for n, shard in enumerate(shards) for row in range(len(shard))]
    used = dict(zip(docs, (values[place] for place in place_R.tolist()), strict=True))
    uses = PriorUses(values, place_R)
    build_index(store, spec, store.index(2), ram_bytes, lambda _: None, uses=uses)
    cells, order = oracle(shards, spec.seed, used)
    assert pq.read_table(store.index(2).cells).to_pylist() == cells
    assert pq.read_table(store.index(2).order).select(KEYS).to_pylist() == order


def test_the_schema_is_that_of_the_design(tmp_path: Path) -> None:
    store, spec = write_parts(tmp_path, [documents(50, seed=1)])
    build_index(store, spec, store.index(1), LARGE, lambda _: None)
    types = {field.name: str(field.type) for field in pq.read_schema(store.index(1).order)}
    assert types == {
        "doc": "uint64",
        "cell": "uint32",
        "num_tokens": "uint32",
        "tokens_before": "uint64",
    }
    types = {field.name: str(field.type) for field in pq.read_schema(store.index(1).cells)}
    assert types == {
        "cell": "uint32",
        "colour": "uint16",
        "size": "uint16",
        "uses": "uint32",
        "num_docs": "uint64",
        "num_tokens": "uint64",
        "first_row": "uint64",
    }


def test_buckets_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_module, "ROW_GROUP", 700)
    files = []
    for name, ram_bytes in (("one", LARGE), ("some", BASE_BYTES + 250_000), ("many", SMALL)):
        store, spec = write_parts(tmp_path / name, split(documents(5000, seed=2), 2000, 3000))
        build_index(store, spec, store.index(1), ram_bytes, lambda _: None)
        files.append((store.index(1).order.read_bytes(), store.index(1).cells.read_bytes()))
    assert files[0] == files[1] == files[2]
    metadata = pq.read_metadata(store.index(1).order)
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert set(groups[:-1]) == {700}
    assert 0 < groups[-1] <= 700


def test_a_document_keeps_its_place_whatever_else_there_is(tmp_path: Path) -> None:
    found = documents(400, seed=3)
    fewer = [(*d[:3], "empty") if i % 4 == 0 else d for i, d in enumerate(found)]
    orders = []
    for name, docs in (("all", found), ("fewer", fewer)):
        store, spec = write_parts(tmp_path / name, split(docs, 150, 250))
        build_index(store, spec, store.index(1), LARGE, lambda _: None)
        orders.append(pq.read_table(store.index(1).order)["doc"].to_pylist())
    kept = set(orders[1])
    assert [doc for doc in orders[0] if doc in kept] == orders[1]


def test_another_seed_is_another_order(tmp_path: Path) -> None:
    orders = []
    for seed in (1, 2):
        store, spec = write_parts(tmp_path / str(seed), [documents(200, seed=4)], seed)
        build_index(store, spec, store.index(1), LARGE, lambda _: None)
        orders.append(pq.read_table(store.index(1).order)["doc"].to_pylist())
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_a_corpus_without_a_readable_document_is_refused(tmp_path: Path) -> None:
    store, spec = write_parts(tmp_path, [[(0, 0, 5, "empty"), (0, 0, 5, "no_text")]])
    with pytest.raises(
        DataError, match=r"no document of this corpus can be selected; .* corpus\.text_field right"
    ):
        build_index(store, spec, store.index(1), LARGE, lambda _: None)


def test_a_memory_that_does_not_mirror_its_shard_is_refused(tmp_path: Path) -> None:
    store, spec = write_parts(tmp_path, [documents(20, seed=7), documents(30, seed=8)])
    path = store.memory_shard("size", 0)
    path.write_bytes(store.memory_shard("size", 1).read_bytes())
    other = "its shard is 'fingerprint of shard 1', expected 'fingerprint of shard 0'"
    with pytest.raises(DataError, match=rf"size/shard-00000\.parquet does not belong .*: {other}"):
        build_index(store, spec, store.index(1), LARGE, lambda _: None)
    path.write_bytes(store.memory_shard("colour", 0).read_bytes())
    with pytest.raises(DataError, match="its agent is 'colour', expected 'size'"):
        build_index(store, spec, store.index(1), LARGE, lambda _: None)
    path.unlink()
    with pytest.raises(DataError, match=r"shard-00000\.parquet cannot be read: No such"):
        build_index(store, spec, store.index(1), LARGE, lambda _: None)


def test_exchanged_shards_of_equal_length_are_refused(tmp_path: Path) -> None:
    store, spec = write_parts(tmp_path, [documents(30, seed=7), documents(30, seed=8)])
    one, two = (store.memory_shard("size", shard) for shard in (0, 1))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    with pytest.raises(
        DataError,
        match=r"size/shard-00000\.parquet does not belong to this store: its shard is",
    ):
        build_index(store, spec, store.index(1), LARGE, lambda _: None)
    one.write_bytes(first)
    two.write_bytes(second)
    store.documents(0).write_bytes(store.documents(1).read_bytes())
    with pytest.raises(DataError, match="does not list the 30 documents of its shard"):
        build_index(store, spec, store.index(1), LARGE, lambda _: None)


def test_an_edited_memory_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    store, spec = write_parts(tmp_path, [documents(30, seed=7)])
    for path, column in ((store.memory_shard("size", 0), 1), (store.documents(0), 1)):
        whole = path.read_bytes()
        table = pq.ParquetFile(path).read()  # with all metadata
        values = pa.array(np.zeros(30), table.schema.field(column).type)
        pq.write_table(table.set_column(column, table.schema.field(column), values), path)
        with pytest.raises(
            DataError,
            match=rf"{path.name} is not the file that was written: its footer's fingerprint is "
            "[0-9a-f]{64}, expected [0-9a-f]{64}. Delete it",
        ):
            build_index(store, spec, store.index(1), LARGE, lambda _: None)
        path.write_bytes(whole)
    build_index(store, spec, store.index(1), LARGE, lambda _: None)


@pytest.mark.parametrize("num_codes", [12, module.MAX_DENSE + 1])
def test_a_tally_equals_a_dictionary(num_codes: int) -> None:
    rng = np.random.default_rng(1)
    code_N, tokens_N = rng.integers(0, 12, 500), rng.integers(1, 9, 500).astype(np.uint32)
    code_N[code_N == 7] = 3
    found = module._tally(code_N, tokens_N, num_codes)
    again = module._merged(found, found)
    for i, code in enumerate(sorted(set(code_N.tolist()))):
        docs, tokens = int((code_N == code).sum()), int(tokens_N[code_N == code].sum())
        row = [int(column[i]) for column in (found.code_C, found.num_docs_C, found.num_tokens_C)]
        assert row == [code, docs, tokens]
        assert (int(again.num_docs_C[i]), int(again.num_tokens_C[i])) == (2 * docs, 2 * tokens)
    assert len(found.code_C) == len(again.code_C) == 11


def test_a_readable_document_without_a_category_is_refused(tmp_path: Path) -> None:
    store, spec = write_parts(tmp_path, [[(0, 0, 5, "ok"), (1, NO_CATEGORY, 5, "ok")]])
    with pytest.raises(
        DataError, match=r"size/shard-00000\.parquet has no category for row 1, whose status is ok"
    ):
        build_index(store, spec, store.index(1), LARGE, lambda _: None)


def test_too_many_cells_are_refused(tmp_path: Path) -> None:
    many = AgentInfo(tuple(map(str, range(60_000))), "x", "x")
    store, spec = write_parts(tmp_path, [documents(5, seed=9)])
    large = replace(spec, agents={f"a{i}": many for i in range(5)})
    with pytest.raises(DataError, match=r"too many categories: their product exceeds 2\^62"):
        build_index(store, large, store.index(1), LARGE, lambda _: None)
