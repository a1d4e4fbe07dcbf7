"""The selection in somebody else's trainer: batches out, and a round's evidence when it ends.

    session = Session("store", "recipe.toml", "run", model, optimizer)
    for step, batch in session:            # this process's sequences, as Hugging Face models take
        loss = model(**batch).loss         # them: input_ids, labels, position_ids
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        session.done(step, float(loss))

The run's folder is that of `mads train`, without checkpoints: the trainer has its own. Whoever goes
on from one says how many steps it has done (``start``). Under several processes of
``torch.distributed`` each is given its own sequences, and the main one measures; the model is a
whole one on each (DDP).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import IterableDataset

from mads.config import Recipe
from mads.errors import UsageError
from mads.files import exclusive
from mads.layout import RunDir
from mads.recipe import load_recipe
from mads.run.circle import Circle
from mads.run.folder import begin, check_folder, forget_after
from mads.run.guest import Guest
from mads.run.prior import with_prior
from mads.run.reader import open_store
from mads.run.ready import check_recipe, refuse_training_losses, started
from mads.run.records import EndRecord, StepRecord
from mads.run.schedule import round_bounds, round_of
from mads.run.watcher import Notes
from mads.store.store import Store
from mads.strategies.strategy import Strategy
from mads.tasks.contamination import refuse_contamination
from mads.training.ahead import Ahead
from mads.training.model import NO_LABEL, TokenBatch
from mads.training.world import World, present_world

Batch = dict[str, Tensor]


class Session:
    """A run whose steps somebody else takes.

    It measures and selects between the end of a round and the first batch of the next one, on the
    model as it then is; nothing of the model, the optimizer or torch's random state changes.
    """

    def __init__(
        self,
        store: Store | str | Path,
        recipe: Recipe | str | Path,
        out: str | Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        world: World | None = None,
        *,
        start: int = 0,
        note: Callable[[str], None] = print,
    ) -> None:
        """Begin a run in ``out``, or go on after ``start`` steps.

        Args:
            store: what `mads annotate` wrote.
            recipe: a TOML file, the name of a shipped recipe, or a recipe; its [training] says how
                large batches are, and when rounds begin; steps are the trainer's own.
            out: the run's folder.
            model: a causal language model: token ids (B, T) in, ``.logits`` (B, T, V) out; whole on
                this process.
            optimizer: an AdamW, whose second moments precondition the rewards; without one, or for
                another optimizer, they are estimated from gradients of what was read last.
            world: the processes that train together; by default those of ``torch.distributed``.
            start: optimizer steps that are done.
            note: is told what the user should read.

        Raises:
            UsageError: for a recipe, store or folder that does not fit, with what to do.
            DataError: for a damaged run, and for another store than the run's.

        """
        self.world = world if world is not None else present_world()
        run = RunDir(Path(out))
        settings = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe))
        known = run.root if run.provenance.is_file() else None
        opened = store if isinstance(store, Store) else open_store(Path(store), known)
        self._watcher = Notes(note if self.world.is_main else lambda _: None)
        self.recipe, self.step = settings, start
        with contextlib.ExitStack() as held:  # which lets the folder go where something is wrong
            with self.world.together():
                if self.world.is_main:
                    held.enter_context(exclusive(run.root))
                strategy = self._checked(run, opened, settings, start)
            guest = Guest(_bare(model), optimizer, settings.training)
            self._circle = Circle(opened, run, settings, self._watcher, self.world, strategy, guest)
            guest.batches = self._circle.last_batches
            self._take_up(run, opened)
            self._closing = held.pop_all()
        self._ahead = Ahead(pin=False)
        self._begun = time.perf_counter()

    def _take_up(self, run: RunDir, store: Store) -> None:
        """Make the folder this session's, and forget what comes after its first step."""
        start, recipe = self.step, self.recipe
        if self.world.is_main:
            begin(run, store, recipe, maker="session")
        number = round_of(start - 1, recipe) if start else -1
        if start:
            self._circle.take_up(number)
        if self.world.is_main:
            forget_after(run, number)
            self._circle.metrics.cut_after(start)
        self.world.barrier()

    def _checked(self, run: RunDir, store: Store, recipe: Recipe, start: int) -> Strategy:
        """Return the strategy at its start; all that can be wrong is found before anything."""
        check_recipe(store, run.root, recipe)
        if not self.world.is_main:
            return started(store.cells, with_prior(run, store, recipe, self._watcher.note))
        if check_folder(run, store, recipe, "session") is not None:
            raise UsageError(f"{run.root} has another training.steps. Give another folder.")
        if not run.provenance.is_file():
            refuse_contamination(recipe, self._watcher.note)
        made = len(list(run.round(0).root.parent.glob("[0-9]*/plan.json")))
        needed = round_of(start - 1, recipe) + 1 if start else 0
        if start and made < needed:
            raise UsageError(
                f"start: found {start}, which is in round {needed - 1}, but {run.root} has "
                f"{made} rounds. Give the steps that its model has done, or another folder."
            )
        if made and not start:
            raise UsageError(
                f"{run.root} has {made} rounds already. Give start=, the steps that your "
                "checkpoint has done, to go on after them, or another folder."
            )
        strategy = started(store.cells, with_prior(run, store, recipe, self._watcher.note))
        refuse_training_losses(strategy)
        return strategy

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        """Yield each step that is left, with this process's sequences of its batch.

        ``input_ids`` and ``labels`` are (B, T), where B is ``training.batch_tokens / context`` over
        the number of processes. A label is the token at its own place, as Hugging Face models
        expect, -100 where no loss counts. ``position_ids`` begin at 0 with each document, where
        documents are kept apart.
        """
        while self.step < self.recipe.training.steps:
            step = self.step
            yield step, self._own(self.batch(step))
            if self.step == step:
                raise UsageError(f"step {step}: call session.done({step}) after the step.")

    def batch(self, step: int) -> TokenBatch:
        """Return the whole batch of a step; a round that begins with it is made first."""
        number = round_of(step, self.recipe)
        circle = self._circle
        if circle.data is None or (
            step == round_bounds(number, self.recipe)[0] and circle.strategy.round != number
        ):
            circle.begin_round(number, step)
        assert circle.data is not None
        return self._ahead.batch(circle.data, step)

    def done(self, step: int, loss: float | None = None) -> None:
        """Say that an optimizer step was taken, with its loss in nats per token if it is known."""
        if step != self.step:
            raise UsageError(f"done: found step {step}, expected {self.step}, the one under way.")
        seconds, self._begun = time.perf_counter() - self._begun, time.perf_counter()
        tokens = self.recipe.training.batch_tokens
        if loss is not None:
            number, rate = round_of(step, self.recipe), self._guest.learning_rate
            speed = tokens / max(seconds, 1e-9)
            self._circle.note(StepRecord(step, number, loss, rate, tokens, speed))
        self.step = step + 1
        if self.step == self.recipe.training.steps:
            self._end()

    def use(self, optimizer: torch.optim.Optimizer) -> None:
        """Take second moments from this optimizer from now on."""
        self._guest.optimizer = optimizer

    def _end(self) -> None:
        losses, effort = self._circle.evaluate(None)
        self._circle.note(EndRecord(self.step, losses, effort))

    @property
    def _guest(self) -> Guest:
        learner = self._circle.learner
        assert isinstance(learner, Guest)
        return learner

    @property
    def weights(self) -> dict[str, dict[str, float]]:
        """The category weights of the round under way, by agent; empty under other strategies."""
        return {agent: dict(table) for agent, table in self._circle.strategy.weights.items()}

    def _own(self, batch: TokenBatch) -> Batch:
        rank, size = self.world.rank, self.world.size
        return {name: value[rank::size] for name, value in as_arguments(batch).items()}

    def dataset(self) -> SequenceStream:
        """Return the sequences of all steps that are left, one by one, for a data loader.

        The loader must not have workers of its own, since a round's first sequence waits for the
        model. Loaders look ahead: a round is made when its first sequence is asked for, which is
        while the last step of the round before has not been taken yet.
        """
        return SequenceStream(self)

    def close(self) -> None:
        """Let the run's folder go."""
        self._closing.close()

    def __enter__(self) -> Self:
        """Close the session at the end of a block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


class SequenceStream(IterableDataset[Batch]):
    """The sequences of a session, in the order of its steps; see ``Session.dataset``."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def __iter__(self) -> Iterator[Batch]:
        """Yield one sequence after the other: input_ids, labels, position_ids of (T,)."""
        if torch.utils.data.get_worker_info() is not None:
            raise UsageError("a session's data loader must not have workers: set num_workers=0.")
        session = self._session
        for step in range(session.step, session.recipe.training.steps):
            columns = as_arguments(session.batch(step))
            for row in range(len(columns["input_ids"])):
                yield {name: value[row] for name, value in columns.items()}


def as_arguments(batch: TokenBatch) -> Batch:
    """Return a batch as Hugging Face models take it: labels stand at their own places.

    tokens 5 6 7, labels (the next ones) 6 7 -100   ->   labels -100 6 7
    """
    labels = batch.labels_BT.roll(1, dims=1)
    labels[:, 0] = NO_LABEL
    found = {"input_ids": batch.tokens_BT, "labels": labels}
    if batch.positions_BT is not None:
        found["position_ids"] = batch.positions_BT
    return found


def _bare(model: nn.Module) -> nn.Module:
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    assert isinstance(inner, nn.Module)
    return inner
