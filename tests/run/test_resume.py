"""Going on from a damaged run: a whole checkpoint is used, all else is refused by name."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import planted
import pytest
from run.watching import Quiet, facts

from mads.config import Recipe
from mads.errors import DataError, Interrupted, UsageError
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
        r"no checkpoint is whole: .*step-00000010 is damaged: model\.safetensors was changed.* "
        r"There are newer ones: step-00000010, step-00000020\. Put one back, name another one in",
    ),
    "the round": (lambda run: restate(run, round=2), "does not fit the recipe: found round 2, exp"),
    "the step": (lambda run: restate(run, step=11), "of another checkpoint: found step 11, expec"),
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


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty_latest(folder: Path) -> None:
    (folder / "latest").write_text("")
    cut(folder / "step-00000015" / "config.json")


def point_nowhere(folder: Path) -> None:
    (folder / "latest").write_text("step-00000012\n")
    shutil.rmtree(folder / "step-00000015")


LOST: dict[str, tuple[Callable[[Path], object], str]] = {
    "a corrupted byte": (
        lambda folder: flip(folder / "step-00000015" / "optimizer.safetensors"),
        r"step-00000015 is damaged: optimizer\.safetensors was changed: its sha256 is",
    ),
    "a missing file": (
        lambda folder: (folder / "step-00000015" / "model.safetensors").unlink(),
        r"step-00000015 is damaged: model\.safetensors is missing\.",
    ),
    "half a state": (
        lambda folder: cut(folder / "step-00000015" / "state.json"),
        r"step-00000015 is damaged: .*state\.json cannot be read as JSON",
    ),
    "a deleted folder": (
        lambda folder: shutil.rmtree(folder / "step-00000015"),
        r"step-00000015 is damaged: .*state\.json does not exist\.",
    ),
    "latest is empty": (
        empty_latest,
        r"latest names no checkpoint: found '', expected step-00000100, say\. Going on from",
    ),
    "latest points nowhere": (
        point_nowhere,
        r"step-00000012 is damaged: .*state\.json does not exist\.",
    ),
}


@pytest.fixture(scope="module")
def at_15(folder: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after step 15 of 20, with checkpoints after 5, 10 and 15."""
    run = tmp_path_factory.mktemp("at-15") / "run"
    with pytest.raises(Interrupted):
        train(store, run, recipe_of(folder), Quiet(stop_after=15))
    return run


def recipe_of(folder: Path) -> Recipe:
    return planted.recipe(folder, steps=20, checkpoint_every=5, keep_checkpoints=0)


@pytest.mark.parametrize("what", sorted(LOST))
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    folder: Path, store: Store, at_15: Path, finished: Path, tmp_path: Path, what: str
) -> None:
    """With the same end, bit for bit, as a run that was never damaged."""
    run = Path(shutil.copytree(at_15, tmp_path / "run"))
    damage, message = LOST[what]
    damage(run / "checkpoints")
    watcher = Quiet()
    train(store, run, recipe_of(folder), watcher)
    assert watcher.steps[0].step == 10
    *told, last = watcher.notes[: [n.startswith("going on") for n in watcher.notes].index(True) + 1]
    assert any(re.search(message, note) for note in told), told
    assert all(note.endswith("Going on from step 10 instead.") for note in told)
    assert last == "going on from step 10 (round 1)."
    assert facts(run) == facts(finished)
    assert (run / "checkpoints" / "latest").read_text() == "step-00000020\n"


def test_of_several_damaged_ones_each_is_named(
    folder: Path, store: Store, at_15: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(at_15, tmp_path / "run"))
    for step in (10, 15):
        flip(run / "checkpoints" / f"step-{step:08d}" / "model.safetensors")
    watcher = Quiet()
    train(store, run, recipe_of(folder), watcher)
    assert watcher.steps[0].step == 5
    assert ["step-00000015" in watcher.notes[0], "step-00000010" in watcher.notes[1]] == [True] * 2


def test_a_kill_after_the_choice_finds_the_same_checkpoint(
    folder: Path, store: Store, at_15: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``latest`` moves before anything is removed, and nothing whole goes before that."""
    run = Path(shutil.copytree(at_15, tmp_path / "run"))
    flip(run / "checkpoints" / "step-00000015" / "model.safetensors")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mads.run.records.Metrics.cut", killed)
    with pytest.raises(KeyboardInterrupt):
        train(store, run, recipe_of(folder), Quiet())
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    latest = run / "checkpoints" / "latest"
    assert after == before | {latest: b"step-00000010\n"}


def test_a_checkpoint_that_the_machine_cannot_read_is_no_damage(
    folder: Path, store: Store, at_15: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be whole: the run stops, and nothing of it is touched."""
    run = Path(shutil.copytree(at_15, tmp_path / "run"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def broken(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("mads.training.checkpoint.file_sha256", broken)
    with pytest.raises(DataError, match=r"step-00000015/.* cannot be read: .*The disk does not an"):
        train(store, run, recipe_of(folder), Quiet())
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_checkpoint_after_the_end_is_refused(folder: Path, store: Store, copy: Path) -> None:
    checkpoints = copy / "checkpoints"
    shutil.rmtree(checkpoints / "step-00000020")
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
