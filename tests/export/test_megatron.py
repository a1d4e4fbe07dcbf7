"""The tokens of a selection for another trainer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mads.corpus.tokens import TokenReader
from mads.export.megatron import TOKENS, write_tokens
from mads.store.store import Store


def test_the_tokens_are_those_of_the_documents_in_a_seeded_order(
    store: Path, tmp_path: Path
) -> None:
    opened, doc_N = Store(store), np.arange(3, 90, 4).astype(np.uint64)
    own = [opened.tokens(doc) for doc in doc_N.tolist()]
    wanted = [tuple(source.row(row).tolist()) for source, row in own]
    orders = []
    for seed in (1, 1, 2):
        write_tokens(opened, doc_N, tmp_path, seed)
        reader = TokenReader(tmp_path / TOKENS[0], tmp_path / TOKENS[1])
        orders.append([tuple(reader.row(i).tolist()) for i in range(len(reader))])
        assert sorted(orders[-1]) == sorted(wanted)
    assert orders[0] == orders[1] != orders[2]
