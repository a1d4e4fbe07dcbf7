"""`mads step`: with the checkpoints of `mads train` it decides as the loop does, bit for bit."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import planted
import pyarrow.parquet as pq
import pytest
from command import mads
from run.watching import Quiet
from safetensors.torch import load_file, save_file

from mads import Session
from mads.config import OdmConfig, Recipe
from mads.corpus.tokens import TokenReader
from mads.errors import DataError, UsageError
from mads.layout import RunDir
from mads.recipe import to_table, to_toml
from mads.run.loop import train
from mads.run.reader import Run
from mads.run.turn import turn
from mads.run.turns import Checkpointed, check_turn, turns
from mads.store.store import Store
from mads.training.build import build_model

STEPS, FIRST = 20, 5
TOKENS = FIRST * 512  # of a round


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    return planted.recipe(folder, steps=STEPS, checkpoint_every=FIRST, keep_checkpoints=0)


@pytest.fixture(scope="module")
def trained(folder: Path, store: Store, recipe: Recipe) -> Path:
    train(store, folder / "by-steps", recipe, Quiet())
    return folder / "by-steps"


def checkpoint(trained: Path, step: int) -> Checkpointed:
    return Checkpointed(RunDir(trained).checkpoint(step))


@pytest.fixture(scope="module")
def turned(folder: Path, store: Store, recipe: Recipe, trained: Path) -> Path:
    """Four turns with the checkpoints of a run."""
    out = folder / "turned"
    for number in range(4):
        given = checkpoint(trained, number * FIRST) if number else None
        made = turn(store, out, recipe, TOKENS, given, Quiet())
        assert (made.round, made.complete) == (number, False)
        assert made.moments == ("file" if number else "")
    return out


def test_the_rounds_are_those_of_the_loop_bit_for_bit(turned: Path, trained: Path) -> None:
    for number in range(4):
        ours, theirs = RunDir(turned).round(number), RunDir(trained).round(number)
        assert ours.console.read_bytes() == theirs.console.read_bytes()
        assert ours.selection.read_bytes() == theirs.selection.read_bytes()
        assert ours.rewards.is_file() == theirs.rewards.is_file() == (number > 0)
    records = Run(turned).records
    assert [(r.kind, r.step) for r in records] == [("round", n * FIRST) for n in range(4)]


def test_the_tokens_are_those_of_the_parts(turned: Path, store: Store) -> None:
    folder = RunDir(turned).round(2)
    table = pq.read_table(folder.selection)
    reader = TokenReader(folder.root / "tokens.bin", folder.root / "tokens.idx")
    found = sorted(reader.row(n).tolist() for n in range(len(reader)))
    expected = []
    for row in table.to_pylist():
        own, place = store.tokens(row["doc"])
        first = row["first_token"]
        expected.append(own.row(place)[first : first + row["num_tokens"]].tolist())
    assert found == sorted(expected)
    assert sum(map(len, found)) == int(np.sum(table["num_tokens"].to_numpy()))


def test_the_same_call_again_finds_the_round_made(
    turned: Path, trained: Path, store: Store, recipe: Recipe
) -> None:
    before = {path: path.read_bytes() for path in turned.rglob("*") if path.is_file()}
    made = turn(store, turned, recipe, TOKENS, checkpoint(trained, 15), Quiet())
    assert (made.round, made.complete) == (3, True)
    assert {path: path.read_bytes() for path in turned.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("place", ["circle.write_selection", "turn.write_parts"])
def test_a_killed_turn_is_made_anew(
    turned: Path,
    trained: Path,
    store: Store,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    out = tmp_path / "run"
    shutil.copytree(turned, out)
    shutil.rmtree(RunDir(out).round(3).root)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"mads.run.{place}", killed)
        with pytest.raises(KeyboardInterrupt):
            turn(store, out, recipe, TOKENS, checkpoint(trained, 15), Quiet())
    assert len(turns(RunDir(out))) == 3
    turn(store, out, recipe, TOKENS, checkpoint(trained, 15), Quiet())
    for name in ("console.json", "selection.parquet", "tokens.bin", "turn.json"):
        found, expected = (RunDir(root).round(3).root / name for root in (out, turned))
        assert found.read_bytes() == expected.read_bytes()
    assert len(Run(out).records) == 4


def test_without_moments_they_are_estimated_and_useful_text_wins(
    trained: Path, store: Store, recipe: Recipe, tmp_path: Path
) -> None:
    """A trainer's checkpoint: weights and a configuration, and rounds of other lengths."""
    plain = tmp_path / "plain"
    shutil.copytree(checkpoint(trained, 15).folder, plain)
    (plain / "optimizer.safetensors").unlink()
    out = tmp_path / "run"
    turn(store, out, recipe, 4000, None, Quiet())
    made = turn(store, out, recipe, 1000, Checkpointed(plain), Quiet())
    assert made.moments == "estimated"
    assert made.num_tokens >= 1024  # in whole batches
    weights = Run(out).rounds[1].strategy.weights["kind"]
    assert weights["useful"] == max(weights.values())
    assert [r.step for r in Run(out).records] == [0, 8]


