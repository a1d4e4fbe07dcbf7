"""Going on from a damaged run: refused by name, and nothing is changed before that."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import planted
import pytest
from run.watching import Quiet, facts

from mads.errors import DataError, UsageError
from mads.files import read_sealed_json, write_sealed_json
from mads.run.loop import train
from mads.store.store import Store


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A run that a test may damage; it stands at step 10 of 20, and has gone further before."""
    root = Path(shutil.copytree(finished, tmp_path / "run"))
    (root / "checkpoints" / "latest").write_text("step-00000010\n")
    return root


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def restate(run: Path, **changes: int) -> None:
    """Change what a checkpoint says of itself, with a right sum."""
    path = run / "checkpoints" / "step-00000010" / "state.json"
    write_sealed_json(path, read_sealed_json(path, "") | changes)


def damage_metrics(run: Path) -> None:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], lines[3][:20], *lines[4:]]) + "\n")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights": (
        lambda run: flip(run / "checkpoints" / "step-00000010" / "model.safetensors"),
        r"step-00000010 is damaged: model\.safetensors was changed.* older one",
    ),
    "the round": (lambda run: restate(run, round=2), "does not fit the recipe: found round 2, exp"),
    "the step": (lambda run: restate(run, step=11), "of another checkpoint: found step 11, expec"),
    "latest": (
        lambda run: (run / "checkpoints" / "latest").write_text("../.."),
        r"names no checkpoint: found '\.\./\.\.'",
    ),
    "console.json": (lambda run: flip(run / "rounds" / "0001" / "console.json"), "console.json"),
    "plan.json": (lambda run: flip(run / "rounds" / "0001" / "plan.json"), r"plan\.json"),
    "selection.parquet": (
        lambda run: flip(run / "rounds" / "0001" / "selection.parquet"),
        r"selection\.parquet (is not the file that was written|cannot be read)",
    ),
    "metrics.jsonl": (damage_metrics, r"metrics\.jsonl was changed: the sha256 of its first"),
    "recipe.toml": (lambda run: flip(run / "recipe.toml"), r"recipe\.toml was changed"),
    "provenance.json": (lambda run: flip(run / "provenance.json"), r"provenance\.json"),
}


@pytest.mark.parametrize("what", sorted(DAMAGES))
def test_damage_is_named_and_nothing_else_is_changed(
    folder: Path, store: Store, copy: Path, what: str
) -> None:
    damage, message = DAMAGES[what]
    damage(copy)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=message):
        train(store, copy, planted.recipe(folder, steps=20), Quiet())
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_a_checkpoint_after_the_end_is_refused(folder: Path, store: Store, copy: Path) -> None:
    checkpoints = copy / "checkpoints"
    (checkpoints / "step-00000010").rename(checkpoints / "step-00000030")
    (checkpoints / "latest").write_text("step-00000030")
    path = checkpoints / "step-00000030" / "state.json"
    write_sealed_json(path, read_sealed_json(path, "") | {"step": 30})
    with pytest.raises(DataError, match=r"after the end: found step 30, expected 1 to 20"):
        train(store, copy, planted.recipe(folder, steps=20), Quiet())


def test_a_run_goes_on_from_an_older_checkpoint(
    folder: Path, store: Store, copy: Path, finished: Path
) -> None:
    """Named by the user: what came after it is forgotten, and comes again."""
    watcher = Quiet()
    train(store, copy, planted.recipe(folder, steps=20), watcher)
    assert watcher.steps[0].step == 10
    assert facts(copy) == facts(finished)


def test_a_run_without_latest_begins_again(
    folder: Path, store: Store, copy: Path, finished: Path
) -> None:
    (copy / "checkpoints" / "latest").unlink()
    watcher = Quiet()
    train(store, copy, planted.recipe(folder, steps=20), watcher)
    assert watcher.steps[0].step == 0
    assert facts(copy) == facts(finished)


@pytest.mark.parametrize("words", ["", "cannot allocate memory: you tried to allocate 9 bytes"])
def test_full_memory_is_one_message(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError(words) if words else MemoryError

    monkeypatch.setattr("mads.run.loop.build_model", full)
    with pytest.raises(DataError, match=r"the RAM is full: .*smaller training\.micro_batch"):
        train(store, tmp_path / "run", planted.recipe(folder), Quiet())


def test_a_loss_that_is_not_finite_is_told_with_its_task(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mads.run.watched.task_loss", lambda *_: float("nan"))
    with pytest.raises(DataError, match="losses of tasks are not finite: planted nan"):
        train(store, tmp_path / "run", planted.recipe(folder), Quiet())


@pytest.mark.parametrize("name", ["fixed", "random"])
def test_a_strategy_without_evidence_needs_no_reference_task(
    folder: Path, store: Store, tmp_path: Path, name: str
) -> None:
    recipe = planted.recipe(folder, steps=12)
    recipe = replace(recipe, strategy=name, rewards=replace(recipe.rewards, tasks={}))
    result = train(store, tmp_path / "run", recipe, Quiet())
    assert (result.strategy, result.rounds, result.losses) == (name, 3, {})
    assert bool(result.weights) == (name == "fixed")
    with pytest.raises(UsageError, match=r"no reference task: .*strategy = \"random\""):
        train(store, tmp_path / "other", replace(recipe, strategy="console"), Quiet())
