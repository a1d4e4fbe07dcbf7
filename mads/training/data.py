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
from dataclasses import dataclass

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
        self.stop = stop
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
        self._offset_N = np.full(len(doc_N), -1)  # of documents in their files, when known
        self._group_N = None if group_N is None else group_N[order]
        self._context = context
        assert num_sequences * context <= num_tokens_N.sum(), "there are tokens for all steps"
        numbers = np.arange(num_sequences, dtype=np.uint64)
        self._sequences = shuffled(numbers, derive(seed, "sequences"))

    def batch(self, number: int, num_sequences: int, document_mask: bool) -> TokenBatch:
        """Return the batch with this number in the stretch.

        Places in documents are counted from each part's first token in the sequence.
        """
        chosen = self._sequences[number * num_sequences : (number + 1) * num_sequences]
        shape = len(chosen), self._context
        found = self._segments(chosen.astype(np.int64) * self._context)
        tokens_BT = torch.from_numpy(
            self._tokens(found, chosen.size * self._context).reshape(shape)
        )
        place_N = np.arange(tokens_BT.numel()) - np.repeat(found.at_S, found.size_S)
        positions_BT = torch.from_numpy(place_N.reshape(shape))
        labels_BT = torch.full_like(tokens_BT, NO_LABEL)
        labels_BT[:, :-1] = tokens_BT[:, 1:]
        grouped = None
        if self._group_N is not None:
            group_N = np.repeat(self._group_N[found.part_S], found.size_S)
            # A group is the label's; the last place has none.
            grouped = torch.from_numpy(group_N.reshape(shape)).roll(-1, dims=1)
        if not document_mask:
            return TokenBatch(tokens_BT, labels_BT, groups_BT=grouped)
        # The first token of a document cannot be told from the document before it.
        labels_BT[:, :-1][positions_BT[:, 1:] == 0] = NO_LABEL
        return TokenBatch(tokens_BT, labels_BT, positions_BT, grouped)

    def _segments(self, start_B: NDArray[np.int64]) -> _Segments:
        """Return what the sequences that begin at these places of the stream are made of."""
        stop_B = start_B + self._context
        first_B = np.searchsorted(self._ends_N, start_B, side="right")
        count_B = np.searchsorted(self._ends_N, stop_B, side="left") - first_B + 1
        row_S = np.repeat(np.arange(len(start_B)), count_B)
        nth_S = np.arange(len(row_S)) - np.repeat(np.cumsum(count_B) - count_B, count_B)
        part_S = first_B[row_S] + nth_S
        begin_S = np.where(nth_S > 0, self._ends_N[part_S - 1], start_B[row_S])
        end_S = np.minimum(self._ends_N[part_S], stop_B[row_S])
        at_S = row_S * self._context + begin_S - start_B[row_S]
        return _Segments(part_S, begin_S + self._shift_N[part_S], end_S - begin_S, at_S)

    def _tokens(self, found: _Segments, size: int) -> NDArray[np.int64]:
        """Return the tokens of segments, one after the other."""
        dtype = self._store.tokens(int(self._doc_N[0]))[0].dtype
        width = dtype.itemsize
        token_N = np.empty(size, dtype)
        room = token_N.view(np.uint8).data
        columns = found.part_S, found.first_S, found.size_S, found.at_S
        for part, first, count, at in zip(*(column.tolist() for column in columns), strict=True):
            reader, row = self._store.tokens(int(self._doc_N[part]))
            offset = int(self._offset_N[part])
            if offset < 0:
                self._offset_N[part] = offset = reader.offset(row)
            reader.read_into(room[at * width : (at + count) * width], offset + first * width)
        return token_N.astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Segments:
    """S pieces of parts: tokens [first, first + size) of a part's document, put at place ``at``.

    parts of 3, 2 and 9 tokens, sequences of 4:  |0 0 0 1|1 2 2 2|2 2 2 2|
    """

    part_S: NDArray[np.int64]
    first_S: NDArray[np.int64]
    size_S: NDArray[np.int64]
    at_S: NDArray[np.int64]


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