def test_from_the_command_line(
    folder: Path, trained: Path, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.toml").write_text(to_toml(to_table(recipe)))
    call = ["step", "--store", folder / "store", "--recipe", tmp_path / "r.toml"]
    call += ["--out", tmp_path / "run", "--tokens", "2560"]
    code, out, err = mads(capsys, *call)
    assert code == 0
    assert "round 0, " in err + out
    model = checkpoint(trained, 5).folder
    code, out, _ = mads(capsys, *call, "--checkpoint", model, "--json")
    assert code == 0
    assert json.loads(out)["round"] == 1
    code, _, err = mads(capsys, *call)
    assert code == 2
    assert "has 2 round(s); the next one needs the model that has read them" in err


def test_what_cannot_be_turned_is_told(
    turned: Path, trained: Path, store: Store, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="found 100, expected 512 or more, one batch"):
        check_turn(store, tmp_path / "run", recipe, 100, None)
    with pytest.raises(UsageError, match="nowhere does not exist"):
        check_turn(store, tmp_path / "run", recipe, TOKENS, Checkpointed(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"holds no \*.safetensors"):
        check_turn(store, tmp_path / "run", recipe, TOKENS, Checkpointed(tmp_path))
    given = replace(checkpoint(trained, 5), optimizer=tmp_path / "none")
    with pytest.raises(UsageError, match=r"--optimizer: .*none does not exist"):
        check_turn(store, tmp_path / "run", recipe, TOKENS, given)
    other = replace(recipe, strategy="odm", odm=OdmConfig(agent="coin"))
    other = replace(other, selection=replace(other.selection, policy="random"))
    with pytest.raises(UsageError, match="'odm' needs the training loss of each category"):
        check_turn(store, tmp_path / "run", other, TOKENS, None)


def test_a_foreign_tokenizer_is_refused(
    trained: Path, store: Store, recipe: Recipe, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(checkpoint(trained, 5).folder, model)
    text = (model / "tokenizer.json").read_text()
    (model / "tokenizer.json").write_text(json.dumps(json.loads(text)))  # the same words
    check_turn(store, tmp_path / "run", recipe, TOKENS, Checkpointed(model))
    changed = json.loads(text)
    changed["model"]["vocab"] = {f"{w}x": n for w, n in changed["model"]["vocab"].items()}
    changed["model"]["merges"] = []
    (model / "tokenizer.json").write_text(json.dumps(changed))
    with pytest.raises(UsageError, match="is not the store's tokenizer"):
        check_turn(store, tmp_path / "run", recipe, TOKENS, Checkpointed(model))
    (model / "tokenizer.json").write_text("{")
    with pytest.raises(UsageError, match=r"tokenizer\.json cannot be read"):
        check_turn(store, tmp_path / "run", recipe, TOKENS, Checkpointed(model))


def test_an_optimizer_that_does_not_fit_is_refused(
    turned: Path, trained: Path, store: Store, recipe: Recipe, tmp_path: Path
) -> None:
    given = checkpoint(trained, 5)
    tensors = load_file(given.folder / "optimizer.safetensors")
    name = next(key for key in tensors if key.startswith("exp_avg_sq."))
    out = tmp_path / "run"
    shutil.copytree(turned, out)
    for folder in (RunDir(out).round(2).root, RunDir(out).round(3).root):
        shutil.rmtree(folder)
    bad = tmp_path / "bad.safetensors"
    save_file({key: value for key, value in tensors.items() if key != name}, bad)
    with pytest.raises(DataError, match=f"bad.safetensors has no {name}. Expected exp_avg"):
        turn(store, out, recipe, TOKENS, replace(checkpoint(trained, 10), optimizer=bad), Quiet())
    save_file({**tensors, name: tensors[name][:1].clone()}, bad)
    with pytest.raises(DataError, match=f"{name} has shape"):
        turn(store, out, recipe, TOKENS, replace(checkpoint(trained, 10), optimizer=bad), Quiet())
    bad.write_bytes(b"no tensors")
    with pytest.raises(DataError, match="cannot be read"):
        turn(store, out, recipe, TOKENS, replace(checkpoint(trained, 10), optimizer=bad), Quiet())
    assert len(turns(RunDir(out))) == 2


def test_nobody_goes_on_with_what_another_has_begun(
    turned: Path, trained: Path, store: Store, recipe: Recipe
) -> None:
    """Each forgets the rounds that it has not come to, which would be the other's."""
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="is a run of `mads train`, and `mads step` cannot go on"):
        turn(store, trained, recipe, TOKENS, None, Quiet())
    lm = build_model(recipe.model, recipe.training, store.tokenizer.vocab_size, 0)
    with pytest.raises(UsageError, match="is a run of `mads train`, and a Session cannot go on"):
        Session(store, recipe, trained, lm.model, start=10)
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before
    with pytest.raises(UsageError, match="is a run of `mads step`, and `mads train` cannot go on"):
        train(store, turned, recipe, Quiet())
    made = turn(store, turned, recipe, TOKENS, checkpoint(trained, 15), Quiet())
    assert (made.round, made.complete) == (3, True)
