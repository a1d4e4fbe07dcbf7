"""A session in somebody else's trainer: the circle of `mads train`, to the same decisions."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import planted
import pyarrow.parquet as pq
import pytest
import ranks
import torch
from torch import nn
from transformers import LlamaForCausalLM

from mads import Session
from mads.config import OdmConfig
from mads.errors import UsageError
from mads.recipe import to_table, to_toml
from mads.report.status import status
from mads.run.reader import Run
from mads.run.records import EndRecord, RoundRecord
from mads.run.session import as_arguments
from mads.seeds import derive
from mads.store.store import Store
from mads.training.build import build_model
from mads.training.data import padded_batch
from mads.training.trainer import Trainer

STEPS = 20
EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"


def trainer_of(folder: Path, store: Store) -> Trainer:
    """Return what `mads train` would train with."""
    recipe = planted.recipe(folder, steps=STEPS)
    vocab, seed = store.tokenizer.vocab_size, derive(recipe.seed, "model")
    lm = build_model(recipe.model, recipe.training, vocab, seed)
    return Trainer(lm, recipe.training, derive(recipe.seed, "training"))


def session_of(folder: Path, store: Store, out: Path, trainer: Trainer, **more: Any) -> Session:
    recipe = planted.recipe(folder, steps=STEPS)
    return Session(store, recipe, out, trainer.lm.model, trainer.optimizer, note=quiet, **more)


def quiet(_: str) -> None:
    """Say nothing."""


def follow(session: Session, trainer: Trainer, stop: int = STEPS) -> None:
    while session.step < stop:
        step = session.step
        result = trainer.step(step, session.batch(step))
        session.done(step, result.loss)


def assert_same_rounds(found: Path, expected: Path) -> None:
    paths = sorted(expected.glob("rounds/*/selection.parquet"))
    assert len(paths) == 4
    for path in paths:
        ours, theirs = pq.read_table(found / path.relative_to(expected)), pq.read_table(path)
        assert ours.drop_columns("score").equals(theirs.drop_columns("score"))
        assert np.allclose(ours["score"], theirs["score"], rtol=1e-3)


def test_its_rounds_are_those_of_mads_train(
    folder: Path, store: Store, finished: Path, tmp_path: Path
) -> None:
    trainer = trainer_of(folder, store)
    with session_of(folder, store, tmp_path / "run", trainer) as session:
        follow(session, trainer)
    assert_same_rounds(tmp_path / "run", finished)
    ours, theirs = Run(tmp_path / "run"), Run(finished)
    assert ours.records[-1].losses["planted"] == pytest.approx(  # type: ignore[union-attr]
        theirs.records[-1].losses["planted"],  # type: ignore[union-attr]
        rel=1e-5,
    )
    assert status(tmp_path / "run").steps_done == STEPS


def test_it_goes_on_where_the_trainer_does(
    folder: Path, store: Store, finished: Path, tmp_path: Path
) -> None:
    trainer = trainer_of(folder, store)
    with session_of(folder, store, tmp_path / "run", trainer) as session:
        follow(session, trainer, stop=12)
        at_12 = {name: p.detach().clone() for name, p in trainer.lm.parameters.items()}
        state = trainer.optimizer.state_dict()
        state = {
            **state,
            "state": {k: {n: v.clone() for n, v in s.items()} for k, s in state["state"].items()},
        }
        follow(session, trainer, stop=17)  # which is lost with the trainer
    again = trainer_of(folder, store)
    with torch.no_grad():
        for name, parameter in again.lm.parameters.items():
            parameter.copy_(at_12[name])
    again.optimizer.load_state_dict(state)
    with session_of(folder, store, tmp_path / "run", again, start=12) as session:
        follow(session, again)
    assert_same_rounds(tmp_path / "run", finished)
    steps = [r.step for r in Run(tmp_path / "run").records if type(r).__name__ == "StepRecord"]
    assert steps == list(range(STEPS))


def test_labels_are_those_of_hugging_face() -> None:
    found = as_arguments(padded_batch([np.array([5, 6, 7])], [1]))
    assert found["input_ids"].tolist() == [[5, 6, 7]]
    assert found["labels"].tolist() == [[-100, 6, 7]]


def test_what_it_yields_gives_the_loss_of_a_step(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    trainer = trainer_of(folder, store)
    with session_of(folder, store, tmp_path / "run", trainer) as session:
        step, batch = next(iter(session))
        assert step == 0
        assert {name: tuple(v.shape) for name, v in batch.items()} == dict.fromkeys(
            ("input_ids", "labels", "position_ids"), (16, 32)
        )
        config: Any = trainer.lm.model.config
        plain = LlamaForCausalLM(config)
        plain.set_attn_implementation("sdpa")
        plain.load_state_dict(trainer.lm.model.state_dict())
        loss = float(plain(**batch).loss.detach())
        assert loss == pytest.approx(trainer.step(0, session.batch(0)).loss, rel=1e-5)


class Bare(nn.Module):
    """A model that has no ``get_decoder``, and an optimizer without second moments."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, **arguments: Any) -> Any:
        return self.inner(**arguments)


