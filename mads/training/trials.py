"""What a model is tried with before it is trained, and what it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LARGE = 10.0  # standard deviation of the head's weights in a trial


def trial_tokens(model: nn.Module) -> Tensor:
    """Return two sequences of 16 tokens of a model's vocabulary, which differ everywhere."""
    words = int(getattr(getattr(model, "config", None), "vocab_size", 97))
    return (torch.arange(32).view(2, 16) * 7 + 3) % words


@contextmanager
def large_logits(model: nn.Module) -> Iterator[None]:
    """Make a model's logits large for a while: a cap on them does not show while they are small."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    weight = getattr(head, "weight", None)
    if weight is None:
        yield
        return
    before = weight.detach().clone()
    weight.mul_(LARGE / float(weight.std().clamp(min=1e-6)))
    try:
        yield
    finally:
        weight.copy_(before)


def decoder_blocks(model: nn.Module) -> list[nn.Module]:
    """Return a decoder's blocks: the longest list of modules of one class."""
    lists = [list(part) for part in model.modules() if isinstance(part, nn.ModuleList)]
    alike = [part for part in lists if len({type(block) for block in part}) == 1]
    return max(alike, key=len, default=[])


def agree(one: Tensor, two: Tensor) -> bool:
    """Tell whether losses or logits are the same but for rounding in float32."""
    return one.shape == two.shape and bool(torch.allclose(one, two, rtol=1e-4, atol=1e-4))
