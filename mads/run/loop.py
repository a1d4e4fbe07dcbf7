"""The online stage, and the only place where the arrow turns back.

    select -> train U steps -> measure rewards -> update the console -> select -> ...

Round 0 selects with equal weights and lasts until ``first_update``; every later round begins with
feedback. A run is resumed by the same call: a checkpoint names its round, and the round's folder
holds the console state, the selection and the cursors.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
from torch import OutOfMemoryError

from mads.config import Recipe, TaskConfig
from mads.console import ConsoleUpdate, initial_state, update
from mads.console.state import console_to_json, read_console
from mads.errors import DataError, Interrupted, UsageError
from mads.files import exclusive, write_json
from mads.layout import RunDir
from mads.rewards.categories import Spread
from mads.rewards.estimators import SAME_UNIT
from mads.rewards.measure import RoundRewards, measure, spread_from
from mads.run.folder import begin, check_folder
from mads.run.records import Metrics
from mads.run.schedule import round_bounds, round_of
from mads.seeds import derive
from mads.selection.bounds import find_bounds
from mads.selection.plan import Cursors
from mads.selection.plan_file import Head, read_plan, read_selection, write_selection
from mads.selection.rounds import select_round
from mads.store.sealed import write_sealed
from mads.store.store import Store, read_table
from mads.tasks.contamination import refuse_contamination
from mads.tasks.task import make_task
from mads.training.checkpoint import load_checkpoint, save_checkpoint
from mads.training.data import RoundData
from mads.training.model import build_model
from mads.training.task_loss import BatchedTask, batched, task_loss
from mads.training.trainer import Trainer
from mads.types import ConsoleState
from mads.units import Budget

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
    guards: Mapping[str, int]  # how often each guard rail of the console acted, in all rounds

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "steps": self.steps,
            "rounds": self.rounds,
            "tokens": self.tokens,
            "losses": dict(self.losses),
            "guards": dict(self.guards),
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
    with exclusive(out):
        run = RunDir(out)
        check_folder(run, store, recipe)
        if not run.recipe.is_file():
            refuse_contamination(recipe, watcher.note)
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
    dir: RunDir
    recipe: Recipe
    watcher: Watcher
    stopped_by: int = 0
    tasks: list[BatchedTask] = field(default_factory=list)
    evaluation: list[BatchedTask] = field(default_factory=list)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.tasks = self._make_tasks(recipe.rewards.tasks)
        self.evaluation = self._make_tasks(recipe.evaluation.tasks)
        vocab_size = self.store.tokenizer.vocab_size
        seed = derive(recipe.seed, "model")
        lm = build_model(recipe.model, recipe.training, vocab_size, seed)
        self.trainer = Trainer(lm, recipe.training, derive(recipe.seed, "training"))
        self.state = initial_state(self.store.cells.categories, recipe.console.prior)
        self.cursors = Cursors.start(len(self.store.cells))
        find_bounds(self.store.cells, recipe.selection, np.arange(len(self.store.cells)))
        self.data: RoundData | None = None
        self.select_ms: dict[int | None, float] = {}  # by the first step of a stretch
        self.metrics = Metrics(self.dir.metrics)

    def _make_tasks(self, configs: Mapping[str, TaskConfig]) -> list[BatchedTask]:
        context, size = self.recipe.training.context, self.recipe.rewards.batch_size
        tokenizer = self.store.tokenizer
        return [
            batched(make_task(name, config, tokenizer, context, self.recipe.seed), size)
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
        guards = Counter[str]()
        for record in self.metrics.read():
            guards.update(record.get("guards", {}))
        result = TrainResult(step, rounds, tokens, ended["losses"], self.state, guards)
        write_json(self.dir.result, result.to_json())
        return result

    def _resume(self) -> int:
        """Load the latest checkpoint; return the number of steps that are done."""
        saved = load_checkpoint(self.dir, self.trainer)
        step = 0 if saved is None else int(saved["step"])
        self.metrics.cut(step, keep_end=step == self.recipe.training.steps)
        if saved is None:
            return 0
        number = int(saved["round"])
        folder = self.dir.round(number)
        self.state = read_console(folder.console)
        self.cursors = read_plan(folder.plan, self.store).cursors_after
        self.data = self._round_data(number)
        self.watcher.note(f"going on from step {step} (round {number}).")
        return step

    def _begin_round(self, number: int, step: int) -> None:
        """Measure rewards, update the console and select what the round reads."""
        record: dict[str, Any] = {"kind": "round", "round": number, "step": step}
        found: RoundRewards | None = None
        if number > 0:
            found = self._feedback(number, step, record)
        start, stop = round_bounds(number, self.recipe)
        chosen = select_round(
            self.store, self.state, self.cursors, self.recipe, number, (start, stop)
        )
        self.cursors = chosen[-1].selection.cursors
        self.select_ms = {}
        for c in chosen:
            self.select_ms[c.step] = self.select_ms.get(c.step, 0.0) + 1000 * c.seconds
        record["select_ms"] = sum(self.select_ms.values())
        needed = (stop - start) * self.recipe.training.batch_tokens
        picked = sum(c.selection.num_tokens for c in chosen)
        if picked > 1.5 * needed:
            self.watcher.note(
                f"round {number}: {picked:,} tokens were selected for {needed:,}, since documents "
                "are long; what does not fit is not read. More steps from one selection to the "
                "next, or a smaller corpus.max_doc_bytes, waste less."
            )
        folder = self.dir.round(number)
        folder.plan.unlink(missing_ok=True)  # it marks a complete round
        seed = derive(self.recipe.seed, "round", number)
        head = Head(seed, self.recipe.selection.policy, Budget(needed))
        write_selection(folder, self.store, self.state, chosen, head)
        self.data = self._round_data(number)
        record |= {
            "num_docs": sum(len(c.selection.doc_N) for c in chosen),
            "theta": dict(self.state.theta),
            "weights": {agent: dict(values) for agent, values in self.state.weights.items()},
            "losses": self._losses(found.task_losses if found else {}),
        }
        self.metrics.write(record)
        self.watcher.round(record)

    def _feedback(self, number: int, step: int, record: dict[str, Any]) -> RoundRewards | None:
        if self.recipe.selection.policy == "random":
            self.state = replace(self.state, round=number)
            return None
        config = self.recipe.rewards
        found = measure(
            self.store,
            self.trainer.lm,
            self.trainer.optimizer_state(step),
            self.tasks,
            config,
            self.recipe.training.context,
            derive(self.recipe.seed, "rewards", number),
            self._spread(number),
        )
        write_sealed(self.dir.round(number).rewards, found.table, compression="zstd")
        result = update(self.state, found.feedback, self.recipe.console)
        self.state = result.state
        self._warn(number, found, result)
        record |= {
            "reward_s": found.seconds,
            "probes": found.table.num_rows,
            "probe_tokens": found.probe_tokens,
            "oracle_error": found.oracle_error,
            "refused": result.refused,
            "guards": dict(result.guards),
        }
        if not result.refused:
            record["rewards"] = {
                agent: {name: [r.mean, r.stderr] for name, r in table.items()}
                for agent, table in found.feedback.categories.items()
            }
            record["task_rewards"] = {
                task: {a: {name: r.mean for name, r in t.items()} for a, t in tables.items()}
                for task, tables in found.per_task.items()
            }
        return found

    def _spread(self, number: int) -> Spread | None:
        """Return how far rewards spread within categories, as the round before found it."""
        before = self.dir.round(number - 1).rewards
        if not self.recipe.rewards.probe_tokens or not before.is_file():
            return None
        return spread_from(self.store.cells, read_table(before, ["cell", "weight", "reward"]))

    def _warn(self, number: int, found: RoundRewards, result: ConsoleUpdate) -> None:
        """Tell the user what a round's feedback should make them look at."""
        name = self.recipe.rewards.estimator
        if result.refused:
            self.watcher.note(f"round {number}: the console keeps its weights: {result.refused}.")
        elif "entropy" in result.guards:
            self.watcher.note(
                f"round {number}: weights were about to collapse onto few categories and were "
                f"drawn together, for {result.guards['entropy']} agent(s) (console.min_entropy)."
            )
        if found.oracle_error > ORACLE_LIMIT and name in SAME_UNIT:
            self.watcher.note(
                f"round {number}: the {name} estimator is {found.oracle_error:.0%} off the exact "
                'gradients. Try another rewards.epsilon or rewards.estimator = "gradient".'
            )

    def _round_data(self, number: int) -> RoundData:
        """Return the batches of a round from its selection.parquet."""
        folder = self.dir.round(number)
        plan = read_plan(folder.plan, self.store)
        table = read_selection(folder, plan, ["doc", "num_tokens", "step"])
        doc_N, num_tokens_N, step_N = (table[name].to_numpy() for name in table.column_names)
        _, stop = round_bounds(number, self.recipe)
        seed = derive(self.recipe.seed, "round", number)
        config = self.recipe.training
        return RoundData(self.store, doc_N, num_tokens_N, step_N, stop, config, seed)

    def _step(self, step: int, number: int) -> None:
        config = self.recipe.training
        assert self.data is not None
        begun = time.perf_counter()
        result = self.trainer.step(step, self.data.batch(step))
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
        if step in self.select_ms:
            record["select_ms"] = self.select_ms[step]
        self.metrics.write(record)
        self.watcher.step(record)

    def _save(self, step: int, number: int) -> None:
        self.metrics.sync()
        keep = self.recipe.training.keep_checkpoints
        folder = self.store.dir.tokenizer
        save_checkpoint(self.dir, step, self.trainer, folder, {"round": number}, keep)

    def _losses(self, known: Mapping[str, float]) -> dict[str, float]:
        """Return the loss of every task; those in ``known`` are not computed again."""
        return {
            task.name: known[task.name] if task.name in known else task_loss(self.trainer.lm, task)
            for task in (*self.tasks, *self.evaluation)
        }
