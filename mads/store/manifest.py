"""The manifest of a store, written last: without it a store is not complete and not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mads.codec import from_json, to_json
from mads.errors import DataError
from mads.files import read_sealed_json, write_sealed_json
from mads.layout import StoreDir
from mads.store.sealed import Seal
from mads.store.spec import AgentInfo, Count, StoreSpec

FORMAT = 3
REMEDY = "Put the file back, or run `mads annotate` with another --out."


@dataclass(frozen=True, slots=True)
class DocumentCounts:
    """What all documents of a store add up to."""

    rows: Count
    tokens: Count
    text_bytes: Count
    statuses: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Generation:
    """One index of a store: the first shards and the agents that it holds.

    ``files`` are the seals of the index's own files; one of them, content.json, holds the seals
    of all files that the generation was made from.
    """

    num_shards: Count
    agents: Mapping[str, AgentInfo]
    fingerprint: str
    cells: Count
    docs: Count
    documents: DocumentCounts
    files: Mapping[str, Seal]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a store holds. Generations are numbered from 1; none is ever changed."""

    format: int
    spec: StoreSpec
    tokenizer_fingerprint: str
    vocab_size: Count
    generation: int  # the current one
    generations: Mapping[str, Generation]
    provenance: Any

    def at(self, generation: int) -> StoreSpec:
        """Return what a generation was made from."""
        found = self.generations[str(generation)]
        return replace(self.spec, shards=self.spec.shards[: found.num_shards], agents=found.agents)

    def write(self, store: StoreDir) -> None:
        """Write the manifest."""
        write_sealed_json(store.manifest, to_json(self))


def read_manifest(store: StoreDir) -> Manifest:
    """Read a store's manifest; raises DataError when it is damaged or of another format."""
    path = store.manifest
    value = read_sealed_json(path, REMEDY, check=_check_format)
    found = from_json(Manifest, value, path, "a manifest of a store", REMEDY)
    if str(found.generation) not in found.generations:
        raise DataError(
            f"{path} is damaged: there is no generation {found.generation}; found "
            f"{', '.join(found.generations)}. {REMEDY}"
        )
    return found


def write_spec(store: StoreDir, spec: StoreSpec) -> None:
    """Write what a store in the making is made from."""
    write_sealed_json(store.spec, {"format": FORMAT, "spec": to_json(spec)})


def read_spec(store: StoreDir) -> StoreSpec:
    """Read what ``write_spec`` wrote."""
    value = read_sealed_json(store.spec, REMEDY, check=_check_format)
    return from_json(StoreSpec, value.get("spec"), store.spec, "the plan of a store", REMEDY)


def _check_format(value: Mapping[str, Any], path: Path) -> None:
    if value.get("format") != FORMAT:
        raise DataError(
            f"{path} has format {value.get('format')!r}; this version of mads reads {FORMAT}. Run "
            "`mads annotate` with another --out."
        )
