"""The online stage, and the only place where the arrow turns back.

    select -> train U steps -> measure rewards -> update the console -> select -> ...

Round 0 selects with equal weights and lasts until ``first_update``; every later round begins with
feedback. A run is resumed by the same call: a checkpoint names its round, and the round's folder
holds the console state, the selection and the cursors.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq
from torch import OutOfMemoryError

from mads.config import Recipe, TaskConfig
from mads.console import initial_state, update
from mads.errors import DataError, Interrupted, UsageError
from mads.memory.store import Store, read_table
from mads.rewards.measure import RoundRewards, measure
from mads.rewards.tasks import Task, make_task, task_loss
from mads.run_dir import (
    Metrics,
    RunDir,
    atomic_path,
    exclusive,
    write_json,
)
from mads.seeds import derive
from mads.selection.bounds import find_bounds
from mads.selection.export import (
    Chosen,
    console_to_json,
    plan_cursors,
    read_console,
    read_plan,
    write_selection,
)
from mads.selection.plan import Cursors, cell_scores, make_plan
from mads.selection.query import select_documents
from mads.training.checkpoint import load_checkpoint, save_checkpoint
from mads.training.data import RoundData
from mads.training.folder import begin, check_folder, refuse_contamination
from mads.training.model import build_model
from mads.training.trainer import Trainer
from mads.types import ConsoleState

ORACLE_LIMIT = 0.05  # relative error of an estimator above which the user is warned


class Watcher(Protocol):
    """What the user sees while a run goes on."""

    def step(self, record: Mapping[str, Any]) -> None:
        """One optimizer step is done."""

    def round(self, record: Mapping[str, Any]) -> None:
        """A round has begun, or the run has ended."""

    def note(self, text: str) -> None:
        """Something that the user should read."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended."""

    steps: int
    rounds: int
    tokens: int
    losses: Mapping[str, float]  # of reference and evaluation tasks, at the end
    state: ConsoleState

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "steps": self.steps,
            "rounds": self.rounds,
            "tokens": self.tokens,
            "losses": dict(self.losses),
            **console_to_json(self.state),
        }


def train(store: Store, out: Path, recipe: Recipe, watcher: Watcher) -> TrainResult:
    """Train until the recipe's last step, going on where an earlier call stopped.

    Raises UsageError for a recipe that cannot be used or is not the run's own, DataError for a
    damaged run or another store, Interrupted after a signal (the work is saved).
    """
    if not recipe.rewards.tasks and recipe.selection.policy != "random":
        raise UsageError(
            "the recipe has no reference task: add a [rewards.tasks.NAME] section with a path "
            '(context and continuation per line), or set selection.policy = "random".'
        )
    refuse_contamination(recipe)
    with exclusive(out):
        run = RunDir(out)
        check_folder(run, store, recipe)
        try:
            # All that can be wrong with the recipe is found before the folder is the recipe's.
            loop = _Loop(store, run, recipe, watcher)
            begin(run, store, recipe)
            with _signals(loop.stop):
                return loop.run()
        except OutOfMemoryError as error:
            raise DataError(
                f"the GPU's memory is full: {error}. Run again with a smaller training.micro_batch "
                "and rewards.batch_size, into another --out."
            ) from error


def round_of(step: int, recipe: Recipe) -> int:
    """Return the round in which an optimizer step lies."""
    first, every = recipe.training.first_update, recipe.training.update_every
    return 0 if step < first else 1 + (step - first) // every


def round_bounds(number: int, recipe: Recipe) -> tuple[int, int]:
    """Return the first step of a round and the first one after it."""
    first, every = recipe.training.first_update, recipe.training.update_every
    start = 0 if number == 0 else first + (number - 1) * every
    return start, min(first + number * every, recipe.training.steps)


