"""Every byte of every kind of file: a changed one is refused by name, or has no effect.

One more kind of file is one more line of ``FILES``: its path, and the commands that read it. What
the user gives may be changed into another valid input; where that is possible stands in ``INPUTS``.
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from attack.world import NO_TRACE, Outcome, World, begin, build
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FILES: dict[str, tuple[str, ...]] = {
    # what annotate writes
    "store/corpus.json": ("select", "annotate"),
    "store/annotate.json": ("annotate", "select"),
    "store/seen.json": ("annotate",),
    "store/documents/shard-00000.parquet": ("explain", "annotate"),
    "store/tokens/shard-00000.bin": ("texts", "annotate"),
    "store/tokens/shard-00000.idx": ("texts", "annotate"),
    "store/tokens/shard-00000.sum": ("texts", "annotate"),
    "store/tokenizer/tokenizer.json": ("texts",),
    "store/tokenizer/tokenizer_config.json": ("texts",),
    "store/tokenizer/mads.json": ("texts",),
    "store/memories/kind/shard-00000.parquet": ("explain", "annotate"),
    "store/index/0001/cells.parquet": ("select",),
    "store/index/0001/order.parquet": ("select", "texts"),
    "store/index/0001/order.sum": ("select",),
    "store/index/0001/content.json": ("explain",),
    # what train writes
    "run/recipe.toml": ("train", "select"),
    "run/provenance.json": ("train", "select"),
    "run/result.json": ("train",),
    "run/metrics.jsonl": ("train",),
    "run/rounds/0002/console.json": ("train", "select", "explain"),
    "run/rounds/0002/plan.json": ("train", "select", "explain"),
    "run/rounds/0002/selection.parquet": ("train", "explain"),
    "run/rounds/0001/rewards.parquet": ("influence",),
    "run/checkpoints/latest": ("train",),
    "run/checkpoints/step-00000004/state.json": ("train",),
    "run/checkpoints/step-00000004/model.safetensors": ("train",),
    "run/checkpoints/step-00000004/optimizer.safetensors": ("train",),
    "run/checkpoints/step-00000004/config.json": ("train",),
    "own/generations/0002/generation.json": ("own train", "own select", "own explain"),
    "own/generations/0002/cells.parquet": ("own train", "own select"),
    "own/generations/0002/order.parquet": ("own select", "own explain"),
    "own/generations/0002/order.sum": ("own select",),
    "own/generations/0002/content.json": ("own explain",),
    "own/generations/0002/memory/shard-00000.parquet": ("own explain",),
    # what select writes
    "picked/plan.json": ("part",),
    "picked/selection.parquet": ("diff",),
    "console.json": ("console",),
    # what the user gave
    "corpus.jsonl": ("texts", "annotate"),
    "recipe.toml": ("train", "annotate"),
    "prior.json": ("train", "annotate"),
    # the same, of the world that annotate has begun
    "corpus/a.jsonl.gz": ("fresh", "again", "copy"),
    "corpus/b.jsonl.zst": ("fresh", "again", "copy"),
    "corpus/c.parquet": ("fresh", "again", "copy"),
    "agents/mine.bin": ("fresh", "bin", "again"),
    "agents/mine.json": ("fresh", "bin", "again"),
    "agents/topics.safetensors": ("fresh", "again"),
    "agents/topics.json": ("fresh", "again"),
    "agents/wanted.safetensors": ("fresh", "bin"),
    "agents/wanted.json": ("fresh", "bin"),
    "weights.json": ("again",),
    # what a killed annotate leaves
    "scored/annotate.json": ("bin",),
    "scored/documents/shard-00001.parquet": ("bin",),
    "scored/tokens/shard-00001.bin": ("bin",),
    "scored/tokens/shard-00001.idx": ("bin",),
    "scored/tokens/shard-00001.sum": ("bin",),
    "scored/tokenizer/tokenizer.json": ("bin",),
    "scored/tokenizer/tokenizer_config.json": ("bin",),
    "scored/tokenizer/mads.json": ("bin",),
    "scored/memories/kind/shard-00001.parquet": ("bin",),
    "scored/memories/mine/scores.partial/shard-00001.parquet": ("bin",),
    "filled/memories/mine/shard-00001.parquet": ("sort",),
    "filled/index/0001/buckets.partial/000000": ("sort",),
    "filled/index/0001/buckets.partial/counts.json": ("sort",),
    "filled/index/0001/buckets.partial/filled.json": ("sort",),
    # what a store without its manifest is put together from
    "lost/annotate.json": ("restore",),
    "lost/index/0001/generation.json": ("restore",),
}
BEGUN = ("fresh", "bin", "sort", "again", "verify", "restore", "copy")  # the others are of Trained

INPUTS = {
    # A recipe with another value is another recipe; only a finished run refuses it.
    ("recipe.toml", "annotate"),
    # Nothing is known yet of a corpus that is read for the first time.
    ("corpus/a.jsonl.gz", "fresh"),
    ("corpus/b.jsonl.zst", "fresh"),
    ("corpus/c.parquet", "fresh"),
    # A card is written by hand: with another category or scale it describes another agent.
    ("agents/mine.json", "fresh"),
    ("agents/mine.json", "bin"),
    ("agents/mine.json", "again"),
}
"""Files and commands for which another valid content is another input, with another result."""

SAID = {"recipe.toml": ("another recipe", "was made with another", "agent '", "agents.")}
"""How a refusal names a file whose value is refused, and not its text: by the value's key."""


