"""AdamW's second moments where nobody has them: squared gradients of a few batches.

v̂ is a running mean of the squared gradients of batches, so their mean over a few batches of what
the model has just read stands in for it. A checkpoint that other trainers write often comes without
its optimizer's state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mads.config import TrainingConfig
from mads.rewards.direction import Vector
from mads.training.model import NO_LABEL, LanguageModel, TokenBatch
from mads.training.trainer import OptimizerState

BATCHES = 8
_SETTLED = 10**9  # steps after which AdamW's bias correction is 1


def squared_gradients(lm: LanguageModel, batches: Sequence[TokenBatch], micro: int) -> Vector:
    """Return the mean over batches of the squared gradient of a batch's mean loss.

        gradients of two batches 1 and 3:  (1² + 3²) / 2 = 5

    ``micro``: sequences in one backward pass. Nothing of the model changes.
    """
    total: Vector = {name: torch.zeros_like(part) for name, part in lm.parts.items()}
    with lm.evaluating():
        for batch in batches:
            labels = int((batch.labels_BT != NO_LABEL).sum())
            whole: Vector = {}
            for share in batch.shares(lm.world, micro):
                for name, part in lm.gradients(lm.token_losses(share).sum() / labels).items():
                    whole[name] = whole[name] + part if name in whole else part
            for name, part in whole.items():
                total[name] += part.square() / len(batches)
    return total


def estimated_state(
    lm: LanguageModel, batches: Sequence[TokenBatch], config: TrainingConfig, rate: float
) -> OptimizerState:
    """Return an optimizer's state whose second moments are estimated, and which has no first ones.

    ``rate`` is the learning rate of the next step.
    """
    beta1, beta2 = config.betas
    squares = squared_gradients(lm, batches, config.micro_batch)
    return OptimizerState(
        exp_avg={name: torch.zeros_like(part) for name, part in squares.items()},
        exp_avg_sq=squares,
        steps=dict.fromkeys(squares, float(_SETTLED)),
        learning_rate=rate,
        betas=(beta1, beta2),
        eps=1e-8,
        weight_decay=dict.fromkeys(squares, config.weight_decay),
    )