@contextmanager
def _signals(stop: Callable[[int], None]) -> Iterator[None]:
    """Turn SIGTERM and the first Ctrl-C into a stop after the step; a second one ends at once."""

    def handler(number: int, frame: FrameType | None) -> None:
        del frame
        stop(number)
        signal.signal(number, before[number])

    try:
        before = {int(s): signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
        for number in before:
            signal.signal(number, handler)
    except ValueError:  # not in the main thread, where signals do not arrive
        yield
        return
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@dataclass
class _Loop:
    store: Store
    run_dir: RunDir
    recipe: Recipe
    watcher: Watcher
    stopped_by: int = 0
    tasks: list[Task] = field(default_factory=list)
    evaluation: list[Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.tasks = self._make_tasks(recipe.rewards.tasks)
        self.evaluation = self._make_tasks(recipe.evaluation.tasks)
        vocab_size = self.store.tokenizer.vocab_size
        seed = derive(recipe.seed, "model")
        lm = build_model(recipe.model, recipe.training, vocab_size, seed)
        self.trainer = Trainer(lm, recipe.training, derive(recipe.seed, "training"))
        self.state = initial_state(self.store.cells.categories)
        self.cursors = Cursors.start(len(self.store.cells))
        find_bounds(self.store.cells, recipe.selection, np.arange(len(self.store.cells)))
        self.data: RoundData | None = None
        self.metrics = Metrics(self.run_dir.metrics)

    def _make_tasks(self, configs: Mapping[str, TaskConfig]) -> list[Task]:
        context, size = self.recipe.training.context, self.recipe.rewards.batch_size
        return [
            make_task(name, config, self.store.tokenizer, context, size, self.recipe.seed)
            for name, config in configs.items()
        ]

    def stop(self, number: int) -> None:
        """Ask the loop to save and stop after the current step."""
        self.stopped_by = number

    def run(self) -> TrainResult:
        config = self.recipe.training
        step = self._resume()
        while step < config.steps:
            number = round_of(step, self.recipe)
            if self.data is None or step == round_bounds(number, self.recipe)[0]:
                self._begin_round(number, step)
            self._step(step, number)
            step += 1
            last = step == config.steps
            if step % config.checkpoint_every == 0 or last or self.stopped_by:
                self._save(step, number)
            if self.stopped_by and not last:
                raise Interrupted(
                    f"stopped by signal {self.stopped_by} after step {step}; the work is saved. "
                    "Run the same command to go on."
                )
        ended = self.metrics.find("end")
        if ended is None:
            ended = {"kind": "end", "step": step, "losses": self._losses({})}
            self.metrics.write(ended)
        self.watcher.round(ended)
        rounds = round_of(config.steps - 1, self.recipe) + 1
        tokens = config.steps * config.batch_tokens
        result = TrainResult(step, rounds, tokens, ended["losses"], self.state)
        write_json(self.run_dir.result, result.to_json())
        return result

    def _resume(self) -> int:
        """Load the latest checkpoint; return the number of steps that are done."""
        saved = load_checkpoint(self.run_dir, self.trainer)
        step = 0 if saved is None else int(saved["step"])
        self.metrics.cut(step, keep_end=step == self.recipe.training.steps)
        if saved is None:
            return 0
        number = int(saved["round"])
        folder = self.run_dir.round(number)
        self.state = read_console(folder.console)
        self.cursors = plan_cursors(read_plan(folder.plan, self.store.fingerprint))
        table = read_table(folder.selection, ["doc", "num_tokens"])
        self.data = self._round_data(
            number, table["doc"].to_numpy(), table["num_tokens"].to_numpy().astype(np.int64)
        )
        self.watcher.note(f"going on from step {step} (round {number}).")
        return step

    def _begin_round(self, number: int, step: int) -> None:
        """Measure rewards, update the console and select what the round reads."""
        record: dict[str, Any] = {"kind": "round", "round": number, "step": step}
        found: RoundRewards | None = None
        if number > 0:
            found = self._feedback(number, record)
        start, stop = round_bounds(number, self.recipe)
        begun = time.perf_counter()
        needed = (stop - start) * self.recipe.training.batch_tokens
        chosen = self._select(number, needed)
        record["select_ms"] = 1000 * (time.perf_counter() - begun)
        picked = sum(c.selection.num_tokens for c in chosen)
        if picked > 1.5 * needed:
            self.watcher.note(
                f"round {number}: {picked:,} tokens were selected for {needed:,}, since documents "
                "are long; what does not fit is not read. Longer rounds, or a smaller "
                "corpus.max_doc_bytes, waste less."
            )
        folder = self.run_dir.round(number)
        folder.plan.unlink(missing_ok=True)  # it marks a complete round
        seed = derive(self.recipe.seed, "round", number)
        config = self.recipe.selection
        write_selection(folder, chosen, self.state, config, self.store, seed)
        self.data = self._round_data(
            number,
            np.concatenate([c.selection.doc_N for c in chosen]),
            np.concatenate([c.selection.num_tokens_N for c in chosen]),
        )
        record |= {
            "num_docs": sum(len(c.selection.doc_N) for c in chosen),
            "theta": dict(self.state.theta),
            "weights": {agent: dict(values) for agent, values in self.state.weights.items()},
            "losses": self._losses(found.task_losses if found else {}),
        }
        self.metrics.write(record)
        self.watcher.round(record)

    def _feedback(self, number: int, record: dict[str, Any]) -> RoundRewards | None:
        if self.recipe.selection.policy == "random":
            self.state = ConsoleState(number, self.state.weights, self.state.theta)
            return None
        found = measure(
            self.store,
            self.trainer.lm,
            self.trainer.second_moments(),
            self.tasks,
            self.recipe.rewards,
            self.recipe.training.context,
            derive(self.recipe.seed, "rewards", number),
        )
        with atomic_path(self.run_dir.round(number).rewards) as partial:
            pq.write_table(found.documents, partial, compression="zstd")
        result = update(self.state, found.categories, self.recipe.console)
        self.state = result.state
        if result.refused:
            self.watcher.note(f"round {number}: the console keeps its weights: {result.refused}.")
        if found.oracle_error > ORACLE_LIMIT:
            self.watcher.note(
                f"round {number}: the {self.recipe.rewards.estimator} estimator is "
                f"{found.oracle_error:.0%} off the exact gradients. Try another rewards.epsilon "
                'or rewards.estimator = "gradient".'
            )
        record |= {
            "reward_s": found.seconds,
            "probes": found.documents.num_rows,
            "oracle_error": found.oracle_error,
            "refused": result.refused,
            "rewards": {
                agent: {name: [r.mean, r.stderr] for name, r in table.items()}
                for agent, table in found.categories.items()
            }
            if not result.refused
            else {},
        }
        return found

    def _select(self, number: int, tokens: int) -> list[Chosen]:
        """Select at least ``tokens`` tokens, going through the corpus again if it is smaller."""
        store, config = self.store, self.recipe.selection
        score_C = cell_scores(store.cells, self.state)
        chosen: list[Chosen] = []
        left = tokens
        while left > 0:
            seed = derive(self.recipe.seed, "selection", number, len(chosen))
            plan = make_plan(store.cells, score_C, self.cursors, left, config, seed)
            selection = select_documents(store.dir.order, store.cells, plan, config)
            if not len(selection.doc_N):
                raise DataError(
                    f"round {number}: the corpus is used up; {left:,} tokens are missing. Raise "
                    f"selection.max_passes ({config.max_passes}) or lower training.steps."
                )
            chosen.append(Chosen(plan, selection))
            self.cursors = selection.cursors
            left -= selection.num_tokens
        return chosen

    def _round_data(self, number: int, doc_N: Any, num_tokens_N: Any) -> RoundData:
        start, stop = round_bounds(number, self.recipe)
        context = self.recipe.training.context
        num_sequences = (stop - start) * self.recipe.training.batch_tokens // context
        seed = derive(self.recipe.seed, "round", number)
        return RoundData(self.store, doc_N, num_tokens_N, num_sequences, context, seed)

    def _step(self, step: int, number: int) -> None:
        config = self.recipe.training
        assert self.data is not None
        begun = time.perf_counter()
        sequences = config.batch_tokens // config.context
        in_round = step - round_bounds(number, self.recipe)[0]
        batch = self.data.batch(in_round, sequences, config.document_mask)
        result = self.trainer.step(step, batch)
        record = {
            "kind": "step",
            "step": step,
            "round": number,
            "loss": result.loss,
            "grad_norm": result.grad_norm,
            "learning_rate": result.learning_rate,
            "tokens": config.batch_tokens,
            "tokens_per_s": config.batch_tokens / (time.perf_counter() - begun),
        }
        self.metrics.write(record)
        self.watcher.step(record)

    def _save(self, step: int, number: int) -> None:
        self.metrics.sync()
        keep = self.recipe.training.keep_checkpoints
        folder = self.store.dir.tokenizer
        save_checkpoint(self.run_dir, step, self.trainer, folder, {"round": number}, keep)

    def _losses(self, known: Mapping[str, float]) -> dict[str, float]:
        """Return the loss of every task; those in ``known`` are not computed again."""
        return {
            task.name: known[task.name] if task.name in known else task_loss(self.trainer.lm, task)
            for task in (*self.tasks, *self.evaluation)
        }
