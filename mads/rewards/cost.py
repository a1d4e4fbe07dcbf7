"""What passes of a model and a round of rewards cost, in floating-point operations.

For each parameter and token a forward pass takes 2 and a backward pass 4 (Kaplan et al. 2020).
Attention adds 12·L·d·T to the 6·N of a token's two passes (Chowdhery et al. 2022, appendix B):
2·L·d·T for each that N has. What rewards cost is counted for each parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FORWARD = 2
BACKWARD = 4
STEP = FORWARD + BACKWARD


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Trainable parameters N, layers L and the width d of a model's attention."""

    parameters: int
    layers: int
    width: int

    def token_flops(self, passes: int, length: float) -> float:
        """Return a token's operations in a sequence of T = ``length``: passes · (N + 2·L·d·T).

        ``passes``: FORWARD, BACKWARD, or STEP for both.
        """
        return passes * (self.parameters + 2 * self.layers * self.width * length)


@dataclass(frozen=True, slots=True)
class Work:
    """What a round of rewards had to do."""

    probes: int
    probe_tokens: int
    directions: int
    reference_tokens: int  # of all items of all reference tasks
    oracle_docs: int  # probes that are measured a second time, exactly


COSTS: dict[str, Callable[[Work], float]] = {
    "forward": lambda work: 2 * FORWARD * work.directions * work.probe_tokens,
    "gradient": lambda work: STEP * work.probe_tokens,
    "one_step": lambda work: (
        STEP * work.probe_tokens + FORWARD * (work.probes + 1) * work.reference_tokens
    ),
    "projected": lambda work: STEP * (work.probe_tokens + work.reference_tokens),
}
"""What each of ESTIMATORS does for the rewards themselves."""


def reward_flops(estimator: str, work: Work) -> float:
    """Return the operations for each parameter: reference gradients, probes, the oracle's check.

    The oracle's documents count as probes of the mean length.
    """
    oracle = 0.0
    if estimator != "gradient" and work.probes:
        oracle = STEP * work.probe_tokens * min(work.oracle_docs / work.probes, 1)
    return STEP * work.reference_tokens + COSTS[estimator](work) + oracle