Worlds = Mapping[str, World]
"""The world of each command."""


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    trained = build(tmp_path_factory.mktemp("attacked"))
    begun = begin(tmp_path_factory.mktemp("begun"))
    return {name: begun if name in BEGUN else trained for names in FILES.values() for name in names}


@pytest.fixture(scope="module")
def expected(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What each command does in an undamaged copy."""
    found = {}
    for name, world in sorted(worlds.items()):
        found[name] = run_in_copy(world, tmp_path_factory.mktemp("whole") / "copy", name)
        # Too few documents were probed to learn from, which `fit influence` says last.
        assert found[name].code == (1 if name == "influence" else 0), found[name].words
    return found


def run_in_copy(world: World, copy: Path, command: str) -> Outcome:
    shutil.copytree(world.root, copy)
    return replace(world, root=copy).run(command)


def damaged_run(world: World, tmp_path: Path, name: str, command: str, content: bytes) -> Outcome:
    """Run a command in a copy in which one file has another content."""
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(world.root, copy)
    (copy / name).write_bytes(content)
    return replace(world, root=copy).run(command)


def check(found: Outcome, whole: Outcome, name: str, command: str) -> None:
    """Assert that damage was refused by name, or had no effect."""
    assert NO_TRACE not in found.words
    if found.code == 0:
        assert found.made == whole.made or (name, command) in INPUTS, (
            f"{name}: another result, and not a word"
        )
        return
    assert found.code in (1, 2), found.words
    path = Path(name)
    names = (path.name, path.stem, path.parent.name, *SAID.get(name, ()))
    assert found == whole or any(part and part in found.words for part in names), found.words


CASES = [(name, command) for name, commands in FILES.items() for command in commands]


@pytest.mark.parametrize(("name", "command"), CASES)
@settings(
    max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit(
    worlds: Worlds,
    expected: dict[str, Outcome],
    tmp_path: Path,
    name: str,
    command: str,
    place: float,
    bit: int,
) -> None:
    whole = (worlds[command].root / name).read_bytes()
    at = int(place * len(whole))
    content = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    found = damaged_run(worlds[command], tmp_path, name, command, content)
    check(found, expected[command], name, command)


DEEP = b"[" * 100_000
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda whole: whole[: len(whole) // 2],
    "doubled": lambda whole: whole * 2,
    "zeros": lambda whole: b"\0" * len(whole),
    "list": lambda _: b"[]",
    "deep": lambda _: DEEP,
    "digits": lambda _: b'{"round": ' + b"9" * 5_000 + b"}",
    "page": lambda _: b"<!DOCTYPE html><html>404</html>",
    "pickle": lambda _: pickle.dumps({"round": 1}),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("name", "command"), CASES)
def test_a_file_of_something_else(
    worlds: Worlds,
    expected: dict[str, Outcome],
    tmp_path: Path,
    name: str,
    command: str,
    damage: str,
) -> None:
    content = DAMAGES[damage]((worlds[command].root / name).read_bytes())
    found = damaged_run(worlds[command], tmp_path, name, command, content)
    check(found, expected[command], name, command)


EXCHANGED = {
    "store/index/0001/order.parquet": "store/index/0001/cells.parquet",
    "store/memories/kind/shard-00000.parquet": "store/memories/coin/shard-00000.parquet",
    "store/documents/shard-00000.parquet": "store/memories/coin/shard-00000.parquet",
    "store/tokens/shard-00000.bin": "store/tokens/shard-00000.idx",
    "run/rounds/0002/console.json": "run/rounds/0001/console.json",
    "run/rounds/0002/plan.json": "run/rounds/0001/plan.json",
    "run/rounds/0002/selection.parquet": "run/rounds/0001/selection.parquet",
    "run/checkpoints/step-00000004/state.json": "run/checkpoints/step-00000002/state.json",
    "run/checkpoints/step-00000004/model.safetensors": (
        "run/checkpoints/step-00000002/model.safetensors"
    ),
    "console.json": "store/corpus.json",
    "prior.json": "picked/plan.json",
    "corpus/a.jsonl.gz": "corpus/b.jsonl.zst",
    "corpus/b.jsonl.zst": "corpus/c.parquet",
    "agents/mine.bin": "corpus/c.parquet",
    "agents/mine.json": "weights.json",
    "agents/topics.safetensors": "agents/wanted.safetensors",
    "agents/topics.json": "agents/wanted.json",
    "agents/wanted.safetensors": "agents/topics.safetensors",
    "agents/wanted.json": "agents/mine.json",
    "scored/tokens/shard-00001.bin": "scored/tokens/shard-00002.bin",
    "scored/tokens/shard-00001.sum": "scored/tokens/shard-00002.sum",
    "scored/memories/mine/scores.partial/shard-00001.parquet": (
        "scored/memories/mine/scores.partial/shard-00002.parquet"
    ),
    "filled/index/0001/buckets.partial/000000": "filled/index/0001/buckets.partial/counts.json",
    "filled/index/0001/buckets.partial/counts.json": (
        "filled/index/0001/buckets.partial/filled.json"
    ),
    "filled/index/0001/buckets.partial/filled.json": (
        "filled/index/0001/buckets.partial/counts.json"
    ),
}


@pytest.mark.parametrize("name", EXCHANGED)
def test_a_whole_file_of_another_place(
    worlds: Worlds, expected: dict[str, Outcome], tmp_path: Path, name: str
) -> None:
    for command in FILES[name]:
        content = (worlds[command].root / EXCHANGED[name]).read_bytes()
        found = damaged_run(worlds[command], tmp_path, name, command, content)
        check(found, expected[command], name, command)


# A round without its plan is not complete, and the one before it is the last.
GONE = [c for c in CASES if c[0] != "run/rounds/0002/plan.json" or c[1] == "train"]


@pytest.mark.parametrize(("name", "command"), GONE)
def test_a_file_that_is_gone(
    worlds: Worlds, expected: dict[str, Outcome], tmp_path: Path, name: str, command: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(worlds[command].root, copy)
    (copy / name).unlink()
    found = replace(worlds[command], root=copy).run(command)
    check(found, expected[command], name, command)


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("corpus/")])
def test_a_corpus_file_of_the_same_size_and_time_is_noticed_by_verify(
    worlds: Worlds, tmp_path: Path, name: str
) -> None:
    world = replace(worlds["again"], root=tmp_path / "copy")
    shutil.copytree(worlds["again"].root, world.root)
    assert world.run("again").code == 0  # it has seen the files in this place
    path = world.root / name
    stat, whole = path.stat(), path.read_bytes()
    path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert world.run("again").code == 0  # as README.md says
    for command in ("verify", "copy"):
        found = world.run(command)
        assert (found.code, NO_TRACE in found.words) == (1, False)
        assert path.name in found.words
    path.touch()
    assert path.name in world.run("again").words
