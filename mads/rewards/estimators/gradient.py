"""The oracle: the derivative of a document's loss along the reference direction, exactly."""

from __future__ import annotations

import numpy as np

from mads.rewards.direction import dot
from mads.rewards.estimators.question import Measured, Question, document_gradients


def gradient(question: Question) -> Measured:
    """``r = g(x)ᵀ v`` for each direction v, by one backward pass per document: slow and exact."""
    reward_DN = np.empty((len(question.directions), len(question.documents)))
    loss_N = np.empty(len(question.documents))
    for n, (parts, loss) in enumerate(document_gradients(question.lm, question.documents)):
        loss_N[n] = loss
        for d, direction in enumerate(question.directions):
            reward_DN[d, n] = dot(parts, direction.unit, question.lm.world)
    return Measured(reward_DN, loss_N)
