"""Packing: every token of the round once, documents kept apart, order from the seed alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import planted
import pytest
import torch

from mads.config import TrainingConfig
from mads.store.store import Store
from mads.training.data import RoundData, StretchData, padded_batch
from mads.training.model import NO_LABEL


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(planted.build(tmp_path_factory.mktemp("planted")))


def documents(store: Store) -> tuple[np.ndarray, np.ndarray]:
    docs = store.order.docs(np.arange(40))
    sizes = [len(reader.row(row)) for reader, row in (store.tokens(int(d)) for d in docs)]
    return docs, np.array(sizes)


def test_every_token_is_read_once_and_the_last_ones_are_cut(store: Store) -> None:
    docs, sizes = documents(store)
    context = 16
    num = int(sizes.sum()) // context
    data = StretchData(store, docs, sizes, num, context, seed=1)
    batches = [data.batch(i, 1, document_mask=True) for i in range(num)]
    found = torch.cat([b.tokens_BT.flatten() for b in batches]).numpy()
    everything = np.concatenate(
        [reader.row(row) for reader, row in (store.tokens(int(doc)) for doc in docs)]
    )
    assert len(found) == num * context
    missing = np.bincount(everything, minlength=300) - np.bincount(found, minlength=300)
    assert missing.min() >= 0
    assert missing.sum() == int(sizes.sum()) - num * context < context


def test_parts_of_documents_are_read_token_by_token(store: Store) -> None:
    """Of every document the tokens [first, first + num) and no others; places start anew."""
    docs, sizes = documents(store)
    rng = np.random.default_rng(0)
    first = rng.integers(0, sizes)
    num = rng.integers(1, sizes - first + 1)
    begun = first > 0  # of these the tokens before are a part too
    docs, num = np.concatenate([docs, docs[begun]]), np.concatenate([num, first[begun]])
    first = np.concatenate([first, 0 * first[begun]])
    end = int(num.sum()) // 8 * 8
    data = StretchData(store, docs, num, end // 8, 8, seed=1, first_token_N=first)
    order = np.argsort(data._sequences)
    batches = [data.batch(int(i), 1, document_mask=True) for i in order]
    stream = torch.cat([batch.tokens_BT.flatten() for batch in batches]).numpy()
    found = [batch.positions_BT for batch in batches if batch.positions_BT is not None]
    places = torch.cat(found).flatten().numpy()
    parts = {}
    for doc, start, size in zip(docs.tolist(), first.tolist(), num.tolist(), strict=True):
        reader, row = store.tokens(doc)
        parts[doc, start] = reader.row(row)[start : start + size]
    at = 0
    for doc, begin in zip(data._doc_N.tolist(), _firsts(data), strict=True):
        expected = parts.pop((doc, begin))[: end - at]
        assert stream[at : at + len(expected)].tolist() == expected.tolist()
        if len(expected):
            assert places[at] == 0
        at += len(expected)
    assert at == end
    assert not parts


def _firsts(data: StretchData) -> list[int]:
    """Return where in its document each part of the stream begins."""
    starts = np.concatenate(([0], data._ends_N[:-1]))
    firsts: list[int] = (data._shift_N + starts).tolist()
    return firsts


def test_the_order_of_parts_depends_on_the_seed_only(store: Store) -> None:
    docs, sizes = documents(store)
    half = sizes // 2
    docs, first = np.concatenate([docs, docs]), np.concatenate([0 * half, half])
    lengths = np.concatenate([half, sizes - half])
    count = int(sizes.sum()) // 16
    turned = np.random.default_rng(0).permutation(len(first))
    batches = [
        StretchData(store, docs[order], lengths[order], count, 16, 1, first[order])
        .batch(0, count, document_mask=True)
        .tokens_BT
        for order in (np.arange(len(first)), turned)
    ]
    assert torch.equal(*batches)


def test_labels_stay_inside_a_document(store: Store) -> None:
    docs, sizes = documents(store)
    data = StretchData(store, docs, sizes, 8, 32, seed=1)
    batch = data.batch(0, 8, document_mask=True)
    assert batch.positions_BT is not None
    for tokens, labels, places in zip(
        batch.tokens_BT, batch.labels_BT, batch.positions_BT, strict=True
    ):
        assert labels[-1] == -100
        for t in range(31):
            starts = places[t + 1] == 0
            assert labels[t] == (-100 if starts else tokens[t + 1])
            assert starts or places[t + 1] == places[t] + 1
            if starts:
                assert tokens[t] == store.tokenizer.end_of_text
    plain = data.batch(0, 8, document_mask=False)
    assert plain.positions_BT is None
    assert torch.equal(plain.labels_BT[:, :-1], plain.tokens_BT[:, 1:])


def test_the_order_depends_on_the_seed_only(store: Store) -> None:
    docs, sizes = documents(store)
    one = StretchData(store, docs, sizes, 16, 16, seed=1)
    backwards = StretchData(store, docs[::-1], sizes[::-1], 16, 16, seed=1)
    other = StretchData(store, docs, sizes, 16, 16, seed=2)
    whole = one.batch(0, 16, document_mask=True).tokens_BT
    assert torch.equal(whole, backwards.batch(0, 16, document_mask=True).tokens_BT)
    assert not torch.equal(whole, other.batch(0, 16, document_mask=True).tokens_BT)
    # Two halves, as two processes would read them, are the whole.
    halves = [one.batch(i, 8, document_mask=True).tokens_BT for i in range(2)]
    assert torch.equal(torch.cat(halves), whole)


def test_cells_are_mixed_within_a_batch(tmp_path: Path) -> None:
    """Documents are not read cell by cell."""
    store = Store(planted.build(tmp_path))
    docs = store.order.docs(np.arange(int(store.cells.num_docs_C.sum())))
    sizes = np.array([len(r.row(i)) for r, i in (store.tokens(int(d)) for d in docs)])
    data = StretchData(store, docs, sizes, int(sizes.sum()) // 32, 32, seed=1)
    tokenizer = store.tokenizer.tokenizer
    text = tokenizer.decode(data.batch(0, 16, document_mask=True).tokens_BT.flatten().tolist())
    assert any(word in text for word in ("cat", "fox", "dog", "man"))
    assert any(word in text for word in ("cinco", "verde", "uno"))


def test_a_step_reads_what_was_selected_for_its_stretch(store: Store) -> None:
    docs, sizes = documents(store)
    steps = np.repeat(np.array([10, 12, 13], np.uint64), [20, 10, 10])
    config = TrainingConfig(context=16, batch_tokens=32)
    data = RoundData(store, docs, 0 * sizes, sizes, steps, 15, config, seed=1)
    for first, stop in ((10, 12), (12, 13), (13, 15)):
        own = steps == first
        alone = StretchData(store, docs[own], sizes[own], 2 * (stop - first), 16, seed=1)
        for step in range(first, stop):
            found = data.batch(step)
            expected = alone.batch(step - first, 2, document_mask=True)
            assert torch.equal(found.tokens_BT, expected.tokens_BT)
            assert torch.equal(found.labels_BT, expected.labels_BT)


class OneLongDocument:
    """Document 0 holds 128 times the token 1, every other document 8 times the token 2."""

    lengths_N = np.array([128, *[8] * 48])
    dtype = np.dtype(np.uint16)

    def tokens(self, doc: int) -> tuple[OneLongDocument, int]:
        return self, doc

    def offset(self, row: int) -> int:
        return 0 if row == 0 else 1000

    def read_into(self, out: memoryview, begin: int) -> None:
        out[:] = np.full(len(out) // 2, 1 if begin < 1000 else 2, np.uint16).tobytes()


def test_a_long_document_spreads_over_several_batches() -> None:
    """Its 16 sequences would fill 4 or 5 batches if the sequences were not shuffled."""
    store: Any = OneLongDocument()
    docs = np.arange(49, dtype=np.uint64)
    for seed in range(5):
        data = StretchData(store, docs, store.lengths_N, 64, 8, seed=seed)
        batches = [data.batch(i, 4, document_mask=True).tokens_BT for i in range(16)]
        assert sum(int((tokens == 1).sum()) for tokens in batches) == 128
        assert sum(bool((tokens == 1).any()) for tokens in batches) >= 8


def test_padding_by_hand() -> None:
    batch = padded_batch([np.array([5, 6, 7]), np.array([8, 9])], [2, 1])
    assert batch.tokens_BT.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch.labels_BT.tolist() == [[-100, 7, -100], [9, -100, -100]]


@pytest.mark.parametrize("document_mask", [True, False])
def test_each_label_is_in_the_group_of_its_token(store: Store, document_mask: bool) -> None:
    """The slow way: walk through the stream token by token, document after document."""
    docs, sizes = documents(store)
    group_N = np.arange(len(docs)) % 5
    num = int(sizes.sum()) // 16
    data = StretchData(store, docs, sizes, num, 16, seed=1, group_N=group_N)
    group_of = dict(zip(docs.tolist(), group_N.tolist(), strict=True))
    ends = data._ends_N.tolist()
    starts = [0, *ends[:-1]]
    stream = [
        group_of[doc]
        for doc, start, end in zip(data._doc_N.tolist(), starts, ends, strict=True)
        for _ in range(end - start)
    ]
    for step in range(num // 2):
        batch = data.batch(step, 2, document_mask)
        assert batch.groups_BT is not None
        for row, sequence in enumerate(data._sequences[2 * step : 2 * step + 2].tolist()):
            own = stream[16 * sequence : 16 * (sequence + 1)]
            counted = batch.labels_BT[row] != NO_LABEL
            assert not counted[-1]
            assert batch.groups_BT[row, :-1].tolist() == own[1:]
    without = StretchData(store, docs, sizes, num, 16, seed=1).batch(0, 2, document_mask)
    assert without.groups_BT is None
    assert torch.equal(without.tokens_BT, data.batch(0, 2, document_mask).tokens_BT)
