"""What a recipe says of each estimator. No torch here: recipes are read where it is not needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mads.codec import Within
from mads.config import RewardsConfig


@dataclass(frozen=True, slots=True)
class ForwardConfig(RewardsConfig):
    """``forward``: a central difference."""

    epsilon: Annotated[float, Within(0, 0.1)] = 0.0  # ‖εv‖ / ‖θ‖; 0 = by the precision


@dataclass(frozen=True, slots=True)
class GradientConfig(RewardsConfig):
    """``gradient``: exact, one backward pass for each document."""


@dataclass(frozen=True, slots=True)
class OneStepConfig(RewardsConfig):
    """``one_step``: the truth for one optimizer step."""


@dataclass(frozen=True, slots=True)
class ProjectedConfig(RewardsConfig):
    """``projected``: the paper's random projection."""

    projection_dims: Annotated[int, Within(1, 2**24)] = 8_192  # numbers that a gradient becomes


EPSILON = {"float32": 3e-4, "tf32": 3e-3, "bfloat16": 1e-2}
"""How far ``forward`` goes: the coarser the losses are, the farther, so that they differ enough."""

ESTIMATOR_SECTIONS: dict[str, type[RewardsConfig]] = {
    "forward": ForwardConfig,
    "gradient": GradientConfig,
    "one_step": OneStepConfig,
    "projected": ProjectedConfig,
}
