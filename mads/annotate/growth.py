"""What an annotate call makes of what a store was before: the same, more files, more agents.

Shards and files are only ever appended. A file of the store must be given again, under any name,
with the same content; an agent of the same fingerprint keeps its memory, and any other gets a
memory of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mads.agents.agent import QuantileBins
from mads.annotate.seen import Seen
from mads.config import Recipe
from mads.corpus.files import CorpusFile, scan
from mads.corpus.places import Place, facts_of, inside, path_below, place_of
from mads.errors import DataError
from mads.layout import StoreDir
from mads.store.manifest import Manifest, read_manifest, read_spec, restored
from mads.store.spec import AgentInfo, Shard, StoreSpec, make_shards
from mads.types import Agent, Report

_NAMED = 5  # files that a message lists
_SHORT = 8  # characters of a fingerprint in a folder's name


@dataclass(frozen=True, slots=True)
class Before:
    """What a folder holds: a complete store, the plan of one in the making, both or neither."""

    manifest: Manifest | None = None
    begun: StoreSpec | None = None

    @property
    def spec(self) -> StoreSpec | None:
        """What new work has to agree with."""
        return self.manifest.spec if self.manifest is not None else self.begun

    def agents_of_generations(self) -> set[tuple[str, str]]:
        """Return the agents, by name and fingerprint, whose memories the store has."""
        tables = self.manifest.generations.values() if self.manifest is not None else ()
        return {(n, info.fingerprint) for table in tables for n, info in table.agents.items()}

    def agents(self, shards: tuple[Shard, ...] = ()) -> dict[tuple[str, str], AgentInfo]:
        """Return every agent that the folder knows, by name and fingerprint.

        The edges of quantiles that were begun count only if they are of the same ``shards``.
        """
        found: dict[tuple[str, str], AgentInfo] = {}
        tables: list[Mapping[str, AgentInfo]] = []
        if self.begun is not None:
            same = self.begun.shards == shards
            begun = self.begun.agents.items()
            tables = [{n: info if same else replace(info, edges=None) for n, info in begun}]
        if self.manifest is not None:
            tables += [generation.agents for generation in self.manifest.generations.values()]
        for table in tables:
            for name, info in table.items():
                found[name, info.fingerprint] = info
        return found


def look(store: StoreDir) -> Before:
    """Read what a folder holds; raises DataError where neither manifest nor plan can be read.

    A lost or damaged plan is written anew from the manifest, and a manifest from the plan and
    from what each index says of itself.
    """
    manifest = begun = None
    problem: DataError | None = None
    if store.spec.is_file():
        try:
            begun = read_spec(store)
        except DataError as error:
            problem = error
    if store.manifest.is_file():
        try:
            manifest = read_manifest(store)
        except DataError as error:
            if begun is None:
                raise
            problem = error
    if manifest is None and begun is not None:
        manifest = restored(store, begun)
        if manifest is not None:
            manifest.write(store)
    if problem is not None and manifest is None and begun is None:
        raise problem
    return Before(manifest, begun)


def scan_files(
    files: Sequence[Place],
    before: StoreSpec | None,
    seen: Seen,
    recipe: Recipe,
    workers: int,
    on_progress: Report,
) -> list[CorpusFile]:
    """Return what is in each file; one that has not changed since it was read is not read again."""
    known: dict[Place, CorpusFile] = {}
    if before is not None:
        known = {inside(before.root, file.path): file for file in before.files}
    found = {path: known[path] for path in files if path in known and seen.holds(path)}
    todo = [path for path in files if path not in found]
    done = len(found)
    facts = {path: facts_of(path) for path in todo}  # as they were before they are read
    scanned = scan(todo, recipe.corpus.shard_docs, min(workers, len(todo))) if todo else iter(())
    for path, file in zip(todo, scanned, strict=True):
        old = known.get(path)
        found[path] = old if old is not None and old.sha256 == file.sha256 else file
        seen.note(path, facts[path])
        done += 1
        on_progress("scan files", done, len(files))
    return [replace(found[path], path=str(path)) for path in files]


def next_spec(
    store: StoreDir,
    before: Before,
    root: Place,
    files: Sequence[CorpusFile],
    recipe: Recipe,
    agents: Mapping[str, Agent | QuantileBins],
) -> StoreSpec:
    """Return what the store is to be made from.

    ``files`` have absolute paths, all below ``root``. Raises DataError, with both values, for
    whatever cannot change.
    """
    corpus, old = recipe.corpus, before.spec
    ordered = list(files)
    num_old = 0
    if old is not None:
        _check_settings(store, old, recipe)
        ordered = _in_old_order(store, old, files)
        num_old = len(old.files)
    named = tuple(replace(file, path=path_below(str(root), file.path)) for file in ordered)
    all_shards = [*(old.shards if old else ()), *make_shards(named, num_old, corpus)]
    return StoreSpec(
        root=str(root),
        files=named,
        shards=tuple(all_shards),
        text_field=corpus.text_field,
        max_doc_bytes=corpus.max_doc_bytes,
        tokenizer=recipe.tokenizer,
        agents=_agent_infos(before.agents(tuple(all_shards)), agents),
        seed=recipe.seed,
        id_field=corpus.id_field,
    )


def _agent_infos(
    known: Mapping[tuple[str, str], AgentInfo], agents: Mapping[str, Agent | QuantileBins]
) -> dict[str, AgentInfo]:
    """Return each agent's entry; one that changed has another folder than its older self."""
    folders = {info.folder for info in known.values()}
    found = {}
    for name, agent in agents.items():
        info = known.get((name, agent.fingerprint))
        if info is None:
            folder = f"{name}.{agent.fingerprint[:_SHORT]}" if name in folders else name
            info = AgentInfo(tuple(agent.categories), agent.fingerprint, folder)
        found[name] = info
    return found


