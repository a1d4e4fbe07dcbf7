"""One shard at a time: read its rows, tokenise and label them, write its files.

Runs in worker processes. What a shard lacks is found from the files that exist, so a killed call
is resumed by doing the same again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mads.agents import open_agent
from mads.agents.agent import QuantileBins
from mads.config import AgentConfig
from mads.corpus.rows import RowFormat, read_batches
from mads.corpus.tokenizer import StoreTokenizer, open_tokenizer
from mads.corpus.tokens import TokenWriter
from mads.errors import DataError
from mads.layout import StoreDir
from mads.processes import end_with_parent
from mads.store.memory import check_header, doc_numbers, write_memory, write_scores
from mads.store.sealed import write_sealed
from mads.store.spec import StoreSpec
from mads.types import NO_CATEGORY, Agent, DocumentBatch, Labels, Scores, Status

DOCUMENTS = "documents and tokens"


def missing_parts(store: StoreDir, spec: StoreSpec, shard: int) -> list[str]:
    """Return what a shard still lacks: names of agents, and DOCUMENTS.

    An agent with quantiles lacks nothing when its scores are there. Raises DataError, with both
    values, for a memory that was made from something else.
    """
    base = (store.documents(shard), store.tokens_bin(shard), store.tokens_idx(shard))
    missing = [] if all(path.is_file() for path in base) else [DOCUMENTS]
    for name in spec.agents:
        path, scores = store.memory_shard(name, shard), store.scores_shard(name, shard)
        if path.is_file():
            check_header(path, spec.memory_header(name))
        elif scores.is_file():
            check_header(scores, spec.scores_header(name))
        else:
            missing.append(name)
    return missing


@dataclass
class Worker:
    """What a process needs to finish shards; tokenizer and agents are opened once."""

    store: StoreDir
    spec: StoreSpec
    configs: Mapping[str, AgentConfig]
    reports: SimpleQueue[int]

    @cached_property
    def tokenizer(self) -> StoreTokenizer:
        """The store's tokenizer."""
        return open_tokenizer(self.store.tokenizer)

    @cached_property
    def agents(self) -> dict[str, Agent | QuantileBins]:
        """The recipe's agents."""
        return {name: open_agent(name, config) for name, config in self.configs.items()}

    def annotate_shard(self, shard: int) -> None:
        """Write everything that a shard still lacks."""
        missing = missing_parts(self.store, self.spec, shard)
        labels = {name: _columns(self.agents[name]) for name in missing if name != DOCUMENTS}
        if DOCUMENTS in missing:
            paths = self.store.tokens_bin(shard), self.store.tokens_idx(shard)
            documents = _DocumentColumns()
            with TokenWriter(*paths, self.tokenizer.vocab_size) as tokens:
                for batch in self._batches(shard, labels.values()):
                    documents.add(batch, tokens, self.tokenizer)
            documents.write(self.store.documents(shard), shard)
        else:
            for _ in self._batches(shard, labels.values()):
                pass
        doc_N = doc_numbers(shard, self.spec.shards[shard].num_rows)
        for name, columns in labels.items():
            if isinstance(columns, _ScoreColumns):
                path = self.store.scores_shard(name, shard)
                write_scores(path, self.spec.scores_header(name), doc_N, columns.scores())
            else:
                path = self.store.memory_shard(name, shard)
                write_memory(path, self.spec.memory_header(name), doc_N, columns.labels())

    def _batches(
        self, shard: int, labels: Collection[_LabelColumns | _ScoreColumns]
    ) -> Iterator[DocumentBatch]:
        """Yield a shard's batches, labelled."""
        part, corpus = self.spec.shards[shard], self.spec.corpus
        fields = sorted({name for columns in labels for name in columns.agent.fields})
        row_format = RowFormat(corpus["text_field"], tuple(fields), corpus["max_doc_bytes"])
        path = Path(self.spec.files[part.file].path)
        for batch in read_batches(path, part.first_row, part.num_rows, row_format):
            try:
                for columns in labels:
                    columns.add(batch)
            except DataError as error:
                raise DataError(f"{path}: {error}") from error
            yield batch
            self.reports.put(len(batch))


_worker: Worker | None = None


