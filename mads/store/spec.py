"""What a store is made from: files, shards, agents. It only grows.

files in order -> shards: consecutive rows of one large file, or many small files together
a generation   -> the first so many shards, and one memory for each of its agents
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from mads.codec import Count, FileName
from mads.config import CorpusConfig, TokenizerConfig
from mads.corpus.files import CorpusFile
from mads.store.memory import MemoryHeader


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of rows of one corpus file; ``first_byte`` is where it begins in a file of lines."""

    file: Count
    first_row: Count
    num_rows: Count
    first_byte: Count = 0


@dataclass(frozen=True, slots=True)
class Shard:
    """Runs of rows of corpus files, one after the other; shard i of the store mirrors them.

    The fingerprint is that of their content and of how it is read, wherever the files lie.
    """

    segments: tuple[Segment, ...]
    fingerprint: str

    @property
    def num_rows(self) -> int:
        """Rows of all segments."""
        return sum(segment.num_rows for segment in self.segments)


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """What a store knows of an agent: its categories in order, its fingerprint, its memory.

    ``folder`` is the memory's name; a changed agent gets a new one. ``edges`` are those of an
    agent that bins by quantiles (see ``MemoryHeader``).
    """

    categories: tuple[str, ...]
    fingerprint: str
    folder: Annotated[str, FileName()]
    edges: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """What a store, or one generation of it, is made from. ``root`` is where its files lie."""

    root: str
    files: tuple[CorpusFile, ...]
    shards: tuple[Shard, ...]
    text_field: str
    max_doc_bytes: int
    tokenizer: TokenizerConfig
    agents: Mapping[str, AgentInfo]
    seed: int
    id_field: str = ""  # where the user's ids are from; empty: there are none

    def memory_header(self, agent: str, shard: int) -> MemoryHeader:
        """Return what a memory of this store must say of itself."""
        info = self.agents[agent]
        of_shard = self.shards[shard].fingerprint
        return MemoryHeader(agent, info.categories, info.fingerprint, of_shard, info.edges)

    def scores_header(self, agent: str, shard: int) -> MemoryHeader:
        """Return what a file of scores, collected for quantiles, must say of itself."""
        return replace(self.memory_header(agent, shard), edges=None, unbinned=True)

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """The categories of each agent."""
        return {name: info.categories for name, info in self.agents.items()}

    @property
    def num_rows(self) -> int:
        """Rows of all shards."""
        return sum(shard.num_rows for shard in self.shards)

    def flaw(self) -> str:
        """Return what cannot be in it, or an empty text: rows that no file has, say."""
        for i, shard in enumerate(self.shards):
            for j, segment in enumerate(shard.segments):
                place = f"spec.shards[{i}].segments[{j}]"
                if segment.file >= len(self.files):
                    return f"{place}.file: found {segment.file} of {len(self.files)} files"
                rows = self.files[segment.file].num_rows
                if segment.first_row + segment.num_rows > rows:
                    return f"{place} ends after the file's {rows} rows"
            found = shard_fingerprint(
                shard.segments, self.files, self.text_field, self.max_doc_bytes
            )
            if found != shard.fingerprint:
                return (
                    f"spec.shards[{i}].fingerprint: found {shard.fingerprint[:16]!r}, but its rows "
                    f"have {found[:16]!r}"
                )
        for i, file in enumerate(self.files):
            if "\0" in file.path or file.path.encode("utf-8", "replace").decode() != file.path:
                return f"spec.files[{i}].path: found {file.path!r}, expected a path in UTF-8"
        return flaw_of_agents(self.agents)

    def fingerprint(self, tokenizer: str) -> str:
        """Return what a generation's content is known by."""
        facts = [
            tokenizer,
            self.seed,
            [shard.fingerprint for shard in self.shards],
            [[name, info.fingerprint, info.edges] for name, info in self.agents.items()],
        ]
        return hashlib.sha256(json.dumps(facts).encode("utf-8", "surrogatepass")).hexdigest()


def flaw_of_agents(agents: Mapping[str, AgentInfo]) -> str:
    """Return what is wrong with the categories of agents, or an empty text."""
    for name, info in agents.items():
        if not info.categories or len(set(info.categories)) < len(info.categories):
            return f"agents.{name}.categories: none, or the same one twice"
    return ""


def make_shards(files: Sequence[CorpusFile], first: int, config: CorpusConfig) -> list[Shard]:
    """Cut files[first:] into shards.

    A file with more rows than ``shard_docs``, or more text than ``shard_bytes``, has shards of
    its own; consecutive smaller ones are joined while together they have neither.

    >>> small = [CorpusFile(f"{i}", 9, 10, 100, f"{i}") for i in range(5)]
    >>> [len(shard.segments) for shard in make_shards(small, 0, CorpusConfig(shard_docs=20))]
    [2, 2, 1]
    """
    shard_docs, shard_bytes = config.shard_docs, config.shard_bytes
    groups: list[list[Segment]] = []
    rows, text_bytes = shard_docs, shard_bytes  # as if a group before were full
    for number, file in enumerate(files[first:], start=first):
        if not file.num_rows:
            continue
        rows, text_bytes = rows + file.num_rows, text_bytes + file.text_bytes
        if rows <= shard_docs and text_bytes <= shard_bytes:
            groups[-1].append(Segment(number, 0, file.num_rows))
            continue
        groups += [[segment] for segment in _segments(number, file, shard_docs)]
        rows, text_bytes = file.num_rows, file.text_bytes
    return [_shard(group, files, config) for group in groups]


def _segments(number: int, file: CorpusFile, shard_docs: int) -> Iterator[Segment]:
    for i, first_row in enumerate(range(0, file.num_rows, shard_docs)):
        first_byte = file.first_bytes[i] if file.first_bytes else 0
        yield Segment(number, first_row, min(shard_docs, file.num_rows - first_row), first_byte)


def _shard(segments: Sequence[Segment], files: Sequence[CorpusFile], config: CorpusConfig) -> Shard:
    found = shard_fingerprint(segments, files, config.text_field, config.max_doc_bytes)
    return Shard(tuple(segments), found)


def shard_fingerprint(
    segments: Sequence[Segment], files: Sequence[CorpusFile], text_field: str, max_doc_bytes: int
) -> str:
    """Return what a shard's content and reading are known by, wherever its files lie."""
    rows = [[files[s.file].sha256, s.first_row, s.num_rows] for s in segments]
    facts = json.dumps([text_field, max_doc_bytes, rows])
    return hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()
