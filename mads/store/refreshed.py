"""What a run says of a generation that it has made of a store for itself.

The store is not written: the run's folder holds cells, order and the memory of one agent, and
``generation.json``, written last, what the manifest would say of them. Its fingerprint follows from
all of it, and each plan that the run makes names it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from mads.codec import from_json, to_json
from mads.errors import DataError
from mads.files import read_sealed_json, write_sealed_json
from mads.layout import RefreshDir, StoreDir
from mads.store.manifest import Generation, flaw_of_generation

WHAT = "what a run says of its generation"


@dataclass(frozen=True, slots=True)
class Refreshed:
    """generation.json of a run: the fingerprint of the store's generation, and its own facts."""

    store: str
    facts: Generation


def refreshed_remedy(own: RefreshDir) -> str:
    """Return what to do when a file of a run's own generation is lost or damaged."""
    return (
        f"Put it back; or put the name of a checkpoint before round {own.number} into "
        "checkpoints/latest, and run the same `mads train` again; it makes the generation anew."
    )


def write_refreshed(own: RefreshDir, store: str, facts: Generation) -> None:
    """Write generation.json, with which the generation is complete; it gets its fingerprint."""
    found = Refreshed(store, facts)
    sealed = replace(found, facts=replace(facts, fingerprint=_fingerprint(found)))
    write_sealed_json(own.facts, to_json(sealed))


def read_refreshed(store: StoreDir, own: RefreshDir, fingerprint: str) -> Generation:
    """Read generation.json; ``fingerprint`` is that of the store's generation.

    Raises DataError, with both values, when it is missing or damaged, or of another store.
    """
    remedy = refreshed_remedy(own)
    found = from_json(Refreshed, read_sealed_json(own.facts, remedy), own.facts, WHAT, remedy)
    flaw = flaw_of_generation(store, str(own.number), found.facts, own)
    if not flaw and found.facts.fingerprint != (expected := _fingerprint(found)):
        flaw = f"facts.fingerprint: found {found.facts.fingerprint[:16]!r}, but it has {expected!r}"
    if flaw:
        raise DataError(f"{own.facts} is not {WHAT}: {flaw}. {remedy}")
    if found.store != fingerprint:
        raise DataError(
            f"{own.facts} was made of another store: found {found.store[:16]}, expected "
            f"{fingerprint[:16]}. Give the store that the run was trained on."
        )
    return found.facts


def _fingerprint(found: Refreshed) -> str:
    values = to_json(replace(found, facts=replace(found.facts, fingerprint="")))
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
