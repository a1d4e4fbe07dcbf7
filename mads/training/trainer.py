"""Optimizer steps: AdamW, gradient accumulation, clipping, learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from mads.config import TrainingConfig
from mads.seeds import derive
from mads.training.model import NO_LABEL, LanguageModel, TokenBatch
from mads.training.sharded import own_part
from mads.types import Floats


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of an optimizer step; steps count from 0.

    All schedules warm up linearly. ``cosine`` then falls to ``min_lr_ratio`` of the peak at the
    last step; ``wsd`` (warm-up, stable, decay) stays and falls linearly over ``cooldown`` steps.
    """
    peak, floor = config.learning_rate, config.learning_rate * config.min_lr_ratio
    if step < config.warmup:
        return peak * (step + 1) / config.warmup
    if config.schedule == "constant":
        return peak
    if config.schedule == "cosine":
        done = (step - config.warmup) / max(config.steps - 1 - config.warmup, 1)
        return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    left = (config.steps - 1 - step) / config.decay_steps
    return floor + (peak - floor) * min(left, 1.0)


@dataclass(frozen=True, slots=True)
class StepResult:
    """The loss (nats per token), gradient norm before clipping and learning rate of a step.

    ``taken`` is False where one of the two is not finite: then nothing of model or optimizer has
    changed.
    ``loss_G`` and ``tokens_G`` are the summed losses and the number of labels of each group; they
    are empty where no groups were asked for.
    """

    loss: float
    grad_norm: float
    learning_rate: float
    loss_G: Floats
    tokens_G: Floats
    taken: bool = True


def sums_by_group(loss_BT: Tensor, batch: TokenBatch, num_groups: int) -> Tensor:
    """Return the summed losses and the number of labels of each group, float64, shape (2, G).

    It is a product with a matrix of zeros and ones, whose order of summing is always the same.
    """
    assert batch.groups_BT is not None
    counted_BT = batch.labels_BT != NO_LABEL
    group_N = torch.where(counted_BT, batch.groups_BT, num_groups).flatten()
    member_GN = torch.arange(num_groups)[:, None] == group_N
    member_GN = member_GN.to(loss_BT.device, torch.float64)
    loss_N = loss_BT.detach().flatten().double()
    return torch.stack([member_GN @ loss_N, member_GN.sum(dim=1)])


