"""One turn of the circle by files: a checkpoint of any trainer in, what it reads next out.

    mads step --store S --out RUN --tokens 1B                             the first selection
    mads step --store S --out RUN --tokens 1B --checkpoint HF_FOLDER      the next ones

A turn is a round of a run: it measures rewards on the checkpoint, updates the strategy, selects,
and writes the selection as a list of documents and as a Megatron indexed data set. ``turn.json``,
written last, marks a complete one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mads.codec import to_json
from mads.config import ModelConfig, Recipe
from mads.errors import DataError
from mads.export.megatron import TOKENS, write_parts
from mads.files import exclusive, write_sealed_json
from mads.layout import RunDir
from mads.rewards.moments import BATCHES, estimated_state
from mads.run.circle import Bounds, Circle
from mads.run.folder import begin, forget_after
from mads.run.prior import with_prior
from mads.run.ready import started
from mads.run.turns import (
    REMEDY,
    Checkpointed,
    Moments,
    Turn,
    Turned,
    batches_of,
    check_turn,
    turns,
)
from mads.run.watcher import Watcher
from mads.seeds import derive
from mads.selection.plan_file import load_plan, read_selection
from mads.store.store import Store
from mads.tasks.contamination import refuse_contamination
from mads.training.build import build_model
from mads.training.checkpoint import MOMENTS
from mads.training.model import LanguageModel, TokenBatch
from mads.training.trainer import OptimizerState, learning_rate
from mads.training.world import ALONE


def turn(
    store: Store,
    out: Path,
    recipe: Recipe,
    tokens: int,
    given: Checkpointed | None,
    watcher: Watcher,
) -> Turned:
    """Make the run's next round, of at least ``tokens`` tokens.

    The same call again, with the checkpoint that the last round was made from, finds it made.
    Raises UsageError or DataError as ``check_turn`` does, and DataError for a damaged run.
    """
    check_turn(store, out, recipe, tokens, given)
    run = RunDir(out)
    with exclusive(out):
        done = turns(run)
        identity = given.identity() if given else ""
        if done and (done[-1].checkpoint, done[-1].tokens) == (identity, tokens):
            return _found(run, len(done) - 1, done[-1], complete=True)
        if not run.provenance.is_file():
            refuse_contamination(recipe, watcher.note)
        strategy = started(store.cells, with_prior(run, store, recipe, watcher.note))
        number, size = len(done), recipe.training.batch_tokens
        bounds = _bounds([*(one.steps(size) for one in done), batches_of(tokens, size)])
        model = None if given is None else _Model(store, recipe, given)
        circle = Circle(store, run, recipe, watcher, ALONE, strategy, model, bounds)
        begin(run, store, recipe, maker="step")
        forget_after(run, number - 1)
        if number:
            circle.take_up(number - 1)
        circle.metrics.cut_after(bounds(number)[0])
        if model is not None:
            model.batches = circle.last_batches
        circle.begin_round(number, bounds(number)[0])
        folder = run.round(number)
        chosen = read_selection(folder, load_plan(folder.plan))
        write_parts(circle.store, chosen, folder.root, derive(recipe.seed, "round", number))
        made = Turn(identity, tokens, model.used if model else "")
        write_sealed_json(folder.turn, to_json(made))
        return _found(run, number, made, complete=False)


def _found(run: RunDir, number: int, made: Turn, complete: bool) -> Turned:
    folder = run.round(number)
    missing = [name for name in TOKENS if not (folder.root / name).is_file()]
    if missing:
        raise DataError(f"{folder.root / missing[0]} is missing. {REMEDY}")
    plan = load_plan(folder.plan)
    return Turned(number, complete, str(folder.root), plan.num_docs, plan.num_tokens, made.moments)


def _bounds(lengths: Sequence[int]) -> Bounds:
    """Return what gives the first step of a round and the first one after it, by their lengths."""
    edges = [0, *accumulate(lengths)]
    return lambda number: (edges[number], edges[number + 1])


class _Model:
    """A checkpoint as the circle's learner; ``batches`` are the last that it has read."""

    batches: Callable[[int], Sequence[TokenBatch]]

    def __init__(self, store: Store, recipe: Recipe, given: Checkpointed) -> None:
        training = replace(recipe.training, compile=False)
        config = ModelConfig(hf=str(given.folder), pretrained=True)
        self.lm: LanguageModel = build_model(config, training, store.tokenizer.vocab_size, seed=0)
        self._recipe, self._moments = recipe, given.moments()
        self.used: Moments = ""

    def optimizer_state(self, step: int) -> OptimizerState:
        """Return the moments of the optimizer's file, or estimates."""
        config = self._recipe.training
        rate = learning_rate(min(step, config.steps - 1), config)
        if self._moments is None:
            self.used = "estimated"
            return estimated_state(self.lm, self.batches(BATCHES), config, rate)
        self.used = "file"
        return read_state(self._moments, self.lm, self._recipe, rate)


def read_state(path: Path, lm: LanguageModel, recipe: Recipe, rate: float) -> OptimizerState:
    """Read AdamW's moments from a safetensors file.

    Its tensors are ``exp_avg.NAME``, ``exp_avg_sq.NAME`` and ``step.NAME`` by the names of the
    model's parameters, as checkpoints of `mads train` have them. Raises DataError for a file that
    cannot be read, and for one that lacks a parameter's.
    """
    try:
        tensors = load_file(path, device=str(lm.device))
    except (OSError, SafetensorError) as error:
        raise DataError(f"--optimizer: {path} cannot be read: {error}.") from error
    named: dict[str, dict[str, Tensor]] = {key: {} for key in MOMENTS}
    for name, parameter in lm.parameters.items():
        for key in MOMENTS:
            found = tensors.get(f"{key}.{name}")
            if found is None:
                raise DataError(
                    f"--optimizer: {path} has no {key}.{name}. Expected exp_avg, exp_avg_sq and "
                    "step of every parameter of the model; without --optimizer second moments are "
                    "estimated."
                )
            if key != "step" and found.shape != parameter.shape:
                raise DataError(
                    f"--optimizer: {path}: {key}.{name} has shape {tuple(found.shape)}, expected "
                    f"{tuple(parameter.shape)}."
                )
            named[key][name] = found
    beta1, beta2 = recipe.training.betas
    decay = recipe.training.weight_decay
    return OptimizerState(
        exp_avg=named["exp_avg"],
        exp_avg_sq=named["exp_avg_sq"],
        steps={name: float(value) for name, value in named["step"].items()},
        learning_rate=rate,
        betas=(beta1, beta2),
        eps=1e-8,
        weight_decay={n: decay if p.ndim >= 2 else 0.0 for n, p in lm.parameters.items()},
    )
