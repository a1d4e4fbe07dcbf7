"""What a recipe says of each estimator. No torch here: recipes are read where it is not needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mads.codec import Within
from mads.config import RewardsConfig


@dataclass(frozen=True, slots=True)
class ForwardConfig(RewardsConfig):
    """``forward``: a central difference."""

    epsilon: Annotated[float, Within(1e-8, 0.1)] = 3e-4  # ‖εv‖ / ‖θ‖


@dataclass(frozen=True, slots=True)
class GradientConfig(RewardsConfig):
    """``gradient``: exact, one backward pass for each document."""


@dataclass(frozen=True, slots=True)
class OneStepConfig(RewardsConfig):
    """``one_step``: the truth for one optimizer step."""


@dataclass(frozen=True, slots=True)
class ProjectedConfig(RewardsConfig):
    """``projected``: the paper's random projection."""

    projection_dims: Annotated[int, Within(1, 2**24)] = 8_192


ESTIMATOR_SECTIONS: dict[str, type[RewardsConfig]] = {
    "forward": ForwardConfig,
    "gradient": GradientConfig,
    "one_step": OneStepConfig,
    "projected": ProjectedConfig,
}
