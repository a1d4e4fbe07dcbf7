"""What a store is made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mads.corpus.files import CorpusFile
from mads.errors import DataError
from mads.store.memory import MemoryHeader

FORMAT = 2


CORPUS_KEYS = ("text_field", "max_doc_bytes", "fingerprint")


@dataclass(frozen=True, slots=True)
class Shard:
    """A run of rows of one corpus file; shard i of the store mirrors it row for row."""

    file: int
    first_row: int
    num_rows: int


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """What the manifest says of an agent: its categories in order and its fingerprint.

    ``edges`` are those of an agent that bins by quantiles (see ``MemoryHeader``).
    """

    categories: tuple[str, ...]
    fingerprint: str
    edges: tuple[float, ...] | None = None

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> AgentInfo:
        """Read what ``dataclasses.asdict`` gave."""
        edges = None if value["edges"] is None else tuple(map(float, value["edges"]))
        return AgentInfo(tuple(value["categories"]), value["fingerprint"], edges)


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """What a store is made from. Two annotate calls with equal drafts make the same store."""

    files: tuple[CorpusFile, ...]
    shards: tuple[Shard, ...]
    corpus: Mapping[str, Any]  # text_field, max_doc_bytes, fingerprint
    tokenizer: Mapping[str, Any]
    agents: Mapping[str, AgentInfo]
    seed: int

    def memory_header(self, agent: str) -> MemoryHeader:
        """Return what a memory of this store must say of itself."""
        info, corpus = self.agents[agent], self.corpus["fingerprint"]
        return MemoryHeader(agent, info.categories, info.fingerprint, corpus, info.edges)

    def scores_header(self, agent: str) -> MemoryHeader:
        """Return what a file of scores, collected for quantiles, must say of itself."""
        return dataclasses.replace(self.memory_header(agent), edges=None, unbinned=True)

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON values."""
        return {"format": FORMAT, **dataclasses.asdict(self)}

    @staticmethod
    def from_json(value: Mapping[str, Any], path: Path) -> StoreSpec:
        """Read a spec; raises DataError when it is damaged or was written by another format."""
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            found = value.get("format") if isinstance(value, dict) else type(value).__name__
            raise DataError(
                f"{path} has format {found!r}; this version of mads reads {FORMAT}. Run "
                "`mads annotate` with another --out."
            )
        try:
            return StoreSpec(
                files=tuple(CorpusFile(**item) for item in value["files"]),
                shards=tuple(Shard(**item) for item in value["shards"]),
                corpus={name: value["corpus"][name] for name in CORPUS_KEYS},
                tokenizer=dict(value["tokenizer"]),
                agents={name: AgentInfo.from_json(item) for name, item in value["agents"].items()},
                seed=value["seed"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{path} is damaged: {type(error).__name__} {error}. Put the file back, or run "
                "`mads annotate` with another --out."
            ) from error
