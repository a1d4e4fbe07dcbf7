"""A run branched from another one's checkpoint: the same past, and its own recipe afterwards."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import planted
import pytest
from command import mads
from run.watching import Quiet, facts

from mads.annotate.annotate import annotate
from mads.config import Recipe
from mads.errors import DataError, UsageError
from mads.run.branch import Source, parse_source
from mads.run.loop import train
from mads.run.reader import Run
from mads.store.store import Store


def trained(recipe: Recipe, **training: Any) -> Recipe:
    """Return a recipe with another training section."""
    return replace(recipe, training=replace(recipe.training, **training))


def test_where_from() -> None:
    assert parse_source("runs/a@400") == Source(Path("runs/a"), 400)
    assert parse_source("runs/a") == Source(Path("runs/a"))
    assert parse_source("me@home/run") == Source(Path("me@home/run"))


def test_a_branch_with_the_same_recipe_is_the_run_itself(
    folder: Path, store: Store, finished: Path, tmp_path: Path
) -> None:
    """Bit for bit, and nothing of the run that it comes from is touched."""
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    run, watcher = tmp_path / "run", Quiet()
    recipe = planted.recipe(folder, steps=20)
    train(store, run, recipe, watcher, source=Source(finished, 10))
    assert watcher.steps[0].step == 10
    assert facts(run) == facts(finished)
    found = Run(run).provenance.branched
    assert found is not None
    assert (found.run, found.step) == (str(finished.resolve()), 10)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before
    again = Quiet()
    train(store, run, recipe, again, source=Source(finished))
    assert again.steps == []
    (run / "checkpoints" / "latest").unlink()  # it begins again, where it was branched
    train(store, run, recipe, again)
    assert again.steps[0].step == 10
    assert facts(run) == facts(finished)


def test_a_branch_has_its_own_settings_from_the_next_step_on(
    folder: Path, store: Store, finished: Path, tmp_path: Path
) -> None:
    """And ends where no checkpoint of the other run stands: the latest is the default."""
    recipe = trained(planted.recipe(folder, steps=30), learning_rate=1e-3, schedule="constant")
    recipe = replace(recipe, seed=7, selection=replace(recipe.selection, temperature=3.0))
    run, watcher = tmp_path / "run", Quiet()
    result = train(store, run, recipe, watcher, source=Source(finished))
    assert [record.step for record in watcher.steps] == list(range(20, 30))
    assert {record.learning_rate for record in watcher.steps} == {1e-3}
    assert [record.round for record in watcher.rounds] == [4, 5]
    assert (result.steps, result.rounds) == (30, 6)
    assert [record.step for record in Run(run).steps] == list(range(30))
    assert Run(run).recipe == recipe


def refused(recipe: Recipe, what: str, value: Any) -> Recipe:
    section, _, key = what.partition(".")
    if not key:
        return replace(recipe, **{section: value})
    return replace(recipe, **{section: replace(getattr(recipe, section), **{key: value})})


@pytest.mark.parametrize(
    ("what", "value", "message"),
    [
        ("model.hidden_size", 64, r"depend on: model\.hidden_size: 32 -> 64\. Leave"),
        ("training.context", 64, r"training\.context: 32 -> 64"),
        ("strategy", "random", "strategy: 'console' -> 'random'"),
        ("selection.policy", "random", "the strategy that decides: 'console' -> 'random'"),
        ("console.prior", {"kind": {"useful": 2.0}}, r"console\.prior\.kind"),
        ("rewards.tasks", {}, r"no reference task|rewards\.tasks"),
        ("training.update_every", 7, r"step 10 lies in round 1, of steps 5 to 9, which under the"),
        ("training.steps", 10, r"must be larger than the step\. Branch from"),
    ],
)
def test_what_cannot_differ(
    folder: Path, store: Store, finished: Path, tmp_path: Path, what: str, value: Any, message: str
) -> None:
    recipe = refused(planted.recipe(folder, steps=20), what, value)
    with pytest.raises(UsageError, match=message):
        train(store, tmp_path / "run", recipe, Quiet(), source=Source(finished, 10))
    assert not (tmp_path / "run" / "provenance.json").exists()


def test_within_a_round_the_seed_is_the_runs(folder: Path, store: Store, tmp_path: Path) -> None:
    """And a round that the end has cut short cannot become longer."""
    run = tmp_path / "run"
    train(store, run, planted.recipe(folder, steps=8, checkpoint_every=7), Quiet())
    other = replace(planted.recipe(folder, steps=8), seed=3)
    with pytest.raises(UsageError, match=r"depend on: seed: 0 -> 3\..*where a round has ended"):
        train(store, tmp_path / "other", other, Quiet(), source=Source(run, 7))
    longer = planted.recipe(folder, steps=20)
    with pytest.raises(UsageError, match=r"step 8 lies in round 1, of steps 5 to 7, which under"):
        train(store, tmp_path / "other", longer, Quiet(), source=Source(run))


def test_places_that_are_not_there(
    folder: Path, store: Store, finished: Path, tmp_path: Path
) -> None:
    recipe = planted.recipe(folder, steps=20)
    with pytest.raises(UsageError, match=r"no checkpoint of step 13; there are those of 10, 20\."):
        train(store, tmp_path / "run", recipe, Quiet(), source=Source(finished, 13))
    with pytest.raises(UsageError, match=r"run .*nowhere does not exist"):
        train(store, tmp_path / "run", recipe, Quiet(), source=Source(tmp_path / "nowhere"))
    annotate(
        [folder / "corpus.jsonl"] * 1, tmp_path / "store", other_store(folder), lambda *_: None
    )
    with pytest.raises(DataError, match=r"finished was trained on another store: found .*, now "):
        train(Store(tmp_path / "store"), tmp_path / "run", recipe, Quiet(), source=Source(finished))
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    (copy / "checkpoints" / "step-00000010" / "model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=r"step-00000010 is damaged: model\.safetensors was chang"):
        train(store, tmp_path / "run", recipe, Quiet(), source=Source(copy, 10))
    shutil.rmtree(copy / "rounds" / "0000")
    with pytest.raises(DataError, match=r"rounds/0000 is gone, which .*copy had at step 20\. Put"):
        train(store, tmp_path / "gone", trained(recipe, steps=25), Quiet(), source=Source(copy))


def other_store(folder: Path) -> Recipe:
    recipe = planted.recipe(folder)
    return replace(recipe, tokenizer=replace(recipe.tokenizer, vocab_size=280))


def test_a_folder_from_elsewhere_is_refused(
    folder: Path, store: Store, finished: Path, tmp_path: Path
) -> None:
    recipe = planted.recipe(folder, steps=20)
    plain = Path(shutil.copytree(finished, tmp_path / "plain"))
    with pytest.raises(UsageError, match="was branched from nowhere, not from"):
        train(store, plain, recipe, Quiet(), source=Source(finished, 10))
    run = tmp_path / "run"
    train(store, run, recipe, Quiet(), source=Source(finished, 10))
    with pytest.raises(UsageError, match="was branched from step 10, not 20"):
        train(store, run, recipe, Quiet(), source=Source(finished, 20))


def test_from_the_command_line(
    capsys: pytest.CaptureFixture[str], folder: Path, finished: Path, tmp_path: Path
) -> None:
    """Without --recipe it is the other run's; the same call again finds it complete."""
    call = (
        *("train", "--store", folder / "store", "--out", tmp_path / "run"),
        *("--from", f"{finished}@10", "--set", "training.learning_rate=1e-3", "--json"),
    )
    for _ in range(2):
        code, out, err = mads(capsys, *call)
        assert code == 0, err
        assert json.loads(out)["steps"] == 20
    recipe = Run(tmp_path / "run").recipe
    assert recipe == trained(planted.recipe(folder, steps=20), learning_rate=1e-3)
    code, _, err = mads(capsys, "train", *call[1:6], f"{finished}@11")
    assert code == 2
    assert "was branched from step 10, not 11" in err


def test_a_model_of_mads_warm_starts_a_run(
    folder: Path, store: Store, finished: Path, tmp_path: Path
) -> None:
    """By ``model.hf``, with ``pretrained``: the first losses are the other's last."""
    recipe = planted.recipe(folder, steps=5)
    checkpoint = str(finished / "checkpoints" / "step-00000020")
    model = replace(recipe.model, hf=checkpoint, pretrained=True)
    watcher = Quiet()
    train(store, tmp_path / "run", replace(recipe, model=model), watcher)
    ended = Run(finished).result
    assert ended is not None
    assert watcher.rounds[0].losses == ended.losses
