"""Influence in a random projection of the gradients, with the probed documents' own curvature.

Source: TRAK (Park et al. 2023) and the paper, which projects to 8,192 dimensions. The projection
is a count sketch (Charikar, Chen and Farach-Colton 2002): each parameter goes into one bucket with
a random sign, so inner products are kept in expectation and a gradient is read once.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mads.rewards.direction import Vector, reference_gradient
from mads.rewards.estimators.question import Measured, Question, document_gradients
from mads.rewards.sections import ProjectedConfig
from mads.seeds import derive
from mads.training.sharded import part_of
from mads.types import Floats


class CountSketch:
    """A seeded linear map from all parameters to ``dims`` numbers."""

    def __init__(self, like: Mapping[str, Tensor], dims: int, seed: int) -> None:
        """Draw the map of parameters that may be cut; it is applied to this process's parts."""
        self._dims = dims
        self._bucket = {}
        for name, value in like.items():
            generator = torch.Generator().manual_seed(derive(seed, "sketch", name))
            # The upper half of the buckets has the sign minus.
            drawn = torch.randint(0, 2 * dims, (value.numel(),), generator=generator)
            own = part_of(drawn.to(torch.int32).view(value.shape), value)
            self._bucket[name] = own.flatten().to(value.device)

    def __call__(self, parts: Vector) -> Tensor:
        """Return the projection in float64, shape (dims,)."""
        device = next(iter(parts.values())).device
        total = torch.zeros(2 * self._dims, device=device)
        for name, part in parts.items():
            total.index_add_(0, self._bucket[name], part.reshape(-1).float())
        return (total[: self._dims] - total[self._dims :]).double()


def influence(gradient_NK: Floats, reference_DK: Floats, damping: float) -> Floats:
    """Return ``g_refᵀ (ΦᵀΦ/N + λI)⁻¹ g_i``, shape (D, N), for N documents and D references.

    λ is ``damping`` times the mean squared length of a document's gradient. The inverse is taken
    among the N documents instead of the K dimensions: Φ(ΦᵀΦ/N + λI)⁻¹ = (ΦΦᵀ/N + λI)⁻¹Φ.
    """
    count = len(gradient_NK)
    kernel_NN = gradient_NK @ gradient_NK.T / count
    damped = damping * float(np.trace(kernel_NN))
    inner_ND = gradient_NK @ reference_DK.T
    solved_ND = np.linalg.solve(kernel_NN + max(damped, 1e-300) * np.eye(count), inner_ND)
    return np.asarray(solved_ND.T, np.float64)


def projected(question: Question) -> Measured:
    """Equation 3 with H = ΦᵀΦ/N + λI over the probed documents, in a random projection."""
    lm, config = question.lm, question.config
    assert isinstance(config, ProjectedConfig)
    sketch = CountSketch(lm.parameters, config.projection_dims, question.seed)
    reference_DK = np.zeros((len(question.directions), config.projection_dims))
    for d, direction in enumerate(question.directions):
        for task, share in direction.parts:
            found = sketch(reference_gradient(lm, task)[0]).cpu().numpy()
            reference_DK[d] += share * lm.world.sum(found)
    gradient_NK = np.empty((len(question.documents), config.projection_dims))
    loss_N = np.empty(len(question.documents))
    for n, (parts, loss) in enumerate(document_gradients(lm, question.documents)):
        gradient_NK[n] = lm.world.sum(sketch(parts).cpu().numpy())
        loss_N[n] = loss
    return Measured(influence(gradient_NK, reference_DK, config.damping), loss_N)