class Trainer:
    """Takes optimizer steps on a model."""

    def __init__(self, lm: LanguageModel, config: TrainingConfig, seed: int) -> None:
        self.lm = lm
        self._config = config
        self._seed = seed
        # Of a cut model the optimizer holds this process's parts, of a whole one its parameters.
        self.parts: dict[str, nn.Parameter] = lm.parameters
        if not lm.world.is_alone:
            self.parts = {
                n: nn.Parameter(part, requires_grad=False) for n, part in lm.parts.items()
            }
        parts = list(self.parts.values())
        groups = [
            {"params": [p for p in parts if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in parts if p.ndim < 2], "weight_decay": 0.0},
        ]
        beta1, beta2 = config.betas
        self.optimizer = torch.optim.AdamW(groups, betas=(beta1, beta2), fused=True)

    def step(self, number: int, batch: TokenBatch, num_groups: int = 0) -> StepResult:
        """Take one step on a whole batch, in micro-batches.

        Every process is given the same batch, and reads its own sequences of it. A batch whose loss
        or gradient norm is not finite on any of them is skipped by all. ``num_groups``: into how
        many groups the batch's labels fall, 0 = nobody asks.
        """
        rate = learning_rate(number, self._config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        world = self.lm.world
        # Only dropout draws from the global generator; a seed per step makes resuming exact.
        torch.manual_seed(derive(self._seed, "step", number, *([world.rank] if world.rank else [])))
        self.lm.model.train()
        num_labels = int((batch.labels_BT != NO_LABEL).sum())
        total = torch.zeros((), device=self.lm.device)
        sums_2G = torch.zeros((2, num_groups), dtype=torch.float64, device=self.lm.device)
        for rows in batch.shares(world, self._config.micro_batch):
            loss_BT = self.lm.token_losses(rows)
            part = loss_BT.sum() / num_labels
            part.backward()  # type: ignore[no-untyped-call]
            total += part.detach()
            if num_groups:
                sums_2G += sums_by_group(loss_BT, rows, num_groups)
        self._take_gradients()
        loss, square = world.sum(
            torch.stack([total.double(), self._norm().double().square()]).cpu().numpy()
        )
        norm = math.sqrt(square)
        if not math.isfinite(loss) or not math.isfinite(norm):
            self._drop_gradients()
            return StepResult(loss, norm, rate, np.zeros(0), np.zeros(0), taken=False)
        limit = self._config.grad_clip or math.inf
        clip_grads_with_norm_(self.parts.values(), limit, torch.tensor(norm, device=self.lm.device))
        self.optimizer.step()
        self._drop_gradients()
        loss_G, tokens_G = world.sum(sums_2G.cpu().numpy()) if num_groups else np.zeros((2, 0))
        return StepResult(loss, norm, rate, loss_G, tokens_G)

    def _take_gradients(self) -> None:
        """Let each part have its part of the gradient; a parameter that was not used has none."""
        used = {n: p.grad for n, p in self.lm.parameters.items() if p.grad is not None}
        self.lm.mark_used(used)
        for name, part in self.parts.items():
            part.grad = own_part(used[name]) if name in used else None

    def _norm(self) -> Tensor:
        """Return the norm of this process's part of the gradient."""
        parts = self.parts.values()
        return get_total_norm([part.grad for part in parts if part.grad is not None])

    def _drop_gradients(self) -> None:
        for owner in (self.parts, self.lm.parameters):
            for parameter in owner.values():
                parameter.grad = None

    def optimizer_state(self, step: int) -> OptimizerState:
        """Return what AdamW would use in a step; the tensors are the optimizer's own parts."""
        found = {
            name: self.optimizer.state[part]
            for name, part in self.parts.items()
            if self.optimizer.state.get(part)
        }
        decays = {
            id(parameter): float(group["weight_decay"])
            for group in self.optimizer.param_groups
            for parameter in group["params"]
        }
        beta1, beta2 = self._config.betas
        return OptimizerState(
            exp_avg={name: state["exp_avg"] for name, state in found.items()},
            exp_avg_sq={name: state["exp_avg_sq"] for name, state in found.items()},
            steps={name: float(state["step"]) for name, state in found.items()},
            learning_rate=learning_rate(step, self._config),
            betas=(beta1, beta2),
            eps=float(self.optimizer.defaults["eps"]),
            weight_decay={name: decays[id(p)] for name, p in self.parts.items()},
        )


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """AdamW's moments and settings by parameter name; one that no step has used has no moments."""

    exp_avg: Mapping[str, Tensor]
    exp_avg_sq: Mapping[str, Tensor]
    steps: Mapping[str, float]
    learning_rate: float
    betas: tuple[float, float]
    eps: float
    weight_decay: Mapping[str, float]

    def second_moments(self) -> dict[str, Tensor]:
        """Return the bias-corrected second moments v̂; empty before the first step."""
        beta2 = self.betas[1]
        return {
            name: value / (1 - beta2 ** self.steps[name]) for name, value in self.exp_avg_sq.items()
        }


def adamw_step(value: Tensor, gradient: Tensor, state: OptimizerState, name: str) -> Tensor:
    """Return a parameter's value after one AdamW step (Loshchilov and Hutter 2019).

    ``state`` is left as it is.
    """
    beta1, beta2 = state.betas
    step = state.steps.get(name, 0.0) + 1
    first, second = (1 - beta1) * gradient, (1 - beta2) * gradient.square()
    if name in state.exp_avg:
        first = first + beta1 * state.exp_avg[name]
        second = second + beta2 * state.exp_avg_sq[name]
    root = (second / (1 - beta2**step)).sqrt() + state.eps
    moved: Tensor = first / (1 - beta1**step) / root
    rate = state.learning_rate
    return value * (1 - rate * state.weight_decay[name]) - rate * moved
