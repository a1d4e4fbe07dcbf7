"""Whether the files of a store are still those that were written."""

from __future__ import annotations

from pathlib import Path

from mads.annotate.seen import Seen
from mads.blocks import block_sums, read_sums
from mads.corpus.tokens import REMEDY as TOKENS_REMEDY
from mads.errors import DataError, machine_problem
from mads.layout import StoreDir
from mads.sealed import check_sealed
from mads.store.manifest import Manifest
from mads.store.store import Store
from mads.types import Report


def check_files(
    store: StoreDir,
    manifest: Manifest,
    seen: Seen,
    on_progress: Report,
) -> None:
    """Compare every file that is there and was not ``seen`` before with what is known of it.

    Raises DataError, with both values, for one that was changed; a changed file of an index is
    removed instead, since an index can be made anew. A file that is gone is left to the caller.
    """
    for number in manifest.generations:
        try:
            opened = Store(store.root, int(number))
            content = opened.content
        except DataError as error:
            _refuse_machine(error)
            store.index(int(number)).content.unlink(missing_ok=True)
            continue
        for path in opened.index.own_files:
            _check_index(opened, path, seen)
        for done, (name, seal) in enumerate(content.items(), start=1):
            path = store.root / name
            if path.is_file() and not seen.holds(path):
                check_sealed(path, seal, opened.remedy(path))
                seen.note(path)
            on_progress("check the store", done, len(content))
        for shard in range(len(opened.spec.shards)):
            check_tokens(store, shard, seen)


def _check_index(opened: Store, path: Path, seen: Seen) -> None:
    if not path.is_file() or seen.holds(path):
        return
    try:
        check_sealed(path, opened.seal(path))
        seen.note(path)
    except DataError as error:
        _refuse_machine(error)
        path.unlink()


def _refuse_machine(error: DataError) -> None:
    """Raise the error again where the machine is at fault, and nothing is known of the file."""
    cause = error.__cause__
    if cause is not None and (isinstance(cause, MemoryError) or machine_problem(cause)):
        raise error


def check_tokens(store: StoreDir, shard: int, seen: Seen) -> None:
    """Compare a shard's tokens with their checksums, unless they were ``seen`` or are not there.

    Raises DataError for tokens that were changed.
    """
    files = [store.tokens_bin(shard), store.tokens_idx(shard)]
    if all(seen.holds(path) for path in files) or not all(path.is_file() for path in files):
        return
    if not store.tokens_sum(shard).is_file():
        return
    for path, sums in zip(
        files, read_sums(store.tokens_sum(shard), files, TOKENS_REMEDY), strict=True
    ):
        if (block_sums(path) != sums).any():
            raise DataError(f"{path} is damaged: its checksums differ. {TOKENS_REMEDY}")
        seen.note(path)
