"""`mads train`: optimizer steps on what the circle selects, checkpoints, and how a run ends.

A run is resumed by the same call: a checkpoint names its round, and the round's folder holds the
strategy's state, the selection and the cursors.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from torch import OutOfMemoryError

from mads.annotate.cost import read_cost
from mads.config import Recipe
from mads.errors import DataError, Interrupted
from mads.files import exclusive
from mads.layout import RunDir
from mads.run.branch import Source, check_branch, fetch
from mads.run.circle import Circle
from mads.run.feedback import category_losses
from mads.run.folder import Branch, begin, check_folder, extend, forget_after, read_provenance
from mads.run.ledger import ledger_of
from mads.run.prior import with_prior
from mads.run.ready import check_recipe, started
from mads.run.records import EndRecord, SkippedRecord, StepRecord, guards_of
from mads.run.result import TrainResult, whole_result, write_result
from mads.run.schedule import open_end, round_bounds, round_of
from mads.run.signals import stopping
from mads.run.watcher import Silent, Watcher
from mads.seeds import derive
from mads.store.store import Store
from mads.strategies.strategy import Strategy
from mads.tasks.contamination import refuse_contamination
from mads.training.ahead import Ahead
from mads.training.build import build_model
from mads.training.checkpoint import (
    Checkpoint,
    Saver,
    checkpoint_at,
    load_checkpoint,
    point_to,
    remove_newer,
    whole_checkpoint,
)
from mads.training.trainer import StepResult, Trainer
from mads.training.world import ALONE, World


def train(
    store: Store,
    out: Path,
    recipe: Recipe,
    watcher: Watcher,
    world: World = ALONE,
    source: Source | None = None,
) -> TrainResult:
    """Train until the recipe's last step, going on where an earlier call stopped.

    With ``source`` a new run is branched from a checkpoint of another one.

    Raises UsageError for a recipe that cannot be used or is not the run's own, DataError for a
    damaged run or another store, Interrupted after a signal (the work is saved).
    """
    check_recipe(store, out, recipe)
    with exclusive(out) if world.is_main else contextlib.nullcontext():
        run = RunDir(out)
        before: Recipe | None = None  # of a run that is to be extended
        branch: Branch | None = None
        if world.is_main:
            before = check_folder(run, store, recipe)
            if source is not None:
                branch = check_branch(source, run, store, recipe)
            elif run.provenance.is_file():
                branch = read_provenance(run).branched
            if not run.provenance.is_file():
                refuse_contamination(recipe, watcher.note)
        try:
            # All that can be wrong with the recipe is found before the folder is the recipe's.
            told = watcher if world.is_main else Silent()
            world.barrier()  # the main process has found nothing wrong
            with world.together():
                begun = recipe if source else with_prior(run, store, recipe, told.note)
                strategy = started(store.cells, begun)
                loop = _Loop(store, run, recipe, told, world, strategy)
            if world.is_main and before is not None:
                told.note(extend(run, store, recipe, before))
            elif world.is_main:
                _begin(run, store, recipe, branch)
            world.barrier()
            with stopping(loop.stop), loop.saver:
                return loop.run()
        except (OutOfMemoryError, MemoryError, RuntimeError) as error:
            if type(error) is RuntimeError and "allocate memory" not in str(error):
                raise
            raise DataError(
                f"the RAM is full: {str(error) or 'no words from the system'}. Run again with a "
                "smaller training.micro_batch and rewards.batch_size, into another --out."
            ) from error


def _begin(run: RunDir, store: Store, recipe: Recipe, branch: Branch | None) -> None:
    """Make the folder this run's, with the past of the one that it is branched from."""
    wanted = branch is not None and not run.latest.is_file()
    saved = checkpoint_at(RunDir(Path(branch.run)), branch.step) if branch and wanted else None
    begin(run, store, recipe, branch)
    if branch is not None and saved is not None:
        fetch(run, branch, saved.round, saved.metrics.size)


