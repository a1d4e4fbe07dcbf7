"""The loss of every token without the logits of all of them.

Logits of N tokens over V words are the largest thing of a small model's step. They are made for a
part of the tokens at a time, and where they would be many, made again in the backward pass instead
of being kept (Wijmans et al. 2024, arXiv 2411.09009, do the same within a kernel). Tokens without a
label, most of a reference task's, need none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's users know
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

NO_LABEL = -100
CHUNK = 4096  # tokens
KEPT_NUMBERS = 1 << 26  # logits that are kept for the backward pass, 256 MiB in float32


def head_losses(head: nn.Module, hidden_NH: Tensor, label_N: Tensor, few: bool) -> Tensor:
    """Return the cross-entropy in nats of N hidden states, float32, 0 where there is no label.

    ``head`` turns hidden states into logits of V words. ``few``: most tokens have no label; they
    are left out, which takes a look at the labels (on a GPU, a wait).
    """
    if not few:
        return _in_chunks(head, hidden_NH, label_N)
    here = label_N != NO_LABEL
    found_N = torch.zeros(len(label_N), device=hidden_NH.device)
    return found_N.masked_scatter(here, _in_chunks(head, hidden_NH[here], label_N[here]))


def _in_chunks(head: nn.Module, hidden_NH: Tensor, label_N: Tensor) -> Tensor:
    num_words = getattr(head, "out_features", 1)
    if len(label_N) * num_words <= KEPT_NUMBERS:
        return _losses(head, hidden_NH, label_N)
    parts = []
    for start in range(0, len(label_N), CHUNK):
        part = head, hidden_NH[start : start + CHUNK], label_N[start : start + CHUNK]
        kept = not torch.is_grad_enabled()
        parts.append(_losses(*part) if kept else checkpoint(_losses, *part, use_reentrant=False))
    return torch.cat(parts)


def _losses(head: nn.Module, hidden_NH: Tensor, label_N: Tensor) -> Tensor:
    logits_NV: Tensor = head(hidden_NH).float()
    return F.cross_entropy(logits_NV, label_N, ignore_index=NO_LABEL, reduction="none")
