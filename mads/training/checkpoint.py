"""Checkpoints: a Hugging Face model folder with the optimizer's state beside it.

A checkpoint is written under another name and renamed as a whole; ``latest`` moves last. Its
state.json names the sha256 of every file, and nothing is loaded before all of them agree.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Annotated, Self

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from mads.codec import Within, from_json, to_json
from mads.errors import DataError, machine_problem
from mads.files import (
    PARTIAL,
    file_sha256,
    publish,
    read_sealed_json,
    unreadable,
    write_sealed_json,
    write_text,
)
from mads.layout import OPTIMIZER, RunDir
from mads.sealed import Seal, read_seal
from mads.training.sharded import own_part, part_of, whole_of
from mads.training.trainer import Trainer
from mads.training.world import World
from mads.units import shorten

STATE = "state.json"
MODEL = "model.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_NAME = re.compile(r"step-([0-9]{8})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What state.json says: how many steps are done, the round they end in, and the files.

    ``metrics`` is the size and the sha256 of metrics.jsonl when it was saved.
    """

    step: Annotated[int, Within(0, 2**40)]
    round: Annotated[int, Within(0, 2**40)]
    files: Mapping[str, str]  # name in the folder -> sha256
    metrics: Seal


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that the next step needs, whole and in RAM; empty but on the main process."""

    weights: Mapping[str, Tensor]  # by the names of the model's state; tied ones are one tensor
    moments: Mapping[str, Tensor]  # of the optimizer


def snapshot(trainer: Trainer) -> Snapshot:
    """Copy the weights and the optimizer's state; every process calls it."""
    lm = trainer.lm
    copies: dict[int, Tensor] = {}
    weights, moments = {}, {}
    for name, value in lm.model.state_dict(keep_vars=True).items():
        if id(value) not in copies:
            copies[id(value)] = _copy(own_part(value), value, lm.world)
        weights[name] = copies[id(value)]
    for name, parameter in lm.parameters.items():
        state = trainer.optimizer.state.get(trainer.parts[name], {})
        for key in MOMENTS if state else ():
            like = parameter if state[key].ndim == parameter.ndim else state[key]
            moments[f"{key}.{name}"] = _copy(state[key], like, lm.world)
    return Snapshot(weights, moments) if lm.world.is_main else Snapshot({}, {})


def _copy(part: Tensor, like: Tensor, world: World) -> Tensor:
    whole = whole_of(part.detach(), like)
    return whole.to("cpu", copy=True).contiguous() if world.is_main else part


