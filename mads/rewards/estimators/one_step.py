"""The ground truth of one document: the reference loss after one optimizer step on it.

Source: MATES (Yu et al. 2024), with the run's own AdamW state instead of a fresh optimizer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mads.rewards.direction import Direction
from mads.rewards.estimators.question import (
    Measured,
    Question,
    document_gradients,
    parameters_kept,
    put_back,
)
from mads.training.model import LanguageModel
from mads.training.task_loss import task_loss
from mads.training.trainer import adamw_step
from mads.types import Floats


def one_step(question: Question) -> Measured:
    """``r_t = [L_t(θ) − L_t(AdamW(θ, g(x)))] / ‖P g_t‖`` for each reference task t.

    The division by the length of the task's preconditioned gradient makes tasks comparable, as
    directions of length 1 do. The step has the learning rate of the run's next one and is not
    clipped: in a batch, no document's gradient is clipped by itself.
    """
    lm, optimizer = question.lm, question.optimizer
    before_D = _reference(lm, question.directions)
    reward_DN = np.empty((len(question.directions), len(question.documents)))
    loss_N = np.empty(len(question.documents))
    with parameters_kept(lm) as kept:
        for n, (parts, loss) in enumerate(document_gradients(lm, question.documents)):
            loss_N[n] = loss
            with torch.no_grad():
                for name, part in lm.parts.items():
                    part.copy_(adamw_step(kept[name], parts[name], optimizer, name))
            reward_DN[:, n] = before_D - _reference(lm, question.directions)
            put_back(lm, kept)
    return Measured(reward_DN, loss_N)


def _reference(lm: LanguageModel, directions: Sequence[Direction]) -> Floats:
    """Return each direction's reference loss in units of its gradient's length, shape (D,)."""
    return np.array(
        [
            sum(share * task_loss(lm, task) for task, share in direction.parts)
            for direction in directions
        ]
    )
