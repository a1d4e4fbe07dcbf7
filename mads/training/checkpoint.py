"""Checkpoints: a Hugging Face model folder with the optimizer's state beside it.

A checkpoint is written under another name and renamed as a whole; ``latest`` moves last.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mads.errors import DataError
from mads.run_dir import PARTIAL, RunDir, publish, read_json, write_text
from mads.training.trainer import Trainer

OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
MODEL = "model.safetensors"


def save_checkpoint(
    run: RunDir, step: int, trainer: Trainer, tokenizer: Path, state: dict[str, Any], keep: int
) -> None:
    """Save everything that the next step needs; ``step`` steps are done.

    ``state`` is the caller's own (JSON values). Older checkpoints beyond ``keep`` are removed.
    """
    folder = run.checkpoint(step)
    partial = folder.with_name(folder.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(tokenizer, partial)
    trainer.lm.model.save_pretrained(str(partial))  # type: ignore[operator]
    save_file(_optimizer_tensors(trainer), partial / OPTIMIZER)
    (partial / STATE).write_text(json.dumps({"step": step, **state}) + "\n")
    publish(partial, folder)
    write_text(run.latest, folder.name + "\n")
    if keep:
        for old in sorted(folder.parent.glob("step-*"))[:-keep]:
            if old.suffix != PARTIAL:
                shutil.rmtree(old)


def load_checkpoint(run: RunDir, trainer: Trainer) -> dict[str, Any] | None:
    """Load the latest checkpoint into the trainer and return its state; None without one.

    Raises DataError when the checkpoint is damaged or belongs to another model.
    """
    if not run.latest.is_file():
        return None
    folder = run.latest.parent / run.latest.read_text().strip()
    try:
        # Tied parameters are stored once, under the first of their names.
        weights = load_file(folder / MODEL)
        tensors = load_file(folder / OPTIMIZER)
        parameters = trainer.lm.parameters
        with torch.no_grad():
            for name, parameter in parameters.items():
                _copy(parameter, weights[name], name, folder)
        for name, parameter in parameters.items():
            if f"step.{name}" not in tensors:
                continue
            trainer.optimizer.state[parameter] = {
                "step": tensors[f"step.{name}"].clone(),
                "exp_avg": tensors[f"exp_avg.{name}"].to(parameter.device),
                "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(parameter.device),
            }
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(
            f"checkpoint {folder} is damaged: {error}. Put the name of an older one into "
            f"{run.latest}, or delete it to begin again."
        ) from error
    _steps_where_fused_wants_them(trainer)
    state: dict[str, Any] = read_json(folder / STATE)
    return state


def _copy(parameter: Tensor, value: Tensor, name: str, folder: Path) -> None:
    if parameter.shape != value.shape:
        raise DataError(
            f"checkpoint {folder} is of another model: {name} has shape {tuple(value.shape)}, "
            f"expected {tuple(parameter.shape)}."
        )
    parameter.copy_(value)


def _optimizer_tensors(trainer: Trainer) -> dict[str, Tensor]:
    tensors = {}
    for name, parameter in trainer.lm.parameters.items():
        for key, value in trainer.optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = value.detach().cpu().contiguous().clone()
    return tensors


def _steps_where_fused_wants_them(trainer: Trainer) -> None:
    """The fused optimizer keeps its step counts on the parameters' device."""
    for parameter, state in trainer.optimizer.state.items():
        state["step"] = state["step"].to(parameter.device)
