"""The manifest knows every generation; none changes when another is added."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mads.errors import DataError
from mads.files import read_sealed_json, write_sealed_json
from mads.layout import StoreDir
from mads.store.manifest import read_manifest, read_spec, write_spec


@pytest.fixture
def store(toy_store: Path, tmp_path: Path) -> StoreDir:
    shutil.copytree(toy_store, tmp_path / "store")
    return StoreDir(tmp_path / "store")


def test_a_generation_is_the_first_shards_and_its_agents(store: StoreDir) -> None:
    manifest = read_manifest(store)
    facts = manifest.generations["1"]
    agents = {"quality": facts.agents["quality"]}
    two = replace(facts, num_shards=2, agents=agents)
    replace(manifest, generations={"1": two, "2": facts}, generation=2).write(store)
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