def _check_settings(store: StoreDir, old: StoreSpec, recipe: Recipe) -> None:
    pairs: list[tuple[str, object, object]] = [
        ("corpus.text_field", old.text_field, recipe.corpus.text_field),
        ("corpus.id_field", old.id_field or "-", recipe.corpus.id_field or "-"),
        ("corpus.max_doc_bytes", old.max_doc_bytes, recipe.corpus.max_doc_bytes),
        ("seed", old.seed, recipe.seed),
    ]
    pairs += [
        (f"tokenizer.{key}", getattr(old.tokenizer, key), getattr(recipe.tokenizer, key))
        for key in ("name", "revision", "vocab_size", "sample_bytes")
    ]
    for what, before, now in pairs:
        if before != now:
            raise DataError(
                f"{store.root} was made with another {what}: found {before!r}, now {now!r}. "
                "Give another --out, or the old value."
            )


def _in_old_order(store: StoreDir, old: StoreSpec, files: Sequence[CorpusFile]) -> list[CorpusFile]:
    """Return the store's files, as they are named now, and after them the new ones."""
    given = {file.path: file for file in files}
    taken: dict[int, CorpusFile] = {}
    for number, file in enumerate(old.files):
        same = given.get(str(inside(old.root, file.path)))
        if same is not None and same.sha256 == file.sha256:
            taken[number] = given.pop(same.path)
    by_content: dict[str, list[str]] = {}
    for path, file in given.items():
        by_content.setdefault(file.sha256, []).append(path)
    for number, file in enumerate(old.files):
        if number not in taken and by_content.get(file.sha256):
            taken[number] = given.pop(by_content[file.sha256].pop(0))
    lost = [file for number, file in enumerate(old.files) if number not in taken]
    if lost:
        raise _lost(store, old, lost, given)
    kept = [replace(taken[i], first_bytes=file.first_bytes) for i, file in enumerate(old.files)]
    return [*kept, *given.values()]


def _lost(
    store: StoreDir, old: StoreSpec, lost: Sequence[CorpusFile], given: Mapping[str, CorpusFile]
) -> DataError:
    lines = []
    for file in lost[:_NAMED]:
        path = str(inside(old.root, file.path))
        now = given.get(path)
        if now is not None:
            lines.append(
                f"  - {path} has changed: found sha256 {now.sha256[:16]}, "
                f"expected {file.sha256[:16]}"
            )
        elif facts_of(place_of(path)):
            lines.append(f"  - {path} was not given")
        else:
            lines.append(f"  - {path} is gone, and no file given has its content")
    more = f"\n  - and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
    text = "\n".join(lines)
    return DataError(
        f"{store.root} was made from {len(old.files)} corpus files, of which {len(lost)} are not "
        f"here:\n{text}{more}\nA store can grow, but what it was made from must stay: give these "
        "files too, put the old ones back, or give another --out."
    )
