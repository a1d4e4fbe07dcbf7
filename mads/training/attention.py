"""Attention inside documents: one function for every layer, and no mask where none is needed.

Registered under a name that transformers has no mask for, so it builds none and hands our own
arguments through to every layer. Sequences of one document each need no mask at all. Where
documents share a sequence, flash attention on a GPU takes their borders (``varlen_attn``), and
elsewhere one mask serves all layers of a forward pass:

    positions 0 1 2 0 1      token 3 sees itself, token 4 sees 3 and 4
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's users know
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

NAME = "mads"
LEAST_BORDERS = 64
# What some models ask of attention and this function does not do.
FOREIGN = ("softcap", "s_aux", "position_bias")


class Foreign(Exception):
    """A layer asks for something that only the model's own attention does."""


@dataclass(frozen=True, slots=True)
class Borders:
    """Where documents begin: a mask (B, 1, T, T), or their places in the flattened batch.

    ``cu_seq_lens`` is int32, from 0 to B·T, padded with B·T to a power of two, so that few lengths
    occur: a document without tokens at the end changes nothing.
    """

    mask_B1TT: Tensor | None = None
    cu_seq_lens: Tensor | None = None

    def arguments(self, device: torch.device) -> dict[str, Any]:
        """Return what a model is called with beside its tokens, on its device."""
        both = {"mads_mask": self.mask_B1TT, "mads_borders": self.cu_seq_lens}
        return {
            name: None if part is None else part.to(device, non_blocking=True)
            for name, part in both.items()
        }


def borders(positions_BT: Tensor, flash: bool) -> Borders:
    """Return the borders of documents, whose tokens' places begin at 0 (a sequence always does)."""
    first_BT = positions_BT == 0
    first_BT[:, 0] = True
    if not flash:
        document_BT = first_BT.cumsum(1)
        same_BTT = document_BT[:, :, None] == document_BT[:, None, :]
        return Borders(mask_B1TT=same_BTT.tril()[:, None])
    start_D = first_BT.flatten().nonzero()[:, 0].to(torch.int32)
    total = positions_BT.numel()
    size = max(LEAST_BORDERS, 1 << len(start_D).bit_length())
    padding = torch.full((size - len(start_D),), total, dtype=torch.int32, device=start_D.device)
    return Borders(cu_seq_lens=torch.cat([start_D, padding]))


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    mads_mask: Tensor | None = None,
    mads_borders: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Return causal attention (B, T, H, D) of queries (B, H, T, D), keys and values (B, K, T, D).

    K divides H: grouped queries. Raises Foreign where a layer asks for more than this.
    """
    size, heads, length, width = query.shape
    if attention_mask is not None or (sliding_window or length) < length:
        raise Foreign("a mask or a window of its own")
    if any(others.get(name) is not None for name in FOREIGN):
        raise Foreign(", ".join(name for name in FOREIGN if others.get(name) is not None))
    grouped = key.shape[1] != heads
    rate = dropout if module.training else 0.0
    if mads_borders is not None and rate == 0:
        flat = [part.transpose(1, 2).flatten(0, 1) for part in (query, key, value)]
        found = varlen_attn(
            *(flat[0], flat[1], flat[2], mads_borders, mads_borders, length, length),
            scale=scaling,
            window_size=(-1, 0),
            enable_gqa=grouped,
        )
        assert isinstance(found, Tensor)
        return found.view(size, length, heads, width), None
    if mads_borders is not None:
        raise Foreign("dropout of attention")
    found = F.scaled_dot_product_attention(
        *(query, key, value),
        attn_mask=mads_mask,
        dropout_p=rate,
        is_causal=mads_mask is None,
        scale=scaling,
        enable_gqa=grouped,
    )
    return found.transpose(1, 2), None


AttentionInterface.register(NAME, attend)
