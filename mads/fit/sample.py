"""A seeded sample of a store's documents, as the agents read them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mads.agents.fitting import cleaned
from mads.seeds import uniform
from mads.store.store import Store
from mads.types import Report


def sample_rows(total: int, count: int, seed: int) -> NDArray[np.int64]:
    """Return ``count`` different rows of ``total``, rising; all rows where there are no more.

    One row of each of ``count`` stretches, of equal length and beginning anywhere, so every row is
    as likely, and a sample of the order has each cell's share.
    """
    if count >= total:
        return np.arange(total)
    bound_S = np.arange(count + 1) * total // count
    place_N = uniform(np.arange(count + 1, dtype=np.uint64), seed)
    row_N = bound_S[:-1] + (place_N[1:] * np.diff(bound_S)).astype(np.int64)
    return np.sort((row_N + int(place_N[0] * total)) % total)


def sampled_texts(store: Store, docs: int, seed: int, report: Report) -> list[str]:
    """Return the cleaned texts of a sample, put together from their tokens; one may be empty.

    ``report`` is told of documents read. Raises DataError for a store that was changed.
    """
    total = int(store.cells.num_docs_C.sum())
    doc_N = np.sort(store.order.docs(sample_rows(total, docs, seed)))
    found = []
    for n, doc in enumerate(doc_N.tolist()):
        found.append(cleaned(store.text(doc)))
        report("read documents", n + 1, len(doc_N))
    return found
