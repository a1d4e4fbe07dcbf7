"""A run that is branched from another one's checkpoint: the same past, and another recipe.

The new folder gets what the other run had until then (rounds, generations, metrics, checkpoint),
and goes on from it as if it had been stopped there. Settings of the new recipe count from the next
step on; what a round has selected already is read to its end.
"""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mads.config import Recipe
from mads.errors import DataError, UsageError
from mads.files import PARTIAL, file_sha256, publish, write_text
from mads.layout import RunDir
from mads.recipe import to_table
from mads.run.folder import Branch, differences
from mads.run.reader import Run
from mads.run.schedule import round_bounds, round_of, strategy_name
from mads.store.store import Store

FIXED = (
    *("model", "strategy", "mixture", "odm.agent", "influence", "rewards.tasks", "evaluation"),
    *("console.rule", "console.agents", "console.prior", "console.prior_file", "console.start"),
    *("training.context", "training.batch_tokens", "training.document_mask"),
)
"""Keys and sections that what has been trained and learned depends on."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where to branch from: a run, and the step of one of its checkpoints (None = the latest)."""

    run: Path
    step: int | None = None

    def named(self) -> Branch:
        """Return the place as provenance.json has it.

        Raises UsageError or DataError for what is no run, and for a step without a checkpoint.
        """
        run = Run(self.run)
        there = run.checkpoints
        if not there or not run.dir.latest.is_file():
            raise UsageError(f"--from: {self.run} has no checkpoint yet. Let it train until one.")
        name = run.dir.latest.read_text(encoding="utf-8", errors="replace").strip()
        latest = next((one for one in there if run.dir.checkpoint(one).name == name), there[-1])
        step = latest if self.step is None else self.step
        if step not in there:
            raise UsageError(
                f"--from: {self.run} has no checkpoint of step {step}; there are those of "
                f"{', '.join(map(str, there))}. Give one of them after the @."
            )
        return Branch(os.path.realpath(self.run), step, file_sha256(run.dir.recipe))


def parse_source(text: str) -> Source:
    """Read RUN or RUN@step.

    >>> parse_source("runs/a@400")
    Source(run=PosixPath('runs/a'), step=400)
    """
    path, at, step = text.rpartition("@")
    if at and path and step.isascii() and step.isdigit() and not Path(text).exists():
        return Source(Path(path), int(step))
    return Source(Path(text))


def check_branch(source: Source, out: RunDir, store: Store, recipe: Recipe) -> Branch:
    """Return where a run is branched from.

    Raises UsageError or DataError for another store, for a recipe that differs in what cannot, and
    for a folder that holds a run from elsewhere.
    """
    if out.provenance.is_file():
        found = Run(out.root).provenance.branched
        if found is None or found.run != os.path.realpath(source.run):
            whence = "from nowhere" if found is None else f"from {found.run}@{found.step}"
            raise UsageError(
                f"{out.root} is a run that was branched {whence}, not from {source.run}. Leave "
                "--from out to go on with it, or give another --out."
            )
        if source.step not in (None, found.step):
            raise UsageError(
                f"{out.root} was branched from step {found.step}, not {source.step}. Give that "
                "step to go on with it, or another --out."
            )
        return found
    branch, parent = source.named(), Run(source.run)
    made = parent.provenance
    if (made.store, made.generation) != (store.fingerprint, store.generation):
        raise DataError(
            f"--from: {source.run} was trained on another store: found {made.store[:16]} "
            f"(generation {made.generation}), now {store.fingerprint[:16]} (generation "
            f"{store.generation}). Give that store."
        )
    _check_recipe(branch, parent.recipe, recipe)
    return branch


def _check_recipe(branch: Branch, old: Recipe, new: Recipe) -> None:
    """Raise UsageError for a recipe that cannot go on from what another one has made."""
    table = tomllib.loads((RunDir(Path(branch.run)).recipe).read_text(encoding="utf-8"))
    changed = differences(table, to_table(new))
    number = round_of(branch.step - 1, old)
    start, stop = round_bounds(number, old)
    fixed = (*FIXED, "seed") if branch.step < stop else FIXED
    wrong = [text for text in changed if is_fixed(text.partition(": ")[0], fixed)]
    if strategy_name(old) != strategy_name(new) and not wrong:
        wrong.append(f"the strategy that decides: {strategy_name(old)!r} -> {strategy_name(new)!r}")
    if wrong:
        raise UsageError(
            f"--from: the recipe differs from that of {branch.run} in what its checkpoints depend "
            f"on: {'; '.join(wrong[:5])}. Leave that as it is, or begin a new run. (A seed may "
            "differ where a round has ended.)"
        )
    bounds = [(round_bounds(n, old), round_bounds(n, new)) for n in range(number + 1)]
    if branch.step >= new.training.steps or any(one != two for one, two in bounds):
        raise UsageError(
            f"--from: step {branch.step} lies in round {number}, of steps {start} to {stop - 1}, "
            "which under the new recipe has other steps: training.steps, first_update and "
            "update_every may differ after a round only. training.steps counts from the "
            "beginning, so it must be larger than the step. Branch from a checkpoint of the end of "
            "an earlier round, or keep these keys."
        )


def is_fixed(key: str, fixed: Iterable[str]) -> bool:
    """Tell whether a key of a recipe is one of the fixed ones, or lies below one.

    >>> is_fixed("model.hidden_size", ["model"]), is_fixed("console.rule", ["console.prior"])
    (True, False)
    """
    return any(f"{key}.".startswith(f"{one}.") for one in fixed)


def fetch(run: RunDir, branch: Branch, step_round: int, metrics_size: int) -> None:
    """Copy what a run had at the step; ``latest`` comes last, so what was killed begins anew.

    Raises DataError where something of it is gone.
    """
    parent = RunDir(Path(branch.run))
    try:
        folders = [(parent.round(n).root, run.round(n).root) for n in range(step_round + 1)]
        folders += [
            (parent.refresh(n).root, run.refresh(n).root)
            for n in range(step_round + 1)
            if parent.refresh(n).root.is_dir()
        ]
        folders.append((parent.checkpoint(branch.step), run.checkpoint(branch.step)))
        for old, new in folders:
            partial = new.with_name(new.name + PARTIAL)
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(old, partial)
            publish(partial, new)
        with parent.metrics.open("rb") as handle:
            write_text(run.metrics, handle.read(metrics_size).decode("utf-8", "replace"))
    except FileNotFoundError as error:
        raise DataError(
            f"--from: {error.filename} is gone, which {branch.run} had at step {branch.step}. Put "
            "it back, or branch from another step."
        ) from error
    write_text(run.latest, run.checkpoint(branch.step).name + "\n")