class Saver:
    """Saves checkpoints in a thread of its own, one at a time, while the training goes on.

    Of older checkpoints the newest are kept, ``keep`` in all (0 = all), and that of the step
    ``spared``.
    """

    def __init__(
        self, run: RunDir, trainer: Trainer, tokenizer: Path, keep: int, spared: int = 0
    ) -> None:
        self._run, self._trainer, self._tokenizer = run, trainer, tokenizer
        self._keep, self._spared = keep, spared
        self._going: Thread | None = None
        self._failure: DataError | None = None

    def save(self, step: int, number: int) -> None:
        """Save what the next step needs; ``step`` steps are done, the last in round ``number``.

        Every process calls it; the main one writes. Raises DataError when the checkpoint before
        could not be written.
        """
        self.wait()
        held = snapshot(self._trainer)
        if self._trainer.lm.world.is_main:
            seal = _seal(self._run.metrics)
            arguments = held, step, number, seal
            # A thread of its own: the idle one of a pool would outlive a run that fails.
            self._going = Thread(target=self._try, args=arguments, name="checkpoint")
            self._going.start()

    def wait(self) -> None:
        """Wait until all is saved; raises DataError when it could not be written."""
        if self._going is not None:
            self._going.join()
        failure, self._going, self._failure = self._failure, None, None
        if failure is not None:
            raise failure

    def __enter__(self) -> Self:
        """Finish what is being written when the block ends, whatever ends it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the thread; what went wrong in it is told by ``wait`` alone."""
        if self._going is not None:
            self._going.join()

    def _try(self, held: Snapshot, step: int, number: int, metrics: Seal) -> None:
        try:
            self._write(held, step, number, metrics)
        except DataError as error:
            self._failure = error

    def _write(self, held: Snapshot, step: int, number: int, metrics: Seal) -> None:
        run = self._run
        folder = run.checkpoint(step)
        partial = folder.with_name(folder.name + PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            shutil.copytree(self._tokenizer, partial)
            self._trainer.lm.model.save_pretrained(  # type: ignore[operator]
                str(partial), max_shard_size="1000TB", state_dict=dict(held.weights)
            )
            unsaved = _unsaved_weights(held.weights, partial / MODEL)
            save_file({**held.moments, **unsaved}, partial / OPTIMIZER)
            for path in partial.glob("*.safetensors"):
                shutil.copymode(partial / "config.json", path)  # safetensors writes for its owner
            files = {
                str(path.relative_to(partial)): file_sha256(path)
                for path in sorted(partial.rglob("*"))
                if path.is_file()
            }
            write_sealed_json(partial / STATE, to_json(Checkpoint(step, number, files, metrics)))
            publish(partial, folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise DataError(
                f"checkpoint {folder} cannot be written: {error}. "
                f"{machine_problem(error) or 'Correct that and run the same command again.'} The "
                "run goes on from the checkpoint before."
            ) from error
        write_text(run.latest, folder.name + "\n")
        older = [path for path in _checkpoints(run) if path.name < folder.name]
        for path in older[: len(older) - self._keep + 1] if self._keep else []:
            if path != run.checkpoint(self._spared):
                shutil.rmtree(path)


class _Damaged(DataError):
    """A checkpoint that is not whole, whatever the machine does about it."""


def latest_checkpoint(run: RunDir) -> Checkpoint | None:
    """Return the latest checkpoint's state, after all its files were compared; None without one.

    Raises DataError, with the file and what to do, for a damaged one. Nothing is changed.
    """
    if not run.latest.is_file():
        return None
    try:
        return _read(run, _named(run))
    except _Damaged as error:
        raise DataError(
            f"{error} `mads train` goes on from the checkpoint before it; or put the name of an "
            f"older one into {run.latest}."
        ) from error


def whole_checkpoint(
    run: RunDir, misfit: Callable[[Checkpoint], str]
) -> tuple[Checkpoint | None, tuple[str, ...]]:
    """Return the latest checkpoint that is whole, and what is wrong with those after it.

    A checkpoint is looked at when all that would come before it are damaged; ``misfit`` says what
    keeps a whole one from being this run's, or "". One that is newer than what ``latest`` names is
    never taken: the user may have gone back. None without ``latest``, which begins a run again.

    Raises DataError when none is whole, or when the machine cannot read one. Nothing is changed.
    """
    if not run.latest.is_file():
        return None, ()
    flaws: list[str] = []
    try:
        name = _named(run)
    except _Damaged as error:
        name = ""
        flaws.append(str(error))
    there = sorted(p.name for p in run.latest.parent.iterdir() if _NAME.fullmatch(p.name))
    older = [one for one in there if not name or one < name]
    for one in ([name] if name else []) + older[::-1]:
        try:
            found = _read(run, one)
            if not (flaw := misfit(found)):
                return found, tuple(flaws)
            flaws.append(flaw)
        except _Damaged as error:
            flaws.append(str(error))
    newer = f" There are newer ones: {', '.join(there)}." if there and not older else ""
    raise DataError(
        f"no checkpoint is whole: {' '.join(flaws)}{newer} Put one back, name another one in "
        f"{run.latest}, or delete that file to begin again."
    )


def checkpoint_at(run: RunDir, step: int) -> Checkpoint:
    """Return the checkpoint of a step; raises DataError when it is damaged."""
    return _read(run, run.checkpoint(step).name)


def point_to(run: RunDir, step: int) -> None:
    """Make the checkpoint of a step the latest one."""
    name = run.checkpoint(step).name
    if run.latest.read_text(encoding="utf-8", errors="replace").strip() != name:
        write_text(run.latest, name + "\n")


def _named(run: RunDir) -> str:
    """Return which checkpoint is the latest; raises _Damaged where the file names none."""
    name = run.latest.read_text(encoding="utf-8", errors="replace").strip()
    if not _NAME.fullmatch(name):
        raise _Damaged(
            f"{run.latest} names no checkpoint: found {shorten(name)}, expected step-00000100, say."
        )
    return name


def _read(run: RunDir, name: str) -> Checkpoint:
    """Return a checkpoint's state, after all its files were compared.

    Raises _Damaged for one that is not whole, DataError where the machine cannot read it: that one
    may be whole.
    """
    folder = run.latest.parent / name
    path = folder / STATE
    try:
        found = from_json(Checkpoint, read_sealed_json(path, ""), path, "a checkpoint's state", "")
    except DataError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and machine_problem(cause):
            raise
        raise _Damaged(f"checkpoint {folder} is damaged: {str(error).rstrip()}") from error
    step = int(name.removeprefix("step-"))
    if found.step != step:
        raise _Damaged(
            f"{path} is of another checkpoint: found step {found.step}, expected {step}."
        )
    for file, expected in found.files.items():
        damage = _damage(folder / file, expected)
        if damage:
            raise _Damaged(f"checkpoint {folder} is damaged: {file} {damage}.")
    return found


def _damage(path: Path, expected: str) -> str:
    """Return what is wrong with a file of a checkpoint, or an empty text.

    Raises DataError where the machine is at fault and the file may be whole.
    """
    try:
        found = file_sha256(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        if machine_problem(error):
            raise unreadable(path, error, "") from error
        return f"cannot be read ({error.strerror})"
    if found != expected:
        return f"was changed: its sha256 is {found[:16]}, expected {expected[:16]}"
    return ""


def _seal(path: Path) -> Seal:
    """Return the seal of a file that may not be there yet."""
    return read_seal(path) if path.is_file() else Seal(0, hashlib.sha256().hexdigest())


def load_checkpoint(run: RunDir, checkpoint: Checkpoint, trainer: Trainer) -> None:
    """Load a checkpoint that ``latest_checkpoint`` has found whole into the trainer.

    Raises DataError when it belongs to another model, or lacks a tensor or has one too many.
    """
    folder = run.checkpoint(checkpoint.step)
    remedy = f"Put the name of an older one into {run.latest}, or delete it to begin again."
    try:
        tensors = load_file(folder / OPTIMIZER)
        _load_weights(trainer, load_file(folder / MODEL), tensors, folder)
        for name, parameter in trainer.lm.parameters.items():
            if f"step.{name}" not in tensors:
                continue
            trainer.optimizer.state[trainer.parts[name]] = {
                # The fused optimizer keeps its step counts on the parameters' device.
                key: _part(tensors[f"{key}.{name}"], parameter).to(parameter.device, copy=True)
                for key in MOMENTS
            }
            trainer.lm.mark_used([name])
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"checkpoint {folder} is damaged: {error}. {remedy}") from error
    known = {f"{key}.{name}" for name in trainer.lm.parameters for key in MOMENTS}
    known |= {f"weight.{name}" for name in trainer.lm.model.state_dict()}
    extra = sorted(set(tensors) - known)
    if extra:
        raise DataError(
            f"checkpoint {folder} is of another model: {OPTIMIZER} has {extra[0]!r}, which this "
            f"model has not. {remedy}"
        )


def remove_newer(run: RunDir, step: int) -> None:
    """Remove checkpoints after a step: they exist when the user named an older one ``latest``."""
    for path in _checkpoints(run):
        if path.name > run.checkpoint(step).name:
            shutil.rmtree(path)


def _checkpoints(run: RunDir) -> list[Path]:
    """Return the complete checkpoints, oldest first; half ones of killed calls are removed."""
    found = []
    for path in sorted(run.latest.parent.glob("step-*")):
        if path.suffix == PARTIAL:
            shutil.rmtree(path)
        else:
            found.append(path)
    return found


def _part(whole: Tensor, parameter: Tensor) -> Tensor:
    """Return this process's part of a moment; a count of steps has no parts."""
    return part_of(whole, parameter) if whole.shape == parameter.shape else whole


def _unsaved_weights(weights: Mapping[str, Tensor], saved: Path) -> dict[str, Tensor]:
    """Return weights that the Hugging Face file does not hold under their own names.

    ``save_pretrained`` renames the parameters of some models.
    """
    with safe_open(saved, "pt") as file:
        names = set(file.keys())
    held = {weights[name].data_ptr() for name in names if name in weights}
    return {
        f"weight.{name}": value for name, value in weights.items() if value.data_ptr() not in held
    }


def _load_weights(
    trainer: Trainer, weights: dict[str, Tensor], tensors: dict[str, Tensor], folder: Path
) -> None:
    state = trainer.lm.model.state_dict(keep_vars=True)
    loaded = set()
    for name, value in state.items():
        found = weights.get(name, tensors.get(f"weight.{name}"))
        if found is None:
            continue
        if found.shape != value.shape:
            raise DataError(
                f"checkpoint {folder} is of another model: {name} has shape {tuple(found.shape)}, "
                f"expected {tuple(value.shape)}."
            )
        own_part(value).copy_(part_of(found, value))
        loaded.add(id(value))
    missing = [name for name, value in state.items() if id(value) not in loaded]
    if missing:  # tied weights are stored once
        raise KeyError(missing[0])
    extra = sorted(set(weights) - set(state))
    # Where save_pretrained renames parameters, they are kept a second time under their own names.
    if extra and not any(name.startswith("weight.") for name in tensors):
        raise DataError(
            f"checkpoint {folder} is of another model: {MODEL} has {extra[0]!r}, which this model "
            "has not."
        )
