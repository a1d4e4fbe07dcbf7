"""What a process does with shards: labels, documents and tokens of the corpus rows.

A job can be pickled and knows nothing of who runs it. Progress is the files that exist: a shard's
file under its final name is finished work. A process writes in a folder of its own and then renames
what is whole, so any number may do the same shard at the same time: the bytes are the same.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mads.agents import open_agent
from mads.agents.agent import QuantileBins, prepare
from mads.annotate.cost import DOCUMENTS, READ, Clock, note_cost
from mads.config import AgentConfig
from mads.corpus.ids import id_of
from mads.corpus.places import Place, inside
from mads.corpus.readers.reader import RowFormat
from mads.corpus.rows import RowReader
from mads.corpus.tokenizer import StoreTokenizer, open_tokenizer
from mads.corpus.tokens import TokenWriter, write_token_sums
from mads.errors import DataError
from mads.files import PARTIAL, publish
from mads.layout import WORKPLACE, StoreDir
from mads.sealed import read_seal
from mads.store.documents import (
    Documents,
    read_documents_header,
    status_codes,
    write_documents,
)
from mads.store.memory import (
    MemoryHeader,
    doc_numbers,
    read_header,
    write_memory,
    write_scores,
)
from mads.store.spec import Shard, StoreSpec
from mads.types import (
    FILE,
    ID,
    NO_CATEGORY,
    OWN_FIELDS,
    ROW,
    Agent,
    DocumentBatch,
    Labels,
    Scores,
    Status,
)

Span = Sequence[int]
"""Shards that one process does, one after the other."""

Report = Callable[[int], None]
"""Called with the number of rows that were just done."""


def missing_parts(store: StoreDir, spec: StoreSpec, shard: int) -> list[str]:
    """Return what a shard still lacks: names of agents, and DOCUMENTS.

    A file that was made from something else is as good as none. An agent with quantiles lacks
    nothing when its scores are there. Raises DataError for a damaged file.
    """
    missing = [] if _has_documents(store, spec.shards[shard], shard) else [DOCUMENTS]
    for name, info in spec.agents.items():
        memory = store.memory_shard(info.folder, shard)
        scores = store.scores_shard(info.folder, shard)
        if _is_of(memory, spec.memory_header(name, shard)):
            continue
        if not _is_of(scores, spec.scores_header(name, shard)):
            missing.append(name)
    return missing


def _has_documents(store: StoreDir, part: Shard, shard: int) -> bool:
    tokens = (store.tokens_bin(shard), store.tokens_idx(shard), store.tokens_sum(shard))
    path = store.documents(shard)
    if not all(file.is_file() for file in (path, *tokens)):
        return False
    header = read_documents_header(path)
    return header.shard == part.fingerprint and header.token_sums == read_seal(tokens[-1])


def _is_of(path: Path, header: MemoryHeader) -> bool:
    return path.is_file() and read_header(path) == header


def prepare_agents(
    store: StoreDir, spec: StoreSpec, agents: Mapping[str, Agent | QuantileBins]
) -> None:
    """Let agents make or open what they need besides the documents.

    Raises UsageError or DataError for what does not fit the corpus.
    """
    files = {str(inside(spec.root, file.path)): file.num_rows for file in spec.files}
    for name, agent in agents.items():
        prepare(agent, store.prepared / spec.agents[name].folder, files)


@dataclass
class Job:
    """Everything that a process needs to finish shards; tokenizer and agents are opened once."""

    store: StoreDir
    spec: StoreSpec
    configs: Mapping[str, AgentConfig]  # of the agents that label; the others' labels are not its
    documents: bool = True  # whether it writes documents and tokens
    devices: tuple[str, ...] = ()  # the GPUs, one for each worker; none = on the CPU

    def missing(self, shard: int) -> list[str]:
        """Return what a shard lacks of that which the job makes."""
        parts = missing_parts(self.store, self.spec, shard)
        return [name for name in parts if name in self.configs or self._makes(name)]

    def _makes(self, part: str) -> bool:
        return part == DOCUMENTS and self.documents

    @cached_property
    def tokenizer(self) -> StoreTokenizer:
        """The store's tokenizer."""
        return open_tokenizer(self.store.tokenizer)

    @cached_property
    def agents(self) -> dict[str, Agent | QuantileBins]:
        """The recipe's agents."""
        return {name: open_agent(name, config) for name, config in self.configs.items()}

    def run(self, span: Span, report: Report) -> None:
        """Write everything that the shards of a span still lack.

        The rows of a file are read in one pass, however many shards they make.
        """
        missing = {shard: self.missing(shard) for shard in span}
        wanted = {name for parts in missing.values() for name in parts if name != DOCUMENTS}
        agents = {name: self.agents[name] for name in sorted(wanted)}
        prepare_agents(self.store, self.spec, agents)
        fields = {field for agent in agents.values() for field in agent.fields}
        spec, asked = self.spec, fields & OWN_FIELDS
        if spec.id_field:
            fields.add(spec.id_field)
        names = tuple(sorted(fields - OWN_FIELDS))
        source = _Source(spec, RowFormat(spec.text_field, names, spec.max_doc_bytes), asked)
        if not any(missing.values()):
            return
        clock = Clock()
        with workplace(self.store) as own:
            for shard, parts in missing.items():
                if parts:
                    self._annotate(shard, parts, source, own, clock, report)
                    clock.rows += spec.shards[shard].num_rows
            note_cost(self.store, own.root.stem, clock.cost)

    def _annotate(
        self,
        shard: int,
        parts: Sequence[str],
        source: _Source,
        own: StoreDir,
        clock: Clock,
        report: Report,
    ) -> None:
        labels = {name: _columns(self.agents[name]) for name in parts if name != DOCUMENTS}
        batches = self._labelled(clock.each(READ, source.batches(shard)), labels, clock, report)
        if DOCUMENTS in parts:
            self._write_documents(shard, batches, own, clock)
        else:
            for _ in batches:
                pass
        doc_N = doc_numbers(shard, self.spec.shards[shard].num_rows)
        for name, columns in labels.items():
            folder = self.spec.agents[name].folder
            if isinstance(columns, _ScoreColumns):
                path, header = own.scores_shard(folder, shard), self.spec.scores_header
                write_scores(path, header(name, shard), doc_N, columns.scores())
            else:
                path, header = own.memory_shard(folder, shard), self.spec.memory_header
                write_memory(path, header(name, shard), doc_N, columns.labels())
            self._publish(own, path)

    def _publish(self, own: StoreDir, path: Path) -> None:
        """Give a finished file its place in the store."""
        final = self.store.root / path.relative_to(own.root)
        final.parent.mkdir(parents=True, exist_ok=True)
        publish(path, final)

    def _write_documents(
        self, shard: int, batches: Iterator[DocumentBatch], own: StoreDir, clock: Clock
    ) -> None:
        """Write a shard's tokens and, last, the table that knows their checksums."""
        columns = _DocumentColumns(self.spec.id_field)
        paths = own.tokens_bin(shard), own.tokens_idx(shard)
        with TokenWriter(*paths, self.tokenizer.vocab_size) as tokens:
            for batch in batches:
                with clock.stage(DOCUMENTS):
                    columns.add(batch, tokens, self.tokenizer)
        write_token_sums(*paths)
        fingerprint, sums = self.spec.shards[shard].fingerprint, read_seal(own.tokens_sum(shard))
        write_documents(own.documents(shard), shard, fingerprint, sums, columns.documents())
        for path in (*paths, own.tokens_sum(shard), own.documents(shard)):
            self._publish(own, path)

    @staticmethod
    def _labelled(
        batches: Iterator[tuple[Place, DocumentBatch]],
        labels: Mapping[str, _LabelColumns | _ScoreColumns],
        clock: Clock,
        report: Report,
    ) -> Iterator[DocumentBatch]:
        """Yield batches after each agent has labelled them."""
        for path, batch in batches:
            try:
                for name, columns in labels.items():
                    with clock.agent(name):
                        columns.add(batch)
            except DataError as error:
                raise DataError(f"{path}: {error}") from error
            yield batch
            report(len(batch))


