"""The oracle: the derivative of a document's loss along the reference direction, exactly."""

from __future__ import annotations

import numpy as np

from mads.rewards.direction import dot
from mads.rewards.estimators.probe import Measured, Probe, document_gradients


def gradient(probe: Probe) -> Measured:
    """``r = g(x)ᵀ v`` for each direction v, by one backward pass per document: slow and exact."""
    reward_DN = np.empty((len(probe.directions), len(probe.documents)))
    loss_N = np.empty(len(probe.documents))
    for n, (parts, loss) in enumerate(document_gradients(probe.lm, probe.documents)):
        loss_N[n] = loss
        for d, direction in enumerate(probe.directions):
            reward_DN[d, n] = dot(parts, direction.unit, probe.lm.world)
    return Measured(reward_DN, loss_N)
