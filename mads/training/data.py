"""From selected documents, or parts of them, to batches.

    parts -> seeded order -> one stream of tokens -> sequences of T -> seeded order -> batches

A stretch is the steps from one selection to the next. Its stream is cut at its last token, and
the sequences are shuffled once more, since a long document would else fill whole batches. The
order depends on the seed and the round only, so it is the same on any number of processes; a
batch is found from its step alone, so nothing needs to be saved to go on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mads.config import TrainingConfig
from mads.seeds import derive, mix64, shuffled
from mads.store.store import Store
from mads.training.model import NO_LABEL, TokenBatch


class RoundData:
    """The batches of one round, stretch after stretch.

    Of N documents the tokens [first, first + num) are read. ``step_N`` is the first step of the
    stretch that reads them (ascending); the round ends before ``stop``. ``group_N`` is the group of
    each, where losses by group are asked for.
    """

    def __init__(
        self,
        store: Store,
        doc_N: NDArray[np.uint64],
        first_token_N: NDArray[np.uint32],
        num_tokens_N: NDArray[np.uint32],
        step_N: NDArray[np.uint64],
        stop: int,
        config: TrainingConfig,
        seed: int,
        group_N: NDArray[np.int64] | None = None,
    ) -> None:
        firsts, starts = np.unique(step_N, return_index=True)
        self._firsts: list[int] = firsts.tolist()
        self._sequences = config.batch_tokens // config.context
        self._document_mask = config.document_mask
        steps = np.diff([*self._firsts, stop]).tolist()
        self._stretches = [
            StretchData(
                *(store, docs, sizes, count * self._sequences, config.context, seed, begins, groups)
            )
            for docs, begins, sizes, groups, count in zip(
                np.split(doc_N, starts[1:]),
                np.split(first_token_N.astype(np.int64), starts[1:]),
                np.split(num_tokens_N.astype(np.int64), starts[1:]),
                [None] * len(firsts) if group_N is None else np.split(group_N, starts[1:]),
                steps,
                strict=True,
            )
        ]

    def batch(self, step: int) -> TokenBatch:
        """Return the batch of an optimizer step of the round."""
        at = bisect_right(self._firsts, step) - 1
        number = step - self._firsts[at]
        return self._stretches[at].batch(number, self._sequences, self._document_mask)


class StretchData:
    """The batches of one stretch.

    Of N documents the tokens [first, first + num) are read, without ``first_token_N`` from 0 on.
    """

    def __init__(
        self,
        store: Store,
        doc_N: NDArray[np.uint64],
        num_tokens_N: NDArray[np.int64],
        num_sequences: int,
        context: int,
        seed: int,
        first_token_N: NDArray[np.int64] | None = None,
        group_N: NDArray[np.int64] | None = None,
    ) -> None:
        if first_token_N is None:
            first_token_N = np.zeros(len(doc_N), np.int64)
        order = _part_order(doc_N, first_token_N, derive(seed, "order"))
        self._store = store
        self._doc_N = doc_N[order]
        self._ends_N = np.cumsum(num_tokens_N[order])
        # Where in its document the token stands that is at place 0 of the stream.
        self._shift_N = first_token_N[order] - (self._ends_N - num_tokens_N[order])
        self._group_N = None if group_N is None else group_N[order]
        self._context = context
        assert num_sequences * context <= num_tokens_N.sum(), "there are tokens for all steps"
        numbers = np.arange(num_sequences, dtype=np.uint64)
        self._sequences = shuffled(numbers, derive(seed, "sequences"))

    def batch(self, number: int, num_sequences: int, document_mask: bool) -> TokenBatch:
        """Return the batch with this number in the stretch."""
        chosen = self._sequences[number * num_sequences : (number + 1) * num_sequences]
        found = [self._sequence(int(sequence)) for sequence in chosen]
        tokens_BT, positions_BT, *groups = (
            torch.from_numpy(np.stack(part)) for part in zip(*found, strict=True)
        )
        labels_BT = torch.full_like(tokens_BT, NO_LABEL)
        labels_BT[:, :-1] = tokens_BT[:, 1:]
        # A group is the label's; the last place has none.
        grouped = groups[0].roll(-1, dims=1) if groups else None
        if not document_mask:
            return TokenBatch(tokens_BT, labels_BT, groups_BT=grouped)
        # The first token of a document cannot be told from the document before it.
        labels_BT[:, :-1][positions_BT[:, 1:] == 0] = NO_LABEL
        return TokenBatch(tokens_BT, labels_BT, positions_BT, grouped)

    def _sequence(self, number: int) -> tuple[NDArray[np.int64], ...]:
        """Return tokens, places counted from each part's first token in the sequence, and groups.

        The groups are left out where nobody asks for them.
        """
        start, stop = number * self._context, (number + 1) * self._context
        tokens, places, groups = [], [], []
        at = start
        index = int(np.searchsorted(self._ends_N, start, side="right"))
        while at < stop:
            end, shift = min(int(self._ends_N[index]), stop), int(self._shift_N[index])
            reader, row = self._store.tokens(int(self._doc_N[index]))
            part = reader.row(row, shift + at, shift + end)
            tokens.append(part)
            places.append(np.arange(len(part)))
            if self._group_N is not None:
                groups.append(np.full(len(part), int(self._group_N[index])))
            at += len(part)
            index += 1
        return tuple(np.concatenate(part) for part in (tokens, places, groups) if part)


def _part_order(
    doc_N: NDArray[np.uint64], first_token_N: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Return the indices that put parts into a seeded order that their order cannot change."""
    first_N = first_token_N.astype(np.uint64)
    # A document's first part stands where the whole document would.
    name_N = doc_N ^ np.where(first_N > 0, mix64(first_N, derive(seed, "part")), np.uint64(0))
    return np.lexsort((first_N, doc_N, mix64(name_N, seed)))


def padded_batch(sequences: Sequence[NDArray[np.int64]], first_label: Sequence[int]) -> TokenBatch:
    """Pad sequences on the right; the loss counts on tokens from ``first_label`` (>= 1) on.

    Padding cannot be seen by the tokens before it and has no label.
    """
    longest = max(len(sequence) for sequence in sequences)
    tokens_BT = torch.zeros((len(sequences), longest), dtype=torch.int64)
    labels_BT = torch.full_like(tokens_BT, NO_LABEL)
    for i, (sequence, first) in enumerate(zip(sequences, first_label, strict=True)):
        tokens = torch.from_numpy(sequence)
        tokens_BT[i, : len(tokens)] = tokens
        labels_BT[i, first - 1 : len(tokens) - 1] = tokens[first:]
    return TokenBatch(tokens_BT, labels_BT)
