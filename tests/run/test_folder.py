"""Whose a run folder is, and that nobody changes it unseen."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import planted
import pytest

from mads.errors import DataError, UsageError
from mads.files import read_sealed_json, write_sealed_json
from mads.layout import RunDir
from mads.run.folder import begin, check_folder, forget_after, read_provenance
from mads.store.store import Store


@pytest.fixture
def run(folder: Path, store: Store, tmp_path: Path) -> RunDir:
    (tmp_path / "run").mkdir()
    found = RunDir(tmp_path / "run")
    begin(found, store, planted.recipe(folder))
    return found


def test_a_run_says_what_made_it(run: RunDir, store: Store) -> None:
    found = read_provenance(run)
    assert found.store_path == str(store.dir.root)
    assert found.machine.system
    assert "torch" in found.packages


def test_beginning_again_changes_nothing(run: RunDir, folder: Path, store: Store) -> None:
    before = {path: path.read_bytes() for path in run.root.iterdir()}
    check_folder(run, store, planted.recipe(folder))
    begin(run, store, planted.recipe(folder))
    assert {path: path.read_bytes() for path in run.root.iterdir()} == before


def test_another_recipe_is_refused_with_its_keys(run: RunDir, folder: Path, store: Store) -> None:
    other = replace(planted.recipe(folder), seed=5)
    with pytest.raises(UsageError, match=r"begun with another recipe: seed: 0 -> 5\. Give"):
        check_folder(run, store, other)


def test_another_store_is_refused_with_both(run: RunDir, folder: Path, store: Store) -> None:
    value = read_sealed_json(run.provenance, "")
    for change in ({"store": "0" * 64}, {"generation": 7}):
        write_sealed_json(run.provenance, value | change)
        with pytest.raises(DataError, match=r"on another store: found .*generation.* now"):
            check_folder(run, store, planted.recipe(folder))


def test_a_changed_recipe_is_refused(run: RunDir, folder: Path, store: Store) -> None:
    run.recipe.write_text(run.recipe.read_text().replace("seed = 0", "seed = 1", 1))
    with pytest.raises(DataError, match=r"recipe\.toml was changed: its sha256 is .* Put it back"):
        check_folder(run, store, planted.recipe(folder))
    run.recipe.unlink()
    with pytest.raises(DataError, match=r"recipe\.toml cannot be read: No such file"):
        read_provenance(run)


def test_a_changed_provenance_is_refused(run: RunDir) -> None:
    run.provenance.write_text(run.provenance.read_text().replace("mads", "sdam", 1))
    with pytest.raises(DataError, match=r"provenance\.json (was changed|has no)"):
        read_provenance(run)
    write_sealed_json(run.provenance, {"store": "x"})
    with pytest.raises(DataError, match=r"is not a run's provenance: mads: missing"):
        read_provenance(run)


def test_a_foreign_folder_is_refused(folder: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="neither empty nor a run"):
        check_folder(RunDir(tmp_path), store, planted.recipe(folder))


def test_what_comes_after_a_round_is_forgotten(finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "run"))
    forget_after(RunDir(copy), 1)
    assert sorted(path.name for path in (copy / "rounds").iterdir()) == ["0000", "0001"]
    assert not (copy / "result.json").exists()
