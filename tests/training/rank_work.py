"""What several processes do together, to be compared with one: ``python rank_work.py FOLDER``.

Each process writes what it has found into FOLDER/RANK.json.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig

from mads.config import ModelConfig, TrainingConfig
from mads.errors import DataError, MadsError, Unsaid
from mads.layout import RunDir
from mads.rewards.direction import norm, reference
from mads.rewards.estimators import ESTIMATORS, estimate
from mads.rewards.estimators.question import Question
from mads.rewards.sections import ESTIMATOR_SECTIONS
from mads.training.build import build_model
from mads.training.checkpoint import Saver, latest_checkpoint, load_checkpoint, snapshot
from mads.training.data import padded_batch
from mads.training.model import NO_LABEL, TokenBatch
from mads.training.task_loss import BatchedTask, task_loss
from mads.training.trainer import Trainer
from mads.training.world import ALONE, World, joined_world

WORDS = 101  # which no number of processes divides
SHAPE = ModelConfig(hidden_size=24, num_layers=2, num_heads=2, ffn_size=40, vocab_size=WORDS)
TRAINING = TrainingConfig(
    steps=9, warmup=1, learning_rate=1e-2, micro_batch=2, context=12, batch_tokens=84
)
STEPS = 3


def models(folder: Path) -> dict[str, ModelConfig]:
    """Return models with a head of its own, a tied one, and grouped heads from a folder."""
    return {
        "own": SHAPE,
        "tied": replace(SHAPE, tie_embeddings=True),
        "grouped": ModelConfig(hf=str(folder / "grouped")),
    }


def write_grouped(folder: Path) -> None:
    """Write the configuration that ``models`` names."""
    shape = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        use_cache=False,
    )
    shape.save_pretrained(folder / "grouped")


def batch(seed: int, documents: bool = True) -> TokenBatch:
    """Return 7 sequences, packed with documents of which some end at once."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, WORDS, (7, 12), generator=generator)
    places = torch.arange(12).repeat(7, 1)
    places[1, 5:] -= 5
    places[3, 1:] -= 1
    places[4, 11:] -= 11
    labels = torch.full_like(tokens, NO_LABEL)
    labels[:, :-1] = tokens[:, 1:]
    labels[:, :-1][places[:, 1:] == 0] = NO_LABEL
    return TokenBatch(tokens, labels, places if documents else None, tokens % 3)


def windows(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.integers(0, WORDS, 2 + n % 9) for n in range(count)]


def tasks() -> list[BatchedTask]:
    """Return two tasks; one has fewer items than there are processes."""
    made = [windows(5), windows(2)]
    return [
        BatchedTask(f"task{n}", 1.0 + n, (padded_batch(items, [1] * len(items)),))
        for n, items in enumerate(made)
    ]


def trained(config: ModelConfig, world: World) -> tuple[Trainer, list[list[float]]]:
    """Return a trainer after some steps, and what each step has said."""
    trainer = Trainer(build_model(config, TRAINING, WORDS, 3, world), TRAINING, seed=4)
    said = []
    for step in range(STEPS):
        found = trainer.step(step, batch(step), num_groups=3)
        said.append([found.loss, found.grad_norm, *found.loss_G, *found.tokens_G])
    return trainer, said


def rewards(trainer: Trainer) -> dict[str, Any]:
    """Return what each estimator says, and whether it has left the parameters as they were."""
    lm, state = trainer.lm, trainer.optimizer_state(STEPS)
    target = reference(lm, tasks(), state.second_moments(), 0.1, per_task=True)
    found: dict[str, Any] = {"losses": target.losses, "task": task_loss(lm, tasks()[0])}
    found["norms"] = [norm(direction.unit, lm.world) for direction in target.directions]
    before = {name: part.clone() for name, part in lm.parts.items()}
    for name in ESTIMATORS:
        section = ESTIMATOR_SECTIONS[name](estimator=name, batch_size=2)
        measured = estimate(Question(lm, windows(8), target.directions, state, section, 7))
        found[name] = [measured.reward_DN.tolist(), measured.loss_N.tolist()]
    same = all(torch.equal(part, before[name]) for name, part in lm.parts.items())
    return {**found, "same": same}


def weights(trainer: Trainer) -> dict[str, list[float]]:
    """Return every weight and moment; only the main process has them."""
    held = snapshot(trainer)
    both = {**held.weights, **held.moments}
    return {name: value.flatten().tolist() for name, value in both.items()}


def refusals(world: World) -> list[str]:
    """Return how an error of one process ends on this one, and NaN in one process's sequences."""
    found = []
    for failing in ({1}, {0, 1, 2}):
        try:
            with world.together():
                if world.rank in failing:
                    raise DataError(f"wrong on {world.rank}")
        except MadsError as error:
            found.append("unsaid" if isinstance(error, Unsaid) else str(error))
    return found


def saved(trainer: Trainer, folder: Path) -> None:
    """Save a checkpoint of a run, and go on from it."""
    run = RunDir(folder)
    if trainer.lm.world.is_main:
        run.latest.parent.mkdir(parents=True)
        (folder / "tokenizer").mkdir()
    trainer.lm.world.barrier()
    saver = Saver(run, trainer, folder / "tokenizer", keep=0)
    saver.save(STEPS, 0)
    saver.wait()
    trainer.lm.world.barrier()


def loaded(folder: Path, world: World, config: ModelConfig) -> Trainer:
    """Return another trainer with what ``saved`` has saved."""
    trainer = Trainer(build_model(config, TRAINING, WORDS, 99, world), TRAINING, seed=4)
    run = RunDir(folder)
    found = latest_checkpoint(run)
    assert found is not None
    load_checkpoint(run, found, trainer)
    return trainer


def main(folder: Path) -> None:
    """Do all of it as one of several processes."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with joined_world() as world:
        if world.is_main:
            write_grouped(folder)
        world.barrier()
        found["agreed"] = [world.total(world.rank + 1), world.any(world.rank == 1), world.size]
        found["broadcast"] = world.broadcast(f"from {world.rank}")
        found["refusals"] = refusals(world)
        for name, config in models(folder).items():
            trainer, said = trained(config, world)
            found[name] = {"steps": said, "weights": weights(trainer)}
            if name == "own":
                found[name]["rewards"] = rewards(trainer)
            saved(trainer, folder / f"run-{name}")
            found[name]["same"] = weights(loaded(folder / f"run-{name}", world, config))
        rank = world.rank
    (folder / f"{rank}.json").write_text(json.dumps(found))


def alone(folder: Path, name: str) -> tuple[Trainer, list[list[float]]]:
    """Return what one process makes of a model."""
    return trained(models(folder)[name], ALONE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