@contextmanager
def workplace(store: StoreDir) -> Iterator[StoreDir]:
    """Provide a folder of this process alone, in which files lie as in the store."""
    path = Path(tempfile.mkdtemp(PARTIAL, WORKPLACE, store.root))
    try:
        yield StoreDir(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


class _Source:
    """The rows of a store's corpus; the reader of the last file stays open."""

    def __init__(self, spec: StoreSpec, row_format: RowFormat, own: Collection[str] = ()) -> None:
        self._spec, self._format, self._own = spec, row_format, own
        self._reader: RowReader | None = None

    def batches(self, shard: int) -> Iterator[tuple[Place, DocumentBatch]]:
        """Yield a shard's batches, each with the file that it is from."""
        for segment in self._spec.shards[shard].segments:
            name = self._spec.files[segment.file].path
            path = inside(self._spec.root, name)
            if self._reader is None or self._reader.path != path:
                self._reader = RowReader(path, self._format, name)
            row = segment.first_row
            for batch in self._reader.batches(row, segment.num_rows, segment.first_byte):
                yield path, self._placed(batch, path, row)
                row += len(batch)

    def _placed(self, batch: DocumentBatch, path: Place, row: int) -> DocumentBatch:
        """Add what agents ask for that no record holds."""
        if not self._own:
            return batch
        fields: dict[str, list[object]] = {
            FILE: [str(path)] * len(batch),
            ROW: [*range(row, row + len(batch))],
        }
        if self._spec.id_field:
            fields[ID] = [id_of(value) for value in batch.fields[self._spec.id_field]]
        return replace(batch, fields={**batch.fields, **fields})


@dataclass
class _LabelColumns:
    """The labels of one agent for the rows of a shard so far."""

    agent: Agent
    _categories: list[NDArray[np.uint16]] = field(default_factory=list)
    _scores: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, batch: DocumentBatch) -> None:
        readable, is_ok = batch.ok(), _ok(batch)
        category_N = np.full(len(batch), NO_CATEGORY, np.uint16)
        score_N = np.zeros(len(batch), np.float32)
        if len(readable):
            found = self.agent.label(readable)
            category_N[is_ok], score_N[is_ok] = found.category_N, found.score_N
        self._categories.append(category_N)
        self._scores.append(score_N)

    def labels(self) -> Labels:
        return Labels(
            np.concatenate([np.zeros(0, np.uint16), *self._categories]),
            np.concatenate([np.zeros(0, np.float32), *self._scores]),
        )


