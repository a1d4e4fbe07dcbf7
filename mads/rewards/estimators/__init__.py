"""Each document's reward: how much training on it lowers the reference loss.

Equation 3 with its sign mended: ``r = + g_refᵀ H⁻¹ g(x)``; positive = training on x lowers the
reference loss. ``forward`` and ``gradient`` give it in nats per token and unit of parameter
distance; the other two have units of their own. Nothing is left changed by any of them:
parameters are put back bit for bit, gradients, optimizer and random state are not touched.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mads.errors import DataError
from mads.rewards.estimators.forward import forward
from mads.rewards.estimators.gradient import gradient
from mads.rewards.estimators.one_step import one_step
from mads.rewards.estimators.projected import projected
from mads.rewards.estimators.question import Measured, Question

Estimator = Callable[[Question], Measured]

ESTIMATORS: dict[str, Estimator] = {
    "forward": forward,
    "gradient": gradient,
    "one_step": one_step,
    "projected": projected,
}

SAME_UNIT = frozenset({"forward", "gradient"})
"""Estimators whose rewards are those of ``gradient`` in size too, not only in order."""


def estimate(question: Question) -> Measured:
    """Measure the question's documents with the recipe's estimator.

    Raises DataError without documents, and for a document of fewer than two tokens, which
    predicts nothing.
    """
    if not question.documents:
        raise DataError("no document could be probed: the corpus has none of two tokens or more.")
    short = [n for n, document in enumerate(question.documents) if len(document) < 2]
    if short:
        raise DataError(
            f"probed document {short[0]} has fewer than two tokens; expected 2 or more."
        )
    measured = ESTIMATORS[question.config.estimator](question)
    assert measured.reward_DN.shape == (len(question.directions), len(question.documents))
    assert np.shape(measured.loss_N) == (len(question.documents),)
    return measured
