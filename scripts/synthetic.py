"""Stores without texts, of any number of documents, for benchmarks of selection and index."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mads.config import CorpusConfig, TokenizerConfig
from mads.corpus.files import CorpusFile
from mads.layout import StoreDir
from mads.sealed import read_seal
from mads.store.build import build_index, index_seals
from mads.store.documents import Documents, write_documents
from mads.store.manifest import FORMAT, DocumentCounts, Generation, Manifest
from mads.store.memory import doc_numbers, write_memory
from mads.store.spec import AgentInfo, StoreSpec, make_shards
from mads.types import Labels, Status
from mads.units import parse_bytes

AGENTS = {"quality": 5, "domain": 7, "topic": 13}
SHARD = 1_000_000
MEAN_TOKENS = 800


def make_spec(num_docs: int) -> StoreSpec:
    """Return the spec of a store with this many documents."""
    rows = [min(SHARD, num_docs - first) for first in range(0, num_docs, SHARD)]
    files = tuple(CorpusFile(f"{i}.jsonl", 0, n, 0, "") for i, n in enumerate(rows))
    corpus = CorpusConfig(shard_docs=SHARD)
    return StoreSpec(
        root="/none",
        files=files,
        shards=tuple(make_shards(files, 0, corpus)),
        text_field=corpus.text_field,
        max_doc_bytes=corpus.max_doc_bytes,
        tokenizer=TokenizerConfig(),
        agents={
            name: AgentInfo(tuple(f"{name}{i}" for i in range(count)), name, name)
            for name, count in AGENTS.items()
        },
        seed=0,
    )


def write_store(root: Path, num_docs: int) -> None:
    """Write the documents' tables and memories: skewed categories, log-normal lengths."""
    store, spec = StoreDir(root), make_spec(num_docs)
    for shard, part in enumerate(spec.shards):
        rng, num = np.random.default_rng(shard), part.num_rows
        tokens_N = rng.lognormal(np.log(MEAN_TOKENS) - 0.5, 1.0, num).astype(np.uint32) + 1
        sums = store.tokens_sum(shard)
        sums.parent.mkdir(parents=True, exist_ok=True)
        sums.write_bytes(b"")  # there are no tokens
        documents = Documents(
            tokens_N.astype(np.uint32),
            np.zeros(num, np.int64),
            np.zeros(num, np.uint64),
            np.zeros(num, np.int8),  # the first status: ok
        )
        path = store.documents(shard)
        write_documents(path, shard, part.fingerprint, read_seal(sums), documents)
        for name, info in spec.agents.items():
            count = len(info.categories)
            share = 1.0 / np.arange(1, count + 1)
            category_N = rng.choice(count, num, p=share / share.sum()).astype(np.uint16)
            score_N = (rng.integers(0, 256, num) / 256).astype(np.float32)
            labels, header = Labels(category_N, score_N), spec.memory_header(name, shard)
            write_memory(store.memory_shard(name, shard), header, doc_numbers(shard, num), labels)


def index_store(root: Path, num_docs: int, ram: str) -> None:
    """Build the index and write the manifest (run in a process of its own)."""
    store, spec = StoreDir(root), make_spec(num_docs)
    index = store.index(1)
    cells, docs = build_index(store, spec, index, parse_bytes(ram), lambda _: None)
    statuses = dict.fromkeys((status.value for status in Status), 0)
    generation = Generation(
        len(spec.shards),
        spec.agents,
        "bench",
        cells,
        docs,
        DocumentCounts(num_docs, 0, 0, statuses | {"ok": num_docs}),
        index_seals(store, index),
    )
    Manifest(FORMAT, spec, "none", 1, 1, {"1": generation}, {}).write(store)
