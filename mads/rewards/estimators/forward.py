"""The default: a central difference along the reference direction; two forward passes."""

from __future__ import annotations

import numpy as np
import torch

from mads.rewards.direction import Vector, norm
from mads.rewards.estimators.question import Measured, Question, document_losses, parameters_kept
from mads.rewards.sections import EPSILON, ForwardConfig
from mads.training.model import LanguageModel
from mads.types import Floats


def epsilon_of(config: ForwardConfig, lm: LanguageModel) -> float:
    """Return ‖εv‖ / ‖θ‖: the recipe's, or what suits the precision that the model is asked in."""
    return config.epsilon or EPSILON[lm.feedback_precision]


def forward(question: Question) -> Measured:
    """``r = [L(θ + εv) − L(θ − εv)] / 2ε`` for each direction v.

    ε is set so that ‖εv‖ / ‖θ‖ is ``config.epsilon``, or what suits the model's precision. The
    loss is the mean of both sides. It needs no gradient of a document, and puts the parameters back
    bit for bit.
    """
    config = question.config
    assert isinstance(config, ForwardConfig)
    reward_DN = np.empty((len(question.directions), len(question.documents)))
    loss_DN = np.empty_like(reward_DN)

    def moved(kept: Vector, unit: Vector, distance: float) -> Floats:
        with torch.no_grad():
            for name, part in question.lm.parts.items():
                part.copy_(kept[name] + distance * unit[name])
        return document_losses(question.lm, question.documents, config.batch_size)

    with parameters_kept(question.lm) as kept:
        world = question.lm.world
        length = norm(kept, world)
        for i, direction in enumerate(question.directions):
            unit = direction.unit
            epsilon = epsilon_of(config, question.lm) * length / norm(unit, world)
            up_N, down_N = moved(kept, unit, epsilon), moved(kept, unit, -epsilon)
            reward_DN[i] = (up_N - down_N) / (2 * epsilon)
            loss_DN[i] = (up_N + down_N) / 2
    return Measured(reward_DN, loss_DN.mean(axis=0))
