"""The manifest knows every generation; none changes when another is added."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mads.errors import DataError
from mads.files import read_sealed_json, write_sealed_json
from mads.layout import StoreDir
from mads.store.manifest import read_manifest, read_spec, restored, write_spec
from mads.store.spec import AgentInfo, StoreSpec


@pytest.fixture
def store(toy_store: Path, tmp_path: Path) -> StoreDir:
    shutil.copytree(toy_store, tmp_path / "store")
    return StoreDir(tmp_path / "store")


def test_a_generation_is_the_first_shards_and_its_agents(store: StoreDir) -> None:
    manifest = read_manifest(store)
    facts = manifest.generations["1"]
    agents = {"quality": facts.agents["quality"]}
    two = replace(facts, num_shards=2, agents=agents)
    moved = {name.replace("/0001/", "/0002/"): seal for name, seal in facts.files.items()}
    later = replace(facts, files=moved)
    replace(manifest, generations={"1": two, "2": later}, generation=2).write(store)
    again = read_manifest(store)
    assert (again.generation, list(again.generations)) == (2, ["1", "2"])
    assert len(again.at(1).shards) == 2
    assert list(again.at(1).agents) == ["quality"]
    assert again.at(2) == manifest.at(1)


def test_a_plan_survives_its_file(store: StoreDir) -> None:
    spec = read_manifest(store).spec
    write_spec(store, spec)
    assert read_spec(store) == spec
    assert spec.num_rows == 300


@pytest.mark.parametrize("name", ["manifest", "spec"])
def test_another_format_is_told(store: StoreDir, name: str) -> None:
    path: Path = getattr(store, name)
    write_sealed_json(path, read_sealed_json(path, "") | {"format": 2})
    read = read_manifest if name == "manifest" else read_spec
    with pytest.raises(DataError, match=rf"{path.name} has format 2; this version of mads reads 3"):
        read(store)


@pytest.mark.parametrize("name", ["../victim.txt", "/etc/hostname", "index/0002/cells.parquet"])
def test_files_that_are_not_the_generations_own_are_refused(store: StoreDir, name: str) -> None:
    manifest = read_manifest(store)
    facts = manifest.generations["1"]
    files = {**facts.files, name: facts.files["index/0001/cells.parquet"]}
    replace(manifest, generations={"1": replace(facts, files=files)}).write(store)
    with pytest.raises(DataError, match=rf"generations\.1\.files: found or missing '{name}'"):
        read_manifest(store)


@pytest.mark.parametrize("number", ["0", "01", "-1", "²", "../1", ""])
def test_a_generation_has_a_plain_number(store: StoreDir, number: str) -> None:
    manifest = read_manifest(store)
    facts = manifest.generations["1"]
    replace(manifest, generations={"1": facts, number: facts}).write(store)
    with pytest.raises(DataError, match="expected a number from 1 on"):
        read_manifest(store)


@pytest.mark.parametrize("folder", ["", ".", "..", "../../outside", "/tmp", "a\\b"])
def test_a_memory_lies_in_the_store(store: StoreDir, folder: str) -> None:
    manifest = read_manifest(store)
    agents = {name: replace(info, folder=folder) for name, info in manifest.spec.agents.items()}
    write_spec(store, replace(manifest.spec, agents=agents))
    with pytest.raises(DataError, match=r"folder: found .* expected a plain name"):
        read_spec(store)


def test_a_lost_manifest_is_restored_from_the_indexes(store: StoreDir) -> None:
    manifest = read_manifest(store)
    assert restored(store, manifest.spec) == replace(manifest, provenance={})
    facts = store.index(1).facts
    data = bytearray(facts.read_bytes())
    data[len(data) // 2] ^= 1
    facts.write_bytes(data)
    with pytest.raises(DataError, match=r"generation\.json"):
        restored(store, manifest.spec)
    facts.unlink()
    assert restored(store, manifest.spec) is None


def test_what_cannot_be_is_refused(store: StoreDir) -> None:
    manifest = read_manifest(store)
    spec, facts = manifest.spec, manifest.generations["1"]
    shard, file = spec.shards[0], spec.files[0]
    segment = shard.segments[0]

    def with_segment(**changes: int) -> StoreSpec:
        changed = replace(shard, segments=(replace(segment, **changes),))
        return replace(spec, shards=(changed, *spec.shards[1:]))

    def with_categories(*names: str) -> dict[str, AgentInfo]:
        return {n: replace(info, categories=names) for n, info in spec.agents.items()}

    cases = {
        r"spec\.shards\[0\]\.segments\[0\]\.file: found 99 of 3 files": with_segment(file=99),
        r"segments\[0\] ends after the file's \d+ rows": with_segment(first_row=9),
        r"spec\.files\[0\]\.path: found 'a.x00b'": replace(
            spec, files=(replace(file, path="a\0b"), *spec.files[1:])
        ),
        r"agents\.\w+\.categories: none, or": replace(spec, agents=with_categories("a", "a")),
    }
    for message, changed in cases.items():
        replace(manifest, spec=changed).write(store)
        with pytest.raises(DataError, match=rf"is not a manifest of a store: .*{message}"):
            read_manifest(store)
        write_spec(store, changed)
        with pytest.raises(DataError, match=rf"is not the plan of a store: .*{message}"):
            read_spec(store)
    for message, generation in {
        r"num_shards: found 9 of 3 shards": replace(facts, num_shards=9),
        r"generations\.1\.agents\.\w+\.categories": replace(facts, agents=with_categories()),
    }.items():
        replace(manifest, generations={"1": generation}).write(store)
        with pytest.raises(DataError, match=message):
            read_manifest(store)
