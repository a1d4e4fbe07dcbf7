"""Checkpoints: a Hugging Face model folder with the optimizer's state beside it.

A checkpoint is written under another name and renamed as a whole; ``latest`` moves last.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from mads.errors import DataError
from mads.files import PARTIAL, publish, read_json, write_text
from mads.layout import RunDir
from mads.training.trainer import Trainer

OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
MODEL = "model.safetensors"


def save_checkpoint(
    run: RunDir, step: int, trainer: Trainer, tokenizer: Path, state: dict[str, Any], keep: int
) -> None:
    """Save everything that the next step needs; ``step`` steps are done.

    ``state`` is the caller's own (JSON values). Of older checkpoints the newest are kept, ``keep``
    in all (0 = all). Raises DataError when the disk is full.
    """
    folder = run.checkpoint(step)
    partial = folder.with_name(folder.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(tokenizer, partial)
        trainer.lm.model.save_pretrained(  # type: ignore[operator]
            str(partial), max_shard_size="1000TB"
        )
        tensors = _optimizer_tensors(trainer) | _unsaved_weights(trainer, partial / MODEL)
        save_file(tensors, partial / OPTIMIZER)
        (partial / STATE).write_text(json.dumps({"step": step, **state}) + "\n")
        publish(partial, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise DataError(
            f"checkpoint {folder} cannot be written: {error}. Make room; the run goes on from the "
            "checkpoint before."
        ) from error
    write_text(run.latest, folder.name + "\n")
    older = [path for path in _checkpoints(run) if path.name < folder.name]
    for path in older[: len(older) - keep + 1] if keep else []:
        shutil.rmtree(path)


def load_checkpoint(run: RunDir, trainer: Trainer) -> dict[str, Any] | None:
    """Load the latest checkpoint into the trainer and return its state; None without one.

    Newer ones, which exist when the user has put an older name into ``latest``, are removed.
    Raises DataError when the checkpoint is damaged or belongs to another model.
    """
    if not run.latest.is_file():
        return None
    folder = run.latest.parent / run.latest.read_text().strip()
    try:
        tensors = load_file(folder / OPTIMIZER)
        _load_weights(trainer, load_file(folder / MODEL), tensors, folder)
        for name, parameter in trainer.lm.parameters.items():
            if f"step.{name}" not in tensors:
                continue
            trainer.optimizer.state[parameter] = {
                # The fused optimizer keeps its step counts on the parameters' device.
                key: tensors[f"{key}.{name}"].to(parameter.device, copy=True)
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
        state: dict[str, Any] = read_json(folder / STATE)
    except (OSError, SafetensorError, KeyError, DataError) as error:
        if isinstance(error, _OtherModelError):
            raise
        raise DataError(
            f"checkpoint {folder} is damaged: {error}. Put the name of an older one into "
            f"{run.latest}, or delete it to begin again."
        ) from error
    for path in _checkpoints(run):
        if path.name > folder.name:
            shutil.rmtree(path)
    return state


class _OtherModelError(DataError):
    """The checkpoint is whole, but of another model."""


def _checkpoints(run: RunDir) -> list[Path]:
    """Return the complete checkpoints, oldest first; half ones of killed calls are removed."""
    found = []
    for path in sorted(run.latest.parent.glob("step-*")):
        if path.suffix == PARTIAL:
            shutil.rmtree(path)
        else:
            found.append(path)
    return found


def _unsaved_weights(trainer: Trainer, saved: Path) -> dict[str, Tensor]:
    """Return weights that the Hugging Face file does not hold under their own names.

    ``save_pretrained`` renames the parameters of some models.
    """
    with safe_open(saved, "pt") as file:
        names = set(file.keys())
    state = trainer.lm.model.state_dict()
    held = {state[name].data_ptr() for name in names if name in state}
    return {
        f"weight.{name}": value.detach().cpu().contiguous()
        for name, value in state.items()
        if value.data_ptr() not in held
    }


def _load_weights(
    trainer: Trainer, weights: dict[str, Tensor], tensors: dict[str, Tensor], folder: Path
) -> None:
    state = trainer.lm.model.state_dict()
    loaded = set()
    for name, value in state.items():
        found = weights.get(name, tensors.get(f"weight.{name}"))
        if found is None:
            continue
        if found.shape != value.shape:
            raise _OtherModelError(
                f"checkpoint {folder} is of another model: {name} has shape {tuple(found.shape)}, "
                f"expected {tuple(value.shape)}."
            )
        value.copy_(found)
        loaded.add(value.data_ptr())
    missing = [name for name, value in state.items() if value.data_ptr() not in loaded]
    if missing:  # tied weights are stored once
        raise KeyError(missing[0])


def _optimizer_tensors(trainer: Trainer) -> dict[str, Tensor]:
    return {
        f"{key}.{name}": value.detach().cpu().contiguous()
        for name, parameter in trainer.lm.parameters.items()
        for key, value in trainer.optimizer.state.get(parameter, {}).items()
    }