def start_worker(
    store: StoreDir, spec: StoreSpec, configs: Mapping[str, AgentConfig], reports: SimpleQueue[int]
) -> None:
    """Prepare a worker process; it ends when its parent is killed."""
    global _worker  # noqa: PLW0603 - a pool hands a worker its state only here
    _worker = Worker(store, spec, configs, reports)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process per core is enough
    end_with_parent()


def annotate_span(shards: Sequence[int]) -> None:
    """Finish the given shards, one after the other."""
    assert _worker is not None
    for shard in shards:
        _worker.annotate_shard(shard)


@dataclass
class _LabelColumns:
    """The labels of one agent for the rows of a shard so far."""

    agent: Agent
    categories: list[NDArray[np.uint16]] = field(default_factory=list)
    scores: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, batch: DocumentBatch) -> None:
        readable = batch.ok()
        is_ok = np.array([status is Status.OK for status in batch.statuses])
        category_N = np.full(len(batch), NO_CATEGORY, np.uint16)
        score_N = np.zeros(len(batch), np.float32)
        if len(readable):
            found = self.agent.label(readable)
            category_N[is_ok] = found.category_N
            score_N[is_ok] = found.score_N
        self.categories.append(category_N)
        self.scores.append(score_N)

    def labels(self) -> Labels:
        return Labels(
            np.concatenate([np.zeros(0, np.uint16), *self.categories]),
            np.concatenate([np.zeros(0, np.float32), *self.scores]),
        )


@dataclass
class _ScoreColumns:
    """The scores of one agent with quantiles for the rows of a shard so far."""

    agent: QuantileBins
    scores_: list[NDArray[np.float32]] = field(default_factory=list)
    known: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, batch: DocumentBatch) -> None:
        readable = batch.ok()
        is_ok = np.array([status is Status.OK for status in batch.statuses])
        score_N, known_N = np.zeros(len(batch), np.float32), np.zeros(len(batch), bool)
        if len(readable):
            found = self.agent.score(readable)
            score_N[is_ok], known_N[is_ok] = found.score_N, found.known_N
        self.scores_.append(score_N)
        self.known.append(known_N)

    def scores(self) -> Scores:
        return Scores(
            np.concatenate([np.zeros(0, np.float32), *self.scores_]),
            np.concatenate([np.zeros(0, np.bool_), *self.known]),
        )


def _columns(agent: Agent | QuantileBins) -> _LabelColumns | _ScoreColumns:
    return _ScoreColumns(agent) if isinstance(agent, QuantileBins) else _LabelColumns(agent)


class _DocumentColumns:
    """The documents' table of a shard so far."""

    def __init__(self) -> None:
        self._num_tokens: list[int] = []
        self._num_bytes: list[int] = []
        self._hash: list[int] = []
        self._status: list[str] = []

    def add(self, batch: DocumentBatch, writer: TokenWriter, tokenizer: StoreTokenizer) -> None:
        encoded = iter(tokenizer.encode(batch.ok().texts))
        for text, status in zip(batch.texts, batch.statuses, strict=True):
            tokens = next(encoded) if status is Status.OK else []
            writer.add(tokens)
            self._num_tokens.append(len(tokens))
            digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
            self._hash.append(int.from_bytes(digest, "little"))
        self._num_bytes += batch.num_bytes
        self._status += [status.value for status in batch.statuses]

    def write(self, path: Path, shard: int) -> None:
        counts = {status.value: self._status.count(status.value) for status in Status}
        summary = {
            "statuses": counts,
            "tokens": sum(self._num_tokens),
            "text_bytes": sum(self._num_bytes),
        }
        codes = {status.value: i for i, status in enumerate(Status)}
        status = pa.DictionaryArray.from_arrays(
            pa.array([codes[value] for value in self._status], pa.int8()), pa.array(list(codes))
        )
        table = pa.table(
            {
                "doc": pa.array(doc_numbers(shard, len(self._status)), pa.uint64()),
                "num_tokens": pa.array(self._num_tokens, pa.uint32()),
                "num_bytes": pa.array(np.minimum(self._num_bytes, 2**32 - 1), pa.uint32()),
                "content_hash": pa.array(self._hash, pa.uint64()),
                "status": status,
            }
        )
        write_sealed(path, table, summary, compression="zstd")