def test_without_second_moments_they_are_estimated(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    trainer = trainer_of(folder, store)
    recipe = planted.recipe(folder, steps=STEPS)
    plain = torch.optim.SGD(trainer.lm.model.parameters(), lr=0.5)
    model = Bare(trainer.lm.model)
    with Session(store, recipe, tmp_path / "run", model, plain, note=quiet) as session:
        for step, batch in session:
            assert session.step == step
            loss = model(**batch).loss
            loss.backward()
            plain.step()
            plain.zero_grad()
            session.done(step, float(loss.detach()))
        useful = session.weights["kind"]["useful"]
    assert useful == max(session.weights["kind"].values())


@pytest.fixture
def begun(folder: Path, store: Store, tmp_path: Path) -> Iterator[tuple[Session, Trainer]]:
    trainer = trainer_of(folder, store)
    with session_of(folder, store, tmp_path / "run", trainer) as session:
        yield session, trainer


def test_steps_are_counted(begun: tuple[Session, Trainer]) -> None:
    session, _ = begun
    with pytest.raises(UsageError, match="done: found step 3, expected 0, the one under way"):
        session.done(3)
    steps = iter(session)
    next(steps)
    with pytest.raises(UsageError, match=r"step 0: call session.done\(0\) after the step"):
        next(steps)


def test_a_folder_is_not_begun_twice(
    begun: tuple[Session, Trainer], folder: Path, store: Store, tmp_path: Path
) -> None:
    session, trainer = begun
    follow(session, trainer, stop=6)
    session.close()
    with pytest.raises(UsageError, match=r"has 2 rounds already\. Give start=, the steps that"):
        session_of(folder, store, tmp_path / "run", trainer)
    with pytest.raises(
        UsageError, match=r"start: found 15, which is in round 2, but .* has 2"
    ) as no:
        session_of(folder, store, tmp_path / "run", trainer, start=15)
    with session_of(folder, store, tmp_path / "run", trainer, start=6) as session:
        assert session.step == 6
    assert no.value is not None  # an error that is kept holds no folder


def test_what_it_cannot_do_is_told_at_once(folder: Path, store: Store, tmp_path: Path) -> None:
    trainer = trainer_of(folder, store)
    recipe = replace(planted.recipe(folder), strategy="odm", odm=OdmConfig(agent="coin"))
    recipe = replace(recipe, selection=replace(recipe.selection, policy="random"))
    with pytest.raises(UsageError, match="'odm' needs the training loss of each category"):
        Session(store, recipe, tmp_path / "run", trainer.lm.model)

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(300))

        def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
            seen = input_ids.float().sum(dim=1)[:, None, None]  # also of later tokens
            return type("Output", (), {"logits": seen * self.weight.expand(*input_ids.shape, 300)})

    with pytest.raises(UsageError, match="Both sees tokens that come later"):
        Session(store, planted.recipe(folder), tmp_path / "other", Both())


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_under_ddp_each_process_has_its_own_sequences_of_one_run(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(to_table(planted.recipe(folder, steps=STEPS))))
    work = Path(__file__).with_name("ddp_work.py")
    ended = ranks.ended(ranks.start(2, work, folder / "store", recipe, tmp_path))
    assert [one.code for one in ended] == [0, 0], ended
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert found[0]["parameters"] == found[1]["parameters"]
    assert found[0]["weights"] == found[1]["weights"]  # the main process measures, both know it
    assert found[1]["notes"] == []
    weights = found[0]["weights"]["kind"]
    assert weights["useful"] == max(weights.values())
    run = Run(tmp_path / "run")
    assert len(run.rounds) == 4
    assert run.rounds[-1].strategy.weights["kind"] == pytest.approx(weights)
    lm = trainer_of(folder, store)
    with session_of(folder, store, tmp_path / "alone", lm) as session:
        whole = [session.batch(step).tokens_BT[:, 0].tolist() for step in range(5)]
    both = zip(found[0]["seen"], found[1]["seen"], strict=True)
    assert [[x for pair in zip(*one, strict=True) for x in pair] for one in both][:5] == whole


@pytest.mark.parametrize("name", ["own_loop", "hf_trainer"])
def test_the_examples_run(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 60
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(to_table(planted.recipe(folder, steps=STEPS))))
    out = tmp_path / "run"
    example(name).main(str(folder / "store"), str(recipe), str(out))
    run = Run(out)
    assert len(run.rounds) == 4
    assert status(out).steps_done == STEPS
    told = [record for record in run.records if isinstance(record, RoundRecord | EndRecord)]
    losses = [record.losses["planted"] for record in told]
    assert losses[-1] < losses[0] - 1
    assert run.rounds[-1].strategy.weights["kind"] != run.rounds[0].strategy.weights["kind"]
    assert "useful" in capsys.readouterr().out
    shutil.rmtree(f"{out}-trainer", ignore_errors=True)