class _Loop:
    """A run in the making; every process of the world goes through the same steps."""

    def __init__(
        self,
        store: Store,
        run: RunDir,
        recipe: Recipe,
        watcher: Watcher,
        world: World,
        strategy: Strategy,
    ) -> None:
        self.dir, self.recipe, self.watcher, self.world = run, recipe, watcher, world
        self.stopped_by = 0
        vocab_size = store.tokenizer.vocab_size
        seed = derive(recipe.seed, "model")
        lm = build_model(recipe.model, recipe.training, vocab_size, seed, world)
        self.trainer = Trainer(lm, recipe.training, derive(recipe.seed, "training"))
        self.circle = Circle(store, run, recipe, watcher, world, strategy, self.trainer)
        tokenizer, keep = store.dir.tokenizer, recipe.training.keep_checkpoints
        spared = open_end(recipe)  # a longer run would go on from here
        self.saver = Saver(run, self.trainer, tokenizer, keep, spared)
        self.ahead = Ahead(pin=lm.device.type == "cuda")
        self.skipped = 0  # steps in a row
        self.told_of_skipping = False
        self.result: TrainResult | None = None  # of a run that has ended

    def stop(self, number: int) -> None:
        """Ask the loop to save and stop after the current step."""
        self.stopped_by = number

    def run(self) -> TrainResult:
        """Take the steps that are left, and return how the run ended."""
        config = self.recipe.training
        step = self._resume()
        while step < config.steps:
            number = round_of(step, self.recipe)
            if self.circle.data is None or step == round_bounds(number, self.recipe)[0]:
                self.circle.begin_round(number, step)
            self._step(step, number)
            step += 1
            last, stopped = step == config.steps, self.world.any(bool(self.stopped_by))
            due = step % config.checkpoint_every == 0 or step == open_end(self.recipe)
            if due or last or stopped:
                self._save(step, number)
            if stopped and not last:
                self.saver.wait()
                number = self.stopped_by
                raise Interrupted(
                    f"stopped by {f'signal {number}' if number else 'a signal to another process'} "
                    f"after step {step}; the work is saved. Run the same command to go on."
                )
        return self._end(step)

    def _end(self, step: int) -> TrainResult:
        """Take the losses at the end, if no earlier call has, and write the result."""
        self.saver.wait()
        if self.result is not None:
            self.watcher.round(EndRecord(step, self.result.losses))
            return self.result
        losses, effort = self.circle.evaluate(None)
        ended = EndRecord(step, losses, effort)
        self.circle.note(ended)
        self.watcher.round(ended)
        records = self.circle.metrics.read()
        result = TrainResult(
            steps=step,
            rounds=round_of(step - 1, self.recipe) + 1,
            tokens=step * self.recipe.training.batch_tokens,
            losses=ended.losses,
            guards=guards_of(records),
            strategy=self.circle.strategy.name,
            theta=self.circle.strategy.theta,
            weights=self.circle.strategy.weights,
            ledger=ledger_of(records, read_cost(self.circle.store.dir).seconds),
        )
        if self.world.is_main:
            write_result(self.dir.result, result)
        return result

    def _resume(self) -> int:
        """Load the latest checkpoint that is whole; return the number of steps that are done.

        Nothing on disk is changed before the checkpoint and its round are known to be whole.
        """
        saved, flaws = whole_checkpoint(self.dir, self._misfit)
        if saved is not None:
            self.circle.take_up(saved.round)
            self.circle.metrics.check(saved.metrics)
            load_checkpoint(self.dir, saved, self.trainer)
        step = 0 if saved is None else saved.step
        if step == self.recipe.training.steps:
            self.result = whole_result(self.dir.result)
        for flaw in flaws:
            self.watcher.note(f"{flaw} Going on from step {step} instead.")
        if self.world.is_main and self.result is None:
            if saved is not None:
                point_to(self.dir, step)  # before anything goes, so a kill leaves a whole one named
            self.circle.metrics.cut(0 if saved is None else saved.metrics.size)
            forget_after(self.dir, -1 if saved is None else saved.round)
            if saved is not None:
                remove_newer(self.dir, step)
        self.world.barrier()
        bad = self.circle.metrics.skipped_in_a_row() if self.world.is_main else 0
        self.skipped = self.world.broadcast(bad)
        if saved is not None:
            self.watcher.note(f"going on from step {step} (round {saved.round}).")
        return step

    def _misfit(self, saved: Checkpoint) -> str:
        """Return why this recipe cannot have written a checkpoint, or an empty text."""
        steps = self.recipe.training.steps
        folder = self.dir.checkpoint(saved.step)
        if not 0 < saved.step <= steps:
            return (
                f"checkpoint {folder} is after the end: found step {saved.step}, expected 1 to "
                f"{steps} (training.steps)."
            )
        expected = round_of(saved.step - 1, self.recipe)
        if saved.round != expected:
            return (
                f"checkpoint {folder} does not fit the recipe: found round {saved.round}, expected "
                f"{expected} at step {saved.step}."
            )
        return ""

    def _step(self, step: int, number: int) -> None:
        config = self.recipe.training
        assert self.circle.data is not None
        begun = time.perf_counter()
        names = self.circle.store.cells.categories.get(self.circle.strategy.losses_of, ())
        result = self.trainer.step(step, self.ahead.batch(self.circle.data, step), len(names))
        speed = config.batch_tokens / (time.perf_counter() - begun)
        if not result.taken:
            self._skip(step, number, result, speed)
            return
        self.skipped = 0
        record = StepRecord(
            step=step,
            round=number,
            loss=result.loss,
            grad_norm=result.grad_norm,
            learning_rate=result.learning_rate,
            tokens=config.batch_tokens,
            tokens_per_s=speed,
            select_ms=self.circle.select_ms.get(step),
            category_losses=category_losses(names, result.loss_G, result.tokens_G),
        )
        self.circle.note(record)
        self.watcher.step(record)

    def _skip(self, step: int, number: int, result: StepResult, speed: float) -> None:
        """Note a step that was not taken; raises DataError after too many in a row."""
        config = self.recipe.training
        why = f"the loss is {result.loss} (gradient norm {result.grad_norm})"
        picked = self.circle.select_ms.get(step)
        self.circle.note(SkippedRecord(step, number, why, config.batch_tokens, speed, picked))
        self.skipped += 1
        if not self.told_of_skipping:
            self.told_of_skipping = True
            self.watcher.note(
                f"step {step}: {why}, so the batch is skipped and no weight changes. More of them "
                f"are counted in result.json; after {config.max_bad_steps} in a row "
                "(training.max_bad_steps) the run stops."
            )
        if self.skipped >= config.max_bad_steps:
            raise DataError(
                f"step {step}: {why}, as in the {self.skipped} steps in a row that were skipped "
                "(training.max_bad_steps). The last checkpoint is as it was. Go on from an older "
                "one with a lower training.learning_rate, into another --out."
            )

    def _save(self, step: int, number: int) -> None:
        if self.world.is_main:
            self.circle.metrics.sync()
        self.saver.save(step, number)
