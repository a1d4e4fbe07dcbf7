"""Agents that bin by quantiles: first the scores of the whole corpus, then edges, then categories.

The workers write such an agent's scores shard by shard, in files like a memory whose categories
are still to come. When all are there, the exact edges are found and noted in the draft, the
memories are written with them, and the scores are deleted. Each step is repeatable, so a killed
call goes on, and the edges depend on the corpus and the agent alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mads.agents.column import bin_numbers
from mads.annotate.quantiles import quantile_edges
from mads.files import write_json
from mads.layout import StoreDir
from mads.store.memory import doc_numbers, read_memory, write_memory
from mads.store.spec import Draft
from mads.types import TO_BIN, Agent, Labels


def bin_scores(
    store: StoreDir,
    draft: Draft,
    agents: Mapping[str, Agent],
    on_progress: Callable[[str, int, int], None],
) -> Draft:
    """Turn the scores of agents with quantiles into memories; return the draft with their edges.

    Raises DataError for a file of scores that was made from something else or was changed.
    """
    for name in [name for name, agent in agents.items() if agent.quantiles]:
        info = draft.agents[name]
        todo = [
            shard
            for shard in range(len(draft.shards))
            if not store.memory_shard(name, shard).is_file()
        ]
        if todo and info.edges is None:
            edges = _find_edges(store, draft, name, agents[name].quantiles)
            info = replace(info, edges=edges)
            draft = replace(draft, agents={**draft.agents, name: info})
            write_json(store.draft, draft.to_json())
        for done, shard in enumerate(todo):
            _write_binned(store, draft, name, shard)
            on_progress(f"bin the scores of {name}", done + 1, len(todo))
        shutil.rmtree(store.scores(name), ignore_errors=True)
    return draft


def _find_edges(store: StoreDir, draft: Draft, name: str, num_bins: int) -> tuple[float, ...]:
    def scores() -> Iterator[NDArray[np.float32]]:
        for shard in range(len(draft.shards)):
            labels = _read_scores(store, draft, name, shard)
            yield labels.score_N[labels.category_N == TO_BIN]

    return quantile_edges(scores, num_bins)


def _read_scores(store: StoreDir, draft: Draft, name: str, shard: int) -> Labels:
    header = draft.scores_header(name)
    num_rows = draft.shards[shard].num_rows
    return read_memory(store.scores_shard(name, shard), header, shard, num_rows)


def _write_binned(store: StoreDir, draft: Draft, name: str, shard: int) -> None:
    info = draft.agents[name]
    assert info.edges is not None
    labels = _read_scores(store, draft, name, shard)
    bin_N = bin_numbers(labels.score_N.astype(np.float64), info.edges)
    category_N = np.where(labels.category_N == TO_BIN, bin_N, labels.category_N)
    doc_N = doc_numbers(shard, draft.shards[shard].num_rows)
    header = draft.memory_header(name)
    path = store.memory_shard(name, shard)
    write_memory(path, header, doc_N, Labels(category_N.astype(np.uint16), labels.score_N))
