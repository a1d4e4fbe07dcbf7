"""The truth of one optimizer step."""

from __future__ import annotations

import numpy as np
from rewards.tiny import World


def test_it_orders_documents_as_their_gradients_do(world: World) -> None:
    """At a small learning rate; AdamW's momentum adds nearly the same to all of them."""
    truth, slope = (world.rewards(name).reward_DN[0] for name in ("one_step", "gradient"))
    assert np.corrcoef(truth, slope)[0, 1] > 0.6
