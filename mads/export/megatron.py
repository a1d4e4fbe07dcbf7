"""Selected documents as a Megatron indexed data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mads.corpus.tokens import TokenWriter
from mads.seeds import derive, shuffled
from mads.store.store import Store

TOKENS = ("tokens.bin", "tokens.idx")


def write_tokens(store: Store, doc_N: NDArray[np.uint64], out: Path, seed: int) -> None:
    """Write the documents' tokens as one Megatron indexed data set, tokens.bin and tokens.idx.

    The documents stand in a seeded order, so that a trainer that reads from the front gets a mix.
    """
    with TokenWriter(out / TOKENS[0], out / TOKENS[1], store.tokenizer.vocab_size) as writer:
        for doc in doc_N[shuffled(doc_N, derive(seed, "order"))].tolist():
            reader, row = store.tokens(doc)
            writer.add(reader.row(row))


def write_parts(store: Store, parts: pa.Table, out: Path, seed: int) -> None:
    """Write parts of documents, the rows of a round's selection.parquet, as ``write_tokens`` does.

    Each part, the tokens [first_token, first_token + num_tokens) of a document, is a sequence.
    """
    columns = (parts[name].to_numpy() for name in ("doc", "first_token", "num_tokens"))
    doc_N, first_N, num_N = columns
    order = shuffled(np.arange(len(doc_N), dtype=np.uint64), derive(seed, "order")).tolist()
    with TokenWriter(out / TOKENS[0], out / TOKENS[1], store.tokenizer.vocab_size) as writer:
        for place in order:
            reader, row = store.tokens(int(doc_N[place]))
            first = int(first_N[place])
            writer.add(reader.row(row, first, first + int(num_N[place])))