@dataclass
class _ScoreColumns:
    """The scores of one agent with quantiles for the rows of a shard so far."""

    agent: QuantileBins
    _scores: list[NDArray[np.float32]] = field(default_factory=list)
    _known: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, batch: DocumentBatch) -> None:
        readable, is_ok = batch.ok(), _ok(batch)
        score_N, known_N = np.zeros(len(batch), np.float32), np.zeros(len(batch), bool)
        if len(readable):
            found = self.agent.score(readable)
            score_N[is_ok], known_N[is_ok] = found.score_N, found.known_N
        self._scores.append(score_N)
        self._known.append(known_N)

    def scores(self) -> Scores:
        return Scores(
            np.concatenate([np.zeros(0, np.float32), *self._scores]),
            np.concatenate([np.zeros(0, np.bool_), *self._known]),
        )


def _ok(batch: DocumentBatch) -> NDArray[np.bool_]:
    return np.array([status is Status.OK for status in batch.statuses], bool)


def _columns(agent: Agent | QuantileBins) -> _LabelColumns | _ScoreColumns:
    return _ScoreColumns(agent) if isinstance(agent, QuantileBins) else _LabelColumns(agent)


class _DocumentColumns:
    """The documents' table of a shard so far."""

    def __init__(self, id_field: str) -> None:
        self._id_field, self._ids = id_field, list[str | None]()
        self._num_tokens: list[int] = []
        self._num_bytes: list[int] = []
        self._hash: list[int] = []
        self._status: list[int] = []

    def add(self, batch: DocumentBatch, writer: TokenWriter, tokenizer: StoreTokenizer) -> None:
        encoded = iter(tokenizer.encode(batch.ok().texts))
        for text, status in zip(batch.texts, batch.statuses, strict=True):
            tokens = next(encoded) if status is Status.OK else []
            writer.add(tokens)
            self._num_tokens.append(len(tokens))
            digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
            self._hash.append(int.from_bytes(digest, "little"))
        self._num_bytes += batch.num_bytes
        if self._id_field:
            self._ids += map(id_of, batch.fields[self._id_field])
        self._status += status_codes(batch.statuses)

    def documents(self) -> Documents:
        return Documents(
            np.array(self._num_tokens, np.uint32),
            np.array(self._num_bytes, np.int64),
            np.array(self._hash, np.uint64),
            np.array(self._status, np.int8),
            self._ids if self._id_field else None,
        )
