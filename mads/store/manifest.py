"""The manifest of a store, written last: without it a store is not complete and not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mads.codec import Count, from_json, to_json
from mads.errors import DataError
from mads.files import read_sealed_json, write_sealed_json
from mads.layout import IndexDir, StoreDir
from mads.sealed import REMEDY as MEMORY_REMEDY
from mads.sealed import Seal
from mads.store.spec import AgentInfo, StoreSpec, flaw_of_agents

FORMAT = 3
REMEDY = "Put the file back, or run `mads annotate` with another --out."


@dataclass(frozen=True, slots=True)
class IdCounts:
    """The rows without an id of the user's, and those whose id an earlier row has."""

    missing: Count
    repeated: Count


@dataclass(frozen=True, slots=True)
class DocumentCounts:
    """What all documents of a store add up to."""

    rows: Count
    tokens: Count
    text_bytes: Count
    statuses: Mapping[str, int]
    ids: IdCounts | None = None


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

    def memory_remedy(self, generation: int, agent: str) -> str:
        """Return what to do when a memory is lost: the same call labels for present agents only."""
        info = self.generations[str(generation)].agents[agent]
        present = self.generations[str(self.generation)].agents.get(agent)
        if present is not None and present.folder == info.folder:
            return MEMORY_REMEDY
        return (
            f"It is of generation {generation}, whose agent {agent!r} (fingerprint "
            f"{info.fingerprint[:16]}) the present generation {self.generation} has not. Put it "
            f"back; or delete it, if it is there, run `mads annotate` with the recipe of "
            f"generation {generation}, and then the present one again."
        )

    def write(self, store: StoreDir) -> None:
        """Write the manifest."""
        write_sealed_json(store.manifest, to_json(self))

    def keep(self, store: StoreDir, generation: str) -> None:
        """Write what is said of a generation beside its index, in case that this is lost."""
        kept = _Kept(
            self.format,
            self.tokenizer_fingerprint,
            self.vocab_size,
            self.generations[generation],
        )
        write_sealed_json(store.index(int(generation)).facts, to_json(kept))


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the manifest says of one generation."""

    format: int
    tokenizer_fingerprint: str
    vocab_size: Count
    facts: Generation


def read_manifest(store: StoreDir) -> Manifest:
    """Read a store's manifest; raises DataError when it is damaged or of another format."""
    path = store.manifest
    value = read_sealed_json(path, REMEDY, check=_check_format)
    found = from_json(Manifest, value, path, "a manifest of a store", REMEDY)
    _refuse(path, "a manifest of a store", found.spec.flaw() or _flaw(store, found))
    return found


def restored(store: StoreDir, spec: StoreSpec) -> Manifest | None:
    """Return the manifest that was lost, as the indexes tell it; None when there is no index.

    ``spec`` is the store's plan, which only grows. Raises DataError for an index that says of
    itself what it should not.
    """
    kept: dict[str, _Kept] = {}
    for folder in sorted(store.index(1).root.parent.glob("[0-9]*")):
        path = IndexDir(folder).facts
        if not path.is_file():  # a killed call has left it
            continue
        value = read_sealed_json(path, REMEDY, check=_check_format)
        found = from_json(_Kept, value, path, "what an index says of itself", REMEDY)
        number = folder.name.lstrip("0")
        _refuse(path, "what an index says of itself", _flaw_of_names(store, number, found.facts))
        kept[number] = found
    if not kept:
        return None
    number = max(kept, key=int)
    newest = kept[number]
    return Manifest(
        format=FORMAT,
        spec=replace(spec, agents=newest.facts.agents),
        tokenizer_fingerprint=newest.tokenizer_fingerprint,
        vocab_size=newest.vocab_size,
        generation=int(number),
        generations={n: found.facts for n, found in kept.items()},
        provenance={},
    )


def _refuse(path: Path, what: str, flaw: str) -> None:
    """Raise DataError where there is a flaw."""
    if flaw:
        raise DataError(f"{path} is not {what}: {flaw}. {REMEDY}")


def _flaw(store: StoreDir, manifest: Manifest) -> str:
    """Return what cannot be of generations, or an empty text."""
    shards = len(manifest.spec.shards)
    for number, generation in manifest.generations.items():
        if generation.num_shards > shards:
            found = generation.num_shards
            return f"generations.{number}.num_shards: found {found} of {shards} shards"
        if flaw := _flaw_of_names(store, number, generation):
            return flaw
    if str(manifest.generation) not in manifest.generations:
        known = ", ".join(manifest.generations)
        return f"generation: found {manifest.generation}, expected one of {known or 'none'}"
    return ""


def _flaw_of_names(store: StoreDir, number: str, generation: Generation) -> str:
    """Return which name leads to a file that is not the generation's own, or an empty text."""
    if not number.isascii() or not number.isdigit() or number != str(int(number) or ""):
        return f"generations.{number}: expected a number from 1 on"
    return flaw_of_generation(store, number, generation, store.index(int(number)))


def flaw_of_generation(
    store: StoreDir, number: str, generation: Generation, index: IndexDir
) -> str:
    """Return which name of a generation is wrong, or an empty text."""
    names = {store.name_of(file) for file in index.own_files}
    if strange := sorted(set(generation.files) ^ names):
        return f"generations.{number}.files: found or missing {strange[0]!r}"
    agents = flaw_of_agents(generation.agents)
    return f"generations.{number}.{agents}" if agents else ""


def write_spec(store: StoreDir, spec: StoreSpec) -> None:
    """Write what a store in the making is made from."""
    write_sealed_json(store.spec, {"format": FORMAT, "spec": to_json(spec)})


def read_spec(store: StoreDir) -> StoreSpec:
    """Read what ``write_spec`` wrote."""
    value = read_sealed_json(store.spec, REMEDY, check=_check_format)
    found = from_json(StoreSpec, value.get("spec"), store.spec, "the plan of a store", REMEDY)
    _refuse(store.spec, "the plan of a store", found.flaw())
    return found


def _check_format(value: Mapping[str, Any], path: Path) -> None:
    if value.get("format") != FORMAT:
        raise DataError(
            f"{path} has format {value.get('format')!r}; this version of mads reads {FORMAT}. Run "
            "`mads annotate` with another --out."
        )
