"""Somebody else's model and optimizer, as rewards need them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from mads.config import TrainingConfig
from mads.errors import UsageError
from mads.rewards.moments import BATCHES, estimated_state
from mads.training.model import LanguageModel, TokenBatch
from mads.training.trainer import OptimizerState


class Guest:
    """A model that is called as it is, and what its optimizer knows.

    ``batches`` gives the last so many batches that it has read.
    """

    batches: Callable[[int], Sequence[TokenBatch]]

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        config: TrainingConfig,
    ) -> None:
        """Raises UsageError for a model whose parameters are cut over processes."""
        first = next(model.parameters(), None)
        if first is None:
            raise UsageError(f"model: {type(model).__name__} has no parameters.")
        if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
            raise UsageError(
                "model: its parameters are cut over processes (FSDP). A session needs a whole "
                "model on each; `mads train` under torchrun cuts one by itself, and `mads step` "
                "works with any trainer's checkpoints."
            )
        self.lm = LanguageModel(model, replace(config, device=str(first.device)))
        if not self.lm.sees_the_past_only():
            raise UsageError(
                f"model: {type(model).__name__} sees tokens that come later, so it cannot learn to "
                "predict them. Give a causal language model, a decoder."
            )
        self.optimizer, self._config = optimizer, config

    @property
    def learning_rate(self) -> float:
        """The optimizer's learning rate; 0 without an optimizer."""
        return float(self.optimizer.param_groups[0]["lr"]) if self.optimizer else 0.0

    def optimizer_state(self, step: int) -> OptimizerState:
        """Return AdamW's moments, or estimates where the optimizer has none."""
        del step  # the optimizer stands at it
        found = None if self.optimizer is None else adamw_state(self.lm, self.optimizer)
        if found is not None:
            return found
        rate = self.learning_rate or self._config.learning_rate
        return estimated_state(self.lm, self.batches(BATCHES), self._config, rate)


def adamw_state(lm: LanguageModel, optimizer: torch.optim.Optimizer) -> OptimizerState | None:
    """Return an AdamW's (or Adam's) state by parameter name; None for another optimizer."""
    states = {name: optimizer.state.get(p, {}) for name, p in lm.parameters.items()}
    known = {n: s for n, s in states.items() if {"exp_avg", "exp_avg_sq", "step"} <= set(s)}
    if not known:
        return None
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    first = optimizer.param_groups[0]
    beta1, beta2 = first["betas"]
    return OptimizerState(
        exp_avg={name: state["exp_avg"] for name, state in known.items()},
        exp_avg_sq={name: state["exp_avg_sq"] for name, state in known.items()},
        steps={name: float(state["step"]) for name, state in known.items()},
        learning_rate=float(first["lr"]),
        betas=(float(beta1), float(beta2)),
        eps=float(first["eps"]),
        weight_decay={
            name: float(groups[id(p)]["weight_decay"]) if id(p) in groups else 0.0
            for name, p in lm.parameters.items()
        },
    )
